//! What a worker keeps across configurations.
//!
//! A configuration update makes a new root context in the same virtual machine, and the old one goes on serving until
//! its connections are drained. Whatever must not start afresh then lives here, once per worker: the hash seed, the
//! handles of metrics, and when a trouble was last logged. The compiled configuration ([`Filter`](crate::filter::Filter))
//! holds parameters only.

use crate::monitor::metrics::Metrics;
use crate::monitor::trouble::Trouble;
use crate::monitor::versions::Versions;
use crate::shared::seed::Seed;

/// The store of one worker. Lost when the virtual machine traps; nothing in it is more than a memory of what is shared.
#[derive(Debug, Default)]
pub struct Worker {
    /// Handles of the metrics defined so far.
    pub metrics: Metrics,
    /// What went wrong, counted and logged.
    pub trouble: Trouble,
    /// The secret under which keys are hashed.
    pub seed: Seed,
    /// The configuration versions in use.
    pub versions: Versions,
}
