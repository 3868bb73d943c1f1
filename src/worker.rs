//! What a worker keeps across configurations.
//!
//! A configuration update makes a new root context in the same virtual machine, and the old one goes on serving until
//! its connections are drained. Whatever must not start afresh then lives here, once per worker: the stores of the policies, the
//! hash seed, the handles of metrics, and when a trouble was last logged. The compiled configuration
//! ([`Filter`](crate::filter::Filter)) holds parameters, and of a store what its policies need.

use std::rc::Rc;

use crate::cx::{Cx, Telemetry};
use crate::degrade::{breaker, stale};
use crate::host::Host;
use crate::monitor::in_use::InUse;
use crate::shared::roster::Roster;
use crate::shared::seed::Seed;
use crate::{limit, retry};

/// The store of one worker. Lost when the virtual machine traps: what it held then comes back by itself.
#[derive(Debug)]
pub struct Worker {
    /// What it reports trouble and metrics through.
    pub telemetry: Telemetry,
    /// What it knows and holds of limits.
    pub limit: limit::store::Store,
    /// The breakers' parameters, and what this worker knows of their states.
    pub breaker: breaker::Store,
    /// What is remembered of stale answers.
    pub stale: stale::Store,
    /// What it has of retry budgets, and the requests that are retried.
    pub retry: retry::store::Store,
    /// Which workers are alive.
    pub roster: Rc<Roster>,
    /// The secret under which keys are hashed.
    pub seed: Rc<Seed>,
    /// What this worker uses of what gauges show: configuration versions, switches, breakers.
    pub in_use: InUse,
}

impl Default for Worker {
    fn default() -> Self {
        let (roster, seed) = (Rc::<Roster>::default(), Rc::<Seed>::default());
        Self {
            telemetry: Telemetry::default(),
            limit: limit::store::Store::new(&roster, &seed),
            breaker: breaker::Store::default(),
            stale: stale::Store::new(&seed),
            retry: retry::store::Store::new(&roster),
            roster,
            seed,
            in_use: InUse::default(),
        }
    }
}

impl Worker {
    /// The context of a callback that begins.
    pub fn cx<'a>(&'a self, host: &'a dyn Host) -> Cx<'a> {
        Cx::new(host, &self.telemetry)
    }
}
