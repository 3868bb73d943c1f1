//! What a configuration says and can never do.
//!
//! Each warning is certain: no request is as the place says. There is more that is not found, because whether one pattern is
//! part of several others together is not asked, and because the search ends after so many [steps](STEPS), whatever is left.

use super::{Config, RateLimitHeaders, Warning};
use crate::degrade::stale::IgnoredCookies;
use crate::operation::Operations;
use crate::operation::client_ip::ClientIp;
use crate::operation::key::KeyPart;
use crate::operation::pattern::{PathPattern, Pattern};
use crate::operation::selection::Selection;
use crate::operation::steps::Steps;
use crate::retry::register::Placement;

pub(super) fn of(config: &Config) -> Vec<Warning> {
    if config.placement == Placement::Upstream {
        return Vec::new();
    }
    let mut finder = Finder { config, hidden: Vec::new(), found: Vec::new(), steps: Steps::new(STEPS) };
    finder.operations();
    finder.client_ip();
    finder.policies("limits", Acts::All, &|index| Some(&config.limits.get(index)?.selection));
    finder.policies("switches", Acts::All, &|index| Some(&config.switches.get(index)?.selection));
    finder.breakers();
    finder.policies("on_failure", Acts::First, &|index| Some(&config.on_failure.get(index)?.selection));
    finder.policies("retries", Acts::First, &|index| Some(&config.retries.get(index)?.selection));
    finder.policies("deadlines", Acts::First, &|index| Some(&config.deadlines.get(index)?.selection));
    finder.fallbacks("limits", &|index| config.limits.get(index).map(|it| (&it.selection, it.fallback)));
    finder.fallbacks("switches", &|index| config.switches.get(index).map(|it| (&it.selection, it.fallback)));
    finder.fallbacks("breakers", &|index| config.breakers.get(index).map(|it| (&it.selection, it.fallback)));
    finder.fallbacks("on_failure", &|index| config.on_failure.get(index).map(|it| (&it.selection, it.fallback)));
    finder.shadows("limits", &|index| config.limits.get(index).map(|it| (it.enforced, it.fallback)));
    finder.shadows("switches", &|index| config.switches.get(index).map(|it| (it.enforced, it.fallback)));
    finder.shadows("breakers", &|index| config.breakers.get(index).map(|it| (it.enforced, it.fallback)));
    finder.stale();
    finder.retries();
    if config.monitor.ratelimit_headers_on_success && config.monitor.ratelimit_headers == RateLimitHeaders::None {
        finder.add(
            "monitor.ratelimit_headers_on_success".to_owned(),
            "means nothing while ratelimit_headers is \"none\"",
        );
    }
    finder.found
}

/// How much is compared at most: pairs of entries of operations, and operations of rules. A document of thousands of operations with a
/// few paths each needs a tenth of it; this many take a fraction of a second, in each worker.
const STEPS: usize = 1_000_000;

/// With how many earlier operations an operation is compared at most, of those that may match the same requests.
const MOST_COMPARED: usize = 256;

/// Which policies of a list act on a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acts {
    /// All that select it, or the first of those that are on.
    All,
    /// The first that selects it.
    First,
}

struct Finder<'c> {
    config: &'c Config,
    /// By index of the operation: whether an earlier one takes all its requests.
    hidden: Vec<bool>,
    found: Vec<Warning>,
    steps: Steps,
}

impl Finder<'_> {
    /// Adds what is certain: nothing is, once the search had to end.
    fn add(&mut self, path: String, problem: &str) {
        if self.steps.are_spent() {
            return;
        }
        self.found.push(Warning::at(path, problem));
    }

    /// Patterns that hardly any request matches, and operations that an earlier one hides.
    fn operations(&mut self) {
        let known = Operations::new(self.config.operations.clone());
        for (index, operation) in self.config.operations.iter().enumerate() {
            let matcher = &operation.matcher;
            for (entry, host) in matcher.hosts.iter().enumerate() {
                self.plain_star(host, || format!("operations[{index}].match.hosts[{entry}]"));
            }
            for (entry, path) in matcher.paths.iter().enumerate() {
                if let PathPattern::Wildcard(pattern) = path {
                    self.plain_star(pattern, || format!("operations[{index}].match.paths[{entry}]"));
                }
            }
            let hider = known.hider(index, MOST_COMPARED, &self.steps);
            self.hidden.push(hider.is_some());
            if let Some(hider) = hider {
                let name = self.config.operations.get(hider).map_or("", |it| &it.name);
                let problem = format!("no request gets here: operations[{hider}] ({name:?}) matches them all");
                self.add(format!("operations[{index}].match"), &problem);
            }
        }
    }

    /// A `*` that is taken for itself.
    fn plain_star(&mut self, pattern: &Pattern, place: impl Fn() -> String) {
        if pattern.has_plain_star() {
            self.add(
                place(),
                "has a \"*\" that stands for itself: as a wildcard it is the first or the last character",
            );
        }
    }

    /// A header that is not read, because nobody is trusted to write it.
    fn client_ip(&mut self) {
        let default = ClientIp::default().header;
        for key in self.config.limits.iter().filter_map(|limit| limit.key.as_ref()) {
            if key.client_ip.trusted_hops == 0 && key.client_ip.header != default {
                return self.add("client_ip.header".to_owned(), "is not read while trusted_hops is 0");
            }
        }
    }

    /// Policies of a list that no request gets to.
    fn policies<'s>(&mut self, list: &str, acts: Acts, selection: &dyn Fn(usize) -> Option<&'s Selection>) {
        let mut taken = Taken::of_none(self.config.operations.len());
        let mut index = 0;
        while let Some(it) = selection(index) {
            if let Some(problem) = self.unreached(it, acts, &taken) {
                self.add(format!("{list}[{index}]"), &format!("no request gets here: {problem}"));
            } else if acts == Acts::First {
                self.live(it).for_each(|operation| taken.take(operation, &it.methods));
            }
            index += 1;
        }
    }

    /// Breakers that no request gets to. One that is tried out takes no request from those that refuse.
    fn breakers(&mut self) {
        let config = self.config;
        let mut taken = Taken::of_none(config.operations.len());
        let mut taken_by_enforced = taken.clone();
        for (index, breaker) in config.breakers.iter().enumerate() {
            let before = if breaker.enforced { &taken_by_enforced } else { &taken };
            if let Some(problem) = self.unreached(&breaker.selection, Acts::First, before) {
                self.add(format!("breakers[{index}]"), &format!("no request gets here: {problem}"));
                continue;
            }
            for operation in self.live(&breaker.selection) {
                taken.take(operation, &breaker.selection.methods);
                if breaker.enforced {
                    taken_by_enforced.take(operation, &breaker.selection.methods);
                }
            }
        }
    }

    /// Fallbacks of what refuses nothing.
    fn shadows(&mut self, list: &str, policy: &dyn Fn(usize) -> Option<(bool, Option<usize>)>) {
        let mut index = 0;
        while let Some((enforced, fallback)) = policy(index) {
            if !enforced && fallback.is_some() {
                self.add(format!("{list}[{index}].fallback"), "is not served while enforced is false");
            }
            index += 1;
        }
    }

    /// Why no request gets to a policy, of which earlier ones of its list took what is taken.
    fn unreached(&self, selection: &Selection, acts: Acts, taken: &Taken<'_>) -> Option<&'static str> {
        if selection.among(&self.config.operations).next().is_none() {
            return Some("no operation is of its tiers");
        }
        if self.live(selection).next().is_none() {
            return Some("earlier operations take all requests of its own");
        }
        if !self.reaches(selection, &|_, methods| methods.is_none_or(|it| !it.is_empty())) {
            return Some("its operations have none of its methods");
        }
        let is_left = |operation, methods: Option<&[&str]>| taken.leaves(operation, methods);
        let left = acts == Acts::All || self.reaches(selection, &is_left);
        (!left).then_some("earlier entries of the list take them all")
    }

    /// Fallbacks that answer none of the requests of the policies of a list.
    fn fallbacks<'s>(&mut self, list: &str, policy: &dyn Fn(usize) -> Option<(&'s Selection, Option<usize>)>) {
        let mut index = 0;
        while let Some((selection, fallback)) = policy(index) {
            if let Some(fallback) = fallback.and_then(|it| self.config.fallbacks.get(it))
                && !self.reaches(selection, &|_, methods| {
                    methods.is_none_or(|it| it.iter().any(|method| fallback.is_for_method(method)))
                })
            {
                let problem = match fallback.methods.is_empty() {
                    true => "answers calls of gRPC only: with a 2xx it is for GET and HEAD, unless it has methods",
                    false => "answers none of the requests: they have none of its methods",
                };
                self.add(format!("{list}[{index}].fallback"), problem);
            }
            index += 1;
        }
    }

    /// Only what anybody may ask for is kept, and only answers to `GET`.
    fn stale(&mut self) {
        for (index, rule) in self.config.on_failure.iter().enumerate() {
            let Some(stale) = &rule.stale else {
                continue;
            };
            if !self.reaches(&rule.selection, &|_, methods| methods.is_none_or(|it| includes(it, "GET"))) {
                self.add(format!("on_failure[{index}].stale"), "keeps answers to GET only, and gets none");
            }
            let ignored = stale.ignore_cookies.names();
            for (entry, name) in ignored.iter().enumerate() {
                let mut earlier = ignored.iter().take(entry);
                if let Some(earlier) = earlier.find(|it| IgnoredCookies::cover(it, name)) {
                    let problem = format!("does nothing: {earlier:?} before it ignores the same cookies");
                    self.add(format!("on_failure[{index}].stale.ignore_cookies[{entry}]"), &problem);
                }
            }
            for (entry, part) in stale.key.iter().enumerate() {
                let personal = match part {
                    KeyPart::Cookie(_) => true,
                    KeyPart::Header(name) => matches!(&**name, "cookie" | "authorization" | "proxy-authorization"),
                    _ => false,
                };
                if personal {
                    let problem = "is never there: no answer to a request that has it is kept";
                    self.add(format!("on_failure[{index}].stale.key[{entry}]"), problem);
                }
            }
        }
    }

    /// Rules for nothing but what must not be done twice. One that limits the time of requests means just that.
    fn retries(&mut self) {
        for (index, rule) in self.config.retries.iter().enumerate() {
            let policy = &rule.policy;
            let repeats =
                |methods: Option<&[&str]>| methods.is_none_or(|it| it.iter().any(|it| policy.may_ever_repeat(it)));
            let meant = policy.max_attempts < 2 || policy.timeout.is_some();
            if !meant && !self.reaches(&rule.selection, &|_, methods| repeats(methods)) {
                let problem = "retries nothing: its methods may be repeated only with idempotency_key or grpc_methods";
                self.add(format!("retries[{index}]"), problem);
            }
        }
    }

    /// Whether the selection has an operation with requests of `wanted` methods: `None` are any, an empty list is none.
    fn reaches(&self, selection: &Selection, wanted: &dyn Fn(usize, Option<&[&str]>) -> bool) -> bool {
        self.live(selection).any(|operation| wanted(operation, self.methods(selection, operation).as_deref()))
    }

    /// The operations of the selection that have requests.
    fn live<'s>(&'s self, selection: &'s Selection) -> impl Iterator<Item = usize> + 's {
        let hidden = |index: &usize| self.hidden.get(*index).copied().unwrap_or(false);
        let among = selection.among(&self.config.operations).take_while(|_| self.steps.spend(1));
        among.filter(move |index| !hidden(index))
    }

    /// The methods that the operation's requests can have and the selection has; `None` for any.
    fn methods<'s>(&'s self, selection: &'s Selection, operation: usize) -> Option<Vec<&'s str>> {
        let own = self.config.operations.get(operation).map_or(&[] as &[String], |it| &it.matcher.methods);
        let (narrow, wide) = if own.is_empty() { (&*selection.methods, own) } else { (own, &*selection.methods) };
        if narrow.is_empty() {
            return None;
        }
        let both = narrow.iter().map(String::as_str).filter(|it| wide.is_empty() || includes(wide, it));
        Some(both.collect())
    }
}

/// Which requests the earlier policies of a list take.
#[derive(Clone)]
struct Taken<'s> {
    /// By index of the operation.
    by: Vec<Takers<'s>>,
}

/// Which requests of an operation are taken.
#[derive(Clone)]
enum Takers<'s> {
    Nobody,
    /// Those of these methods, in capitals.
    Of(Vec<&'s str>),
    All,
}

impl<'s> Taken<'s> {
    /// Of none of so many operations.
    fn of_none(operations: usize) -> Self {
        Self { by: vec![Takers::Nobody; operations] }
    }

    /// Takes the operation's requests of these methods; of all, if none is named.
    fn take(&mut self, operation: usize, methods: &'s [String]) {
        let Some(takers) = self.by.get_mut(operation) else {
            return;
        };
        match takers {
            _ if methods.is_empty() => *takers = Takers::All,
            Takers::All => {}
            Takers::Nobody => {
                *takers = Takers::Of(methods.iter().map(String::as_str).collect());
            }
            Takers::Of(taken) => {
                let more = methods.iter().map(String::as_str).filter(|it| !taken.contains(it));
                let more: Vec<&str> = more.collect();
                taken.extend(more);
            }
        }
    }

    /// Whether a request of the operation with one of the methods is left.
    fn leaves(&self, operation: usize, methods: Option<&[&str]>) -> bool {
        match (self.by.get(operation), methods) {
            (Some(Takers::All), _) => false,
            (Some(Takers::Of(taken)), Some(methods)) => !methods.iter().all(|it| includes(taken, it)),
            _ => methods.is_none_or(|it| !it.is_empty()),
        }
    }
}

fn includes(methods: &[impl AsRef<str>], method: &str) -> bool {
    methods.iter().any(|it| it.as_ref().eq_ignore_ascii_case(method))
}
