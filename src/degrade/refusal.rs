//! What a request is told that is given up, or whose answer is replaced.
//!
//! The default is 503 with an RFC 9457 problem of the temporary-reduced-capacity type (draft-ietf-httpapi-ratelimit-headers)
//! and `Retry-After`; for a request whose time is over it is 504. Both carry `x-envoy-ratelimited`, so that the caller's
//! Envoy does not try again what was refused on purpose.

use std::time::Duration;

use crate::monitor::reason::Reason;
use crate::monitor::settings::Monitor;
use crate::reply::fallback::{Caller, Fallback};
use crate::reply::{DEADLINE_EXCEEDED, Protocol, Reply, UNAVAILABLE};

/// A refusal by something else than a limit.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// What refused.
    pub reason: &'a Reason,
    /// What the refusal means to a client.
    pub kind: Kind,
    /// When it is worth while to come again, as far as anybody can tell.
    pub retry_after: Option<Duration>,
}

/// What a refusal means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The service does less for the time being.
    Degraded,
    /// There is no time left for an answer.
    Expired,
}

impl Refusal<'_> {
    /// The reply to a request of the operation.
    pub fn reply(&self, fallback: Option<&Fallback>, caller: &Caller, operation: &str, monitor: &Monitor) -> Reply {
        let mut reply = match fallback {
            Some(fallback) => fallback.reply(caller, self.reason.as_str(), operation, self.kind.grpc_status()),
            None => self.kind.problem(),
        };
        reply.discourage_retries(caller.protocol, self.retry_after);
        let mut reply = self.mark(reply, monitor);
        match caller.protocol {
            Protocol::Http => {}
            Protocol::Grpc => reply.speak_grpc(format!("refused by {}", self.reason.as_str())),
        }
        reply
    }

    /// The reply with the reason in it.
    pub fn mark(&self, mut reply: Reply, monitor: &Monitor) -> Reply {
        self.reason.details().clone_into(&mut reply.details);
        if monitor.reason_header {
            self.reason.show(&mut reply);
        }
        reply
    }
}

impl Kind {
    const fn grpc_status(self) -> u32 {
        match self {
            Self::Degraded => UNAVAILABLE,
            Self::Expired => DEADLINE_EXCEEDED,
        }
    }

    fn problem(self) -> Reply {
        let (status, document) = match self {
            Self::Degraded => (
                503,
                concat!(
                    r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","#,
                    r#""title":"Request cannot be satisfied due to temporary server capacity constraints","#,
                    r#""status":503}"#
                ),
            ),
            Self::Expired => (504, r#"{"type":"about:blank","title":"Gateway Timeout","status":504}"#),
        };
        Reply::problem(status, self.grpc_status(), document.to_owned())
    }
}
