//! An answer that is kept while it passes.

use std::rc::Rc;

use crate::cx::Cx;
use crate::degrade::stale::cause::{Cause, NotKept};
use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::frequency;
use crate::degrade::stale::index::RESERVED_FOR;
use crate::degrade::stale::memory::Permit;
use crate::degrade::stale::slots::{Reserved, Slots};
use crate::time::Timestamp;

/// Whether the rest of a body is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Go on.
    More,
    /// The answer is longer than it said, or than may be kept, or takes too long: [abandon](Capture::abandon) the capture.
    Enough,
}

/// A copy of an answer that is under way to its client, and the slot that is reserved for it.
///
/// Whoever is given one owes it to [`Capture::finish`] or [`Capture::abandon`]. One that is lost, because its worker is,
/// keeps its slot for [`RESERVED_FOR`].
#[derive(Debug)]
#[must_use]
pub struct Capture {
    pub(super) slots: Rc<Slots>,
    pub(super) permit: Permit,
    pub(super) variant: Digest,
    pub(super) reserved: Reserved,
    /// The most bytes of the record, which the permit holds: what stands before the body, and the body as far as it has come.
    pub(super) size: usize,
    /// The bytes of the record if the body's length is known.
    pub(super) expected: Option<usize>,
    pub(super) began: Timestamp,
    /// Why the answer is not kept, once that is known.
    pub(super) cause: Option<Cause>,
    pub(super) not_kept: Rc<NotKept>,
}

impl Capture {
    /// Takes the next part of the body. No call of the proxy.
    pub fn push(&mut self, part: &[u8], now: Timestamp) -> Progress {
        let cause = match (self.is_late(now), self.expected) {
            (true, _) => Cause::TooSlow,
            (false, _) if self.permit.hold(part, self.size) => return Progress::More,
            (false, Some(_)) => Cause::Incomplete,
            (false, None) => Cause::TooLarge,
        };
        self.cause = Some(cause);
        self.size = 0;
        self.permit.release();
        Progress::Enough
    }

    /// The body has ended: keeps the answer, unless it turned out that it can't be. Three calls of the proxy.
    pub fn finish(mut self, cx: &Cx<'_>) {
        let now = cx.now();
        let is_complete = |bytes: &Vec<u8>| self.expected.is_none_or(|expected| expected == bytes.len());
        let Some(bytes) = self.permit.release().filter(is_complete).filter(|_| !self.is_late(now)) else {
            self.cause = self.is_late(now).then_some(Cause::TooSlow).or(self.cause);
            self.abandon(cx);
            return;
        };
        let Self { slots, permit, variant, reserved, began, not_kept, .. } = self;
        match slots.store(cx, reserved, &bytes, began) {
            Ok(true) => {}
            Ok(false) => {
                permit.memory().forget(variant);
                not_kept.count(cx, Cause::GivenUp);
            }
            Err(error) => cx.host_error(error),
        }
    }

    /// The answer is not to be kept: its stream has ended early, or [`Capture::push`] has had enough. Two calls of the proxy.
    pub fn abandon(self, cx: &Cx<'_>) {
        self.not_kept.count(cx, self.cause.unwrap_or(Cause::Incomplete));
        // Another answer may come to its end. One that is too long will be so the next time as well.
        if 0 < self.size {
            self.permit.memory().forget(self.variant);
        } else {
            self.permit.memory().tell(self.variant, frequency::MOST);
        }
        if let Err(error) = self.slots.release(cx, self.reserved) {
            cx.host_error(error);
        }
    }

    /// Whether the slot is or will soon be another's.
    fn is_late(&self, now: Timestamp) -> bool {
        RESERVED_FOR <= now.saturating_since(self.began)
    }
}
