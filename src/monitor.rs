//! Monitoring: what the proxy's statistics, access log and log say about the filter's decisions.
//!
//! * [`metrics`]: the table of every metric and the handles to it.
//! * [`reason`]: why a request was refused, in one word.
//! * [`outcome`]: how a request ended, in one word.
//! * [`in_use`]: which configuration versions and switches are in use.
//! * [`trouble`]: host calls that failed: counted always, logged now and then.

pub mod failures;
pub mod in_use;
pub mod metrics;
pub mod outcome;
pub mod reason;
pub mod trouble;
