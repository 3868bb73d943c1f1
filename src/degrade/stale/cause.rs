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

    /// What was seen, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    #[rustfmt::skip]
    pub const fn means(self) -> &'static str {
        match self {
            Self::RequestAuthorization => "the request has `Authorization` or `Proxy-Authorization`",
            Self::RequestBody => "a `GET` with a body",
            Self::RequestCondition => "`Range`, `If-Range`, `If-Match` or `If-Unmodified-Since`",
            Self::RequestCookie => "the request has a cookie",
            Self::RequestNoStore => "the request says `no-store`, or its `Cache-Control` is malformed",
            Self::RequestTooLarge => "more than 16 KiB of request headers",
            Self::Stream => "server-sent events or gRPC",
            Self::Substitute => "made up by another Outrigger, or marked `x-envoy-ratelimited`",
            Self::SetCookie => "the answer sets a cookie",
            Self::NoStore => "the answer says `no-store`",
            Self::Private => "the answer says `private`",
            Self::NoCache => "the answer says `no-cache`, or `Pragma: no-cache`",
            Self::MustRevalidate => "the answer says `must-revalidate` or `proxy-revalidate`",
            Self::Malformed => "`Cache-Control`, `Age`, `Expires` without `Date`, `Content-Length` or another header cannot be read",
            Self::NotFresh => "`max-age=0`, `Expires` in the past, or an `Age` beyond the lifetime",
            Self::NoFreshness => "the answer says nothing of freshness",
            Self::Vary => "`Vary: *`, names of more than 200 bytes, or more than eight different lists of names",
            Self::TooLarge => "larger than a quarter of `max_bytes`, or without `Content-Length` than a sixteenth and 64 KiB",
            Self::Incomplete => "the body broke off, by the client or the service",
            Self::TooSlow => "the body took more than 30 s",
            Self::NotAdmitted => "no room, and what would have to go is [in more demand](reference/failures.md#stale-answers)",
            Self::Busy => "too many answers begun at once (16) or in a second (100) by one worker, or all room is taken by answers on their way",
            Self::GivenUp => "given up on its way, because its address was written to",
        }
    }

    /// What the owner of a service can do about it, likewise.
    #[cfg(not(target_arch = "wasm32"))]
    #[rustfmt::skip]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::RequestAuthorization => "nothing: its answer may be its user's own",
            Self::RequestBody => "send none; what is searched for belongs into the query",
            Self::RequestCondition => "nothing",
            Self::RequestCookie => "name those that say nothing of the user in [`ignore_cookies`](reference/failures.md#what-only-the-owner-of-a-service-knows)",
            Self::RequestNoStore => "look for a client or proxy in front that adds it",
            Self::RequestTooLarge => "send less",
            Self::Stream => "nothing: leave the operation out of the rule",
            Self::Substitute => "nothing",
            Self::SetCookie => "set it elsewhere, such as at login",
            Self::NoStore => "let the service say `max-age` where an answer is for everybody; many frameworks forbid by default",
            Self::Private => "let the service say `max-age` where an answer is for everybody; many frameworks forbid by default",
            Self::NoCache => "let the service say `max-age` where an answer is for everybody; many frameworks forbid by default",
            Self::MustRevalidate => "let the service say `max-age` where an answer is for everybody; many frameworks forbid by default",
            Self::Malformed => "mend the service",
            Self::NotFresh => "let the service give a lifetime",
            Self::NoFreshness => "let the service say `max-age`, or set [`assume_fresh`](reference/failures.md#what-only-the-owner-of-a-service-knows)",
            Self::Vary => "let the service name fewer headers",
            Self::TooLarge => "raise `max_bytes`, or send `Content-Length`",
            Self::Incomplete => "nothing, unless it is often",
            Self::TooSlow => "nothing",
            Self::NotAdmitted => "nothing while a crawler is at work; otherwise raise `max_bytes`, or select fewer operations (256 answers a rule at most)",
            Self::Busy => "nothing, unless it lasts; then raise `max_bytes`",
            Self::GivenUp => "nothing",
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
