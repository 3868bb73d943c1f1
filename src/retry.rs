//! Retries that never multiply an outage.
//!
//! * [`policy`]: which requests may be retried, and what the router is told about each.
//! * [`budget`]: how many retries the successes pay for.
//! * [`deadline`]: how much time a request still has, and [`usual`], how much it will need.
//! * [`router`]: the headers by which Envoy's router is told.
//! * [`attempts`]: what is different where a second instance sees each attempt; [`register`], how the two find each other, and
//!   [`attendance`], whether they do.
//! * [`rule`]: all of it as configured; [`sharers`], among how many workers a budget is divided.
//! * [`store`]: what a worker keeps of all this.

pub mod attempts;
pub mod attendance;
pub mod budget;
pub mod deadline;
pub mod fields;
pub mod policy;
pub mod register;
pub mod router;
pub mod rule;
pub mod sharers;
pub mod store;
pub mod usual;
