//! Retry policy: which requests may be retried, how often, and what the router is told.
//!
//! Envoy's router makes the retries, below the filter, which sees the last answer only. So all is decided when the request goes
//! on, in this order; the first rule that speaks decides:
//!
//! | the request | decision | retries |
//! | --- | --- | --- |
//! | is a [long stream](crate::operation::stream); it gets no timeout either | none | 0 |
//! | matches a rule that allows one attempt | none | 0 |
//! | is a retry itself: only the one nearest to the user retries, or retries of retries multiply | `is_retry` | 0 |
//! | might do harm if done twice | `not_idempotent` | 0 |
//! | has a body that the router may not be able to send twice | `too_large` | 0 |
//! | has less time than it usually takes, and the wait before a retry | `no_time` | 0 |
//! | finds the [budget](crate::retry::budget) empty, if that pays [in advance](Payment::InAdvance) | `no_budget` | 0 |
//! | else | `made`, once per retry made | up to `max_attempts` − 1, as many as are paid for |
//!
//! **The route's own retry policy.** `x-envoy-max-retries` is set in every case, and stands in place of the route's number: 0
//! means that the route's own policy does not retry this request either, otherwise a budget would bound nothing. When retries are
//! allowed, what is retried is what the rule says *and* what the route's policy says, for the router adds the two; the route's
//! number and its time for each attempt stand only where the rule has none. What the client sent is removed in every case
//! ([`router::sent_by_client`]).
//!
//! **Idempotent** are GET, HEAD, OPTIONS, TRACE, PUT and DELETE (RFC 9110, §9.2.2), and any request that carries the header by
//! which the service knows a repetition, if one is configured (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header).
//! gRPC has no methods that tell, so only those listed may be repeated, whatever the headers.
//!
//! **Bodies.** The router keeps a body to send it again, up to the buffer limit of the route or the listener. If more comes
//! while it waits to retry, it answers 507 (`request_payload_exceeded_retry_buffer_limit`) in place of what the service said. So no
//! retry is offered for a body that is longer than [`RetryPolicy::max_body_bytes`], nor, unless the rule names that, for one of
//! which nobody knows how long it will be. gRPC never says; which methods have small messages, those who list them know.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use crate::operation::body::BodySize;
use crate::operation::request::Request;
use crate::operation::stream;
use crate::retry::budget::{Account, Budget, SetAside};
use crate::retry::router::{self, Bound, Field};
use crate::time::Timestamp;

/// The most attempts that a rule may allow, the first included. Five is what gRPC allows (proposal A6); Google's SRE book advises
/// three.
pub const MAX_ATTEMPTS: u32 = 5;

/// The longest body of a request that may be retried, in bytes, unless the rule says otherwise. Envoy keeps a mebibyte unless it
/// is told otherwise; 64 KiB is what Linkerd repeats.
pub const DEFAULT_MAX_BODY_BYTES: u32 = 64 << 10;

/// The methods that do no more if a request is sent twice (RFC 9110, section 9.2.2).
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// What Envoy's router waits at most before the first retry, if the route does not say otherwise.
pub const BACKOFF: Duration = Duration::from_millis(25);

/// What may be retried, by the words of `x-envoy-retry-on`. Not `envoy-ratelimited`: who refuses asks not to be asked again. Not
/// those that need lists of their own (`retriable-status-codes`, `retriable-headers`).
pub const HTTP_CONDITIONS: [&str; 7] =
    ["5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream", "retriable-4xx"];

/// What may be retried of gRPC, by the words of `x-envoy-retry-grpc-on`. Not `resource-exhausted`, which is how a limit refuses.
pub const GRPC_CONDITIONS: [&str; 4] = ["cancelled", "deadline-exceeded", "internal", "unavailable"];

/// A retry rule's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts for one request, the first included; 1 … [`MAX_ATTEMPTS`].
    pub max_attempts: u32,
    /// What is retried.
    pub retry_on: Conditions,
    /// Time for each attempt of a request that may be retried; the router takes an attempt that exceeds it for a reset. A request
    /// that may not be retried has all the time there is.
    pub per_try_timeout: Option<Duration>,
    /// Time for all attempts.
    pub timeout: Option<Duration>,
    /// Lower-case name of the header by which the service knows a repetition.
    pub idempotency_key: Option<String>,
    /// Paths of gRPC methods that may be repeated, as `/shop.Orders/Get`.
    pub grpc_methods: Vec<String>,
    /// The longest body, in bytes, that the route keeps to send it again; `None` if the rule does not say.
    pub max_body_bytes: Option<u32>,
    /// What happens to an attempt whose time is over.
    pub hedging: Hedging,
    /// What pays for the retries.
    pub budget: Budget,
}

/// What happens to an attempt whose time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedging {
    /// It is given up for the next one, or as the route says; if retries are paid for [one by one](Payment::OneByOne), given up.
    #[default]
    Off,
    /// It goes on beside the next one, and the first answer wins. The next one is paid for like any retry.
    On,
}

/// What is retried, as the router wants it said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    http: String,
    grpc: String,
}

/// The word in `outrigger_retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A retry was made.
    Made,
    /// Nobody would pay for one.
    NoBudget,
    /// It might do harm.
    NotIdempotent,
    /// The request is one itself.
    IsRetry,
    /// The caller would not wait for it.
    NoTime,
    /// Its body may be too large to be sent twice.
    TooLarge,
}

/// When the retries of a request are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payment {
    /// When it goes on, all that it may have.
    InAdvance,
    /// Each when it is needed; see [`attempts`](crate::retry::attempts).
    OneByOne,
}

/// Whether a request may be retried, as far as its headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// Yes, and this is how its failures tell themselves.
    Eligible(Failures),
    /// No, and that is worth counting.
    Ineligible(Decision),
    /// No: the rule allows one attempt.
    OneAttempt,
    /// No, nor has it an end that a timeout could be meant for.
    LongStream,
}

/// By which status a request's failures can be told. The router need not hear of conditions that cannot be met: each header
/// that it is sent costs a call of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// By that of HTTP. Calls of gRPC are POSTs, those of gRPC-Web too, which a filter further on may translate.
    Http,
    /// By that of HTTP or gRPC.
    HttpOrGrpc,
}

/// What is known of the time that a request has and needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// What [is left](crate::retry::deadline::Deadline::left) until its deadline, if it has one. The filter keeps that time itself,
    /// because the router's would cut off answers that have begun.
    pub left: Option<Duration>,
    /// What requests of its operation [usually](crate::retry::usual::UsualTime::time) need, if that is known.
    pub usual: Option<Duration>,
    /// What `left` bounds, and what the rule's own time does.
    pub bound: Bound,
}

/// What is to be done about a request that goes on.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Advice<'p> {
    /// When they are paid for.
    pub payment: Payment,
    /// What was set aside for it.
    pub set_aside: SetAside,
    /// The retries it may have.
    pub retries: u32,
    /// After how long an attempt is given up, or another made beside it.
    pub per_try: Option<Duration>,
    /// The time for all attempts until the answer begins, where the filter is to keep it: the router's would cut off a stream
    /// that has begun.
    pub to_begin: Option<Duration>,
    /// Why it has none, if that is worth counting.
    pub decision: Option<Decision>,
    /// Headers to be set on it.
    pub fields: SmallVec<[Field<'p>; 6]>,
}

impl Decision {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Made, Self::NoBudget, Self::NotIdempotent, Self::IsRetry, Self::NoTime, Self::TooLarge];

    /// The word in the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::NoBudget => "no_budget",
            Self::NotIdempotent => "not_idempotent",
            Self::IsRetry => "is_retry",
            Self::NoTime => "no_time",
            Self::TooLarge => "too_large",
        }
    }

    /// What the word means, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    #[rustfmt::skip]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Made => "a retry was made",
            Self::NoBudget => "the budget would not pay for one",
            Self::NotIdempotent => "the request may do harm if it is done twice",
            Self::IsRetry => "the request is a retry itself",
            Self::NoTime => "there was no time left for one",
            Self::TooLarge => "the request has a body that Envoy may not be able to send twice",
        }
    }
}

impl Failures {
    fn of(request: &Request<'_>) -> Self {
        if request.grpc || request.has_method("POST") { Self::HttpOrGrpc } else { Self::Http }
    }
}

impl Conditions {
    /// The conditions of these words, each of [`HTTP_CONDITIONS`] or [`GRPC_CONDITIONS`].
    ///
    /// The two kinds are independent: a gRPC call that ends with `UNAVAILABLE` is retried because of `unavailable`, not because
    /// of `5xx`, for its HTTP status is 200.
    ///
    /// # Errors
    ///
    /// The index of the first word that is none of them.
    pub fn new(words: &[impl AsRef<str>]) -> Result<Self, usize> {
        let mut conditions = Self::default();
        for (index, word) in words.iter().map(AsRef::as_ref).enumerate() {
            let list = match () {
                () if HTTP_CONDITIONS.contains(&word) => &mut conditions.http,
                () if GRPC_CONDITIONS.contains(&word) => &mut conditions.grpc,
                () => return Err(index),
            };
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(word);
        }
        Ok(conditions)
    }

    /// Whether a response with this HTTP status is retried.
    pub fn cover(&self, status: u16) -> bool {
        self.http.split(',').any(|word| match word {
            "5xx" => 500 <= status,
            "gateway-error" => (502..=504).contains(&status),
            "retriable-4xx" => status == 409,
            _ => false,
        })
    }

    /// Whether anything is retried by its gRPC status.
    pub const fn know_grpc(&self) -> bool {
        !self.grpc.is_empty()
    }

    /// Whether a response with this gRPC status, in digits, is retried. The router looks in headers only: by the trailers it
    /// has passed the response on.
    pub fn cover_grpc(&self, status: &[u8]) -> bool {
        self.grpc.split(',').any(|word| match word {
            "cancelled" => status == b"1",
            "deadline-exceeded" => status == b"4",
            "internal" => status == b"13",
            "unavailable" => status == b"14",
            _ => false,
        })
    }
}

impl RetryPolicy {
    /// Whether the request may be retried, as far as its headers tell.
    pub fn eligibility(&self, request: &Request<'_>) -> Eligibility {
        if stream::is_long(request) {
            return Eligibility::LongStream;
        }
        if self.max_attempts <= 1 {
            return Eligibility::OneAttempt;
        }
        if is_retry(request) {
            return Eligibility::Ineligible(Decision::IsRetry);
        }
        match self.may_repeat(request) {
            Repetition::Harmless if self.is_too_large(request) => Eligibility::Ineligible(Decision::TooLarge),
            Repetition::Harmless => Eligibility::Eligible(Failures::of(request)),
            Repetition::Harmful => Eligibility::Ineligible(Decision::NotIdempotent),
        }
    }

    /// Whether some request with this method may be repeated.
    pub fn may_ever_repeat(&self, method: &str) -> bool {
        IDEMPOTENT.iter().any(|it| it.eq_ignore_ascii_case(method))
            || self.idempotency_key.is_some()
            || !self.grpc_methods.is_empty()
    }

    /// Decides about a request that goes on now, and sets tokens aside for its retries. `workers` as in
    /// [`Account::set_aside`].
    pub fn advise(
        &self,
        eligibility: Eligibility,
        time: Time,
        payment: Payment,
        account: &mut Account,
        workers: u32,
        now: Timestamp,
    ) -> Advice<'_> {
        let total = match eligibility {
            Eligibility::LongStream => None,
            _ => shorter(self.timeout, time.left),
        };
        let none = |decision| (SetAside::nothing(), 0, decision);
        let wanted = self.max_attempts.saturating_sub(1);
        let (set_aside, retries, decision) = match eligibility {
            Eligibility::LongStream | Eligibility::OneAttempt => none(None),
            Eligibility::Ineligible(decision) => none(Some(decision)),
            Eligibility::Eligible(_) if time.usual.zip(total).is_some_and(is_futile) => none(Some(Decision::NoTime)),
            Eligibility::Eligible(_) => match payment {
                Payment::OneByOne => (SetAside::nothing(), wanted, None),
                Payment::InAdvance => {
                    let set_aside = account.set_aside(&self.budget, wanted, workers, now);
                    let retries = set_aside.retries();
                    (set_aside, retries, (retries == 0).then_some(Decision::NoBudget))
                }
            },
        };
        let per_try = if 0 < retries { self.per_try(total) } else { None };
        let to_begin = if time.bound == Bound::Beginning { self.timeout } else { None };
        let mut fields = self.fields(eligibility, retries, time);
        if payment == Payment::OneByOne && 0 < retries {
            // Nor as the route says: to refuse an attempt ends the request, which another attempt may be about to answer.
            fields.push((router::HEDGE, Cow::Borrowed("false")));
        }
        Advice { payment, set_aside, retries, per_try, to_begin, decision, fields }
    }

    fn fields(&self, eligibility: Eligibility, retries: u32, time: Time) -> SmallVec<[Field<'_>; 6]> {
        let (total, left) = match (eligibility, time.bound) {
            (Eligibility::LongStream, _) => (None, None),
            (_, Bound::Answer) => (self.timeout, time.left),
            // The filter keeps the time for all attempts; the next hop is told of it.
            (_, Bound::Beginning) => (None, shorter(self.timeout, time.left)),
        };
        let mut fields = SmallVec::new();
        fields.push((router::MAX_RETRIES, number(retries)));
        fields.extend(total.map(router::timeout));
        if 0 < retries && !self.retry_on.http.is_empty() {
            fields.push((router::RETRY_ON, Cow::Borrowed(self.retry_on.http.as_str())));
        }
        let knows_grpc = eligibility != Eligibility::Eligible(Failures::Http) && !self.retry_on.grpc.is_empty();
        if 0 < retries && knows_grpc {
            fields.push((router::RETRY_GRPC_ON, Cow::Borrowed(self.retry_on.grpc.as_str())));
        }
        let allowed = self.per_try_timeout.filter(|_| 0 < retries);
        let per_try = shorter(allowed, left).filter(|per_try| total.is_none_or(|total| *per_try < total));
        fields.extend(per_try.map(router::attempt_timeout));
        if self.hedging == Hedging::On && per_try.is_some() && per_try == allowed {
            fields.push((router::HEDGE, Cow::Borrowed("true")));
        }
        fields
    }

    /// The time for each attempt, if it is over before that for all.
    fn per_try(&self, total: Option<Duration>) -> Option<Duration> {
        self.per_try_timeout.filter(|per_try| total.is_none_or(|total| *per_try < total))
    }

    fn may_repeat(&self, request: &Request<'_>) -> Repetition {
        let harmless = match request.grpc {
            true => self.grpc_methods.iter().any(|method| method.as_bytes() == request.path),
            false => request.has_one_of(&IDEMPOTENT) || self.has_key(request),
        };
        if harmless { Repetition::Harmless } else { Repetition::Harmful }
    }

    /// Whether the router may not have kept all of the body when it would have to send it again.
    fn is_too_large(&self, request: &Request<'_>) -> bool {
        match BodySize::of(request) {
            BodySize::Known(size) => u64::from(self.max_body_bytes.unwrap_or(DEFAULT_MAX_BODY_BYTES)) < size,
            BodySize::Unknown => self.max_body_bytes.is_none() && !request.grpc,
        }
    }

    /// An empty key tells nothing apart.
    fn has_key(&self, request: &Request<'_>) -> bool {
        let key = self.idempotency_key.as_deref().and_then(|name| request.headers.get(name));
        key.is_some_and(|key| !key.trim_ascii().is_empty())
    }
}

/// Whether a retry could not end in time however soon the first attempt fails: it would be work for nobody. (A retry that comes
/// later is ended when the time is up.)
fn is_futile((usual, total): (Duration, Duration)) -> bool {
    total < usual.saturating_add(BACKOFF)
}

/// What it does to do the request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    Harmless,
    Harmful,
}

/// Whether the caller's Envoy, or its gRPC library, sent the request before: `x-envoy-attempt-count` counts attempts from 1 (and
/// is there if the caller's virtual host has `include_request_attempt_count`), `grpc-previous-rpc-attempts` those before (gRPC
/// proposal A6). A number that is none is a first attempt's.
fn is_retry(request: &Request<'_>) -> bool {
    let more_than = |name, number| count(request, name).is_some_and(|count| number < count);
    more_than("x-envoy-attempt-count", 1) || more_than("grpc-previous-rpc-attempts", 0)
}

fn count(request: &Request<'_>, name: &str) -> Option<u32> {
    std::str::from_utf8(request.headers.get(name)?).ok()?.parse().ok()
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Without an allocation for the few numbers that there are.
fn number(retries: u32) -> Cow<'static, str> {
    const WORDS: [&str; MAX_ATTEMPTS as usize] = ["0", "1", "2", "3", "4"];
    let word = usize::try_from(retries).ok().and_then(|index| WORDS.get(index));
    word.map_or_else(|| Cow::Owned(retries.to_string()), |word| Cow::Borrowed(*word))
}
