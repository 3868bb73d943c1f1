//! How a document describes switches.

use super::SwitchSpec;
use crate::degrade::fields::FALLBACK;
use crate::document::texts::NAME;
use crate::document::{Absence, Field, Kind, Names, Section, Table};
use crate::field;
use crate::limit::fields::Known;
use crate::operation::fields::{METHODS_OF, OPERATIONS, TIERS};

/// A switch.
pub static SWITCH: Table = Table {
    fields: &[
        field!("name", Kind::Text(&NAME), required, "its name; the reason is `switch/NAME`"),
        field!(
            "active",
            Kind::Bool,
            default Absence::Bool(false),
            "whether it is on. Its old spelling `on` is still read, and so is `true`, which YAML 1.1 makes of that key; a switch with both spellings is refused"
        ),
        Field { hidden: true, ..field!("on", Kind::Bool, else "`active`", "the old spelling of `active`") },
        Field { hidden: true, ..field!("true", Kind::Bool, else "`active`", "what YAML 1.1 makes of the key `on`") },
        OPERATIONS,
        TIERS,
        METHODS_OF,
        field!(
            "enforced",
            Kind::Bool,
            default Absence::Bool(true),
            "`false`: shadow mode, it counts what it would give up and gives up nothing"
        ),
        FALLBACK,
    ],
};

/// The switches of the document.
pub fn switches(document: &mut Section<'_>, known: Known<'_>) -> Vec<SwitchSpec> {
    Names::read(document, "switches", "a switch");
    let count = document.count("switches");
    let mut switches = Vec::with_capacity(count);
    for index in 0..count {
        switches.extend(document.entry("switches", index).and_then(|mut section| switch(&mut section, known)));
    }
    switches
}

fn switch(section: &mut Section<'_>, known: Known<'_>) -> Option<SwitchSpec> {
    let spellings = ["active", "on", "true"];
    if 1 < spellings.iter().filter(|it| section.has(it)).count() {
        let problem = "must not have both active and on, its old spelling (of which YAML makes true)";
        section.refuse("", format_args!("{problem}"));
    }
    let selection = known.operations.select(section);
    let fallback = known.fallbacks.resolve(section, "fallback");
    if !section.is_good() {
        return None;
    }
    let active = spellings.iter().any(|it| section.bool(it) == Some(true));
    Some(SwitchSpec { name: section.text("name")?, active, selection, enforced: section.bool("enforced")?, fallback })
}
