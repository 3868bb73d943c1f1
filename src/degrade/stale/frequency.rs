//! How often an answer was asked for lately: what decides who is kept when there is no room for all.
//!
//! Whoever asks for a thousand made-up addresses would otherwise push out a thousand answers that many ask for. So an answer
//! has to earn its place: it is admitted only if it was asked for more often than what must go for it. That is TinyLFU (Einziger,
//! Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017):
//!
//! * A *count-min sketch* of 4-bit counters holds the frequencies: one counter in each of [`ROWS`] rows, of which the least is
//!   the estimate. It may be too high, where others share all counters, and never too low. Only the least are raised (the paper's
//!   conservative update), which makes it too high more seldom.
//! * A *doorkeeper*, a Bloom filter, takes the first request of each, so that what is asked for once takes no counter.
//! * After [`SAMPLE`] requests all counters are halved and the doorkeeper is emptied (the paper's reset), so that what was asked
//!   for long ago counts less and less.
//!
//! The places come from a hash under the process's secret, so that no client can aim at the counters of another's page. Each worker
//! has a sketch of its own, which costs no call of the proxy; what all of them know of a kept answer is in the
//! [index](super::index). 16 KB per rule and worker.

/// The most that an estimate can be: a full counter, and the doorkeeper.
pub const MOST: u8 = FULL + 1;

/// After so many requests frequencies are halved: 32 for each [slot](super::SLOTS), where the paper finds 8 to 16 enough. More
/// makes it harder to hide what is popular in a flood.
pub const SAMPLE: u32 = 8192;

/// Rows of the sketch.
const ROWS: usize = 4;

/// Counters of a row: half as many as a sample has requests, most of which stop at the doorkeeper. 2 to the power of
/// [`ROW_BITS`].
const ROW: usize = 1 << ROW_BITS;
const ROW_BITS: u32 = 12;

/// Bits of the doorkeeper: eight for each request of a sample, two of which each takes. At the end of a sample one in twenty
/// newcomers is taken for known.
const DOOR: usize = 1 << 16;

/// Four bits.
const FULL: u8 = 15;

/// Estimates of how often each of many was counted.
#[derive(Debug, Default)]
pub struct Frequencies {
    /// Two counters a byte, row after row. Empty until the first is counted.
    counters: Vec<u8>,
    doorkeeper: Vec<u8>,
    /// Since frequencies were halved, and half of those before.
    counted: u32,
}

impl Frequencies {
    /// Counts what has this hash, and returns how often it was counted lately, this time included: 1 to [`MOST`].
    pub fn count(&mut self, hash: u128) -> u8 {
        if self.counters.is_empty() {
            self.counters.resize(ROWS * ROW / 2, 0);
            self.doorkeeper.resize(DOOR / 8, 0);
        }
        if SAMPLE <= self.counted {
            self.age();
        }
        self.counted = self.counted.saturating_add(1);
        let is_known = self.pass_door(hash);
        let places = places(hash);
        let least = places.iter().map(|place| self.counter(*place)).min().unwrap_or(0);
        if !is_known || least == FULL {
            return least + 1;
        }
        for place in places {
            if self.counter(place) == least {
                self.raise(place);
            }
        }
        least + 2
    }

    /// Whether it came through the door before, or others made it seem so. It has from now on.
    fn pass_door(&mut self, hash: u128) -> bool {
        let mut was_known = true;
        for shift in [64, 80] {
            let bit = (hash >> shift) as usize % DOOR;
            if let Some(byte) = self.doorkeeper.get_mut(bit / 8) {
                let mask = 1 << (bit % 8);
                was_known &= *byte & mask != 0;
                *byte |= mask;
            }
        }
        was_known
    }

    fn counter(&self, place: usize) -> u8 {
        self.counters.get(place / 2).map_or(0, |pair| pair >> shift(place) & FULL)
    }

    /// Of a counter that is not full.
    fn raise(&mut self, place: usize) {
        if let Some(pair) = self.counters.get_mut(place / 2) {
            *pair = pair.wrapping_add(1 << shift(place));
        }
    }

    fn age(&mut self) {
        self.counted /= 2;
        self.doorkeeper.fill(0);
        for pair in &mut self.counters {
            *pair = *pair >> 1 & 0x77;
        }
    }
}

/// One counter of each row. The lowest sixteen bits of the hash choose a place elsewhere.
fn places(hash: u128) -> [usize; ROWS] {
    let mut rest = hash >> 16;
    let mut row = 0;
    [(); ROWS].map(|()| {
        let place = row + rest as usize % ROW;
        rest >>= ROW_BITS;
        row += ROW;
        place
    })
}

/// Where a counter begins in its byte.
const fn shift(place: usize) -> usize {
    place % 2 * 4
}
