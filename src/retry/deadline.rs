//! How much time a request still has.
//!
//! Work for a caller who has gone is lost, and it is most of the work in an overload. So a request carries the time that it
//! still has, relative, because clocks of machines differ; each hop takes off what it used and passes on the rest.
//!
//! The time is the smallest of `grpc-timeout` (gRPC over HTTP/2), `x-envoy-expected-rq-timeout-ms` (set by the caller's Envoy),
//! the header that the rule names, and the rule's default. The default is thus also the most that a caller may ask for. The route's
//! timeout stands beside it: the router is told what is left as the time for each attempt, and [the filter ends](Reach) what outlasts
//! it.
//!
//! What a header may say:
//!
//! | value | taken for |
//! | --- | --- |
//! | milliseconds in decimal digits (`grpc-timeout`: one to eight digits and a unit) | that time |
//! | more than [`LONGEST`] | absent: it is what clients say that would wait for ever |
//! | zero | no time left |
//! | a sign, a fraction, spaces, no digits, more than fit 64 bits, anything else | absent |
//!
//! Of a header that is there twice the first counts.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::request::Request;
use crate::reply::refusal::{Problem, Refusal};
use crate::retry::router;
use crate::time::Timestamp;

/// The longest deadline. In milliseconds it fits the eight digits of `grpc-timeout`, and no timer of the proxy overflows.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest time that is any. The router counts in milliseconds and takes 0 for no limit at all.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// The refusal of a request that has too little time left. To come again is no use to it.
pub fn refusal(reason: &Reason) -> Refusal<'_> {
    Refusal {
        reason,
        outcome: Outcome::Expired,
        enforcement: Enforcement::Enforced,
        problem: Problem::GatewayTimeout,
        retry_after: None,
        fallback: None,
        quota: Vec::new(),
        detail: None,
    }
}

/// How gRPC over HTTP/2 says a time: digits and a unit.
pub(crate) const GRPC: &str = "grpc-timeout";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

/// How requests say how much time they have. The default is a rule that reads what callers' Envoys and gRPC libraries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadlineRule {
    /// Lower-case name of the header that has it in milliseconds.
    pub header: Option<String>,
    /// The most that a request has, whatever it says; [`SHORTEST`] … [`LONGEST`].
    pub default: Option<Duration>,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The beginning of the answer. One that has begun may take its time: a download, a report.
    #[default]
    Beginning,
    /// The end of the answer. One that has begun is broken off.
    End,
}

/// Who said how much time there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The caller, who has less than the rule would give.
    Caller,
    /// The rule.
    Rule,
}

/// The deadline of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    started: Timestamp,
    total: Duration,
    source: Source,
    grpc: Carrier,
    envoy: Carrier,
}

/// Whether the caller used a header to say its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Used,
    Unused,
}

impl DeadlineRule {
    /// The deadline of a request that came in at `started`; `None` if nobody says anything that makes sense.
    pub fn read(&self, request: &Request<'_>, started: Timestamp) -> Option<Deadline> {
        let grpc = grpc_timeout(request);
        let envoy = milliseconds(request, ENVOY);
        let named = self.header.as_deref().and_then(|name| milliseconds(request, name));
        let total = [grpc, envoy, named, self.default].into_iter().flatten().min()?;
        let source = if self.default == Some(total) { Source::Rule } else { Source::Caller };
        Some(Deadline { started, total, source, grpc: Carrier::of(grpc), envoy: Carrier::of(envoy) })
    }
}

impl Deadline {
    /// What is left at `now`; `None` if that is less than [`SHORTEST`], so that the request is to be refused. Never more than
    /// there was at first, even if the clock goes back.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = self.total.saturating_sub(now.saturating_since(self.started));
        (SHORTEST <= left).then_some(left)
    }

    /// Whether the caller has less time than the rule gives: what comes of that is not the service's doing.
    pub fn is_callers(&self) -> bool {
        self.source == Source::Caller
    }

    /// Whether the caller said its time as gRPC does.
    pub fn is_grpcs(&self) -> bool {
        self.grpc.is_used()
    }

    /// The headers that pass on what is left: the one that the rule names, whether the caller sent it or not, and those others by
    /// which the caller said its time. `x-envoy-expected-rq-timeout-ms` is among them because a router that is told to respect
    /// it (`respect_expected_rq_timeout`) would otherwise take the time from before.
    pub fn fields<'r>(&self, rule: &'r DeadlineRule, left: Duration) -> SmallVec<[(&'r str, Cow<'static, str>); 3]> {
        let named = rule.header.as_deref().map(|name| (name, router::milliseconds(left)));
        let envoy = self.envoy.is_used().then(|| (ENVOY, router::milliseconds(left)));
        let grpc = self.grpc.is_used().then(|| (GRPC, Cow::Owned(format!("{}m", router::milliseconds(left)))));
        [named, envoy, grpc].into_iter().flatten().collect()
    }
}

impl Carrier {
    fn of(value: Option<Duration>) -> Self {
        if value.is_some() { Self::Used } else { Self::Unused }
    }

    fn is_used(self) -> bool {
        self == Self::Used
    }
}

/// The time that the caller said it would wait, by the headers that need no rule. `None` if it said nothing that makes sense.
pub fn known(request: &Request<'_>) -> Option<Duration> {
    [grpc_timeout(request), milliseconds(request, ENVOY)].into_iter().flatten().min()
}

/// One to eight digits and a unit: `H`, `M`, `S`, `m`, `u` or `n`.
fn grpc_timeout(request: &Request<'_>) -> Option<Duration> {
    let (unit, digits) = request.headers.get(GRPC)?.split_last()?;
    if 8 < digits.len() {
        return None;
    }
    let amount = number(digits)?;
    sensible(match unit {
        b'H' => Duration::from_secs(amount.saturating_mul(3600)),
        b'M' => Duration::from_secs(amount.saturating_mul(60)),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn milliseconds(request: &Request<'_>, name: &str) -> Option<Duration> {
    sensible(Duration::from_millis(number(request.headers.get(name)?)?))
}

fn sensible(time: Duration) -> Option<Duration> {
    (time <= LONGEST).then_some(time)
}

/// Digits only: the standard parser would take a plus sign too.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|it| it.is_ascii_digit()).then_some(digits)?.parse().ok()
}
