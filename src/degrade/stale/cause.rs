//! Why an answer is not kept.

use crate::cx::Cx;
use crate::monitor::metrics::Handle;
use crate::monitor::names::Names;

/// Why a `200` that a rule with `stale` selects is not kept. A closed list: nothing of a request is ever a label.
///
/// Not among them is what needs no word: another method or status, and an answer of which there is a young one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request has `Authorization` or `Proxy-Authorization`.
    RequestAuthorization,
    /// The request has a body.
    RequestBody,
    /// The request asks for a part, or under a condition that a stranger's answer cannot fulfil.
    RequestCondition,
    /// The request has a cookie that is not ignored.
    RequestCookie,
    /// The request says `no-store`, or its `Cache-Control` is malformed.
    RequestNoStore,
    /// The request has more headers than are kept aside.
    RequestTooLarge,
    /// The answer has no bounds: server-sent events, or gRPC.
    Stream,
    /// The answer is not the service's own, but made up by another filter of our kind or by a rate limit.
    Substitute,
    /// The answer sets a cookie.
    SetCookie,
    /// The answer says `no-store`.
    NoStore,
    /// The answer says `private`.
    Private,
    /// The answer says `no-cache`.
    NoCache,
    /// The answer says `must-revalidate` or `proxy-revalidate`.
    MustRevalidate,
    /// A header of the answer cannot be read.
    Malformed,
    /// The answer's lifetime is over when it comes.
    NotFresh,
    /// The answer has no lifetime and is not `public`.
    NoFreshness,
    /// The answer varies with `*`, or there are too many names or lists of names.
    Vary,
    /// The answer is larger than one may be.
    TooLarge,
    /// The body broke off, or is not as long as it was said to be.
    Incomplete,
    /// The body took too long.
    TooSlow,
    /// There is no room, and what would have to go is asked for more often.
    NotAdmitted,
    /// Too many answers are on their way, or were begun lately.
    Busy,
    /// The answer was given up on its way, for example because its address was written to.
    GivenUp,
}

impl Cause {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 23] = [
        Self::RequestAuthorization,
        Self::RequestBody,
        Self::RequestCondition,
        Self::RequestCookie,
        Self::RequestNoStore,
        Self::RequestTooLarge,
        Self::Stream,
        Self::Substitute,
        Self::SetCookie,
        Self::NoStore,
        Self::Private,
        Self::NoCache,
        Self::MustRevalidate,
        Self::Malformed,
        Self::NotFresh,
        Self::NoFreshness,
        Self::Vary,
        Self::TooLarge,
        Self::Incomplete,
        Self::TooSlow,
        Self::NotAdmitted,
        Self::Busy,
        Self::GivenUp,
    ];

    /// The cause as the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestAuthorization => "request_authorization",
            Self::RequestBody => "request_body",
            Self::RequestCondition => "request_condition",
            Self::RequestCookie => "request_cookie",
            Self::RequestNoStore => "request_no_store",
            Self::RequestTooLarge => "request_too_large",
            Self::Stream => "stream",
            Self::Substitute => "substitute",
            Self::SetCookie => "set_cookie",
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::NoCache => "no_cache",
            Self::MustRevalidate => "must_revalidate",
            Self::Malformed => "malformed",
            Self::NotFresh => "not_fresh",
            Self::NoFreshness => "no_freshness",
            Self::Vary => "vary",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::TooSlow => "too_slow",
            Self::NotAdmitted => "not_admitted",
            Self::Busy => "busy",
            Self::GivenUp => "given_up",
        }
    }
}

/// The counters of answers that are not kept, by cause.
#[derive(Debug, Default)]
pub(super) struct NotKept {
    names: Names,
    counters: [Handle; Cause::ALL.len()],
}

impl NotKept {
    pub(super) fn new(names: &Names) -> Self {
        Self { names: names.clone(), ..Self::default() }
    }

    /// Counts one answer. One call of the proxy, which carries a number.
    pub(super) fn count(&self, cx: &Cx<'_>, cause: Cause) {
        let Some(counter) = self.counters.get(cause as usize) else {
            return;
        };
        let counted = counter.count(cx, || self.names.stale_not_kept_total(cause.as_str()));
        cx.report(counted);
    }
}
