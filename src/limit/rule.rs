//! A configured limit: what it counts, where, and what a refusal by it says.

use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::limit::cost::{Cost, Priced};
use crate::limit::counter::{Admission, Counter, Kept, Place};
use crate::limit::policy::Policy;
use crate::limit::quota::{self, Standing};
use crate::limit::store::Store;
use crate::limit::waiting::{self, Queue, Waiting};
use crate::monitor::metrics::Handle;
use crate::monitor::names::Names;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::monitor::settings::RateLimitHeaders;
use crate::operation::client_ip::Chains;
use crate::operation::key::KeySpec;
use crate::operation::request::Request;
use crate::operation::selection::Selection;
use crate::reply::fallback::Fallback;
use crate::reply::refusal::{Problem, Refusal};
use crate::shared::failure_mode::FailureMode;
use crate::shared::meter::Denial;
use crate::shared::seed::Seed;
use crate::shared::table::{Eviction, KeyHash};
use crate::time::Timestamp;

/// The parameters of a limit, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Unique name.
    pub name: String,
    /// Which requests it applies to.
    pub selection: Selection,
    /// What it counts apart; absent: all requests together.
    pub key: Option<KeySpec>,
    /// Least number of keys that it keeps apart.
    pub max_keys: u32,
    /// What it admits.
    pub policy: Policy,
    /// What a request takes.
    pub cost: Cost,
    /// Whether it refuses, or only counts what it would refuse.
    pub enforced: bool,
    /// Index of the fallback that its refusals answer with.
    pub fallback: Option<usize>,
    /// What to do without its shared state.
    pub failure_mode: FailureMode,
}

impl LimitSpec {
    /// Where the state is kept.
    fn place<'a>(&'a self, scope: &'a str) -> Place<'a> {
        let max_keys = self.key.as_ref().map(|_| self.max_keys);
        Place { scope, name: &self.name, max_keys, failure_mode: self.failure_mode }
    }

    /// Whether the other limit, under the same scope, counts in the same place by other numbers.
    pub fn disagrees(&self, other: &Self) -> bool {
        let same_kind = std::mem::discriminant(&self.policy) == std::mem::discriminant(&other.policy);
        let same_place = self.name == other.name && same_kind && self.key.is_some() == other.key.is_some();
        same_place && (self.policy != other.policy || self.max_keys != other.max_keys)
    }

    /// Makes these parameters the ones that hold in this worker, also for earlier configurations.
    pub fn announce(&self, scope: &str, store: &Store) {
        Counter::announce(self.policy, &self.place(scope), store);
    }
}

/// A limit at work.
#[derive(Debug)]
pub struct Limit {
    spec: LimitSpec,
    counter: Counter,
    reason: Reason,
    names: Names,
    /// What tells its queues from those of other limits.
    digest: u64,
    waiting: Rc<Waiting>,
    seed: Rc<Seed>,
    /// How many proxies its requests name.
    chains: Chains,
    waits: Handle,
    holds_expired: Handle,
    evictions_lossless: Handle,
    evictions_lossy: Handle,
}

/// What a request took of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Debit {
    key: KeyHash,
    cost: u64,
    /// As in [`Admission::taken`].
    taken: Timestamp,
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not concerned: the request lacks the key, or the limit's state cannot be used and it allows that.
    Pass,
    /// It has what the request costs; the request may have to wait.
    Admitted(Debit, Admission),
    /// It has it not.
    Refused(Denial),
    /// Its state cannot be used and it does not allow that.
    Unusable,
}

/// Who asks: all that a limit needs to know of the current callback.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The callback.
    pub cx: &'a Cx<'a>,
    /// The request.
    pub request: &'a Request<'a>,
    /// Name of its operation.
    pub operation: &'a str,
}

impl Limit {
    /// The limit of this specification, with its state under `scope` and metrics of these names.
    pub fn new(spec: LimitSpec, scope: &str, names: &Names, store: &Store) -> Self {
        Self {
            counter: Counter::new(spec.policy, &spec.place(scope), store),
            reason: Reason::new("limit", &spec.name, names),
            names: names.clone(),
            digest: waiting::limit(&format!("{scope}/{}", spec.name)),
            spec,
            waiting: Rc::clone(&store.waiting),
            seed: Rc::clone(&store.seed),
            chains: Chains::default(),
            waits: Handle::default(),
            holds_expired: Handle::default(),
            evictions_lossless: Handle::default(),
            evictions_lossy: Handle::default(),
        }
    }

    /// The parameters.
    pub fn spec(&self) -> &LimitSpec {
        &self.spec
    }

    /// The one spelling of a refusal by this limit.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The refusal of a request by `denial`, or, without one, because the state could not be used. Its quota is told in that style.
    pub fn refusal<'a>(
        &'a self,
        denial: Option<Denial>,
        fallbacks: &'a [Fallback],
        style: RateLimitHeaders,
    ) -> Refusal<'a> {
        let retry_after = denial.and_then(|denial| denial.retry_after);
        let remaining = denial.map(|denial| denial.remaining);
        let standing = Standing { limit: self, remaining, reset: retry_after };
        Refusal {
            reason: &self.reason,
            outcome: Outcome::Limited,
            enforcement: Enforcement::of(self.spec.enforced),
            problem: Problem::QuotaExceeded(&self.spec.name),
            retry_after,
            fallback: self.spec.fallback.and_then(|index| fallbacks.get(index)),
            quota: quota::fields(style, &[standing]),
            detail: None,
        }
    }

    /// Takes what the request costs, or says why not. A refused request leaves no trace.
    pub fn take(&self, asker: &Asker<'_>) -> Verdict {
        match self.try_take(asker) {
            Ok(verdict) => verdict,
            Err(error) => {
                asker.cx.host_error(error);
                match self.spec.failure_mode {
                    FailureMode::Allow => Verdict::Pass,
                    FailureMode::Deny => Verdict::Unusable,
                }
            }
        }
    }

    /// The refusal that the request would get, as far as that can be told cheaply.
    pub fn peek(&self, asker: &Asker<'_>) -> Option<Denial> {
        let key = self.key(asker).ok()??;
        let cost = match self.spec.cost.of(asker.request) {
            Priced::Tokens(tokens) => tokens,
            // Counted when it was asked first.
            Priced::Malformed => 1,
        };
        if self.spec.policy.max_cost() < cost {
            return Some(Denial { remaining: self.spec.policy.max_cost(), retry_after: None });
        }
        self.counter.peek(asker, key, cost).ok()?
    }

    /// Whether one more request that took this may wait for its instant.
    pub fn has_place(&self, debit: Debit) -> bool {
        self.waiting.has_place(self.queue(debit))
    }

    /// A request that took this begins to wait.
    pub fn join_queue(&self, debit: Debit) {
        self.waiting.join(self.queue(debit));
    }

    /// A request that took this waits no longer.
    pub fn leave_queue(&self, debit: Debit) {
        self.waiting.leave(self.queue(debit));
    }

    fn queue(&self, debit: Debit) -> Queue {
        Queue { limit: self.digest, key: debit.key }
    }

    /// Gives back what [`Limit::take`] took of a request that was not forwarded. A failure is counted; the units then stay
    /// taken: those that time does not bring back are given back later.
    pub fn give_back(&self, cx: &Cx<'_>, debit: Debit) {
        let given_back = self.counter.give_back(cx, debit.key, debit.cost, debit.taken);
        cx.report(given_back);
    }

    /// Gives back what a forwarded request held until its end.
    pub fn release(&self, cx: &Cx<'_>, debit: Debit) {
        match self.counter.keeps() {
            Kept::UsedUp => {}
            Kept::Held => self.give_back(cx, debit),
        }
    }

    /// Gives back all that this worker took in advance.
    pub fn surrender(&self, cx: &Cx<'_>) {
        cx.report(self.counter.surrender(cx));
    }

    /// Gives back what this worker took in advance and did not use, and what requests have held for too long; what they held
    /// of a key is then [owed](crate::limit::shares::Holdings::repay). Returns when to call again, `None` if there is no need.
    pub fn settle(&self, cx: &Cx<'_>) -> Option<Duration> {
        let now = cx.now();
        let overdue = self.counter.take_overdue(now);
        if 0 < overdue.requests {
            let name = || self.names.holds_expired_total(&self.spec.name);
            let amount = u64::from(overdue.requests);
            cx.report(self.holds_expired.add(cx, amount, name));
            cx.hold_expired(&self.spec.name);
        }
        let settled = self.counter.settle(cx).unwrap_or_else(|error| {
            cx.host_error(error);
            None
        });
        [overdue.next, settled].into_iter().flatten().min()
    }

    /// Counts a refusal, real or shadow.
    pub fn count_refusal(&self, cx: &Cx<'_>) {
        self.reason.count(cx, Enforcement::of(self.spec.enforced));
    }

    /// Records how long a request waited.
    pub fn observe_wait(&self, cx: &Cx<'_>, wait: Duration) {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let name = || self.names.queue_wait_milliseconds(&self.spec.name);
        cx.report(self.waits.observe(cx, wait, name));
    }

    fn try_take(&self, asker: &Asker<'_>) -> Result<Verdict, HostError> {
        let Some(key) = self.key(asker)? else {
            return Ok(Verdict::Pass);
        };
        if let Some(header) = self.spec.key.as_ref().and_then(|key| key.repeated_header(asker.request)) {
            asker.cx.repeated_header(&self.spec.name, header);
        }
        self.look_at_chain(asker);
        let cost = self.price(asker);
        if self.spec.policy.max_cost() < cost {
            return Ok(Verdict::Refused(Denial { remaining: self.spec.policy.max_cost(), retry_after: None }));
        }
        let answer = self.counter.take(asker, key, cost)?;
        self.count_eviction(asker.cx, answer.eviction);
        Ok(match answer.result {
            Ok(admission) => Verdict::Admitted(Debit { key, cost, taken: admission.taken }, admission),
            Err(denial) => Verdict::Refused(denial),
        })
    }

    /// The request's key; some constant for a limit without keys, `None` if the limit does not apply.
    fn key(&self, asker: &Asker<'_>) -> Result<Option<KeyHash>, HostError> {
        let Some(spec) = &self.spec.key else {
            return Ok(Some(KeyHash(0)));
        };
        let hasher = self.seed.hasher(asker.cx)?;
        spec.hash(asker.cx, asker.request, asker.operation, hasher)
    }

    /// Takes note of how many proxies the request names, if its key has to do with them.
    fn look_at_chain(&self, asker: &Asker<'_>) {
        let Some((client_ip, chain)) = self.spec.key.as_ref().and_then(|key| key.chain(asker.request)) else {
            return;
        };
        if let Some(short) = self.chains.note(chain) {
            let (limit, header, hops) = (&self.spec.name, &client_ip.header, client_ip.trusted_hops);
            asker.cx.short_chains(limit, header, hops, short);
        }
    }

    fn price(&self, asker: &Asker<'_>) -> u64 {
        match self.spec.cost.of(asker.request) {
            Priced::Tokens(tokens) => tokens,
            Priced::Malformed => {
                asker.cx.malformed_cost(&self.spec.name);
                1
            }
        }
    }

    fn count_eviction(&self, cx: &Cx<'_>, eviction: Eviction) {
        let Some(kind) = eviction.kind() else {
            return;
        };
        let handle = if eviction == Eviction::Lossy { &self.evictions_lossy } else { &self.evictions_lossless };
        let name = || self.names.table_evictions_total(&self.spec.name, kind);
        cx.report(handle.count(cx, name));
    }
}
