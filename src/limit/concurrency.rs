//! Concurrency: so many requests in flight at once, over all workers.
//!
//! A shared counter would be simple and would leak: a worker whose virtual machine traps never counts down again. So what
//! is counted is who holds how much: a list of *shares*, each of one worker and one key, and a share of a worker that is no
//! more is free. Taking and giving back are updates of that list, so the limit is exact: with all workers alive there are
//! never more than `max_in_flight` admitted, however they race.
//!
//! A worker may hold more than it has in flight, in reserve; see [`shares`](crate::limit::shares).

use std::time::Duration;

use crate::shared::roster::WorkerId;
use crate::sorted;

/// What one worker holds for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Tag of the key; 0 where there are no keys.
    pub tag: u32,
    /// Whose it is.
    pub owner: WorkerId,
    /// How much; never zero in a list.
    pub units: u32,
}

/// Who asks for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Tag of the key.
    pub tag: u32,
    /// Who asks.
    pub owner: WorkerId,
    /// What its whole share must be at least; less is no use.
    pub least: u32,
    /// What it would like its whole share to be. At least `least`.
    pub want: u32,
}

/// Why a demand is not met. The list is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The others hold too much: this much more is left for the one who asked.
    Limit(u32),
    /// The list has no place for another key.
    Crowded,
}

/// The limit's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests in flight at once, at least 1.
    pub max_in_flight: u32,
    /// For how long a request holds its place at most, positive; it may itself go on after that. `None`: until it ends. The
    /// shares know nothing of it: the worker that has the request gives its place back.
    pub max_hold: Option<Duration>,
}

impl Concurrency {
    /// Changes the share of the one who asks. Returns what the share is then.
    ///
    /// `places` is how many keys the list may have, each with a share per worker. The list must hold shares of living
    /// workers only. A share that is not made larger is never refused.
    ///
    /// # Errors
    ///
    /// See [`Unmet`].
    pub fn demand(&self, shares: &mut Vec<Share>, places: usize, demand: &Demand) -> Result<u32, Unmet> {
        let of_key = shares.iter().filter(|share| share.tag == demand.tag && share.owner != demand.owner);
        let others = of_key.fold(0_u32, |sum, share| sum.saturating_add(share.units));
        let room = self.max_in_flight.saturating_sub(others);
        let held = Self::held(shares, demand.tag, demand.owner);
        if room < demand.least && held < demand.least {
            return Err(Unmet::Limit(room.saturating_sub(held)));
        }
        let units = demand.want.min(room).max(demand.least);
        let own = shares.iter().position(|share| share.tag == demand.tag && share.owner == demand.owner);
        let crowded = places <= other_tags(shares, demand.tag);
        match own.and_then(|place| shares.get_mut(place)) {
            Some(share) => share.units = units,
            None if units == 0 => {}
            None if crowded => return Err(Unmet::Crowded),
            None => shares.push(Share { tag: demand.tag, owner: demand.owner, units }),
        }
        shares.retain(|share| share.units != 0);
        Ok(units)
    }

    /// Makes the share of `owner` smaller by `units`. Nothing happens if it holds none, as when it was taken for dead.
    pub fn release(shares: &mut Vec<Share>, tag: u32, owner: WorkerId, units: u32) {
        for share in shares.iter_mut().filter(|share| share.tag == tag && share.owner == owner) {
            share.units = share.units.saturating_sub(units);
        }
        shares.retain(|share| share.units != 0);
    }

    /// What the worker holds for the key.
    pub fn held(shares: &[Share], tag: u32, owner: WorkerId) -> u32 {
        shares.iter().find(|share| share.tag == tag && share.owner == owner).map_or(0, |share| share.units)
    }
}

/// How many keys but this one have shares.
fn other_tags(shares: &[Share], tag: u32) -> usize {
    let mut tags = Vec::new();
    for share in shares.iter().filter(|share| share.tag != tag) {
        sorted::insert(&mut tags, share.tag);
    }
    tags.len()
}
