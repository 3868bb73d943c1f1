//! State that all workers of a sidecar share.
//!
//! A proxy gives its workers a map of small records with conditional writes, and nothing else: no locks, no deletion.
//! Everything shared is built from [`record::update`], the one place where a conflict is handled:
//!
//! * [`record`]: read, decide, write if nobody wrote meanwhile, else again.
//! * [`bucket`]: one token bucket in one record.
//! * [`table`]: many token buckets, one per key, in a fixed number of records.
//! * [`format`](mod@format): how records of buckets begin.
//! * [`seed`]: the secret that decides where in a table a key lives.
//!
//! Every key of a record starts with `outrigger/`, because plugins that leave `vm_id` empty share one map, and is made
//! of configured names and small numbers only, because records are never freed.

pub mod bucket;
pub mod format;
pub mod record;
pub mod seed;
pub mod table;
