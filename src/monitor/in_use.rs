//! Which configured things are in use: gauges that are 1 while some configuration of this worker has them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::config::Config;
use crate::host::{Host, HostError};
use crate::monitor::metrics::{self, Metrics};

/// What the root contexts of one worker use, by the name of the gauge that says so: configuration versions, and switches
/// that are on.
///
/// The gauges are set, never stepped: after a hot restart the new process starts with the old one's values, and all
/// workers set the same gauge.
#[derive(Debug, Default)]
pub struct InUse {
    users: RefCell<BTreeMap<String, u32>>,
}

impl InUse {
    /// A root context took up the configuration.
    ///
    /// # Errors
    ///
    /// The proxy refused a gauge; the use is remembered all the same.
    pub fn take_up(&self, host: &dyn Host, metrics: &Metrics, config: &Config) -> Result<(), HostError> {
        for gauge in gauges(config) {
            *self.users.borrow_mut().entry(gauge).or_default() += 1;
        }
        self.show(host, metrics, config)
    }

    /// A root context that had taken it up is gone.
    ///
    /// # Errors
    ///
    /// The proxy refused a gauge; the use is forgotten all the same.
    pub fn give_up(&self, host: &dyn Host, metrics: &Metrics, config: &Config) -> Result<(), HostError> {
        for gauge in gauges(config) {
            let mut users = self.users.borrow_mut();
            let left = users.get(&gauge).map_or(0, |users| users.saturating_sub(1));
            if left == 0 {
                users.remove(&gauge);
            } else {
                users.insert(gauge, left);
            }
        }
        self.show(host, metrics, config)
    }

    /// Sets all gauges that the configuration has a say in.
    fn show(&self, host: &dyn Host, metrics: &Metrics, config: &Config) -> Result<(), HostError> {
        let switched_off = config.switches.iter().filter(|switch| !switch.is_on());
        let switched_off = switched_off.map(|switch| metrics::switch_on(&switch.name));
        gauges(config).chain(switched_off).try_for_each(|gauge| {
            let used = self.users.borrow().contains_key(&gauge);
            metrics.set(host, gauge, u64::from(used))
        })
    }
}

/// The gauges that are 1 while the configuration is in use.
fn gauges(config: &Config) -> impl Iterator<Item = String> {
    let version = config.version.iter().map(|version| metrics::config_info(version));
    let switches = config.switches.iter().filter(|switch| switch.is_on());
    version.chain(switches.map(|switch| metrics::switch_on(&switch.name)))
}
