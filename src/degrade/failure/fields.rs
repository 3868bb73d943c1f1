//! How a document describes what takes the place of failures.

use super::FailureSpec;
use crate::degrade::stale::fields::{STALE, stale};
use crate::document::texts::REFERENCE;
use crate::document::{Kind, Section, Table};
use crate::field;
use crate::limit::fields::Known;
use crate::monitor::fields::{FAILURE_LIST, FAILURES, failures};
use crate::operation::fields::{METHODS_OF, OPERATIONS, TIERS};

/// A rule for failures.
pub static ON_FAILURE: Table = Table {
    fields: &[
        OPERATIONS,
        TIERS,
        METHODS_OF,
        FAILURES,
        field!("statuses", Kind::List(&FAILURE_LIST), else "`failures`", "another name for `failures`; not beside it"),
        field!("stale", Kind::Object(&STALE), else "nothing is kept", "keep good answers and serve the last one, see below"),
        field!(
            "fallback",
            Kind::Text(&REFERENCE),
            else "the failure passes",
            "the name of the reply to give if no answer is kept"
        ),
    ],
};

/// The rules for failures of the document.
pub fn on_failure(document: &mut Section<'_>, known: Known<'_>) -> Vec<FailureSpec> {
    let count = document.count("on_failure");
    let mut rules = Vec::with_capacity(count);
    for index in 0..count {
        rules.extend(document.entry("on_failure", index).and_then(|mut section| rule(&mut section, known)));
    }
    rules
}

fn rule(section: &mut Section<'_>, known: Known<'_>) -> Option<FailureSpec> {
    if section.is_as_described() && !section.has("stale") && !section.has("fallback") {
        section.refuse("", format_args!("must have at least one of stale and fallback"));
    }
    if section.has("failures") && section.has("statuses") {
        section.refuse("statuses", format_args!("must not be given beside failures, which means the same"));
    }
    let word = if section.has("statuses") { "statuses" } else { "failures" };
    let failures = failures(section, word);
    let selection = known.operations.select(section);
    let fallback = known.fallbacks.resolve(section, "fallback");
    let stale = section.enter("stale").map(|section| stale(&section, known.client_ip));
    if !section.is_good() {
        return None;
    }
    Some(FailureSpec { selection, failures, stale: stale.flatten(), fallback })
}
