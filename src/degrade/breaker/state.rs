//! What all workers know of a breaker.

use std::time::Duration;

use crate::degrade::breaker::MAX_PROBES;
use crate::degrade::breaker::ring::Ring;
use crate::degrade::breaker::run::Run;
use crate::degrade::breaker::stop::Stop;
use crate::degrade::breaker::trip::TripReason;
use crate::time::Timestamp;

/// The state of a breaker. The default is a closed one of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Rises with each change of phase.
    pub epoch: u64,
    /// What it does with requests.
    pub phase: Phase,
    /// Trips since it was last closed for [long enough](super::machine::FORGIVEN_AFTER).
    pub trips: u8,
    /// Failures since the last success.
    pub run: Run,
    /// Slow requests since the last answer in time.
    pub stop: Stop,
    /// About the longest that a success took of late.
    pub slowest: Slowest,
    /// Outcomes of this epoch, and of the ramp before it.
    pub ring: Ring,
}

impl State {
    /// What takes the place of a record that cannot be read. Its epoch is none that anybody can remember: no breaker
    /// changes its phase once a nanosecond.
    pub fn unknown(now: Timestamp) -> Self {
        Self { epoch: now.as_nanos(), phase: Phase::Closed { since: now }, ..Self::default() }
    }
}

/// What a breaker does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It admits them.
    Closed {
        /// When it closed.
        since: Timestamp,
    },
    /// It refuses them.
    Open {
        /// The instant from which a request may make it half-open.
        until: Timestamp,
        /// Why it tripped.
        reason: TripReason,
    },
    /// It admits probes.
    HalfOpen(Probing),
    /// It admits a share of them.
    Ramp {
        /// When the ramp began.
        since: Timestamp,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { since: Timestamp::default() }
    }
}

/// The probes of a half-open breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// Probes that succeeded.
    pub successes: u8,
    /// Until when each probe that is out must be heard of. Zero: the place is free.
    pub deadlines: [Timestamp; MAX_PROBES],
}

/// A place without a probe.
pub(super) const FREE: Timestamp = Timestamp::from_nanos(0);

impl Probing {
    /// How many probes are out.
    pub fn out(&self) -> usize {
        self.deadlines.iter().filter(|deadline| **deadline != FREE).count()
    }

    /// Whether another may go out: if no fewer are out than are still needed, it could prove nothing that they do not.
    pub fn has_room(&self, probes: u8) -> bool {
        usize::from(self.successes).saturating_add(self.out()) < usize::from(probes)
    }

    /// Whether one is overdue, from the very instant.
    pub(super) fn has_lost(&self, now: Timestamp) -> bool {
        self.deadlines.iter().any(|deadline| *deadline != FREE && *deadline <= now)
    }
}

/// Permission for one probe, good in its epoch only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The epoch of the half-open breaker.
    pub epoch: u64,
    /// Its place among the deadlines.
    pub place: u8,
}

/// A maximum that fades.
///
/// It fades only while requests succeed. An outage of a slow service must not make it forget how slow it is: probes would be
/// given too little time, fail for that, and keep the breaker open for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slowest {
    /// How long a success took, at most [`Slowest::CEILING`].
    pub latency: Duration,
    /// When the last success was reported.
    pub at: Timestamp,
}

impl Slowest {
    /// More is not remembered.
    pub const CEILING: Duration = Duration::from_secs(60);

    /// A lapse of so long, or longer, halves it; shorter ones take their part.
    const LAPSE: Duration = Duration::from_secs(60);

    /// That of one success.
    pub fn of(latency: Duration, at: Timestamp) -> Self {
        Self { latency: latency.min(Self::CEILING), at }
    }

    /// That of the successes of both, in either order: the older one has faded until the younger.
    pub fn plus(&self, other: &Self) -> Self {
        let at = self.at.max(other.at);
        Self { latency: self.faded(at).max(other.faded(at)), at }
    }

    fn faded(&self, at: Timestamp) -> Duration {
        // A loss of less than a millisecond per batch does not matter; the products stay far below `u64::MAX`.
        let lapse = at.saturating_since(self.at).min(Self::LAPSE).as_millis();
        let lost = self.latency.as_nanos().saturating_mul(lapse) / (2 * Self::LAPSE.as_millis());
        self.latency.saturating_sub(Duration::from_nanos(u64::try_from(lost).unwrap_or(u64::MAX)))
    }
}

/// A change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It tripped.
    Opened(TripReason),
    /// Its time was over and a request came.
    HalfOpened,
    /// All probes succeeded.
    Ramped,
    /// The ramp is over.
    Closed,
}

impl Transition {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Opened(TripReason::ConsecutiveFailures),
        Self::Opened(TripReason::FailureRatio),
        Self::Opened(TripReason::SlowRatio),
        Self::Opened(TripReason::ProbeFailed),
        Self::Opened(TripReason::ProbeSlow),
        Self::Opened(TripReason::ProbeLost),
        Self::HalfOpened,
        Self::Ramped,
        Self::Closed,
    ];

    /// The change that leads to the phase.
    pub const fn into_phase(phase: &Phase) -> Self {
        match phase {
            Phase::Closed { .. } => Self::Closed,
            Phase::Open { reason, .. } => Self::Opened(*reason),
            Phase::HalfOpen(_) => Self::HalfOpened,
            Phase::Ramp { .. } => Self::Ramped,
        }
    }

    /// The phase that it leads to: the word in the metric's label `to`.
    pub const fn to(self) -> &'static str {
        match self {
            Self::Opened(_) => "open",
            Self::HalfOpened => "half_open",
            Self::Ramped => "ramp",
            Self::Closed => "closed",
        }
    }

    /// The phase that it leads to as the gauge `outrigger_breaker_state` shows it.
    pub const fn gauge(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpened => 1,
            Self::Ramped => 2,
            Self::Opened(_) => 3,
        }
    }

    /// Why it happened: the word in the metric's label `cause`.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Opened(reason) => reason.as_str(),
            Self::HalfOpened => "open_over",
            Self::Ramped => "probes_succeeded",
            Self::Closed => "ramp_over",
        }
    }

    /// What the cause means, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Opened(reason) => reason.means(),
            Self::HalfOpened => "`open_for` was over, and a request came",
            Self::Ramped => "all probes succeeded",
            Self::Closed => "the six seconds of the ramp were over",
        }
    }
}
