//! Switches, breakers and what takes the place of failures.

use super::{Known, Names, failures};
use crate::config::document;
use crate::config::error::ConfigError;
use crate::degrade::breaker::rule::BreakerSpec;
use crate::degrade::breaker::{Breaker, Invalid, Settings};
use crate::degrade::failure::FailureSpec;
use crate::degrade::stale::{self, IgnoredCookies};
use crate::degrade::switch::SwitchSpec;

#[inline(never)]
pub(super) fn switches(given: Vec<document::Switch>, known: &Known<'_>) -> Result<Vec<SwitchSpec>, ConfigError> {
    let mut names = Names::new("switches");
    let mut switches = Vec::with_capacity(given.len());
    for (index, switch) in given.into_iter().enumerate() {
        names.add(index, &switch.name.0)?;
        let path = format!("switches[{index}]");
        let active = is_active(&switch, &path)?;
        switches.push(SwitchSpec {
            selection: known.select(switch.operations, switch.tiers, switch.methods, &path)?,
            enforced: switch.enforced.unwrap_or(true),
            fallback: known.fallback(switch.fallback, &path)?,
            active,
            name: switch.name.0,
        });
    }
    Ok(switches)
}

fn is_active(switch: &document::Switch, path: &str) -> Result<bool, ConfigError> {
    match (switch.active, switch.on) {
        (Some(_), Some(_)) => {
            let problem = "must not have both active and on, its old spelling (of which YAML makes true)";
            Err(ConfigError::at(path, problem))
        }
        (given, None) | (None, given) => Ok(given.unwrap_or(false)),
    }
}

#[inline(never)]
pub(super) fn breakers(given: Vec<document::Breaker>, known: &Known<'_>) -> Result<Vec<BreakerSpec>, ConfigError> {
    let mut names = Names::new("breakers");
    let mut breakers = Vec::with_capacity(given.len());
    for (index, breaker) in given.into_iter().enumerate() {
        names.add(index, &breaker.name.0)?;
        let path = format!("breakers[{index}]");
        breakers.push(BreakerSpec {
            breaker: self::breaker(&breaker, &path)?,
            failures: failures(breaker.failures, || format!("{path}.failures"))?,
            selection: known.select(breaker.operations, breaker.tiers, breaker.methods, &path)?,
            enforced: breaker.enforced.unwrap_or(true),
            fallback: known.fallback(breaker.fallback, &path)?,
            name: breaker.name.0,
        });
    }
    Ok(breakers)
}

fn breaker(given: &document::Breaker, path: &str) -> Result<Breaker, ConfigError> {
    let trip = &given.trip;
    let defaults = Settings::default();
    if trip.consecutive_failures.is_none() && trip.failure_ratio.is_none() && trip.slow_ratio.is_none() {
        let problem = "must have at least one of consecutive_failures, failure_ratio and slow_ratio";
        return Err(ConfigError::at(format!("{path}.trip"), problem));
    }
    let open_for = given.open_for.map_or(defaults.open_for, |it| it.0);
    let settings = Settings {
        consecutive_failures: trip.consecutive_failures.map(|it| it.0),
        failure_ratio: trip.failure_ratio.map(|it| it.0),
        slow_ratio: trip.slow_ratio.map(|it| it.0),
        slow_after: trip.slow_after.map(|it| it.0),
        min_requests: trip.min_requests.map_or(defaults.min_requests, |it| it.0),
        window: trip.window.map_or(defaults.window, |it| it.0),
        open_for,
        max_open_for: given.max_open_for.map_or(defaults.max_open_for.max(open_for), |it| it.0),
        probes: given.probes.map_or(defaults.probes, |it| it.0),
    };
    Breaker::new(&settings)
        .map_err(|Invalid { setting, rule }| ConfigError::at(format!("{path}.{setting}"), format!("must {rule}")))
}

#[inline(never)]
pub(super) fn on_failure(given: Vec<document::OnFailure>, known: &Known<'_>) -> Result<Vec<FailureSpec>, ConfigError> {
    let mut rules = Vec::with_capacity(given.len());
    for (index, rule) in given.into_iter().enumerate() {
        let path = format!("on_failure[{index}]");
        if rule.stale.is_none() && rule.fallback.is_none() {
            return Err(ConfigError::at(path, "must have at least one of stale and fallback"));
        }
        let (given, word) = match (rule.failures, rule.statuses) {
            (Some(_), Some(_)) => {
                let problem = "must not be given beside failures, which means the same";
                return Err(ConfigError::at(format!("{path}.statuses"), problem));
            }
            (None, Some(statuses)) => (Some(statuses), "statuses"),
            (failures, None) => (failures, "failures"),
        };
        let failures = failures(given, || format!("{path}.{word}"))?;
        rules.push(FailureSpec {
            selection: known.select(rule.operations, rule.tiers, rule.methods, &path)?,
            failures,
            stale: rule.stale.map(|stale| self::stale(stale, known)),
            fallback: known.fallback(rule.fallback, &path)?,
        });
    }
    Ok(rules)
}

/// What is kept unless the rule says otherwise: a mebibyte.
const DEFAULT_MAX_BYTES: u32 = 1 << 20;

fn stale(given: document::Stale, known: &Known<'_>) -> stale::Spec {
    stale::Spec {
        max_age: given.max_age.0,
        max_bytes: given.max_bytes.map_or(DEFAULT_MAX_BYTES, |it| it.0),
        assume_fresh: given.assume_fresh.map(|it| it.0),
        ignore_cookies: IgnoredCookies::new(
            given.ignore_cookies.unwrap_or_default().into_iter().map(|it| it.0).collect(),
        ),
        key: given.key.map(|it| it.0).unwrap_or_default().into_iter().map(|it| it.0).collect(),
        client_ip: known.client_ip.clone(),
    }
}
