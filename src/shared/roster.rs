//! Which workers are alive.
//!
//! What a worker holds for the time of a request (its share of a concurrency limit) must come back when the worker's
//! virtual machine traps, and nobody tells the others that it did. So each worker that holds something says every
//! [`BEAT`] that it is there, in one record for all; what belongs to a worker not heard of for [`EXPIRY`] is free.
//!
//! A worker that is stopped for longer than that (a debugger, a stalled machine) is taken for dead and its share given
//! away; when it goes on, there can be so much in flight beyond the limit until its requests end. So it is with what a
//! trapped worker had sent on already: it lives on upstream until it is answered.
//!
//! Record: the [header](mod@format) with no meter's stamp, then per worker its number (32 bits) and the instant it was last heard of
//! (64 bits), little-endian.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::format;
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

/// How often a worker that holds something says that it is there.
pub const BEAT: Duration = Duration::from_millis(500);

/// After so long without a beat a worker is taken for dead. Several beats, because a busy worker is late; and what it
/// held is free within 3 s of its end, a beat of the reader included.
pub const EXPIRY: Duration = Duration::from_millis(2200);

const KEY: &str = "outrigger/roster";
const WHAT: &str = "roster";
const ENTRY: usize = 4 + 8;

/// The number of a worker: random, so that a new virtual machine is a new worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

impl WorkerId {
    /// A new one.
    ///
    /// # Errors
    ///
    /// The proxy has no randomness.
    pub fn draw(cx: &Cx<'_>) -> Result<Self, HostError> {
        let [a, b, c, d, ..] = cx.host.random()?;
        Ok(Self(u32::from_le_bytes([a, b, c, d])))
    }
}

/// What is known of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Alive,
    /// It is on no recent roster. It may have come since.
    Absent,
}

/// The roster as one worker last read it.
#[derive(Debug, Default)]
pub struct Roster {
    me: Cell<Option<WorkerId>>,
    beaten: Cell<Option<Timestamp>>,
    alive: RefCell<Vec<WorkerId>>,
}

impl Roster {
    /// This worker's number, after it has said that it is there if it did not lately.
    ///
    /// # Errors
    ///
    /// The record cannot be used, or the proxy has no randomness.
    pub fn sign(&self, cx: &Cx<'_>) -> Result<WorkerId, HostError> {
        let now = cx.now();
        match (self.me.get(), self.beaten.get()) {
            (Some(me), Some(beaten)) if beaten <= now && now.saturating_since(beaten) < BEAT => Ok(me),
            _ => self.beat(cx),
        }
    }

    /// Says that this worker is there, and reads who else is.
    ///
    /// # Errors
    ///
    /// As for [`Roster::sign`].
    pub fn beat(&self, cx: &Cx<'_>) -> Result<WorkerId, HostError> {
        let now = cx.now();
        let me = match self.me.get() {
            Some(me) => me,
            None => WorkerId::draw(cx)?,
        };
        let alive = record::update(cx, WHAT, KEY, |bytes| {
            if !bytes.is_empty() && format::open(bytes).is_none() {
                cx.undecodable(KEY);
            }
            let mut entries = decode(bytes);
            entries.retain(|(worker, heard)| *worker != me && is_recent(*heard, now));
            entries.push((me, now));
            encode(&entries, bytes);
            Step::Write(entries)
        })?;
        self.me.set(Some(me));
        self.beaten.set(Some(now));
        *self.alive.borrow_mut() = alive.into_iter().map(|(worker, _)| worker).collect();
        Ok(me)
    }

    /// What the roster said of a worker when this one last looked.
    pub fn known(&self, worker: WorkerId) -> Known {
        match self.alive.borrow().contains(&worker) {
            true => Known::Alive,
            false => Known::Absent,
        }
    }

    /// How many workers there were when this one last looked, itself included.
    pub fn alive(&self) -> u32 {
        u32::try_from(self.alive.borrow().len()).unwrap_or(u32::MAX).max(1)
    }
}

/// Also refuses an instant so far ahead that the clock must have gone back.
fn is_recent(heard: Timestamp, now: Timestamp) -> bool {
    now.saturating_since(heard) < EXPIRY && heard.saturating_since(now) < EXPIRY
}

fn decode(bytes: &[u8]) -> Vec<(WorkerId, Timestamp)> {
    let (_, entries) = format::open(bytes).unwrap_or((format::NO_METER, &[]));
    let entry = |bytes: &[u8]| {
        let (worker, heard) = bytes.split_first_chunk::<4>()?;
        let heard = u64::from_le_bytes(*heard.first_chunk::<8>()?);
        Some((WorkerId(u32::from_le_bytes(*worker)), Timestamp::from_nanos(heard)))
    };
    entries.chunks_exact(ENTRY).filter_map(entry).collect()
}

fn encode(entries: &[(WorkerId, Timestamp)], bytes: &mut Vec<u8>) {
    format::begin(bytes, format::HEADER_SIZE + entries.len() * ENTRY, format::NO_METER);
    for (worker, heard) in entries {
        bytes.extend_from_slice(&worker.0.to_le_bytes());
        bytes.extend_from_slice(&heard.as_nanos().to_le_bytes());
    }
}
