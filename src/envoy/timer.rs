//! The one timer of a root context, on only while something needs it.

use std::cell::Cell;
use std::time::Duration;

use super::abi;
use crate::time::Timestamp;

/// When the timer goes off, as far as it is on. Envoy's timers repeat; this one is set anew for every instant.
#[derive(Default)]
pub(super) struct Timer {
    due: Cell<Option<Timestamp>>,
}

/// Envoy's resolution.
const SHORTEST: u32 = 1;

impl Timer {
    /// Makes sure that the timer goes off at `instant` at the latest, but for Envoy's resolution.
    pub(super) fn wake_at(&self, instant: Timestamp) {
        if self.due.get().is_some_and(|due| due <= instant) {
            return;
        }
        self.due.set(Some(instant));
        set(instant.saturating_since(Timestamp::from_nanos(abi::monotonic_nanos())));
    }

    /// Runs what is due, which may ask for the next tick; without that the timer is switched off.
    pub(super) fn tick(&self, run: impl FnOnce()) {
        self.due.set(None);
        run();
        if self.due.get().is_none() {
            self.stop();
        }
    }

    /// Switches the timer off.
    pub(super) fn stop(&self) {
        self.due.set(None);
        let _ = abi::set_tick_period(0);
    }
}

/// A timer that cannot be set is noticed where it matters: by what it would have done.
fn set(wait: Duration) {
    let period = u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(SHORTEST);
    let _ = abi::set_tick_period(period);
}
