//! How a request ended, in one word.

/// The `outcome` label of `outrigger_requests_total`. Every request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A status below 400, a protocol switch, or gRPC status 0.
    Success,
    /// A 4xx, 501, 505, a gRPC status that is neither 0, 4 nor 14; or a 5xx that is marked `x-envoy-ratelimited`, as some other
    /// filter's refusal.
    ClientError,
    /// Any other 5xx, whether by the service or by Envoy, gRPC status 4 or 14, or a response that was cut off.
    Failure,
    /// A limit refused it.
    Limited,
    /// A breaker refused it.
    Broken,
    /// There was no time left for it.
    Expired,
    /// It was given up, or its failure was replaced.
    Degraded,
    /// The client went away before there was a response.
    Cancelled,
    /// It was answered, and nobody asked how (`"outcomes": false`).
    Unknown,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::ClientError,
        Self::Failure,
        Self::Limited,
        Self::Broken,
        Self::Expired,
        Self::Degraded,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The word in the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::Failure => "failure",
            Self::Limited => "limited",
            Self::Broken => "broken",
            Self::Expired => "expired",
            Self::Degraded => "degraded",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// What the word means, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    #[rustfmt::skip]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Success => "status below 400, or gRPC status 0",
            Self::ClientError => "4xx, 501 and 505; a gRPC status that is neither 0, 4 nor 14; a 5xx that carries `x-envoy-ratelimited`, since another filter's refusal says nothing about the service",
            Self::Failure => "any other 5xx, also by Envoy itself and whatever a rule's `failures` say, and also before the client had sent its whole request; gRPC status 4 or 14; a response that broke off, or was cut off by a deadline or one of Envoy's timeouts",
            Self::Limited => "refused by a limit, with or without a fallback",
            Self::Broken => "refused by a breaker",
            Self::Expired => "refused for want of time",
            Self::Degraded => "given up by a switch; or a failure that was replaced",
            Self::Cancelled => "the client went away before there was a response",
            Self::Unknown => "answered, with `\"outcomes\": false`",
        }
    }

    /// What an answer with this status is to its client.
    pub const fn of_status(status: u16) -> Self {
        match status {
            ..=399 => Self::Success,
            400..=499 | 501 | 505 => Self::ClientError,
            500.. => Self::Failure,
        }
    }
}
