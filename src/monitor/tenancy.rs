//! Whether two configurations in use belong to two filters, or one takes the place of the other.
//!
//! The proxy does not say. Both have a root context; after a change of a filter's configuration the earlier one goes on
//! serving until its connections are drained. Two filters are told by this:
//!
//! * Their plugins have different names or root ids.
//! * Both came at once, before either had a request: a proxy that starts.
//! * The earlier one still gets requests long after the later one came: longer than the proxy drains connections.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::time::Timestamp;

/// What comes within this time before any request comes at once. A proxy that starts reads its filters in a second or two.
/// Long after that a worker may still have had no request, and the proxy's main thread never has any.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// After this time connections of a replaced configuration are closed. Envoy's default (`--drain-time-s`) is ten minutes.
pub const DRAINED: Duration = Duration::from_secs(15 * 60);

/// A configuration in use, as far as it matters whose it is. What two of them have in common and should not is `D`.
#[derive(Debug)]
pub struct Tenancy<D> {
    /// Root id and name of its plugin.
    plugin: String,
    since: Timestamp,
    used: Cell<bool>,
    /// What a later configuration has in common with this one, if that is another filter's, and when it came.
    rival: RefCell<Option<(Timestamp, Vec<D>)>>,
}

impl<D> Tenancy<D> {
    /// Of a configuration of this plugin that is taken up now.
    pub fn new(plugin: String, now: Timestamp) -> Self {
        Self { plugin, since: now, used: Cell::new(false), rival: RefCell::new(None) }
    }

    /// A later one is taken up, with these `disagreements` between both. Returns what is to be said of them now.
    pub fn meet(&self, later: &Self, disagreements: Vec<D>) -> Vec<D> {
        let at_once = !self.used.get() && later.since.saturating_since(self.since) < AT_ONCE;
        if self.plugin != later.plugin || at_once {
            return disagreements;
        }
        if !disagreements.is_empty() {
            *self.rival.borrow_mut() = Some((later.since, disagreements));
        }
        Vec::new()
    }

    /// A request came. Returns what is to be said now that was held back when a later configuration came. The time is asked
    /// for only if something was.
    pub fn serve(&self, now: impl FnOnce() -> Timestamp) -> Vec<D> {
        self.used.set(true);
        let mut rival = self.rival.borrow_mut();
        match &*rival {
            Some((came, _)) if DRAINED <= now().saturating_since(*came) => {
                rival.take().map(|(_, disagreements)| disagreements).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}
