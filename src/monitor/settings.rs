//! What is shown of decisions, as configured.

/// What is shown of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Of which requests the access log is shown reason, operation and tier.
    pub access_log: AccessLog,
    /// Whether refusals carry `x-outrigger-reason`.
    pub reason_header: bool,
    /// Which fields tell a refused client about its quota.
    pub ratelimit_headers: RateLimitHeaders,
    /// Whether admitted clients are told too.
    pub ratelimit_headers_on_success: bool,
    /// Of which responses the status is read.
    pub outcomes: Outcomes,
}

/// Of which requests the access log can print fields. Each field costs its request a call of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Of all: operation and tier always, the others where they say something.
    All,
    /// Of those that something happened to: refused, or would have been by a limit that only counts; ended or answered by the
    /// filter; failed, or retried.
    Decisions,
    /// Of none.
    None,
}

/// Of which responses the status is read, which costs a call of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// Of all, so that every request is counted by its outcome.
    All,
    /// Of those that a policy judges. The others are counted as `unknown`.
    AsNeeded,
}

/// A style of telling a client about its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// `RateLimit` and `RateLimit-Policy` of the IETF draft.
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    XRateLimit,
    /// Nothing but `Retry-After`.
    None,
}
