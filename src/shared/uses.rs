//! Who uses what: names, such as those of gauges, that several workers have a say in.
//!
//! A gauge belongs to the process, and many virtual machines set it: one per worker and one of the main thread, and for a
//! while twice as many, when the module is replaced. The machine that goes last is not the one that knows best: an old one
//! is cleaned up after the new ones have begun. So each says in one record what it uses, and what it stops using is shown
//! as unused only if nobody else uses it.
//!
//! A machine that traps takes nothing back. So each says every [`BEAT`] that it is there, and one that was not heard of for
//! [`EXPIRY`] uses nothing any more; whoever finds that out first tells so.
//!
//! The [roster](super::roster) is another list: it counts those that serve requests, and the main thread is none of them.
//!
//! Record: the [header](mod@format) with no meter's stamp; then per worker its number (32 bits), the instant it was last heard
//! of (64 bits), how many names it uses (32 bits), and each name behind its length (32 bits). Numbers are little-endian.

use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::format;
use crate::shared::record::{self, Step};
use crate::shared::roster::WorkerId;
use crate::sorted::SortedMap;
use crate::time::Timestamp;

/// How often a worker says what it uses.
pub const BEAT: Duration = Duration::from_secs(2);

/// After so long without a beat a worker is taken for dead: its next beat, and one that came late.
pub const EXPIRY: Duration = Duration::from_secs(5);

const KEY: &str = "outrigger/uses";
const WHAT: &str = "uses";

/// How names stand after a worker has said what it uses.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Used by anybody.
    pub used: SortedMap<String, ()>,
    /// Used before, by this worker or by one that is dead, and by nobody any more.
    pub left: Vec<String>,
}

/// What one worker uses.
struct User {
    worker: WorkerId,
    heard: Timestamp,
    names: Vec<String>,
}

/// Says that the worker `me` uses these names, and no others any more. Without any it is gone.
///
/// # Errors
///
/// The record cannot be used.
pub fn sign(cx: &Cx<'_>, me: WorkerId, names: &[String]) -> Result<Standing, HostError> {
    let now = cx.now();
    record::update(cx, WHAT, KEY, |bytes| {
        if !bytes.is_empty() && format::open(bytes).is_none() {
            cx.undecodable(KEY);
        }
        let before = std::mem::take(bytes);
        format::begin(bytes, before.len(), format::NO_METER);
        let mut standing = Standing::default();
        names.iter().for_each(|name| standing.used.insert(name.clone(), ()));
        let (_, mut rest) = format::open(&before).unwrap_or((format::NO_METER, &[]));
        while let Some(user) = User::read(&mut rest) {
            if user.worker != me && is_recent(user.heard, now) {
                user.write(bytes);
                user.names.into_iter().for_each(|name| standing.used.insert(name, ()));
            } else {
                standing.left.extend(user.names);
            }
        }
        if !names.is_empty() {
            User { worker: me, heard: now, names: names.to_vec() }.write(bytes);
        }
        standing.left.retain(|name| standing.used.get(name).is_none());
        Step::Write(standing)
    })
}

/// Also refuses an instant so far ahead that the clock must have gone back.
fn is_recent(heard: Timestamp, now: Timestamp) -> bool {
    now.saturating_since(heard) < EXPIRY && heard.saturating_since(now) < EXPIRY
}

impl User {
    /// The next user of a record; `None` at its end, or where it cannot be read.
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let worker = WorkerId(number(rest)?);
        let heard = take(rest, 8)?.try_into().ok()?;
        let heard = Timestamp::from_nanos(u64::from_le_bytes(heard));
        let mut names = Vec::new();
        for _ in 0..number(rest)? {
            let size = usize::try_from(number(rest)?).ok()?;
            names.push(std::str::from_utf8(take(rest, size)?).ok()?.to_owned());
        }
        Some(Self { worker, heard, names })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.worker.0.to_le_bytes());
        bytes.extend_from_slice(&self.heard.as_nanos().to_le_bytes());
        bytes.extend_from_slice(&length(self.names.len()));
        for name in &self.names {
            bytes.extend_from_slice(&length(name.len()));
            bytes.extend_from_slice(name.as_bytes());
        }
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take<'b>(rest: &mut &'b [u8], size: usize) -> Option<&'b [u8]> {
    let (taken, behind) = rest.split_at_checked(size)?;
    *rest = behind;
    Some(taken)
}

/// Nothing that is counted here comes near the largest number: a document holds it.
fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes()
}
