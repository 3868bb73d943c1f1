//! A kept answer, to be served in place of a failure.

use std::borrow::Cow;
use std::time::Duration;

use crate::headers::Headers;
use crate::reply::Reply;
use crate::reply::fallback::Caller;

/// What became of the request before it was answered from what was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was not sent to the service, for example because a breaker is open.
    Spared,
    /// The service, or Envoy in its place, answered with this status.
    Failed(u16),
}

/// A kept answer.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    /// Since the answer was made, by the service's `Age` and our clock.
    pub(super) age: Duration,
    pub(super) lifetime: Duration,
}

impl Kept {
    /// How old the answer is: the time since its headers came, and its `Age` then.
    pub const fn age(&self) -> Duration {
        self.age
    }

    /// Whether a browser shows the answer to the page that asks (Fetch standard, CORS check); always, unless it is of another origin.
    pub fn is_shown_to(&self, caller: &Caller) -> bool {
        let allowed = self.headers.get("access-control-allow-origin");
        caller.origin().is_none_or(|origin| allowed.is_some_and(|it| it == b"*" || it == origin.as_bytes()))
    }

    /// The answer as a reply of the filter: its headers, `Age` (RFC 9111, section 5.1) and `Cache-Status` (RFC 9211).
    ///
    /// `Cache-Status` says `hit` only where the service was not asked; where it was and failed, `fwd` and `fwd-status` say so
    /// instead (the two exclude each other, section 2.2). `ttl` is what is left of the lifetime, negative for a stale
    /// answer; an answer that was `public` and no more has none from the start. What caches before this one said stays before it.
    ///
    /// Envoy adds the length, and a content type to a body that has none. Response-code details are the caller's.
    pub fn into_reply(self, origin: Origin) -> Reply {
        let ttl = seconds(self.lifetime).saturating_sub(seconds(self.age));
        let way = match origin {
            Origin::Spared => "hit".to_owned(),
            Origin::Failed(status) => {
                // What could have been served without asking was asked for all the same: that is how this cache is set up.
                let reason = if ttl <= 0 { "stale" } else { "bypass" };
                format!("fwd={reason}; fwd-status={status}")
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers: Vec<(Cow<'static, str>, String)> =
            self.headers.iter().map(|(name, value)| (Cow::Owned(text(name)), text(value))).collect();
        headers.push((Cow::Borrowed("age"), seconds(self.age).to_string()));
        let status = format!("outrigger; {way}; ttl={ttl}; detail=stale-if-error");
        headers.push((Cow::Borrowed("cache-status"), status));
        Reply { status: 200, headers, body: self.body, ..Reply::default() }
    }
}

/// Whole seconds, at most what `Age` and a structured field's integer can carry alike.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).min(1 << 31)
}
