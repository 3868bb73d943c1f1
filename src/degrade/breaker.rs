//! Circuit breaker: stop asking a dependency that fails, and ask again with care.
//!
//! ```text
//!             trip                  time is over, a request comes
//!  CLOSED ───────────▶ OPEN ─────────────────────────────────────▶ HALF-OPEN
//!    ▲                  ▲ ▲        a probe failed or was lost          │
//!    │                  │ └────────────────────────────────────────────┤
//!    │   6 s are over   │ trip                                         │ all probes succeeded
//!    └───────────────  RAMP  ◀─────────────────────────────────────────┘
//!                 10 %, 25 %, 50 %
//! ```
//!
//! The words are those of the field: a *closed* breaker lets requests pass, an *open* one refuses them.
//!
//! # What trips it
//!
//! Two signals, because each is blind to what the other sees. *Consecutive failures* find an outage at once, at any rate of
//! requests; a *ratio* over a window finds the dependency that fails, or is slow, more often than not. The ratio is judged
//! by the lower end of its [confidence interval](ratio), not by its value: of five requests three fail by chance once in
//! a while; of a hundred, sixty do not. Requests that hang are slow [while they do](under_way), and if nothing else has
//! happened since the last answer in time, that is a [dead stop](stop).
//!
//! # How it comes back
//!
//! After its time, which doubles with each trip, a few requests are let through as probes. A single success proves little, so
//! each of them must succeed; and since a dependency that answers five requests may drown in five thousand, the rest come
//! back in [steps](ramp).
//!
//! # How workers share it
//!
//! One record holds the [`State`](state::State). Workers act by a copy of it that is at most [`watch::MAX_AGE`] old and add
//! up outcomes before they [publish](tally) them, so a healthy breaker costs a few calls of the proxy per worker and quarter
//! of a second, whatever the load. So each learns late what others know. All that is shared is judged by when it happened,
//! not by when it came to be known: a batch has instants, and to publish it is to merge, in any order. A trip is written at
//! once and obeyed by all within that age. What must not be done twice (a probe, a change of phase) is decided on the record
//! itself.
//!
//! Each change of phase begins an *epoch*. An admission carries its epoch, and its result counts in no other: an answer
//! that a slow request got before the trip says nothing about the dependency after it.
//!
//! # Use
//!
//! [`Watched::peek`](watched::Watched::peek) before anything else is asked, [`claim`](watched::Watched::claim) right before
//! the request goes on, [`follow`](watched::Watched::follow) when the service has it, [`answered`](watched::Watched::answered)
//! with its response headers, and then exactly one of [`report`](watched::Watched::report) and
//! [`give_back`](watched::Watched::give_back). [`tick`](watched::Watched::tick) when the timer goes off.
//!
//! * [`run`], [`ratio`], [`ring`], [`stop`], [`trip`]: when it trips; [`ramp`]: how traffic comes back.
//! * [`state`]: what all workers share; [`machine`]: what happens to it; [`record`]: its bytes.
//! * [`tally`], [`under_way`], [`watch`]: what a worker keeps; [`watched`]: the breaker as one of them uses it; [`rule`]: as
//!   it is configured.

use std::time::Duration;

use crate::degrade::breaker::ratio::Ratio;
use crate::degrade::breaker::ring::PARTS;
use crate::degrade::breaker::state::Transition;
use crate::degrade::breaker::trip::{Trip, TripReason};
use crate::shared::live::Latest;

pub mod fields;
pub mod machine;
pub mod ramp;
pub mod ratio;
pub mod record;
pub mod ring;
pub mod rule;
pub mod run;
pub mod state;
pub mod stop;
pub mod tally;
pub mod trip;
pub mod under_way;
pub mod watch;
pub mod watched;

/// The breakers of one worker. Outlives configurations.
#[derive(Debug, Default)]
pub struct Store {
    /// The parameters that hold for each.
    pub parameters: Latest<Breaker>,
    /// What was last seen of each, and what the others have not been told yet.
    pub watches: watched::Watches,
}

/// The most probes. A probe is a place in the record, and a service that is asked more than this at once is not probed but
/// used.
pub const MAX_PROBES: usize = 16;

/// The shortest window: its parts are then as long as outcomes lie about before they are published.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);

/// The longest of all times. Beyond use, and far from overflow.
pub const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A breaker as it is configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Trips after so many failures without a success between them; at least 1. `None`: never for that.
    pub consecutive_failures: Option<u32>,
    /// Trips when this share of requests fails: above 0, at most 1. `None`: never for that.
    pub failure_ratio: Option<f64>,
    /// Trips when this share of requests is slow: above 0, at most 1; needs `slow_after`. `None`: never for that.
    pub slow_ratio: Option<f64>,
    /// A request is slow whose response headers take longer. Positive. `None`: no request is slow.
    pub slow_after: Option<Duration>,
    /// Ratios of fewer requests in the window are not judged; at least 1.
    pub min_requests: u32,
    /// The time over which ratios are judged, [`MIN_WINDOW`] to [`MAX_TIME`]; also the time after which a run of failures
    /// is forgotten.
    pub window: Duration,
    /// How long it is open after the first trip; positive.
    pub open_for: Duration,
    /// How long it is open at most, but for the jitter; at least `open_for`, at most [`MAX_TIME`].
    pub max_open_for: Duration,
    /// How many requests must succeed before it closes, 1 to [`MAX_PROBES`].
    pub probes: u32,
}

impl Default for Settings {
    /// What stands where the configuration says nothing. It trips for nothing.
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_ratio: None,
            slow_ratio: None,
            slow_after: None,
            min_requests: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            max_open_for: Duration::from_secs(60),
            probes: 5,
        }
    }
}

/// Why a breaker with these settings cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The place in the breaker's configuration, for example `trip.window`.
    pub setting: &'static str,
    /// What it must be, to follow the word "must".
    pub rule: &'static str,
}

/// The parameters of a breaker, valid by construction; see [`Breaker::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    trip: Trip,
    slow_after: Option<Duration>,
    open_for: Duration,
    max_open_for: Duration,
    /// From 1 to [`MAX_PROBES`].
    probes: u8,
}

impl Breaker {
    /// The breaker that the settings describe.
    ///
    /// # Errors
    ///
    /// A setting is out of the range that its field names.
    pub fn new(settings: &Settings) -> Result<Self, Invalid> {
        let invalid = |setting, rule| Err(Invalid { setting, rule });
        if settings.consecutive_failures == Some(0) {
            return invalid("trip.consecutive_failures", "be at least 1");
        }
        let ratio = |setting, value: Option<f64>| match value.map(Ratio::new) {
            None => Ok(None),
            Some(Some(ratio)) => Ok(Some(ratio)),
            Some(None) => Err(Invalid { setting, rule: "be above 0 and at most 1" }),
        };
        let failure_ratio = ratio("trip.failure_ratio", settings.failure_ratio)?;
        let slow_ratio = ratio("trip.slow_ratio", settings.slow_ratio)?;
        if slow_ratio.is_some() && settings.slow_after.is_none() {
            return invalid("trip.slow_after", "be given where slow_ratio is");
        }
        if settings.slow_after.is_some_and(|it| it.is_zero() || MAX_TIME < it) {
            return invalid("trip.slow_after", "be above 0 and at most 24h");
        }
        if settings.min_requests == 0 {
            return invalid("trip.min_requests", "be at least 1");
        }
        if settings.window < MIN_WINDOW || MAX_TIME < settings.window {
            return invalid("trip.window", "be from 1s to 24h");
        }
        if settings.open_for.is_zero() {
            return invalid("open_for", "be above 0");
        }
        if settings.max_open_for < settings.open_for || MAX_TIME < settings.max_open_for {
            return invalid("max_open_for", "be at least open_for and at most 24h");
        }
        let probes = u8::try_from(settings.probes).unwrap_or(u8::MAX);
        if probes == 0 || MAX_PROBES < usize::from(probes) {
            return invalid("probes", "be from 1 to 16");
        }
        let part = u64::try_from(settings.window.as_nanos().div_ceil(PARTS as u128)).unwrap_or(u64::MAX);
        Ok(Self {
            trip: Trip {
                consecutive_failures: settings.consecutive_failures,
                failure_ratio,
                slow_ratio,
                min_requests: settings.min_requests,
                part: part.max(1),
            },
            slow_after: settings.slow_after,
            open_for: settings.open_for,
            max_open_for: settings.max_open_for,
            probes,
        })
    }

    /// Whether a breaker of these parameters can make the change.
    pub const fn may_make(&self, change: Transition) -> bool {
        match change {
            Transition::Opened(TripReason::ConsecutiveFailures) => self.trip.consecutive_failures.is_some(),
            Transition::Opened(TripReason::FailureRatio) => self.trip.failure_ratio.is_some(),
            Transition::Opened(TripReason::SlowRatio) => self.trip.slow_ratio.is_some(),
            Transition::Opened(TripReason::ProbeSlow) => self.slow_after.is_some(),
            _ => self.trip.has_any(),
        }
    }

    /// When it trips.
    pub const fn trip(&self) -> &Trip {
        &self.trip
    }
}
