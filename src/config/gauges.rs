//! The gauges that a configuration has a say in while it is in use.

use super::Config;
use crate::monitor::in_use::Gauges;
use crate::monitor::names::Names;

impl Config {
    /// Its version, its switches, and its breakers.
    pub fn gauges(&self) -> Gauges {
        let names = Names::of(self.scope.as_deref());
        let mut gauges = Gauges::default();
        if let Some(version) = &self.version {
            gauges.on(names.config_info(version));
        }
        for switch in &self.switches {
            match switch.is_on() {
                true => gauges.on(names.switch_on(&switch.name)),
                false => gauges.off(names.switch_on(&switch.name)),
            }
        }
        for breaker in &self.breakers {
            gauges.state(names.breaker_state(&breaker.name));
        }
        gauges
    }
}
