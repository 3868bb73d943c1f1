//! What a worker keeps across configurations.
//!
//! A configuration update makes a new root context in the same virtual machine, and the old one goes on serving until
//! its connections are drained. Whatever must not start afresh then lives here, once per worker: what it holds in
//! advance, the hash seed, the handles of metrics, and when a trouble was last logged. The compiled configuration ([`Filter`](crate::filter::Filter))
//! holds parameters only.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::watched::Watches;
use crate::degrade::stale::Memories;
use crate::host::{Host, HostError};
use crate::limit::waiting::Waiting;
use crate::monitor::in_use::InUse;
use crate::monitor::metrics::Metrics;
use crate::monitor::trouble::Trouble;
use crate::retry::attendance::Attendance;
use crate::retry::budget::Account;
use crate::retry::register::Register;
use crate::retry::sharers::Sharers;
use crate::retry::usual::UsualTime;
use crate::shared::by_key::ByKey;
use crate::shared::leased::Leases;
use crate::shared::live::{Latest, Meters};
use crate::shared::roster::{BEAT, Roster};
use crate::shared::seed::Seed;
use crate::shared::shares::{Context, Holdings};
use crate::shared::vacancies::Vacancies;
use crate::time::Timestamp;

/// The breakers of one worker.
#[derive(Debug, Default)]
pub struct Breakers {
    /// The parameters that hold for each.
    pub parameters: Latest<Breaker>,
    /// What was last seen of each, and what the others have not been told yet.
    pub watches: Watches,
}

/// The store of one worker. Lost when the virtual machine traps: what it held then comes back by itself.
#[derive(Debug, Default)]
pub struct Worker {
    /// Handles of the metrics defined so far.
    pub metrics: Metrics,
    /// What went wrong, counted and logged.
    pub trouble: Trouble,
    /// The parameters that hold for each shared state.
    pub meters: Meters,
    /// Tokens taken in advance.
    pub leases: Leases,
    /// Places in queues that were given up.
    pub vacancies: ByKey<Vacancies>,
    /// What is held of concurrency limits.
    pub holdings: Rc<Holdings>,
    /// Which workers are alive.
    pub roster: Roster,
    /// The breakers' parameters, and what this worker knows of their states.
    pub breakers: Breakers,
    /// What is remembered of stale answers.
    pub stale: Memories,
    /// What this worker has of retry budgets.
    pub accounts: ByKey<RefCell<Account>>,
    /// Among how many workers those are divided.
    pub sharers: Sharers,
    /// Whether the attempts of rules' requests are seen one by one.
    pub attendances: ByKey<Attendance>,
    /// The requests whose attempts may be, and who is there to see them.
    pub register: Register,
    /// How long requests of operations take.
    pub usual_times: ByKey<RefCell<UsualTime>>,
    /// Which requests wait in queues.
    pub waiting: Waiting,
    /// The secret under which keys are hashed.
    pub seed: Seed,
    /// What this worker uses of what gauges show: configuration versions, switches, breakers.
    pub in_use: InUse,
}

impl Worker {
    /// What shared state needs of a callback.
    pub fn context<'a>(&'a self, host: &'a dyn Host, now: Timestamp) -> Context<'a> {
        Context { host, trouble: &self.trouble, roster: &self.roster, now }
    }

    /// Counts a call that failed.
    pub fn report(&self, host: &dyn Host, done: Result<(), HostError>) {
        if let Err(error) = done {
            self.trouble.host_error(host, error);
        }
    }

    /// Counts the workers that share what is the sidecar's, this one included, which says that it is one of them. If that
    /// cannot be told, there are as many as there were.
    pub fn count_sharers(&self, host: &dyn Host, now: Timestamp) -> u32 {
        self.report(host, self.roster.sign(host, &self.trouble, now).map(|_| ()));
        self.sharers.count(self.roster.alive(), now)
    }

    /// Gives back what could not be given back before, and says that this worker is alive if it holds anything. Returns when
    /// to do so again, `None` if there is no need.
    pub fn keep_alive(&self, host: &dyn Host, now: Timestamp) -> Option<Duration> {
        let again = self.holdings.repay(&self.context(host, now));
        if !self.holdings.any() {
            return again;
        }
        self.report(host, self.roster.sign(host, &self.trouble, now).map(|_| ()));
        Some(again.unwrap_or(BEAT))
    }
}
