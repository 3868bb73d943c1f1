//! How much is measured.

use serde::{Deserialize, Serialize};

/// The size of a run. Written down with its results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Of CPU cost: in each, every variant gets one burst, in an order of its own.
    pub(crate) rounds: u32,
    /// Requests in a burst, and connections that they come by.
    pub(crate) burst: u32,
    pub(crate) connections: u32,
    /// Requests before anything counts, so that V8 has compiled what is used.
    pub(crate) warm_up: u32,
    /// Of latency, and requests in each, at this rate a second over so many connections.
    pub(crate) latency_rounds: u32,
    pub(crate) latency_requests: u32,
    pub(crate) latency_rate: u32,
    pub(crate) latency_connections: u32,
    /// Requests whose instructions are counted, after as many that are not.
    #[serde(default)]
    pub(crate) counted: u32,
    /// How often memory and times of starting are measured, each with an Envoy of its own.
    pub(crate) repetitions: u32,
    /// Of the order of bursts.
    pub(crate) seed: u64,
}

impl Plan {
    /// A run whose figures may be published.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 200,
            burst: 1000,
            connections: 16,
            warm_up: 10_000,
            latency_rounds: 10,
            latency_requests: 1000,
            latency_rate: 1000,
            latency_connections: 4,
            counted: 1500,
            repetitions: 5,
            seed: 1,
        }
    }

    /// A run that shows that everything works.
    pub(crate) fn quick() -> Self {
        Self { rounds: 5, warm_up: 2000, latency_rounds: 1, counted: 200, repetitions: 1, ..Self::full() }
    }

    /// A run of `./build.sh weight`: a minute or two.
    pub(crate) fn weight() -> Self {
        Self { warm_up: 1000, counted: 200, repetitions: 2, ..Self::quick() }
    }
}
