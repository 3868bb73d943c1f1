//! What a worker keeps of limits.

use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::limit::concurrency::Concurrency;
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::shares::Holdings;
use crate::limit::token_bucket::TokenBucket;
use crate::limit::waiting::Waiting;
use crate::limit::window::{LeasedWindow, Window};
use crate::shared::by_key::ByKey;
use crate::shared::leased::Leases;
use crate::shared::live::Latest;
use crate::shared::roster::{BEAT, Roster};
use crate::shared::seed::Seed;
use crate::shared::vacancies::Vacancies;

/// The limits of one worker. Outlives configurations.
#[derive(Debug)]
pub struct Store {
    /// The parameters that hold for each shared state.
    pub meters: Meters,
    /// Tokens taken in advance.
    pub leases: Leases,
    /// Places in queues that were given up.
    pub vacancies: ByKey<Vacancies>,
    /// What is held of concurrency limits.
    pub holdings: Rc<Holdings>,
    /// Which requests wait in queues.
    pub waiting: Rc<Waiting>,
    /// The secret under which keys are hashed.
    pub seed: Rc<Seed>,
    roster: Rc<Roster>,
}

/// The latest parameters of all meters in one worker.
#[derive(Debug, Default)]
pub struct Meters {
    /// Token buckets.
    pub token_buckets: Latest<TokenBucket>,
    /// Queues.
    pub leaky_buckets: Latest<LeakyBucket>,
    /// Windows of a key.
    pub windows: Latest<Window>,
    /// Windows of all requests together.
    pub leased_windows: Latest<LeasedWindow>,
    /// Limits of what is in flight.
    pub concurrency: Latest<Concurrency>,
}

impl Store {
    /// An empty one of a worker that shares with those on the roster.
    pub fn new(roster: &Rc<Roster>, seed: &Rc<Seed>) -> Self {
        Self {
            meters: Meters::default(),
            leases: Leases::default(),
            vacancies: ByKey::default(),
            holdings: Rc::new(Holdings::new(Rc::clone(roster))),
            waiting: Rc::default(),
            seed: Rc::clone(seed),
            roster: Rc::clone(roster),
        }
    }

    /// Gives back what could not be given back before, and says that this worker is alive if it holds anything. Returns when
    /// to do so again, `None` if there is no need.
    pub fn keep_alive(&self, cx: &Cx<'_>) -> Option<Duration> {
        let again = self.holdings.repay(cx);
        if !self.holdings.any() {
            return again;
        }
        cx.report(self.roster.sign(cx).map(|_| ()));
        Some(again.unwrap_or(BEAT))
    }
}
