//! Retries that never multiply an outage.
//!
//! * [`deadline`]: how much time a request still has.

pub mod deadline;
