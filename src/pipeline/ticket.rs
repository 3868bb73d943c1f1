//! What is known of a request from its headers to the end of its stream, and what it holds in the meantime.

use std::rc::Rc;
use std::time::Duration;

use crate::degrade::breaker::watched::Admission;
use crate::degrade::fallback::Caller;
#[cfg(doc)]
use crate::degrade::fallback::Fallback;
use crate::degrade::stale::{Address, Candidate, Capture};
use crate::limit::reservation::Reservation;
use crate::monitor::outcome::Outcome;
use crate::operation::request::{Events, Request};
use crate::reply::Protocol;
use crate::retry::attempts::{Attempts, Ending};
use crate::retry::budget::SetAside;
use crate::retry::deadline::Deadline;
use crate::retry::policy::Eligibility;
use crate::retry::router::Bound;
use crate::retry::stream;
use crate::time::Timestamp;

/// What a request holds until its stream ends.
///
/// Whoever is given one owes it to [`Filter::on_done`](crate::filter::Filter::on_done).
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    pub(super) operation: usize,
    pub(super) started: Timestamp,
    pub(super) protocol: Protocol,
    pub(super) service: Service,
    pub(super) client: Client,
    pub(super) kind: StreamKind,
    pub(super) end: ResponseEnd,
    pub(super) taken: Reservation,
    pub(super) breaker: Guard,
    pub(super) deadline: Option<Due>,
    pub(super) haste: Haste,
    pub(super) retry: Retry,
    pub(super) interest: Interest,
    /// After how long an attempt at it is given up for another.
    pub(super) per_try: Option<Duration>,
    /// When it went on.
    pub(super) forwarded: Timestamp,
    /// How long after the request went on the response headers came.
    pub(super) latency: Option<Duration>,
    /// Only of a request whose answer may be replaced.
    pub(super) memory: Option<Box<Memory>>,
    /// The copy of an answer that is being made.
    pub(super) capture: Option<Box<Capture>>,
    /// Where the request goes, if it may change what is kept.
    pub(super) written: Option<Box<Address>>,
}

/// What the service did. Breakers, budgets and usual times hear of this only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Nothing: it was not asked, or somebody else answered in its place.
    NotAsked,
    /// It was asked, and how that ends is not known yet.
    Silent,
    /// It did what it was asked to.
    Succeeded,
    /// It said that the request was wrong: an answer too.
    Declined,
    /// It failed, or there was none for Envoy to ask.
    Failed,
    /// It answered, and nobody wanted to know how.
    Unjudged,
}

/// What the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Nothing yet.
    Nothing,
    /// Nothing yet: its request is held in the queue of the limit with this index.
    Held(usize),
    /// What came from beyond the filter.
    Answer,
    /// Something else in place of a failure.
    Substitute,
    /// A refusal by the filter, which counts as this.
    Refusal(Outcome),
}

/// Whether the stream is one request with its response, or goes on as long as both sides like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    Exchange,
    /// An exchange or server-sent events: the response will tell.
    Undecided,
    /// A tunnel, another protocol, or server-sent events.
    Long,
}

/// Whether the end of the response has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseEnd {
    Open,
    Seen,
}

/// How the request stands with its breaker, known by index.
#[derive(Debug)]
pub(super) enum Guard {
    /// It has none, or no more.
    None,
    /// It is to be asked before the request goes on.
    Ahead(usize),
    /// It let the request pass and is owed a result.
    Passed(usize, Admission),
}

/// What is kept of a request whose answer may be replaced: its headers are out of reach by then.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) caller: Caller,
    /// Index of the fallback of what may refuse the request, if it has one [for it](Fallback::is_for).
    pub(super) own: Option<usize>,
    /// Index of the rule for failures, if there is one.
    pub(super) rule: Option<usize>,
    /// Index of the rule's fallback, if it has one for the request.
    pub(super) fallback: Option<usize>,
    /// What to look for among the answers that are kept.
    pub(super) candidate: Option<Candidate>,
}

/// A deadline, and the index of the rule that says where it stands; without a rule, where callers' proxies write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) deadline: Deadline,
    pub(super) rule: Option<usize>,
}

/// Whether the request has the time that requests of its operation usually take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// As far as anybody knows.
    None,
    /// It has less, and was let on all the same to see whether that is still so.
    Trial,
}

/// How the request stands with its rule for retries, known by index.
#[derive(Debug)]
pub(super) enum Retry {
    /// It has none, or no more.
    None,
    /// It is to be asked when the request goes on.
    Ahead(usize, Eligibility),
    /// It set these tokens aside.
    Paid(usize, SetAside),
    /// Its attempts may be seen one by one; it is entered under this number.
    Entered(u64, Rc<Attempts>),
}

/// What the rules for deadlines and retries want to know of the request. Nothing if none is for it: others of the operation
/// may be held to one, by their methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Nothing,
    /// How it ended. How long it took says nothing, because it was a long stream.
    Outcome,
    /// How it ended, and how long it took.
    OutcomeAndTime,
}

impl StreamKind {
    fn of(request: &Request<'_>) -> Self {
        match request.events {
            _ if stream::is_long(request) => Self::Long,
            Events::AmongOthers => Self::Undecided,
            Events::No | Events::Only => Self::Exchange,
        }
    }
}

impl Memory {
    /// What is known without a request.
    pub(super) const fn of_nobody(protocol: Protocol) -> Self {
        Self { caller: Caller::new(protocol), own: None, rule: None, fallback: None, candidate: None }
    }
}

impl Ticket {
    /// That of a request of the operation that came at `now` and holds nothing yet.
    pub(super) fn new(operation: usize, request: &Request<'_>, now: Timestamp) -> Self {
        Self {
            operation,
            started: now,
            protocol: Protocol::of(request),
            service: Service::NotAsked,
            client: Client::Nothing,
            kind: StreamKind::of(request),
            end: ResponseEnd::Open,
            taken: Reservation::default(),
            breaker: Guard::None,
            deadline: None,
            haste: Haste::None,
            retry: Retry::None,
            interest: Interest::Nothing,
            per_try: None,
            forwarded: now,
            latency: None,
            memory: None,
            capture: None,
            written: None,
        }
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.protocol == Protocol::Grpc
    }

    /// What the time that there is bounds: a stream that has begun in time goes on as long as it likes.
    pub(super) fn bound(&self) -> Bound {
        if self.kind == StreamKind::Undecided { Bound::Beginning } else { Bound::Answer }
    }

    /// Whether the request went on and has no answer.
    pub(super) fn is_open(&self) -> bool {
        self.service == Service::Silent
    }

    /// How the request is counted when it ends like this.
    pub(super) const fn outcome(&self) -> Outcome {
        match (self.client, self.service) {
            (Client::Refusal(outcome), _) => outcome,
            (Client::Substitute, _) => Outcome::Degraded,
            (Client::Held(_), _) | (_, Service::Silent) | (Client::Nothing, Service::NotAsked) => Outcome::Cancelled,
            (_, Service::Succeeded) => Outcome::Success,
            // What another filter refused is as little a failure as what the service declined.
            (_, Service::Declined) | (Client::Answer, Service::NotAsked) => Outcome::ClientError,
            (_, Service::Failed) => Outcome::Failure,
            (_, Service::Unjudged) => Outcome::Unknown,
        }
    }

    /// What the retry budget had to do with the answer.
    pub(super) fn ending(&self) -> Ending {
        match &self.retry {
            Retry::Entered(_, attempts) => attempts.ending(),
            Retry::None | Retry::Ahead(..) | Retry::Paid(..) => Ending::Natural,
        }
    }

    /// Whether a breaker waits for the result.
    pub(super) const fn is_probe(&self) -> bool {
        matches!(&self.breaker, Guard::Passed(_, admission) if admission.is_probe())
    }
}
