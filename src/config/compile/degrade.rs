//! Switches, breakers and what takes the place of failures.

use super::{Known, Names, list};
use crate::config::document;
use crate::config::error::ConfigError;
use crate::degrade::failure::{FailureSpec, Statuses};
use crate::degrade::switch::SwitchSpec;

pub(super) fn switches(given: Vec<document::Switch>, known: &Known<'_>) -> Result<Vec<SwitchSpec>, ConfigError> {
    let mut names = Names::new("switches");
    let mut switches = Vec::with_capacity(given.len());
    for (index, switch) in given.into_iter().enumerate() {
        names.add(index, &switch.name.0)?;
        let path = format!("switches[{index}]");
        switches.push(SwitchSpec {
            selection: known.select(switch.operations, switch.tiers, switch.methods, &path)?,
            fallback: known.fallback(switch.fallback, &path)?,
            on: switch.on.unwrap_or(false),
            name: switch.name.0,
        });
    }
    Ok(switches)
}

pub(super) fn on_failure(given: Vec<document::OnFailure>, known: &Known<'_>) -> Result<Vec<FailureSpec>, ConfigError> {
    let mut rules = Vec::with_capacity(given.len());
    for (index, rule) in given.into_iter().enumerate() {
        let path = format!("on_failure[{index}]");
        if rule.stale.is_none() && rule.fallback.is_none() {
            return Err(ConfigError::at(path, "must have at least one of stale and fallback"));
        }
        let statuses = match rule.statuses {
            None => vec![Statuses::All],
            some => list(some).into_iter().map(|it| it.0).collect(),
        };
        rules.push(FailureSpec {
            selection: known.select(rule.operations, rule.tiers, rule.methods, &path)?,
            statuses,
            fallback: known.fallback(rule.fallback, &path)?,
        });
    }
    Ok(rules)
}
