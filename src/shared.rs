//! State that all workers of a sidecar share.
//!
//! A proxy gives its workers a map of small records with conditional writes, and nothing else: no locks, no deletion.
//! Everything shared is built from [`record::update`], the one place where a conflict is handled:
//!
//! * [`record`]: read, decide, write if nobody wrote meanwhile, else again.
//! * [`meter`]: what a limit counts with: a pure policy over a small state.
//! * [`failure_mode`]: what is done where a record cannot be used.
//! * [`single`]: one state in one record; [`live`]: by which parameters it is judged.
//! * [`lease`]: what a worker takes of a bucket in advance, and [`leased`], the bucket with it.
//! * [`vacancies`]: places in a queue that were given up.
//! * [`by_key`]: what a worker keeps beside a record.
//! * [`table`]: many states, one per key, in a fixed number of records.
//! * [`roster`]: which workers are alive.
//! * [`uses`]: who uses what gauges show.
//! * [`format`](mod@format): how records of meters begin.
//! * [`seed`]: the secret that decides where in a table a key lives.
//!
//! Every key of a record starts with `outrigger/`, because plugins that leave `vm_id` empty share one map, and is made
//! of configured names and small numbers only, because records are never freed.

pub mod by_key;
pub mod failure_mode;
pub mod format;
pub mod lease;
pub mod leased;
pub mod live;
pub mod meter;
pub mod record;
pub mod roster;
pub mod seed;
pub mod single;
pub mod table;
pub mod uses;
pub mod vacancies;
