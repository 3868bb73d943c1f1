//! What a client is told about its quota, in fields of the response.
//!
//! `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10: how much (`q`) in which time (`w`,
//! whole seconds), what is left (`r`) and when there is enough (`t`). The older `X-RateLimit-*` fields are written as Envoy
//! does. Of several limits the one that leaves least comes first.

use std::time::Duration;

use crate::limit::policy::Policy;
use crate::limit::rule::Limit;
use crate::monitor::settings::RateLimitHeaders;
use crate::reply::whole_seconds;

/// How a limit stands for the current request.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Whole units left; `None` if nobody knows.
    pub remaining: Option<u64>,
    /// When there is enough for the same request.
    pub reset: Option<Duration>,
}

/// A field of the response: name and value.
pub type Field = (&'static str, String);

/// The fields in the style, for limits in the order given.
pub fn fields(style: RateLimitHeaders, standings: &[Standing<'_>]) -> Vec<Field> {
    match style {
        RateLimitHeaders::Ietf => ietf(standings),
        RateLimitHeaders::XRateLimit => x_ratelimit(standings),
        RateLimitHeaders::None => Vec::new(),
    }
}

/// What a response gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Fields that take the place of those of the same name.
    pub set: Vec<Field>,
    /// Fields that go, because they would belong to no other any more.
    pub remove: Vec<&'static str>,
}

/// Puts fields of ours together with what the service says of its own quotas, which `theirs` looks up: the stricter comes
/// first in the IETF fields, which are lists, and stands alone in the older ones, which are not.
pub fn with_upstream(style: RateLimitHeaders, ours: Vec<Field>, theirs: impl Fn(&str) -> Option<String>) -> FieldEdits {
    match style {
        RateLimitHeaders::Ietf => FieldEdits { set: join_lists(ours, theirs), remove: Vec::new() },
        RateLimitHeaders::XRateLimit => unless_stricter(ours, theirs),
        RateLimitHeaders::None => FieldEdits { set: ours, remove: Vec::new() },
    }
}

fn join_lists(ours: Vec<Field>, theirs: impl Fn(&str) -> Option<String>) -> Vec<Field> {
    let mine = value_of(&ours, "ratelimit").map_or(u64::MAX, least_left);
    let stricter = theirs("ratelimit").is_some_and(|it| least_left(&it) < mine);
    let join = |(name, mine): Field| match theirs(name) {
        Some(theirs) if stricter => (name, format!("{theirs}, {mine}")),
        Some(theirs) => (name, format!("{mine}, {theirs}")),
        None => (name, mine),
    };
    ours.into_iter().map(join).collect()
}

fn unless_stricter(ours: Vec<Field>, theirs: impl Fn(&str) -> Option<String>) -> FieldEdits {
    let number = |value: &str| value.trim().parse::<u64>().ok();
    let mine = value_of(&ours, "x-ratelimit-remaining").and_then(number);
    match (theirs("x-ratelimit-remaining").as_deref().and_then(number), mine) {
        (Some(theirs), Some(mine)) if theirs < mine => FieldEdits::default(),
        // When the service's quota is there again says nothing of ours.
        (Some(_), _) => FieldEdits { set: ours, remove: vec!["x-ratelimit-reset"] },
        (None, _) => FieldEdits { set: ours, remove: Vec::new() },
    }
}

fn value_of<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    fields.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str())
}

/// The least `r` of a `RateLimit` field; the largest number if it has none.
fn least_left(field: &str) -> u64 {
    let parameters = field.split([',', ';']).map(str::trim);
    parameters.filter_map(|it| it.strip_prefix("r=")?.parse().ok()).min().unwrap_or(u64::MAX)
}

fn ietf(standings: &[Standing<'_>]) -> Vec<Field> {
    let mut fields = vec![("ratelimit-policy", join(standings, |it| Some(ietf_policy(it.limit))))];
    let states = join(standings, ietf_state);
    if !states.is_empty() {
        fields.push(("ratelimit", states));
    }
    fields
}

fn ietf_policy(limit: &Limit) -> String {
    let quota = limit.spec().policy.quota();
    let mut policy = format!("\"{}\";q={}", limit.spec().name, quota.units);
    if let Some(window) = quota.window {
        policy.push_str(&format!(";w={}", whole_seconds(window)));
    }
    if let Policy::Concurrency(_) = limit.spec().policy {
        policy.push_str(";qu=\"concurrent-requests\"");
    }
    policy
}

fn ietf_state(standing: &Standing<'_>) -> Option<String> {
    let mut state = format!("\"{}\";r={}", standing.limit.spec().name, standing.remaining?);
    if let Some(reset) = standing.reset {
        state.push_str(&format!(";t={}", whole_seconds(reset)));
    }
    Some(state)
}

/// The first limit's quota, then all of them with their windows.
fn x_ratelimit(standings: &[Standing<'_>]) -> Vec<Field> {
    let Some(first) = standings.first() else {
        return Vec::new();
    };
    let all = join(standings, |it| Some(x_policy(it.limit)));
    let mut fields = vec![("x-ratelimit-limit", format!("{}, {all}", first.limit.spec().policy.quota().units))];
    if let Some(remaining) = first.remaining {
        fields.push(("x-ratelimit-remaining", remaining.to_string()));
    }
    if let Some(reset) = first.reset {
        fields.push(("x-ratelimit-reset", whole_seconds(reset).to_string()));
    }
    fields
}

fn x_policy(limit: &Limit) -> String {
    let quota = limit.spec().policy.quota();
    let window = quota.window.map(|window| format!(";w={}", whole_seconds(window))).unwrap_or_default();
    format!("{}{window};name=\"{}\"", quota.units, limit.spec().name)
}

fn join(standings: &[Standing<'_>], item: impl Fn(&Standing<'_>) -> Option<String>) -> String {
    standings.iter().filter_map(item).collect::<Vec<_>>().join(", ")
}
