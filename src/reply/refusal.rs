//! What a client is told that is refused: made by the policy that refuses, rendered here for all protocols.
//!
//! The default is an RFC 9457 problem with `Retry-After` (RFC 9110, section 10.2.3). `x-envoy-ratelimited` and
//! `grpc-retry-pushback-ms: -1` (gRFC A6) keep the caller's Envoy and gRPC library from trying again at once what was refused
//! on purpose.

use std::time::Duration;

use crate::grpc::{DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE};
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::monitor::settings::Monitor;
use crate::reply::fallback::{Caller, Fallback};
use crate::reply::{Protocol, Reply};

/// A refusal by some policy, or what goes for one: the replacement of a failure.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// What refused.
    pub reason: &'a Reason,
    /// What the request counts as.
    pub outcome: Outcome,
    /// Whether the request is refused, or would be.
    pub enforcement: Enforcement,
    /// What a client is told without a fallback.
    pub problem: Problem<'a>,
    /// When it is worth while to come again, as far as anybody can tell.
    pub retry_after: Option<Duration>,
    /// The prepared reply that is served instead of the problem.
    pub fallback: Option<&'a Fallback>,
    /// Fields about the client's quota, name and value, for refusals that have to do with one.
    pub quota: Vec<(&'static str, String)>,
    /// What the access log is told beside the reason.
    pub detail: Option<&'static str>,
}

/// A type of problem, which says what the refusal means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The client wants more than the policy of this name admits: `quota-exceeded` of
    /// draft-ietf-httpapi-ratelimit-headers-10, status 429.
    QuotaExceeded(&'a str),
    /// The service does less for the time being: `temporary-reduced-capacity` of the same draft, status 503.
    TemporaryReducedCapacity,
    /// There is no time left for an answer: a problem without a type of its own, status 504.
    GatewayTimeout,
}

impl Refusal<'_> {
    /// Whether it takes the place of a failure that would have been: then the last good answer and the fallback of the rule
    /// for failures are as good as one of its own. It is so for breakers: they are open because the service fails.
    pub fn is_for_failure(&self) -> bool {
        self.outcome == Outcome::Broken
    }

    /// The reply to a request of the operation.
    pub fn reply(self, caller: &Caller, operation: &str, monitor: &Monitor) -> Reply {
        let reason = self.reason.as_str();
        let mut reply = match self.fallback {
            Some(fallback) => fallback.reply(caller, reason, operation, self.problem.grpc_status()),
            None => self.problem.reply(),
        };
        reply.discourage_retries(caller.protocol, self.retry_after);
        for (name, value) in self.quota {
            reply.add_missing_header(name, value);
        }
        let mut reply = mark(reply, self.reason, monitor);
        match caller.protocol {
            Protocol::Http => {}
            Protocol::Grpc => reply.speak_grpc(format!("refused by {reason}")),
        }
        reply
    }
}

/// The reply with the reason in it.
pub fn mark(mut reply: Reply, reason: &Reason, monitor: &Monitor) -> Reply {
    reason.details().clone_into(&mut reply.details);
    if monitor.reason_header {
        reply.headers.push(("x-outrigger-reason".into(), reason.as_str().to_owned()));
    }
    reply
}

impl Problem<'_> {
    const fn grpc_status(self) -> u32 {
        match self {
            Self::QuotaExceeded(_) => RESOURCE_EXHAUSTED,
            Self::TemporaryReducedCapacity => UNAVAILABLE,
            Self::GatewayTimeout => DEADLINE_EXCEEDED,
        }
    }

    fn reply(self) -> Reply {
        let (status, document) = match self {
            // Names are made of characters that JSON strings take as they are.
            Self::QuotaExceeded(policy) => (
                429,
                format!(
                    concat!(
                        r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#,
                        r#""title":"Request cannot be satisfied as assigned quota has been exceeded","#,
                        r#""status":429,"violated-policies":["{}"]}}"#
                    ),
                    policy
                ),
            ),
            Self::TemporaryReducedCapacity => (
                503,
                concat!(
                    r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","#,
                    r#""title":"Request cannot be satisfied due to temporary server capacity constraints","#,
                    r#""status":503}"#
                )
                .to_owned(),
            ),
            Self::GatewayTimeout => {
                (504, r#"{"type":"about:blank","title":"Gateway Timeout","status":504}"#.to_owned())
            }
        };
        Reply::problem(status, self.grpc_status(), document)
    }
}
