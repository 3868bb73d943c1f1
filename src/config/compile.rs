//! From a document whose fields are good to a configuration that is good: names are resolved, alternatives chosen,
//! defaults filled in.
//!
//! What reads a list is not inlined: all of them would make one function of 20 KB, and a proxy keeps memory by the size of the
//! biggest function that it compiled.

mod degrade;
mod fallback;
mod retry;

use super::document::{self, Document};
use super::error::ConfigError;
use super::problem::quoted;
use super::term::{FailureStatus, Method, Path};
use super::value::NonEmpty;
use super::{AccessLog, Config, Monitor, Outcomes, Placement, RateLimitHeaders};
use crate::degrade::fallback::Fallback;
use crate::limit::FailureMode;
use crate::limit::client_ip::ClientIp;
use crate::limit::concurrency::Concurrency;
use crate::limit::cost::Cost;
use crate::limit::key::{KeySpec, Missing};
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::policy::Policy;
use crate::limit::rule::LimitSpec;
use crate::limit::token_bucket::{TokenBucket, Unrepresentable};
use crate::limit::window::Window;
use crate::monitor::failures::{Failures, NamesNone, Term};
use crate::operation::path::Parameters;
use crate::operation::pattern::{PathPattern, Pattern};
use crate::operation::selection::{Selected, Selection, Tiers};
use crate::operation::{HeaderMatcher, Matcher, OTHER, Operation, Tier};
use crate::sorted;

/// Keys that a limit keeps apart unless it says otherwise.
const DEFAULT_MAX_KEYS: u32 = 4096;

pub(super) fn compile(document: Document) -> Result<Config, ConfigError> {
    let client_ip = client_ip(document.client_ip)?;
    let operations = operations(document.operations.unwrap_or_default())?;
    let fallbacks = fallback::fallbacks(document.fallbacks.unwrap_or_default())?;
    let known = Known { operations: &operations, fallbacks: &fallbacks, client_ip: &client_ip };
    let config = Config {
        placement: document.placement.map(placement).unwrap_or_default(),
        version: document.version.map(|it| it.0),
        scope: document.scope.map(|it| it.0),
        limits: limits(document.limits.unwrap_or_default(), &known)?,
        switches: degrade::switches(document.switches.unwrap_or_default(), &known)?,
        breakers: degrade::breakers(document.breakers.unwrap_or_default(), &known)?,
        on_failure: degrade::on_failure(document.on_failure.unwrap_or_default(), &known)?,
        retries: retry::retries(document.retries.unwrap_or_default(), &known)?,
        deadlines: retry::deadlines(document.deadlines.unwrap_or_default(), &known)?,
        monitor: monitor(&document.monitor.unwrap_or_default()),
        operations,
        fallbacks,
    };
    Ok(match config.placement {
        Placement::Downstream => config,
        Placement::Upstream => without_policies(config),
    })
}

fn placement(given: document::Placement) -> Placement {
    match given {
        document::Placement::Downstream => Placement::Downstream,
        document::Placement::Upstream => Placement::Upstream,
    }
}

/// What of a configuration has a meaning for single attempts.
fn without_policies(config: Config) -> Config {
    Config {
        operations: vec![Operation::other()],
        limits: Vec::new(),
        switches: Vec::new(),
        breakers: Vec::new(),
        on_failure: Vec::new(),
        retries: Vec::new(),
        deadlines: Vec::new(),
        fallbacks: Vec::new(),
        ..config
    }
}

/// What policies refer to.
struct Known<'a> {
    operations: &'a [Operation],
    fallbacks: &'a [Fallback],
    client_ip: &'a ClientIp,
}

impl Known<'_> {
    /// The requests that the policy at `path` applies to.
    fn select(
        &self,
        operations: Option<NonEmpty<String>>,
        tiers: Option<NonEmpty<document::Tier>>,
        methods: Option<NonEmpty<Method>>,
        path: &str,
    ) -> Result<Selection, ConfigError> {
        Ok(Selection {
            operations: select(operations, tiers, self.operations, path)?,
            methods: list(methods).into_iter().map(|it| it.0).collect(),
        })
    }

    /// The index of the fallback that the policy at `path` names.
    fn fallback(&self, name: Option<String>, path: &str) -> Result<Option<usize>, ConfigError> {
        let Some(name) = name else {
            return Ok(None);
        };
        let found = self.fallbacks.iter().position(|fallback| fallback.name == name);
        let problem =
            || ConfigError::at(format!("{path}.fallback"), format!("{}, is not the name of a fallback", quoted(&name)));
        found.map(Some).ok_or_else(problem)
    }
}

/// How RFC 7239 writes addresses, which is not read.
const FORWARDED: &str = "forwarded";

fn client_ip(given: Option<document::ClientIp>) -> Result<ClientIp, ConfigError> {
    let mut client_ip = ClientIp::default();
    let Some(given) = given else {
        return Ok(client_ip);
    };
    if let Some(header) = given.header {
        let problem = |rule| Err(ConfigError::at("client_ip.header", format!("{:?}, {rule}", header.0)));
        if given.trusted_hops.is_none() {
            return problem("means nothing without trusted_hops");
        }
        if header.0 == FORWARDED {
            return problem("must be a list of addresses such as x-forwarded-for; the form of RFC 7239 is not read");
        }
        client_ip.header = header.0;
    }
    if let Some(hops) = given.trusted_hops {
        client_ip.trusted_hops = hops.0 as usize;
    }
    if let Some(prefix) = given.ipv6_prefix {
        // At most 128 by its type.
        client_ip.ipv6_prefix = u8::try_from(prefix.0).unwrap_or(128);
    }
    Ok(client_ip)
}

#[inline(never)]
fn operations(given: Vec<document::Operation>) -> Result<Vec<Operation>, ConfigError> {
    let mut names = Names::new("operations");
    let mut operations = Vec::with_capacity(given.len() + 1);
    for (index, operation) in given.into_iter().enumerate() {
        if operation.name.0 == OTHER {
            let problem = format!("{OTHER:?}, is reserved for requests that no operation matches");
            return Err(ConfigError::at(format!("operations[{index}].name"), problem));
        }
        names.add(index, &operation.name.0)?;
        let parameters = match operation.path_parameters {
            None | Some(document::PathParameters::Cut) => Parameters::Cut,
            Some(document::PathParameters::Keep) => Parameters::Keep,
        };
        operations.push(Operation {
            tier: operation.tier.map_or(Tier::P1, tier),
            matcher: matcher(operation.matcher, parameters, &format!("operations[{index}].match"))?,
            name: operation.name.0,
        });
    }
    operations.push(Operation::other());
    Ok(operations)
}

fn tier(given: document::Tier) -> Tier {
    match given {
        document::Tier::P0 => Tier::P0,
        document::Tier::P1 => Tier::P1,
        document::Tier::P2 => Tier::P2,
        document::Tier::P3 => Tier::P3,
    }
}

fn matcher(given: document::Match, path_parameters: Parameters, path: &str) -> Result<Matcher, ConfigError> {
    if given.hosts.is_none() && given.methods.is_none() && given.paths.is_none() && given.headers.is_none() {
        return Err(ConfigError::at(path, "must have at least one of hosts, methods, paths and headers"));
    }
    let mut headers = Vec::new();
    for (index, header) in list(given.headers).into_iter().enumerate() {
        headers.push(header_matcher(header, &format!("{path}.headers[{index}]"))?);
    }
    Ok(Matcher {
        hosts: list(given.hosts).into_iter().map(|it| it.0).collect(),
        methods: list(given.methods).into_iter().map(|it| it.0).collect(),
        paths: paths(list(given.paths), path_parameters, path)?,
        path_parameters,
        headers,
    })
}

fn paths(given: Vec<Path>, parameters: Parameters, path: &str) -> Result<Vec<PathPattern>, ConfigError> {
    let with_parameter = given.iter().position(|it| parameters == Parameters::Cut && it.text.contains(';'));
    if let Some(entry) = with_parameter {
        let text = given.get(entry).map_or("", |it| &it.text);
        let rule = "must have no \";\" unless path_parameters of the operation is \"keep\"";
        return Err(ConfigError::at(format!("{path}.paths[{entry}]"), format!("{text:?}, {rule}")));
    }
    Ok(given.into_iter().map(|it| it.pattern).collect())
}

fn header_matcher(given: document::HeaderMatch, path: &str) -> Result<HeaderMatcher, ConfigError> {
    let rule = "must have exactly one of exact, prefix, suffix and \"present\": true";
    let mut patterns = [
        given.exact.map(|it| Pattern::Exact(it.into())),
        given.prefix.map(|it| Pattern::Prefix(it.into())),
        given.suffix.map(|it| Pattern::Suffix(it.into())),
        given.present.map(|_| Pattern::Present),
    ]
    .into_iter()
    .flatten();
    match (patterns.next(), patterns.next(), given.present) {
        (Some(value), None, _) if needs_outer_blank(&value) => Err(ConfigError::at(
            path,
            "must not begin or end with a blank: values are compared without those around them",
        )),
        (Some(value), None, None | Some(true)) => Ok(HeaderMatcher { name: given.name.0, value }),
        _ => Err(ConfigError::at(path, rule)),
    }
}

/// Whether only a value with blanks around it could match.
fn needs_outer_blank(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(text) => text.trim_ascii().len() < text.len(),
        Pattern::Prefix(text) => text.trim_ascii_start().len() < text.len(),
        Pattern::Suffix(text) => text.trim_ascii_end().len() < text.len(),
        Pattern::Present => false,
    }
}

#[inline(never)]
fn limits(given: Vec<document::Limit>, known: &Known<'_>) -> Result<Vec<LimitSpec>, ConfigError> {
    let mut names = Names::new("limits");
    let mut limits = Vec::with_capacity(given.len());
    for (index, limit) in given.into_iter().enumerate() {
        names.add(index, &limit.name.0)?;
        let path = format!("limits[{index}]");
        let selection = known.select(limit.operations, limit.tiers, limit.methods, &path)?;
        let policy = policy(limit.token_bucket, limit.leaky_bucket, limit.window, limit.concurrency, &path)?;
        let cost = limit.cost.map_or(Cost::Fixed(1), |it| it.0);
        check_cost(&cost, &policy, &path)?;
        let key = key(limit.key, limit.missing, limit.max_keys.is_some(), known.client_ip, &path)?;
        limits.push(LimitSpec {
            name: limit.name.0,
            selection,
            key,
            max_keys: limit.max_keys.map_or(DEFAULT_MAX_KEYS, |it| it.0),
            policy,
            cost,
            enforced: limit.enforced.unwrap_or(true),
            fallback: known.fallback(limit.fallback, &path)?,
            failure_mode: match limit.failure_mode {
                None | Some(document::FailureMode::Allow) => FailureMode::Allow,
                Some(document::FailureMode::Deny) => FailureMode::Deny,
            },
        });
    }
    Ok(limits)
}

/// The operations that a policy applies to.
fn select(
    by_name: Option<NonEmpty<String>>,
    by_tier: Option<NonEmpty<document::Tier>>,
    operations: &[Operation],
    path: &str,
) -> Result<Selected, ConfigError> {
    match (by_name, by_tier) {
        (Some(_), Some(_)) => Err(ConfigError::at(path, "must not have both operations and tiers")),
        (None, None) => Ok(Selected::OfTiers(Tiers::ALL)),
        (None, Some(tiers)) => Ok(Selected::OfTiers(Tiers::of(tiers.0.into_iter().map(tier)))),
        (Some(names), None) => {
            let mut selected = Vec::new();
            for (entry, name) in names.0.iter().enumerate() {
                let Some(index) = operations.iter().position(|operation| operation.name == *name) else {
                    let place = format!("{path}.operations[{entry}]");
                    return Err(ConfigError::at(place, format!("{}, is not the name of an operation", quoted(name))));
                };
                sorted::insert(&mut selected, index);
            }
            Ok(Selected::Named(selected))
        }
    }
}

/// Exactly one of the four.
fn policy(
    token_bucket: Option<document::TokenBucket>,
    leaky_bucket: Option<document::LeakyBucket>,
    window: Option<document::Window>,
    concurrency: Option<document::Concurrency>,
    path: &str,
) -> Result<Policy, ConfigError> {
    match (token_bucket, leaky_bucket, window, concurrency) {
        (Some(given), None, None, None) => {
            self::token_bucket(&given, &format!("{path}.token_bucket")).map(Policy::TokenBucket)
        }
        (None, Some(given), None, None) => {
            self::leaky_bucket(&given, &format!("{path}.leaky_bucket")).map(Policy::LeakyBucket)
        }
        (None, None, Some(given), None) => self::window(&given, &format!("{path}.window")).map(Policy::Window),
        (None, None, None, Some(given)) => {
            let max_hold = given.max_hold.map(|it| it.0);
            Ok(Policy::Concurrency(Concurrency { max_in_flight: given.max_in_flight.0, max_hold }))
        }
        _ => Err(ConfigError::at(path, "must have exactly one of token_bucket, leaky_bucket, window and concurrency")),
    }
}

fn leaky_bucket(given: &document::LeakyBucket, path: &str) -> Result<LeakyBucket, ConfigError> {
    let (capacity, drain, interval) = (given.capacity.0, given.drain.0, given.drain_interval.0);
    LeakyBucket::new(capacity, drain, interval).ok_or_else(|| {
        let rule = "must release at most 1000000000 a second, and the last one that waits within an hour";
        ConfigError::at(path, format!("{capacity} waiting at {drain} per {interval:?}, {rule}"))
    })
}

fn window(given: &document::Window, path: &str) -> Result<Window, ConfigError> {
    let interval = given.interval.0;
    Window::new(given.max_requests.0, interval)
        .ok_or_else(|| ConfigError::at(format!("{path}.interval"), format!("{interval:?}, must be at most 366 days")))
}

fn token_bucket(given: &document::TokenBucket, path: &str) -> Result<TokenBucket, ConfigError> {
    let (size, added, interval) = (given.max_tokens.0, given.tokens_per_fill.0, given.fill_interval.0);
    TokenBucket::new(size, added, interval).map_err(|problem| {
        let problem = match problem {
            Unrepresentable::TooSlow => format!("{size} tokens at {added} per {interval:?}, must fill within 366 days"),
            Unrepresentable::TooFast => {
                format!("{added} tokens per {interval:?}, must not get more than 1000000000 tokens per second")
            }
            Unrepresentable::Zero => "must hold and get tokens".to_owned(),
        };
        ConfigError::at(path, problem)
    })
}

fn check_cost(cost: &Cost, policy: &Policy, path: &str) -> Result<(), ConfigError> {
    match cost {
        Cost::Fixed(tokens) if policy.max_cost() < *tokens => {
            let problem = format!("{tokens}, must be at most what the limit ever admits ({})", policy.max_cost());
            Err(ConfigError::at(format!("{path}.cost"), problem))
        }
        Cost::Fixed(_) | Cost::Header(_) => Ok(()),
    }
}

fn key(
    parts: Option<super::term::KeyParts>,
    missing: Option<document::Missing>,
    has_max_keys: bool,
    client_ip: &ClientIp,
    path: &str,
) -> Result<Option<KeySpec>, ConfigError> {
    let Some(parts) = parts else {
        let useless = match (has_max_keys, missing) {
            (true, _) => "max_keys",
            (false, Some(_)) => "missing",
            (false, None) => return Ok(None),
        };
        return Err(ConfigError::at(format!("{path}.{useless}"), "means nothing without a key"));
    };
    Ok(Some(KeySpec {
        parts: parts.0.into_iter().map(|it| it.0).collect(),
        missing: match missing {
            None | Some(document::Missing::Shared) => Missing::Shared,
            Some(document::Missing::Skip) => Missing::Skip,
        },
        client_ip: client_ip.clone(),
    }))
}

fn monitor(given: &document::Monitor) -> Monitor {
    Monitor {
        access_log: given.access_log.map_or(AccessLog::All, |it| it.0),
        reason_header: given.reason_header.unwrap_or(true),
        ratelimit_headers: given.ratelimit_headers.map_or(RateLimitHeaders::Ietf, |it| it.0),
        ratelimit_headers_on_success: given.ratelimit_headers_on_success.unwrap_or(false),
        outcomes: if given.outcomes.unwrap_or(true) { Outcomes::All } else { Outcomes::AsNeeded },
    }
}

fn list<T>(given: Option<NonEmpty<T>>) -> Vec<T> {
    given.map(|it| it.0).unwrap_or_default()
}

/// The failures of a list, or the default ones.
fn failures(given: Option<NonEmpty<FailureStatus>>, path: impl FnOnce() -> String) -> Result<Failures, ConfigError> {
    let Some(NonEmpty(given)) = given else {
        return Ok(Failures::default());
    };
    let terms: Vec<Term> = given.into_iter().map(|it| it.0).collect();
    Failures::new(&terms).map_err(|NamesNone| ConfigError::at(path(), "must name a failure, as \"5xx\" or \"503\""))
}

/// The names of one list, which must differ.
struct Names {
    list: &'static str,
    /// In order.
    seen: Vec<String>,
}

impl Names {
    fn new(list: &'static str) -> Self {
        Self { list, seen: Vec::new() }
    }

    fn add(&mut self, index: usize, name: &str) -> Result<(), ConfigError> {
        if sorted::insert(&mut self.seen, name.to_owned()) {
            return Ok(());
        }
        let place = format!("{}[{index}].name", self.list);
        Err(ConfigError::at(place, format!("{name:?}, is the name of an earlier entry too")))
    }
}
