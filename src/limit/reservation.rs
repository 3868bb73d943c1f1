//! What one request takes of several limits: all or nothing.

use std::time::Duration;

use smallvec::SmallVec;

use crate::cx::Cx;
use crate::limit::policy::Policy;
use crate::limit::quota::Standing;
use crate::limit::rule::{Asker, Debit, Limit, Verdict};
use crate::retry::deadline;
use crate::shared::meter::Denial;
use crate::sorted::Merged;

/// What a request took, by index of the limit.
#[derive(Debug, Default)]
#[must_use]
pub struct Reservation {
    debits: SmallVec<[(usize, Debit); 4]>,
    /// What the limits have left.
    standings: SmallVec<[(usize, u64); 4]>,
    /// The first of those that only count that would have refused the request.
    shadow: Option<usize>,
}

/// The longest wait that a limit asked for, and which one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// Zero for a request that need not wait.
    pub time: Duration,
    /// Index of the limit.
    pub limit: usize,
}

/// A limit has not what a request takes.
#[derive(Clone, Copy, Debug)]
pub struct Exceeded<'l> {
    /// The limit.
    pub limit: &'l Limit,
    /// What the limit said; `None` if its state could not be used.
    pub denial: Option<Denial>,
    /// How long the same request would be refused, as far as anybody can tell.
    lasts: Duration,
}

impl<'l> Exceeded<'l> {
    fn new(limit: &'l Limit, denial: Option<Denial>) -> Self {
        let lasts = match (denial, limit.spec().policy) {
            (None, _) => Duration::ZERO,
            // Nobody knows, unless the request costs more than may ever be in flight.
            (Some(denial), Policy::Concurrency(_)) if denial.remaining < limit.spec().policy.max_cost() => {
                Duration::ZERO
            }
            (Some(denial), _) => denial.retry_after.unwrap_or(Duration::MAX),
        };
        Self { limit, denial, lasts }
    }
}

impl Reservation {
    /// Takes what the request needs of all limits with these indices that apply to it, those that only count last. Returns
    /// how long it must wait: less than its `patience`, if that is known, otherwise less than what the caller said it has.
    ///
    /// # Errors
    ///
    /// A limit refuses it: then nothing was taken of any.
    pub fn take<'l>(
        &mut self,
        limits: &'l [Limit],
        indices: Merged<'_>,
        asker: &Asker<'_>,
        patience: Option<Duration>,
    ) -> Result<Wait, Exceeded<'l>> {
        let mut wait = Wait::default();
        let applicable = indices.filter_map(|index| Some((index, limits.get(index)?)));
        let mut applicable = applicable.filter(|(_, limit)| limit.spec().selection.allows(asker.request));
        while let Some((index, limit)) = applicable.next() {
            if !limit.spec().enforced {
                // Those that only count come last, and count what is not refused.
                self.check_wait(limits, asker, wait, patience)?;
            }
            let denial = match limit.take(asker) {
                Verdict::Pass => continue,
                Verdict::Admitted(debit, admission) => {
                    self.debits.push((index, debit));
                    if limit.spec().enforced {
                        if wait.time < admission.wait {
                            wait = Wait { time: admission.wait, limit: index };
                        }
                        self.standings.extend(admission.remaining.map(|left| (index, left)));
                    }
                    continue;
                }
                Verdict::Refused(denial) => Some(denial),
                Verdict::Unusable => None,
            };
            if limit.spec().enforced {
                self.give_back(limits, asker.cx);
                return Err(longest_lasting(Exceeded::new(limit, denial), applicable, asker));
            }
            limit.count_refusal(asker.cx);
            self.shadow = self.shadow.or(Some(index));
        }
        self.check_wait(limits, asker, wait, patience)
    }

    /// Gives back all of it: the request is not forwarded.
    pub fn give_back(&mut self, limits: &[Limit], cx: &Cx<'_>) {
        self.standings.clear();
        for (index, debit) in std::mem::take(&mut self.debits) {
            if let Some(limit) = limits.get(index) {
                limit.give_back(cx, debit);
            }
        }
    }

    /// Gives back what a forwarded request held until its end.
    pub fn release(&mut self, limits: &[Limit], cx: &Cx<'_>) {
        for (index, debit) in std::mem::take(&mut self.debits) {
            if let Some(limit) = limits.get(index) {
                limit.release(cx, debit);
            }
        }
    }

    /// How the limits stand that admitted the request, the one that leaves least first.
    pub fn standings<'l>(&self, limits: &'l [Limit]) -> SmallVec<[Standing<'l>; 4]> {
        let mut standings = SmallVec::new();
        for (index, left) in &self.standings {
            let Some(limit) = limits.get(*index) else {
                continue;
            };
            let place = standings.partition_point(|it: &Standing<'_>| it.remaining <= Some(*left));
            standings.insert(place, Standing { limit, remaining: Some(*left), reset: None });
        }
        standings
    }

    /// The index of the first limit that would have refused the request if it did more than count.
    pub fn shadow(&self) -> Option<usize> {
        self.shadow
    }

    /// The request begins to wait for the limit with this index, of which something was taken.
    pub fn join_queue(&self, limits: &[Limit], index: usize) {
        if let Some((limit, debit)) = self.of(limits, index) {
            limit.join_queue(debit);
        }
    }

    /// The request waits for it no longer.
    pub fn leave_queue(&self, limits: &[Limit], index: usize) {
        if let Some((limit, debit)) = self.of(limits, index) {
            limit.leave_queue(debit);
        }
    }

    fn of<'l>(&self, limits: &'l [Limit], index: usize) -> Option<(&'l Limit, Debit)> {
        let (_, debit) = self.debits.iter().find(|(limit, _)| *limit == index)?;
        Some((limits.get(index)?, *debit))
    }

    /// A queue is no use to a request whose caller will have gone before it is let on, and a worker has only so many
    /// [places](crate::limit::waiting).
    fn check_wait<'l>(
        &mut self,
        limits: &'l [Limit],
        asker: &Asker<'_>,
        wait: Wait,
        patience: Option<Duration>,
    ) -> Result<Wait, Exceeded<'l>> {
        if wait.time.is_zero() {
            return Ok(wait);
        }
        let Some((limit, debit)) = self.of(limits, wait.limit) else {
            return Ok(wait);
        };
        let patience = patience.or_else(|| deadline::known(asker.request));
        let in_time = patience.is_none_or(|patience| wait.time < patience);
        if in_time && limit.has_place(debit) {
            return Ok(wait);
        }
        self.give_back(limits, asker.cx);
        let denial = Denial { remaining: 0, retry_after: Some(wait.time) };
        Err(Exceeded { limit, denial: Some(denial), lasts: wait.time })
    }
}

/// Of the limits that would refuse the request, the one that will do so longest: what a client is told should hold.
fn longest_lasting<'l>(
    first: Exceeded<'l>,
    others: impl Iterator<Item = (usize, &'l Limit)>,
    asker: &Asker<'_>,
) -> Exceeded<'l> {
    let enforced = others.filter(|(_, limit)| limit.spec().enforced);
    let exceeded = enforced.filter_map(|(_, limit)| Some(Exceeded::new(limit, Some(limit.peek(asker)?))));
    exceeded.fold(first, |longest, it| if longest.lasts < it.lasts { it } else { longest })
}
