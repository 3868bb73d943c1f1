//! What is known of a request from its headers to the end of its stream, and what it holds in the meantime.

use std::rc::Rc;
use std::time::Duration;

use crate::degrade::breaker::watched::Admission;
use crate::degrade::stale::{Address, Candidate, Capture, Cause};
use crate::host::{End, Sent};
use crate::limit::reservation::Reservation;
use crate::monitor::failures::{self, Failures};
use crate::monitor::outcome::Outcome;
use crate::operation::request::{Events, Request};
use crate::operation::stream;
use crate::reply::Protocol;
use crate::reply::fallback::Caller;
#[cfg(doc)]
use crate::reply::fallback::Fallback;
use crate::retry::attempts::{Attempts, Ending};
use crate::retry::budget::SetAside;
use crate::retry::deadline::{Deadline, Reach};
use crate::retry::policy::Eligibility;
use crate::retry::router::Bound;
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
    pub(super) upload: Upload,
    pub(super) sent: Option<Sent>,
    pub(super) kind: StreamKind,
    pub(super) end: ResponseEnd,
    pub(super) taken: Reservation,
    pub(super) breaker: Guard,
    /// The same of the one that is tried out.
    pub(super) shadow_breaker: Guard,
    /// Whether the access log knows who would have refused the request.
    pub(super) has_shadow_reason: bool,
    pub(super) deadline: Option<Due>,
    pub(super) haste: Haste,
    pub(super) retry: Retry,
    pub(super) interest: Interest,
    /// After how long an attempt at it is given up for another.
    pub(super) per_try: Option<Duration>,
    /// The time that its rule for retries gives all attempts until the answer begins, if the filter keeps it.
    pub(super) to_begin: Option<Duration>,
    /// When it went on, or its end came if that was later: the service's time runs from there.
    pub(super) asked: Timestamp,
    /// How long after that the response headers came; `None` if they came before.
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
    /// Nothing that speaks for or against it: it was not asked, somebody else answered, or the client left it no chance.
    Unconcerned,
    /// It was asked, and how that ends is not known yet.
    Silent,
    /// It answered with this status; of gRPC, with the one that its status [stands for](failures::http_status).
    Answered(u16),
    /// There was none to be reached, it did not answer, or it broke off.
    Lost,
    /// It answered, and nobody wanted to know how.
    Unjudged,
}

/// What that comes to where these are the failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It failed.
    Failed,
    /// It said no, which is an answer.
    Declined,
    /// It did what it was asked to.
    Succeeded,
    /// Nobody can say.
    Open,
}

impl Service {
    pub(super) fn verdict(self, failures: &Failures) -> Verdict {
        match self {
            Self::Lost => Verdict::Failed,
            Self::Answered(status) if failures.contains(status) => Verdict::Failed,
            Self::Answered(..failures::FIRST) => Verdict::Succeeded,
            Self::Answered(_) => Verdict::Declined,
            Self::Unconcerned | Self::Silent | Self::Unjudged => Verdict::Open,
        }
    }

    pub(super) const fn has_succeeded(self) -> bool {
        matches!(self, Self::Answered(..failures::FIRST))
    }
}

/// What the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Nothing yet.
    Nothing,
    /// Nothing yet: its request is held in the queue of the limit with this index.
    Held(usize),
    /// What came from beyond the filter, which says this.
    Answer(Outcome),
    /// The beginning of an answer, of which it will not see the end.
    Part,
    /// Something else in place of a failure.
    Substitute,
    /// A refusal by the filter, which counts as this.
    Refusal(Outcome),
}

/// How much of the request the proxy has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// All of it.
    Complete,
    /// More is to come, or should be.
    Underway,
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

/// How much of the response the proxy has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseEnd {
    /// Nothing.
    Ahead,
    /// Its beginning.
    Open,
    /// All of it.
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
    /// Whether the fallback of what may refuse the request is [for it](Fallback::is_for), if there is one.
    pub(super) may_use_own: bool,
    /// Index of the rule for failures, if there is one.
    pub(super) rule: Option<usize>,
    /// Index of the rule's fallback, if it has one for the request.
    pub(super) fallback: Option<usize>,
    /// What to look for among the answers that are kept, or why it has no part in them; `None` if nobody expects it.
    pub(super) candidate: Option<Result<Candidate, Cause>>,
}

/// A deadline, and the index of the rule that says where it stands; without a rule, where callers' proxies write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) deadline: Deadline,
    pub(super) rule: Option<usize>,
    pub(super) reach: Reach,
    /// What was left of it when the request went on.
    pub(super) time: Duration,
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
    /// It set these tokens aside and needed none: it succeeded at its first attempt.
    Spared(usize, SetAside),
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

impl Upload {
    const fn of(request: &Request<'_>) -> Self {
        match request.end {
            End::Here => Self::Complete,
            End::Later => Self::Underway,
        }
    }
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
        Self { caller: Caller::new(protocol), may_use_own: false, rule: None, fallback: None, candidate: None }
    }
}

impl Ticket {
    /// That of a request of the operation that came at `now` and holds nothing yet.
    pub(super) fn new(operation: usize, request: &Request<'_>, now: Timestamp) -> Self {
        Self {
            operation,
            started: now,
            protocol: Protocol::of(request),
            service: Service::Unconcerned,
            client: Client::Nothing,
            upload: Upload::of(request),
            sent: None,
            kind: StreamKind::of(request),
            end: ResponseEnd::Ahead,
            taken: Reservation::default(),
            breaker: Guard::None,
            shadow_breaker: Guard::None,
            has_shadow_reason: false,
            deadline: None,
            haste: Haste::None,
            retry: Retry::None,
            interest: Interest::Nothing,
            per_try: None,
            to_begin: None,
            asked: now,
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
            (Client::Part, _) | (_, Service::Lost) => Outcome::Failure,
            (Client::Answer(outcome), _) => outcome,
            (Client::Nothing | Client::Held(_), _) => Outcome::Cancelled,
        }
    }

    /// Whether the request waits for its turn.
    pub const fn is_held(&self) -> bool {
        matches!(self.client, Client::Held(_))
    }

    /// Whether the answer took about all the time until the request's deadline. The router's clock stands still while it does
    /// something else, so that its timers may go off early by ours.
    pub(super) fn has_expired(&self) -> bool {
        self.deadline.as_ref().zip(self.latency).is_some_and(|(due, latency)| due.time / 4 * 3 <= latency)
    }

    /// The instant at which the request is to be [ended](crate::filter::Filter::expire), as it stands. Its time runs from its end.
    pub fn due(&self) -> Option<Timestamp> {
        if self.kind == StreamKind::Long || self.upload == Upload::Underway {
            return None;
        }
        let deadline = self.deadline.as_ref();
        let time = match self.end {
            ResponseEnd::Ahead if self.is_open() => deadline.map(|it| it.time).into_iter().chain(self.to_begin).min(),
            ResponseEnd::Open if matches!(self.client, Client::Answer(_) | Client::Nothing) => {
                deadline.filter(|it| it.reach == Reach::End).map(|it| it.time)
            }
            ResponseEnd::Ahead | ResponseEnd::Open | ResponseEnd::Seen => None,
        };
        time.map(|time| self.asked.saturating_add(time))
    }

    /// What the retry budget had to do with the answer.
    pub(super) fn ending(&self) -> Ending {
        match &self.retry {
            Retry::Entered(_, attempts) => attempts.ending(),
            Retry::None | Retry::Ahead(..) | Retry::Paid(..) | Retry::Spared(..) => Ending::Natural,
        }
    }

    /// Whether the answer's headers say that something went wrong with it: a failure, or one that may have taken several attempts.
    pub(super) fn has_failed_or_was_retried(&self) -> bool {
        let may_be_retried = matches!(&self.retry, Retry::Paid(_, set_aside) if 0 < set_aside.retries());
        may_be_retried || self.service == Service::Lost || self.client == Client::Answer(Outcome::Failure)
    }

    /// How long the service has had without a word of an answer.
    pub(super) fn unanswered_for(&self, now: Timestamp) -> Duration {
        match (self.upload, self.end) {
            (Upload::Complete, ResponseEnd::Ahead) => now.saturating_since(self.asked),
            _ => Duration::ZERO,
        }
    }

    /// Whether a breaker waits for the result.
    pub(super) fn is_probe(&self) -> bool {
        self.guards().iter().any(|guard| matches!(guard, Guard::Passed(_, admission) if admission.is_probe()))
    }

    /// Whether a breaker is owed the result.
    pub(super) fn is_watched(&self) -> bool {
        self.guards().iter().any(|guard| matches!(guard, Guard::Passed(..)))
    }

    pub(super) const fn guards(&self) -> [&Guard; 2] {
        [&self.breaker, &self.shadow_breaker]
    }

    pub(super) const fn guards_mut(&mut self) -> [&mut Guard; 2] {
        [&mut self.breaker, &mut self.shadow_breaker]
    }

    /// The guards, of which the request has none then.
    pub(super) fn take_guards(&mut self) -> [Guard; 2] {
        self.guards_mut().map(|guard| std::mem::replace(guard, Guard::None))
    }
}
