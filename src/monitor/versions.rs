//! Which configuration versions are in use.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::host::{Host, HostError, MetricKind};
use crate::monitor::metrics::{self, Metrics};

/// The versions in use by the root contexts of one worker, for `outrigger_config_info`.
///
/// The gauge is set, never stepped: after a hot restart the new process starts with the old one's values, and all
/// workers set the same gauge.
#[derive(Debug, Default)]
pub struct Versions {
    users: RefCell<BTreeMap<String, u32>>,
}

impl Versions {
    /// A root context took up the version.
    ///
    /// # Errors
    ///
    /// The proxy refused the gauge; the use is remembered all the same.
    pub fn taken_up(&self, host: &dyn Host, metrics: &Metrics, version: &str) -> Result<(), HostError> {
        *self.users.borrow_mut().entry(version.to_owned()).or_default() += 1;
        Self::show(host, metrics, version, 1)
    }

    /// A root context that had taken up the version is gone, or took up another.
    ///
    /// # Errors
    ///
    /// The proxy refused the gauge; the use is forgotten all the same.
    pub fn given_up(&self, host: &dyn Host, metrics: &Metrics, version: &str) -> Result<(), HostError> {
        let mut users = self.users.borrow_mut();
        let left = users.get(version).map_or(0, |users| users.saturating_sub(1));
        if 0 < left {
            users.insert(version.to_owned(), left);
            return Ok(());
        }
        users.remove(version);
        Self::show(host, metrics, version, 0)
    }

    fn show(host: &dyn Host, metrics: &Metrics, version: &str, value: u64) -> Result<(), HostError> {
        let id = metrics.id(host, MetricKind::Gauge, metrics::config_info(version))?;
        host.record_metric(id, value)
    }
}
