//! The shape of the JSON document.

use serde::Deserialize;

use super::error::ConfigError;
use super::reader;
use super::term::{Cost, FailureStatus, HostPattern, KeyParts, MAX_TOKENS, Method, Origin, Path, RateLimitHeaders};
use super::value::{
    AccessLog, CookieNames, HeaderName, Name, NonEmpty, Pairs, Ratio, Span, VersionText, Whole, objects, words,
};
use crate::retry::policy;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Document {
    pub(super) version: Option<VersionText>,
    pub(super) scope: Option<Name>,
    pub(super) placement: Option<Placement>,
    pub(super) client_ip: Option<ClientIp>,
    pub(super) operations: Option<Vec<Operation>>,
    pub(super) limits: Option<Vec<Limit>>,
    pub(super) fallbacks: Option<Vec<Fallback>>,
    pub(super) switches: Option<Vec<Switch>>,
    pub(super) breakers: Option<Vec<Breaker>>,
    pub(super) on_failure: Option<Vec<OnFailure>>,
    pub(super) retries: Option<Vec<Retry>>,
    pub(super) deadlines: Option<Vec<Deadline>>,
    pub(super) monitor: Option<Monitor>,
}

#[derive(Clone, Copy)]
pub(super) enum Placement {
    Downstream,
    Upstream,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct ClientIp {
    pub(super) header: Option<HeaderName>,
    pub(super) trusted_hops: Option<Whole<0, 32>>,
    pub(super) ipv6_prefix: Option<Whole<1, 128>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Operation {
    pub(super) name: Name,
    pub(super) tier: Option<Tier>,
    pub(super) path_parameters: Option<PathParameters>,
    #[serde(rename = "match")]
    pub(super) matcher: Match,
}

#[derive(Clone, Copy)]
pub(super) enum PathParameters {
    Cut,
    Keep,
}

#[derive(Clone, Copy)]
pub(super) enum Tier {
    P0,
    P1,
    P2,
    P3,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Match {
    pub(super) hosts: Option<NonEmpty<HostPattern>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) paths: Option<NonEmpty<Path>>,
    pub(super) headers: Option<NonEmpty<HeaderMatch>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct HeaderMatch {
    pub(super) name: HeaderName,
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) present: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Limit {
    pub(super) name: Name,
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) key: Option<KeyParts>,
    pub(super) max_keys: Option<Whole<1, 1_048_576>>,
    pub(super) missing: Option<Missing>,
    pub(super) token_bucket: Option<TokenBucket>,
    pub(super) leaky_bucket: Option<LeakyBucket>,
    pub(super) window: Option<Window>,
    pub(super) concurrency: Option<Concurrency>,
    pub(super) cost: Option<Cost>,
    pub(super) enforced: Option<bool>,
    pub(super) fallback: Option<String>,
    pub(super) failure_mode: Option<FailureMode>,
}

#[derive(Clone, Copy)]
pub(super) enum Missing {
    Shared,
    Skip,
}

#[derive(Clone, Copy)]
pub(super) enum FailureMode {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct TokenBucket {
    pub(super) max_tokens: Whole<1, MAX_TOKENS>,
    pub(super) tokens_per_fill: Whole<1, MAX_TOKENS>,
    pub(super) fill_interval: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct LeakyBucket {
    pub(super) capacity: Whole<0, 1_000_000>,
    pub(super) drain: Whole<1, MAX_TOKENS>,
    pub(super) drain_interval: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Window {
    pub(super) max_requests: Whole<1, MAX_TOKENS>,
    pub(super) interval: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Concurrency {
    pub(super) max_in_flight: Whole<1, 1_000_000>,
    pub(super) max_hold: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Fallback {
    pub(super) name: Name,
    pub(super) status: Whole<200, 599>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) headers: Option<Pairs>,
    /// The text of a JSON value.
    pub(super) json: Option<String>,
    pub(super) text: Option<String>,
    pub(super) retry_after: Option<Span>,
    pub(super) grpc_status: Option<Whole<1, 16>>,
    pub(super) cors: Option<Cors>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Cors {
    pub(super) allow_origin: Vec<Origin>,
    pub(super) allow_credentials: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Switch {
    pub(super) name: Name,
    pub(super) active: Option<bool>,
    /// The old spelling of `active`. YAML 1.1 reads the key `on` as `true`.
    #[serde(alias = "true")]
    pub(super) on: Option<bool>,
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) enforced: Option<bool>,
    pub(super) fallback: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Breaker {
    pub(super) name: Name,
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) failures: Option<NonEmpty<FailureStatus>>,
    pub(super) trip: Trip,
    pub(super) open_for: Option<Span>,
    pub(super) max_open_for: Option<Span>,
    pub(super) probes: Option<Whole<1, 16>>,
    pub(super) enforced: Option<bool>,
    pub(super) fallback: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Trip {
    pub(super) consecutive_failures: Option<Whole<1, 1_000_000>>,
    pub(super) failure_ratio: Option<Ratio>,
    pub(super) slow_ratio: Option<Ratio>,
    pub(super) slow_after: Option<Span>,
    pub(super) min_requests: Option<Whole<1, 1_000_000>>,
    pub(super) window: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct OnFailure {
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) failures: Option<NonEmpty<FailureStatus>>,
    pub(super) statuses: Option<NonEmpty<FailureStatus>>,
    pub(super) stale: Option<Stale>,
    pub(super) fallback: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Stale {
    pub(super) max_age: Span,
    pub(super) max_bytes: Option<Whole<4096, 67_108_864>>,
    pub(super) assume_fresh: Option<Span>,
    pub(super) ignore_cookies: Option<Vec<CookieNames>>,
    pub(super) key: Option<KeyParts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Retry {
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) failures: Option<NonEmpty<FailureStatus>>,
    pub(super) max_attempts: Option<Whole<1, { policy::MAX_ATTEMPTS }>>,
    pub(super) retry_on: Option<NonEmpty<String>>,
    pub(super) per_try_timeout: Option<Span>,
    pub(super) timeout: Option<Span>,
    pub(super) idempotency_key: Option<HeaderName>,
    pub(super) grpc_methods: Option<NonEmpty<String>>,
    pub(super) max_body_bytes: Option<Whole<0, 1_073_741_824>>,
    pub(super) hedge: Option<bool>,
    pub(super) budget: Option<Budget>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Budget {
    pub(super) ratio: Option<f64>,
    pub(super) min_per_second: Option<f64>,
    pub(super) ttl: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Deadline {
    pub(super) operations: Option<NonEmpty<String>>,
    pub(super) tiers: Option<NonEmpty<Tier>>,
    pub(super) methods: Option<NonEmpty<Method>>,
    pub(super) header: Option<HeaderName>,
    pub(super) default: Option<Span>,
    pub(super) cut_responses: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct Monitor {
    pub(super) access_log: Option<AccessLog>,
    pub(super) reason_header: Option<bool>,
    pub(super) ratelimit_headers: Option<RateLimitHeaders>,
    pub(super) ratelimit_headers_on_success: Option<bool>,
    pub(super) outcomes: Option<bool>,
}

objects!(Document, ClientIp, Operation, Match, HeaderMatch, Limit, Fallback, Monitor);
objects!(TokenBucket, LeakyBucket, Window, Concurrency);
objects!(Cors, Switch, Breaker, Trip, OnFailure, Stale, Retry, Budget, Deadline);
words!(Placement, r#""downstream" or "upstream""#, "downstream" => Downstream, "upstream" => Upstream);
words!(Tier, r#""P0", "P1", "P2" or "P3""#, "P0" => P0, "P1" => P1, "P2" => P2, "P3" => P3);
words!(PathParameters, r#""cut" or "keep""#, "cut" => Cut, "keep" => Keep);
words!(Missing, r#""shared" or "skip""#, "shared" => Shared, "skip" => Skip);
words!(FailureMode, r#""allow" or "deny""#, "allow" => Allow, "deny" => Deny);

impl Document {
    /// Reads JSON text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        if !text.trim_ascii_start().starts_with(b"{") || text.iter().any(is_binary) {
            return Err(ConfigError::at("", NOT_JSON));
        }
        reader::read(text)
    }
}

const NOT_JSON: &str = "the configuration must be a JSON object; in Envoy's own configuration that is a \
                        google.protobuf.StringValue that holds JSON text (a google.protobuf.Struct reaches filters as \
                        protobuf bytes)";

/// Control characters, which JSON text never contains and a serialised `Struct` always does.
fn is_binary(byte: &u8) -> bool {
    *byte < b' ' && !byte.is_ascii_whitespace()
}
