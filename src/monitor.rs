//! Monitoring: what the proxy's statistics, access log and log say about the filter's decisions.
//!
//! * [`metrics`]: the table of every metric and the handles to it.
//! * [`outcome`]: how a request ended, in one word.
//! * [`trouble`]: host calls that failed: counted always, logged now and then.
//! * [`versions`]: which configuration versions are in use.

pub mod metrics;
pub mod outcome;
pub mod trouble;
pub mod versions;
