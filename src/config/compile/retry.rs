//! Retries and deadlines.

use super::{Known, failures, list};
use crate::config::document;
use crate::config::error::ConfigError;
use crate::config::problem::quoted;
use crate::config::value::Span;
use crate::retry::budget::{Budget, Unrepresentable};
use crate::retry::deadline::{DeadlineRule, GRPC, LONGEST, Reach};
use crate::retry::policy::{Conditions, Hedging, RetryPolicy};
use crate::retry::router;
use crate::retry::rule::{DeadlineSpec, RetrySpec};

/// Attempts unless the rule says otherwise, the first included.
const DEFAULT_MAX_ATTEMPTS: u32 = 2;

/// What is retried unless the rule says otherwise.
const DEFAULT_RETRY_ON: [&str; 4] = ["5xx", "reset", "connect-failure", "unavailable"];

#[inline(never)]
pub(super) fn retries(given: Vec<document::Retry>, known: &Known<'_>) -> Result<Vec<RetrySpec>, ConfigError> {
    let mut rules = Vec::with_capacity(given.len());
    for (index, rule) in given.into_iter().enumerate() {
        let path = format!("retries[{index}]");
        let grpc_methods = list(rule.grpc_methods);
        if let Some(entry) = grpc_methods.iter().position(|method| !is_grpc_method(method)) {
            let method = grpc_methods.get(entry).map_or("", String::as_str);
            let problem = format!("{}, must be a gRPC method such as \"/shop.Orders/Get\"", quoted(method));
            return Err(ConfigError::at(format!("{path}.grpc_methods[{entry}]"), problem));
        }
        times(rule.per_try_timeout, rule.timeout, &path)?;
        let policy = RetryPolicy {
            max_attempts: rule.max_attempts.map_or(DEFAULT_MAX_ATTEMPTS, |it| it.0),
            retry_on: conditions(list(rule.retry_on), &path)?,
            per_try_timeout: rule.per_try_timeout.map(|it| it.0),
            timeout: rule.timeout.map(|it| it.0),
            idempotency_key: rule.idempotency_key.map(|it| it.0),
            grpc_methods,
            max_body_bytes: rule.max_body_bytes.map(|it| it.0),
            hedging: hedging(rule.hedge, rule.per_try_timeout.is_some(), &path)?,
            budget: budget(&rule.budget.unwrap_or_default(), &format!("{path}.budget"))?,
        };
        let failures = failures(rule.failures, || format!("{path}.failures"))?;
        let selection = known.select(rule.operations, rule.tiers, rule.methods, &path)?;
        rules.push(RetrySpec { selection, failures, policy });
    }
    Ok(rules)
}

fn conditions(words: Vec<String>, path: &str) -> Result<Conditions, ConfigError> {
    let made = match words.as_slice() {
        [] => Conditions::new(&DEFAULT_RETRY_ON),
        words => Conditions::new(words),
    };
    made.map_err(|entry| {
        let word = words.get(entry).map_or("", String::as_str);
        let rule = "must be one of 5xx, gateway-error, reset, reset-before-request, connect-failure, refused-stream, \
                    retriable-4xx, cancelled, deadline-exceeded, internal and unavailable";
        ConfigError::at(format!("{path}.retry_on[{entry}]"), format!("{}, {rule}", quoted(word)))
    })
}

/// No timer of the proxy is set for longer than a day, and an attempt that has as much time as all together has no time of
/// its own: the router would ignore it.
fn times(per_try: Option<Span>, total: Option<Span>, path: &str) -> Result<(), ConfigError> {
    for (field, time) in [("per_try_timeout", per_try), ("timeout", total)] {
        at_most_longest(time, || format!("{path}.{field}"))?;
    }
    match (per_try, total) {
        (Some(per_try), Some(total)) if total.0 <= per_try.0 => {
            Err(ConfigError::at(format!("{path}.per_try_timeout"), format!("{:?}, must be below timeout", per_try.0)))
        }
        _ => Ok(()),
    }
}

fn at_most_longest(time: Option<Span>, path: impl Fn() -> String) -> Result<(), ConfigError> {
    match time {
        Some(Span(time)) if LONGEST < time => Err(ConfigError::at(path(), format!("{time:?}, must be at most 24h"))),
        _ => Ok(()),
    }
}

/// A hedge is sent when the time for an attempt is over, so without such a time there is none.
fn hedging(given: Option<bool>, has_per_try_timeout: bool, path: &str) -> Result<Hedging, ConfigError> {
    match (given, has_per_try_timeout) {
        (Some(true), false) => Err(ConfigError::at(format!("{path}.hedge"), "means nothing without per_try_timeout")),
        (Some(true), true) => Ok(Hedging::On),
        (Some(false) | None, _) => Ok(Hedging::Off),
    }
}

fn budget(given: &document::Budget, path: &str) -> Result<Budget, ConfigError> {
    let ratio = given.ratio.unwrap_or(0.1);
    let min_per_second = given.min_per_second.unwrap_or(1.0);
    let ttl = given.ttl.map_or(std::time::Duration::from_secs(10), |it| it.0);
    Budget::new(ratio, min_per_second, ttl).map_err(|problem| match problem {
        Unrepresentable::Ratio => ConfigError::at(format!("{path}.ratio"), format!("{ratio}, must be from 0 to 1")),
        Unrepresentable::PerSecond => {
            ConfigError::at(format!("{path}.min_per_second"), format!("{min_per_second}, must be from 0 to 1000"))
        }
        Unrepresentable::Ttl => ConfigError::at(format!("{path}.ttl"), format!("{ttl:?}, must be from 1s to 60s")),
        Unrepresentable::Nothing => ConfigError::at(path, "must not have both ratio and min_per_second 0"),
    })
}

#[inline(never)]
pub(super) fn deadlines(given: Vec<document::Deadline>, known: &Known<'_>) -> Result<Vec<DeadlineSpec>, ConfigError> {
    let mut rules = Vec::with_capacity(given.len());
    for (index, rule) in given.into_iter().enumerate() {
        let path = format!("deadlines[{index}]");
        at_most_longest(rule.default, || format!("{path}.default"))?;
        let default = rule.default.map(|it| it.0);
        let header = rule.header.map(|it| it.0);
        if header.as_deref() == Some(GRPC) {
            let problem = format!("{GRPC:?}, is read anyway, and has no milliseconds");
            return Err(ConfigError::at(format!("{path}.header"), problem));
        }
        if let Some(header) = header.as_deref().filter(|header| is_somebody_elses(header)) {
            let problem = format!("{}, says something else than a deadline", quoted(header));
            return Err(ConfigError::at(format!("{path}.header"), problem));
        }
        let selection = known.select(rule.operations, rule.tiers, rule.methods, &path)?;
        let reach = match rule.cut_responses {
            Some(true) => Reach::End,
            Some(false) | None => Reach::Beginning,
        };
        rules.push(DeadlineSpec { selection, rule: DeadlineRule { header, default }, reach });
    }
    Ok(rules)
}

/// The header of a deadline is written on every request: not over one by which the router is told, or by which a message has
/// its length.
fn is_somebody_elses(header: &str) -> bool {
    router::CONTROL.contains(&header) || header == "content-length"
}

fn is_grpc_method(text: &str) -> bool {
    let mut parts = text.split('/');
    let empty_first = parts.next().is_some_and(str::is_empty);
    let named = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
    empty_first && named(parts.next()) && named(parts.next()) && parts.next().is_none()
}
