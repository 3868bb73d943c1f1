//! Who may run beside whom.
//!
//! `cargo test` runs scenarios in parallel, and most do not mind. Those that measure a rate or a process's memory
//! must not share the machine, or they would measure their neighbours.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::envoy_process::Envoy;

static FLOOR: RwLock<()> = RwLock::const_new(());

/// The right to run Envoys; held as long as the scenario lasts.
pub(crate) enum Turn {
    /// Beside other scenarios.
    Shared(#[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    /// With the machine to itself.
    Alone(#[allow(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// Waits until no measuring scenario runs.
    pub(crate) async fn shared() -> Self {
        Self::Shared(FLOOR.read().await)
    }

    /// Waits until nothing else runs.
    pub(crate) async fn alone() -> Self {
        Self::Alone(FLOOR.write().await)
    }

    /// Starts an Envoy and waits until it is ready. It must be dropped before the turn ends.
    pub(crate) async fn start(&self, bootstrap: Bootstrap) -> Envoy {
        Envoy::start(bootstrap).await
    }
}
