//! How often an answer was asked for lately: never too low, seldom too high, and what is popular comes out first.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashMap;

use crate::common::Random;
use outrigger::degrade::stale::{Frequencies, MOST, SAMPLE};

/// What the sketch would be if nothing shared a place: by what was counted, whether it came through the door, and its counter.
#[derive(Default)]
struct Naive {
    counted: u32,
    seen: HashMap<u128, (bool, u8)>,
}

impl Naive {
    fn count(&mut self, hash: u128) -> u8 {
        if self.counted == SAMPLE {
            self.counted /= 2;
            self.seen.values_mut().for_each(|(door, counter)| (*door, *counter) = (false, *counter / 2));
        }
        self.counted += 1;
        let (door, counter) = self.seen.entry(hash).or_default();
        *counter = (*counter + u8::from(*door)).min(MOST - 1);
        *door = true;
        *counter + 1
    }
}

fn hash(random: &mut Random) -> u128 {
    u128::from(random.next()) << 64 | u128::from(random.next())
}

#[test]
fn a_few_are_counted_exactly_up_to_the_most_and_halved_after_a_sample() {
    let mut random = Random::seeded(1);
    let known: Vec<u128> = (0..40).map(|_| hash(&mut random)).collect();
    let (mut sketch, mut naive) = (Frequencies::default(), Naive::default());
    let first: Vec<u8> = (0..20).map(|_| sketch.count(1 << 100)).collect();
    assert_eq!(first, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16, 16]);
    sketch = Frequencies::default();
    for _ in 0..5 * SAMPLE {
        let it = known[random.below(40) as usize];
        assert_eq!(sketch.count(it), naive.count(it));
    }
}

#[test]
fn an_estimate_is_never_too_low_and_seldom_too_high() {
    for seed in 1..=8 {
        let mut random = Random::seeded(seed);
        let known: Vec<u128> = (0..500).map(|_| hash(&mut random)).collect();
        let (mut sketch, mut naive) = (Frequencies::default(), Naive::default());
        let mut too_high = 0;
        for _ in 0..40_000 {
            // A third is asked for once, and most of the rest goes to few.
            let rank = random.below(500).min(random.below(500)).min(random.below(500));
            let it = if random.below(3) == 0 { hash(&mut random) } else { known[rank as usize] };
            let (estimate, exact) = (sketch.count(it), naive.count(it));
            assert!(exact <= estimate && estimate <= MOST, "seed {seed}: {exact}, {estimate}");
            too_high += usize::from(exact < estimate);
        }
        assert!(too_high < 1_600, "seed {seed}: {too_high} of 40000");
    }
}

/// After streams in which most requests never come again, those that do are told from the others.
#[test]
fn what_is_popular_is_told_from_what_was_asked_for_once_or_twice() {
    for seed in 1..=20 {
        let mut random = Random::seeded(seed);
        let popular: Vec<u128> = (0..50).map(|_| hash(&mut random)).collect();
        let mut sketch = Frequencies::default();
        for _ in 0..20_000 {
            let once = hash(&mut random);
            sketch.count(once);
            if random.below(2) == 0 {
                sketch.count(once);
            }
            if random.below(5) == 0 {
                sketch.count(popular[random.below(50) as usize]);
            }
        }
        let lowest = popular.iter().map(|it| sketch.count(*it)).min().unwrap();
        let strangers: Vec<u8> = (0..1_000).map(|_| sketch.count(hash(&mut random))).collect();
        let above = strangers.iter().filter(|it| lowest <= **it).count();
        assert!(above <= 2, "seed {seed}: {above} of a thousand strangers are as high as {lowest}");
    }
}

/// What is popular no more sinks, and what has become popular overtakes it.
#[test]
fn what_has_become_popular_overtakes_what_was() {
    let mut random = Random::seeded(3);
    let (old, new) = (hash(&mut random), hash(&mut random));
    let mut sketch = Frequencies::default();
    for _ in 0..100 {
        sketch.count(old);
    }
    for turn in 0..3 * SAMPLE {
        sketch.count(hash(&mut random));
        if turn % 500 == 0 {
            sketch.count(new);
        }
    }
    assert!(sketch.count(old) < sketch.count(new));
}
