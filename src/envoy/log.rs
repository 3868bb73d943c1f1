//! The proxy's log as the crate's.

use std::panic;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::abi;

struct ProxyLog;

/// The ABI's level for what ends the virtual machine.
const CRITICAL: u32 = 5;

/// Sends everything that is logged, and the message of a panic, to the proxy. To be called once.
pub(super) fn install() {
    if log::set_logger(&ProxyLog).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    panic::set_hook(Box::new(|info| abi::log(CRITICAL, &info.to_string())));
}

impl Log for ProxyLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            abi::log(number(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The ABI's number for a level.
fn number(level: Level) -> u32 {
    match level {
        Level::Trace => 0,
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    }
}
