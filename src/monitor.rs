//! Monitoring: what the proxy's statistics, access log and log say about the filter's decisions.
//!
//! * [`table`]: the table of every metric.
//! * [`word`]: one such word.
//! * [`metrics`]: the metrics that a worker has defined, and the handles to them.
//! * [`names`]: what the metrics of a filter are called.
//! * [`reason`]: why a request was refused, in one word.
//! * [`outcome`]: how a request ended, in one word.
//! * [`failures`]: which statuses say that the service failed.
//! * [`in_use`]: which configuration versions, switches and breakers are in use.
//! * [`notice`]: what a configuration is warned of, said once.
//! * [`tenancy`]: whether two configurations belong to two filters.
//! * [`trouble`]: host calls that failed: counted always, logged now and then.

pub mod failures;
pub mod fields;
pub mod in_use;
pub mod metrics;
pub mod names;
pub mod notice;
pub mod outcome;
pub mod reason;
pub mod settings;
pub mod table;
pub mod tenancy;
pub mod trouble;
pub mod word;
