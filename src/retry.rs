//! Retries that never multiply an outage.
//!
//! * [`policy`]: which requests may be retried, and what the router is told about each.
//! * [`budget`]: how many retries the successes pay for.
//! * [`deadline`]: how much time a request still has, and [`usual`], how much it will need.
//! * [`router`]: the headers by which Envoy's router is told.
//! * [`rule`]: all of it as configured; [`sharers`], among how many workers a budget is divided.
//! * [`stream`]: requests that all of this leaves alone.

pub mod budget;
pub mod deadline;
pub mod policy;
pub mod router;
pub mod rule;
pub mod sharers;
pub mod stream;
pub mod usual;
