//! What happens to a breaker: parameters, state and `now` make a new state.
//!
//! Every function may be called several times over before one of its answers is written. All take time into account
//! first ([`Breaker::at`]), so it does not matter who notices that a time is over, or whether anybody does before something
//! else happens. A call changes the phase at most once.
//!
//! * **No way to get stuck.** Open ends by time. Half-open ends because each probe is heard of or overdue. The ramp ends by
//!   time. All of it needs requests, and only requests can tell.
//! * **Clock.** Instants that lie further ahead than parameters allow (the clock went back, or the parameters became smaller)
//!   are pulled in.

use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::ramp::{self, RAMP};
use crate::degrade::breaker::run::Run;
use crate::degrade::breaker::state::{FREE, Phase, Probe, Probing, Slowest, State};
use crate::degrade::breaker::stop::Stop;
use crate::degrade::breaker::tally::{Outcome, Pace, Response, Tally};
use crate::degrade::breaker::trip::TripReason;
use crate::shared::meter::LATEST_READER;
use crate::time::Timestamp;

/// A breaker that was closed for so long is as one that never tripped.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// The least time that a probe is given at the first try. It doubles with each trip, so that a service of which nothing is
/// known but that probes were too slow is given the time it needs in the end.
pub const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// The most time that a probe is given, unless `slow_after` is longer.
pub const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// A probe is given so many times what the slowest success took of late.
const PATIENCE: u32 = 3;

/// When a request that is refused without an instant to name should come again: half-open ends that soon, as a rule, and
/// the ramp goes on in steps of two seconds.
pub const RETRY_SOON: Duration = Duration::from_secs(1);

/// The most that the trip count shows: with it every time is at its longest.
const MAX_TRIPS: u8 = 32;

/// Jitter, in thousandths: from 800 to 1 200.
const JITTER: (u64, u64) = (800, 401);

/// What a probe is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The end of its request: its client's time.
    Request,
    /// The answer: the service's time.
    Answer,
}

/// How a breaker stands to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It passes.
    Admits,
    /// It passes with a share of the others, in percent.
    Shares(u32),
    /// It may be a probe.
    Probes,
    /// It is refused for so long.
    Refuses(Duration),
}

impl Breaker {
    /// The state as time alone has made it at `now`.
    pub fn at(&self, mut state: State, now: Timestamp) -> State {
        if is_ahead(state.run.newest(), now) {
            state.run = Run::default();
        }
        if is_ahead(state.stop.answered.max(state.stop.since), now) {
            state.stop = Stop::default();
        }
        match state.phase {
            Phase::Closed { since } if is_ahead(since, now) => State { phase: Phase::Closed { since: now }, ..state },
            Phase::Open { until, reason } if is_ahead(until, now.saturating_add(self.longest_open())) => {
                let until = now.saturating_add(self.open_time(state.trips.saturating_sub(1)));
                State { phase: Phase::Open { until, reason }, ..state }
            }
            Phase::HalfOpen(probing) if probing.has_lost(now) => self.opened(state, TripReason::ProbeLost, now),
            Phase::HalfOpen(probing) if self.probes <= probing.successes => Self::ramped(state, now),
            Phase::HalfOpen(probing) => State { phase: Phase::HalfOpen(self.pulled_in(&state, probing, now)), ..state },
            Phase::Ramp { since } if is_ahead(since, now) => State { phase: Phase::Ramp { since: now }, ..state },
            Phase::Ramp { since } if RAMP <= now.saturating_since(since) => {
                State { epoch: state.epoch.saturating_add(1), phase: Phase::Closed { since: now }, ..state }
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::Ramp { .. } => state,
        }
    }

    /// How the breaker stands to a request.
    pub fn standing(&self, state: &State, now: Timestamp) -> Standing {
        match self.at(*state, now).phase {
            Phase::Closed { .. } => Standing::Admits,
            Phase::Open { until, .. } if until <= now => Standing::Probes,
            Phase::Open { until, .. } => Standing::Refuses(until.saturating_since(now)),
            Phase::HalfOpen(probing) if probing.has_room(self.probes) => Standing::Probes,
            Phase::HalfOpen(_) => Standing::Refuses(RETRY_SOON),
            Phase::Ramp { since } => ramp::share(since, now).map_or(Standing::Admits, Standing::Shares),
        }
    }

    /// Takes a probe, if the breaker [stands](Standing::Probes) so.
    pub fn claim(&self, state: State, now: Timestamp) -> (State, Option<Probe>) {
        let state = self.at(state, now);
        let (epoch, probing) = match state.phase {
            Phase::Open { until, .. } if until <= now => (state.epoch.saturating_add(1), Probing::default()),
            Phase::HalfOpen(probing) if probing.has_room(self.probes) => (state.epoch, probing),
            _ => return (state, None),
        };
        let mut taken = probing;
        let deadline = now.saturating_add(self.patience(&state));
        let free = taken.deadlines.iter_mut().zip(0_u8..).find(|(place, _)| **place == FREE);
        let Some((place, index)) = free else {
            return (state, None);
        };
        *place = deadline;
        (State { epoch, phase: Phase::HalfOpen(taken), ..state }, Some(Probe { epoch, place: index }))
    }

    /// Gives a probe its time anew: a minute for a client to send the rest of its request, and from then on what the service has.
    pub fn expect(&self, state: State, probe: &Probe, awaited: Awaited, now: Timestamp) -> State {
        let state = self.at(state, now);
        let Some(mut probing) = without(&state, probe) else {
            return state;
        };
        let time = match awaited {
            Awaited::Request => MAX_PATIENCE,
            Awaited::Answer => self.patience(&state),
        };
        if let Some(place) = probing.deadlines.get_mut(usize::from(probe.place)) {
            *place = now.saturating_add(time);
        }
        State { phase: Phase::HalfOpen(probing), ..state }
    }

    /// Takes note of how a probe ended. Nothing happens if its epoch is over, as it is when its time is.
    pub fn probed(&self, state: State, probe: &Probe, response: &Response, now: Timestamp) -> State {
        let state = self.at(state, now);
        let Some(left) = without(&state, probe) else {
            return state;
        };
        match (response.outcome, self.pace(response.latency)) {
            (Outcome::Failure, _) => self.opened(state, TripReason::ProbeFailed, now),
            (Outcome::Success, Pace::Slow | Pace::Overdue) => self.opened(state, TripReason::ProbeSlow, now),
            (Outcome::Success, Pace::InTime) => {
                let probing = Probing { successes: left.successes.saturating_add(1), ..left };
                let slowest = state.slowest.plus(&Slowest::of(response.latency, now));
                let state = State { phase: Phase::HalfOpen(probing), slowest, ..state };
                if self.probes <= probing.successes { Self::ramped(state, now) } else { state }
            }
        }
    }

    /// Takes back a probe that says nothing about the dependency.
    pub fn give_back(&self, state: State, probe: &Probe, now: Timestamp) -> State {
        let state = self.at(state, now);
        match without(&state, probe) {
            Some(left) => State { phase: Phase::HalfOpen(left), ..state },
            None => state,
        }
    }

    /// Counts outcomes of regular requests, each as of when it happened, and trips if they are too bad. Those of an epoch that is
    /// over do not count. Without any, only a dead stop is judged: that is a matter of time.
    pub fn count(&self, state: State, tally: &Tally, now: Timestamp) -> State {
        let mut state = self.at(state, now);
        let counts = matches!(state.phase, Phase::Closed { .. } | Phase::Ramp { .. });
        if !counts || tally.epoch != state.epoch {
            return state;
        }
        let trip = self.trip();
        state.stop = state.stop.plus(&tally.stop);
        let stopped = trip.is_stopped(&state.stop, now).then_some(TripReason::SlowRatio);
        if tally.is_empty() {
            return stopped.map_or(state, |reason| self.opened(state, reason, now));
        }
        state.run = state.run.plus(&tally.run, trip.grain());
        if trip.has_ratio() && tally.part == trip.part() {
            state.ring = state.ring.with(trip.part(), &tally.ring, now);
        }
        if tally.slowest != Slowest::default() {
            state.slowest = state.slowest.plus(&tally.slowest);
        }
        match trip.reason(state.run.failures(trip.window(), now), state.ring.sum()).or(stopped) {
            Some(reason) => self.opened(state, reason, now),
            None => state,
        }
    }

    /// Whether a latency is slow: not at exactly `slow_after`, but a nanosecond later.
    pub fn pace(&self, latency: Duration) -> Pace {
        if self.slow_after.is_some_and(|slow_after| slow_after < latency) { Pace::Slow } else { Pace::InTime }
    }

    /// How long a probe may take before it is given up.
    ///
    /// ```text
    /// max(3 × slowest success of late, 1 s × 2^(trips − 1))    at most 60 s
    /// ```
    ///
    /// and never less than `slow_after`, which alone decides what is slow where it is given.
    pub fn patience(&self, state: &State) -> Duration {
        let doubled = doubled(MIN_PATIENCE, state.trips.saturating_sub(1));
        let patience = doubled.max(state.slowest.latency.saturating_mul(PATIENCE)).min(MAX_PATIENCE);
        // At exactly `slow_after` a response is not slow yet.
        let in_time = self.slow_after.map(|slow_after| slow_after.saturating_add(Duration::from_nanos(1)));
        patience.max(in_time.unwrap_or_default())
    }

    /// How long it is open after so many trips before, without jitter.
    pub fn open_time(&self, trips: u8) -> Duration {
        doubled(self.open_for, trips).min(self.max_open_for)
    }

    /// How long it is open at most.
    pub fn longest_open(&self) -> Duration {
        jittered(self.max_open_for, JITTER.0 + JITTER.1 - 1)
    }

    fn opened(&self, state: State, reason: TripReason, now: Timestamp) -> State {
        let trips = match state.phase {
            Phase::Closed { since } if FORGIVEN_AFTER <= now.saturating_since(since) => 0,
            _ => state.trips,
        };
        let thousandths = JITTER.0 + scattered(now) % JITTER.1;
        let until = now.saturating_add(jittered(self.open_time(trips), thousandths));
        State {
            epoch: state.epoch.saturating_add(1),
            phase: Phase::Open { until, reason },
            trips: trips.saturating_add(1).min(MAX_TRIPS),
            slowest: state.slowest,
            ..State::default()
        }
    }

    /// What was counted before the outage says nothing about the time after it.
    fn ramped(state: State, now: Timestamp) -> State {
        State {
            epoch: state.epoch.saturating_add(1),
            phase: Phase::Ramp { since: now },
            trips: state.trips,
            slowest: state.slowest,
            ..State::default()
        }
    }

    fn pulled_in(&self, state: &State, mut probing: Probing, now: Timestamp) -> Probing {
        let longest = MAX_PATIENCE.max(self.slow_after.unwrap_or_default());
        let latest = now.saturating_add(longest);
        for deadline in probing.deadlines.iter_mut().filter(|it| is_ahead(**it, latest)) {
            *deadline = now.saturating_add(self.patience(state));
        }
        probing
    }
}

/// What is left when the probe is back; `None` if it is not out.
fn without(state: &State, probe: &Probe) -> Option<Probing> {
    let Phase::HalfOpen(mut probing) = state.phase else {
        return None;
    };
    let place = probing.deadlines.get_mut(usize::from(probe.place))?;
    if probe.epoch != state.epoch || *place == FREE {
        return None;
    }
    *place = FREE;
    Some(probing)
}

/// Whether an instant lies so far beyond another that no late reader of the clock explains it.
fn is_ahead(instant: Timestamp, of: Timestamp) -> bool {
    LATEST_READER < instant.as_nanos().saturating_sub(of.as_nanos())
}

fn doubled(time: Duration, times: u8) -> Duration {
    time.saturating_mul(1_u32.checked_shl(u32::from(times)).unwrap_or(u32::MAX))
}

fn jittered(time: Duration, thousandths: u64) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos((nanos / 1_000).saturating_mul(thousandths))
}

/// A number that looks random, of an instant: the last step of Steele, Lea and Flood's SplitMix64 (OOPSLA 2014).
///
/// Sidecars that trip at the same time must not probe at the same time. The nanoseconds at which each does, on a clock that
/// began with its machine, are chance enough, and cost no call of the proxy.
pub(super) fn scattered(instant: Timestamp) -> u64 {
    let mut z = instant.as_nanos().wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
