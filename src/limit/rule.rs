//! A configured limit: what it counts, where, and what a refusal by it says.

use crate::host::{Host, HostError};
use crate::limit::FailureMode;
use crate::limit::cost::{Cost, Priced};
use crate::limit::key::KeySpec;
use crate::limit::token_bucket::{Denial, Grant, TokenBucket};
use crate::monitor::metrics::{self, Handle};
use crate::operation::request::Request;
use crate::shared::bucket::SharedBucket;
use crate::shared::table::{Eviction, KeyHash, Table};
use crate::time::Timestamp;
use crate::worker::Worker;

/// The parameters of a limit, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Unique name.
    pub name: String,
    /// Indices of the operations that it applies to.
    pub operations: Vec<usize>,
    /// Methods that it applies to; empty for all.
    pub methods: Vec<String>,
    /// What it counts apart; absent: all requests together.
    pub key: Option<KeySpec>,
    /// Least number of keys that it keeps apart.
    pub max_keys: u32,
    /// Size and rate.
    pub bucket: TokenBucket,
    /// What a request takes.
    pub cost: Cost,
    /// Whether it refuses, or only counts what it would refuse.
    pub enforced: bool,
    /// Index of the fallback that its refusals answer with.
    pub fallback: Option<usize>,
    /// What to do without its shared state.
    pub failure_mode: FailureMode,
}

/// A limit at work.
#[derive(Debug)]
pub struct Limit {
    spec: LimitSpec,
    store: Store,
    reason: String,
    refusals: Handle,
    fallbacks: Handle,
    evictions_lossless: Handle,
    evictions_lossy: Handle,
}

#[derive(Debug)]
enum Store {
    One(SharedBucket),
    Keyed(KeySpec, Table),
}

/// Tokens that a request took, to be given back if it is refused after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Debit {
    key: Option<KeyHash>,
    cost: u64,
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not concerned: the request lacks the key, or the limit's state cannot be used and it allows that.
    Pass,
    /// It has the tokens.
    Admitted(Debit),
    /// It has them not.
    Refused(Denial),
    /// Its state cannot be used and it does not allow that.
    Unusable,
}

/// Who asks: all that a limit needs to know of the current callback.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The proxy.
    pub host: &'a dyn Host,
    /// The worker's store.
    pub worker: &'a Worker,
    /// The request.
    pub request: &'a Request<'a>,
    /// Name of its operation.
    pub operation: &'a str,
    /// The callback's time.
    pub now: Timestamp,
}

impl Limit {
    /// The limit of this specification, with its state under `scope`.
    pub fn new(spec: LimitSpec, scope: &str) -> Self {
        let store = match &spec.key {
            None => {
                let record = format!("outrigger/{scope}/token_bucket/{}", spec.name);
                Store::One(SharedBucket::new(record, spec.bucket, spec.failure_mode))
            }
            Some(key) => {
                let prefix = format!("outrigger/{scope}/token_table/{}/", spec.name);
                Store::Keyed(key.clone(), Table::new(prefix, spec.max_keys, spec.bucket, spec.failure_mode))
            }
        };
        let reason = format!("limit/{}", spec.name);
        Self {
            spec,
            store,
            reason,
            refusals: Handle::default(),
            fallbacks: Handle::default(),
            evictions_lossless: Handle::default(),
            evictions_lossy: Handle::default(),
        }
    }

    /// The parameters.
    pub fn spec(&self) -> &LimitSpec {
        &self.spec
    }

    /// The one spelling of a refusal by this limit.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the limit applies to the method.
    pub fn applies_to(&self, request: &Request<'_>) -> bool {
        let methods = &self.spec.methods;
        methods.is_empty() || methods.iter().any(|method| method.as_bytes() == request.method)
    }

    /// Takes what the request costs, or says why not. A refused request leaves no trace.
    pub fn take(&self, asker: &Asker<'_>) -> Verdict {
        match self.try_take(asker) {
            Ok(verdict) => verdict,
            Err(error) => {
                asker.worker.trouble.host_error(asker.host, error);
                match self.spec.failure_mode {
                    FailureMode::Allow => Verdict::Pass,
                    FailureMode::Deny => Verdict::Unusable,
                }
            }
        }
    }

    /// Gives back what [`Limit::take`] took. A failure is counted; the tokens then stay taken.
    pub fn give_back(&self, host: &dyn Host, worker: &Worker, debit: Debit, now: Timestamp) {
        let trouble = &worker.trouble;
        let given_back = match (&self.store, debit.key) {
            (Store::One(bucket), _) => bucket.refund(host, trouble, debit.cost, now),
            (Store::Keyed(_, table), Some(key)) => table.refund(host, trouble, key, debit.cost, now),
            (Store::Keyed(..), None) => Ok(()),
        };
        if let Err(error) = given_back {
            trouble.host_error(host, error);
        }
    }

    /// Counts a refusal, real or shadow.
    pub fn count_refusal(&self, host: &dyn Host, worker: &Worker) {
        let enforced = if self.spec.enforced { "true" } else { "false" };
        let counted = self.refusals.count(host, &worker.metrics, || metrics::refusals_total(&self.reason, enforced));
        report(counted, host, worker);
    }

    /// Counts that the fallback was served.
    pub fn count_fallback(&self, host: &dyn Host, worker: &Worker, fallback: &str) {
        let counted = self.fallbacks.count(host, &worker.metrics, || metrics::fallbacks_total(fallback, &self.reason));
        report(counted, host, worker);
    }

    fn try_take(&self, asker: &Asker<'_>) -> Result<Verdict, HostError> {
        let Asker { host, worker, request, operation, now } = *asker;
        let trouble = &worker.trouble;
        match &self.store {
            Store::One(bucket) => {
                let cost = self.price(asker);
                Ok(verdict(bucket.take(host, trouble, cost, now)?, Debit { key: None, cost }))
            }
            Store::Keyed(spec, table) => {
                let hasher = worker.seed.hasher(host, trouble)?;
                let Some(key) = spec.hash(host, request, operation, hasher)? else {
                    return Ok(Verdict::Pass);
                };
                let cost = self.price(asker);
                let taken = table.take(host, trouble, key, cost, now)?;
                self.count_eviction(host, worker, taken.eviction);
                Ok(verdict(taken.result, Debit { key: Some(key), cost }))
            }
        }
    }

    fn price(&self, asker: &Asker<'_>) -> u64 {
        match self.spec.cost.of(asker.request) {
            Priced::Tokens(tokens) => tokens,
            Priced::Malformed => {
                asker.worker.trouble.malformed_cost(asker.host, &self.spec.name);
                1
            }
        }
    }

    fn count_eviction(&self, host: &dyn Host, worker: &Worker, eviction: Eviction) {
        let (handle, kind) = match eviction {
            Eviction::None => return,
            Eviction::Lossless => (&self.evictions_lossless, "lossless"),
            Eviction::Lossy => (&self.evictions_lossy, "lossy"),
        };
        let name = || metrics::table_evictions_total(&self.spec.name, kind);
        report(handle.count(host, &worker.metrics, name), host, worker);
    }
}

fn verdict(result: Result<Grant, Denial>, debit: Debit) -> Verdict {
    match result {
        Ok(_) => Verdict::Admitted(debit),
        Err(denial) => Verdict::Refused(denial),
    }
}

fn report(counted: Result<(), HostError>, host: &dyn Host, worker: &Worker) {
    if let Err(error) = counted {
        worker.trouble.host_error(host, error);
    }
}
