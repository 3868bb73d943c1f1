//! How a document describes breakers.

use super::rule::BreakerSpec;
use super::{Breaker, Invalid, MAX_PROBES, Settings};
use crate::document::field::NO_MOST;
use crate::document::texts::{NAME, REFERENCE};
use crate::document::{Absence, Kind, Names, Section, Table};
use crate::field;
use crate::limit::fields::Known;
use crate::monitor::fields::{FAILURES, failures};
use crate::operation::fields::{METHODS_OF, OPERATIONS, TIERS};

/// A breaker.
pub static BREAKER: Table = Table {
    fields: &[
        field!("name", Kind::Text(&NAME), required, "its name; the reason is `breaker/NAME`"),
        OPERATIONS,
        TIERS,
        METHODS_OF,
        FAILURES,
        field!(
            "trip",
            Kind::Object(&TRIP),
            required,
            "when it trips: at least one of `consecutive_failures`, `failure_ratio` and `slow_ratio`"
        ),
        field!(
            "open_for",
            Kind::Span(1, NO_MOST),
            default Absence::Span(5_000),
            "how long it refuses everything after it tripped, at most 24h"
        ),
        field!(
            "max_open_for",
            Kind::Span(1, NO_MOST),
            else "`60s`, or `open_for` if that is longer",
            "each further trip doubles that, up to this; at least `open_for`, at most 24h"
        ),
        field!(
            "probes",
            Kind::Whole(1, MAX_PROBES as u32),
            default Absence::Whole(5),
            "how many requests must succeed before others may pass"
        ),
        field!(
            "enforced",
            Kind::Bool,
            default Absence::Bool(true),
            "`false`: [shadow mode](breakers.md#shadow-mode), it refuses nothing"
        ),
        field!(
            "fallback",
            Kind::Text(&REFERENCE),
            else "what [`on_failure`](failures.md) has for the request: the kept answer, else its fallback; without such a rule, 503",
            "the name of the reply to give"
        ),
    ],
};

static TRIP: Table = Table {
    fields: &[
        field!(
            "consecutive_failures",
            Kind::Whole(1, 1_000_000),
            else "never for that",
            "trips after so many failures with no success between them"
        ),
        field!("failure_ratio", Kind::Ratio, else "never for that", "trips when this share fails"),
        field!("slow_ratio", Kind::Ratio, else "never for that", "trips when this share is slow; needs `slow_after`"),
        field!(
            "slow_after",
            Kind::Span(1, NO_MOST),
            else "no request is slow",
            "a request is slow whose response headers take longer than this, from its end on, at most 24h; it is slow from then on, not only when it ends"
        ),
        field!(
            "min_requests",
            Kind::Whole(1, 1_000_000),
            default Absence::Whole(20),
            "ratios of fewer requests are not judged"
        ),
        field!(
            "window",
            Kind::Span(1, NO_MOST),
            default Absence::Span(10_000),
            "the time over which ratios are judged, and after which a run of failures is forgotten, 1s to 24h"
        ),
    ],
};

/// The breakers of the document.
pub fn breakers(document: &mut Section<'_>, known: Known<'_>) -> Vec<BreakerSpec> {
    Names::read(document, "breakers", "a breaker");
    let count = document.count("breakers");
    let mut breakers = Vec::with_capacity(count);
    for index in 0..count {
        breakers.extend(document.entry("breakers", index).and_then(|mut section| breaker(&mut section, known)));
    }
    breakers
}

fn breaker(section: &mut Section<'_>, known: Known<'_>) -> Option<BreakerSpec> {
    let selection = known.operations.select(section);
    let failures = failures(section, "failures");
    let fallback = known.fallbacks.resolve(section, "fallback");
    let breaker = section.is_good().then(|| machine(section)).flatten();
    Some(BreakerSpec {
        name: section.text("name")?,
        selection,
        failures,
        breaker: breaker?,
        enforced: section.bool("enforced")?,
        fallback,
    })
}

fn machine(section: &mut Section<'_>) -> Option<Breaker> {
    let defaults = Settings::default();
    let open_for = section.span("open_for")?;
    let max_open_for = section.span("max_open_for").unwrap_or(defaults.max_open_for.max(open_for));
    let probes = section.whole("probes")?;
    let mut trip = section.enter("trip")?;
    if !["consecutive_failures", "failure_ratio", "slow_ratio"].iter().any(|it| trip.has(it)) {
        let problem = "must have at least one of consecutive_failures, failure_ratio and slow_ratio";
        trip.refuse("", format_args!("{problem}"));
        return None;
    }
    let settings = Settings {
        consecutive_failures: trip.whole("consecutive_failures"),
        failure_ratio: trip.number("failure_ratio"),
        slow_ratio: trip.number("slow_ratio"),
        slow_after: trip.span("slow_after"),
        min_requests: trip.whole("min_requests")?,
        window: trip.span("window")?,
        open_for,
        max_open_for,
        probes,
    };
    match Breaker::new(&settings) {
        Ok(breaker) => Some(breaker),
        Err(Invalid { setting, rule }) => {
            match setting.strip_prefix("trip.") {
                Some(setting) => trip.refuse(setting, format_args!("must {rule}")),
                None => section.refuse(setting, format_args!("must {rule}")),
            }
            None
        }
    }
}
