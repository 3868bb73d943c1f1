//! How a document describes what is shown of decisions, and which answers are failures.

use crate::document::field::LEAVE_OUT;
use crate::document::{Absence, Field, Kind, ListType, Section, Table, TextType};
use crate::monitor::failures::{self, Failures, NamesNone, Term};
use crate::monitor::settings::{AccessLog, Monitor, Outcomes, RateLimitHeaders};
use crate::{field, text_type};

/// What is shown of decisions.
pub static MONITOR: Table = Table {
    fields: &[
        field!(
            "access_log",
            Kind::BoolOr(&["decisions"]),
            default Absence::Bool(true),
            "set the fields of the [access log](../metrics.md#access-log). `\"decisions\"`: operation and tier only on requests that something happened to: refused, or would have been by a policy with `\"enforced\": false`; ended, answered or replaced by the filter; failed with 5xx, or retried. Where the proxy does not say in time that it was not (gRPC, and operations with a breaker or a rule for failures), whatever may be retried has them; with [exact retries](retries.md) a retry alone does not bring them. It spares all other requests two calls of the proxy. `false`: no fields at all"
        ),
        field!(
            "reason_header",
            Kind::Bool,
            default Absence::Bool(true),
            "send `x-outrigger-reason` with refusals and with what takes the place of failures"
        ),
        field!(
            "ratelimit_headers",
            Kind::Word(&["ietf", "x-ratelimit", "none"]),
            default Absence::Word("ietf"),
            "what goes with refusals: `ietf`: `RateLimit` and `RateLimit-Policy`; `x-ratelimit`: `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds); `none`"
        ),
        field!(
            "ratelimit_headers_on_success",
            Kind::Bool,
            default Absence::Bool(false),
            "send them with the responses to admitted requests too: of all enforced limits that applied, the strictest first. What the service itself says of its quotas is kept"
        ),
        field!(
            "outcomes",
            Kind::Bool,
            default Absence::Bool(true),
            "read the status of every response. `false` spares requests that no breaker and no rule for failures, retries or deadlines judges a call of the proxy; the metrics have them as `unknown`"
        ),
    ],
};

/// Which answers are failures, one of the fields that several policies have.
pub const FAILURES: Field = field!(
    "failures",
    Kind::List(&FAILURE_LIST),
    else "`[\"5xx\", \"!501\", \"!505\"]`",
    "which answers are [failures](breakers.md#what-counts): `\"5xx\"`, `\"4xx\"` or statuses from 400 to 599, and with `!` before it what is none, as `[\"5xx\", \"!503\"]` or `[\"429\"]`. The order does not matter"
);

/// Statuses that are failures.
pub static FAILURE_LIST: ListType = ListType { of: Kind::Text(&STATUS), empty: Some(LEAVE_OUT) };

static STATUS: TextType = text_type!(
    |text| {
        let rule = "must be \"5xx\", \"4xx\" or a status from 400 to 599, as \"!501\" if it is no failure";
        term(text).is_none().then_some(rule)
    },
    "^!?([45]xx|0*[45][0-9][0-9])$"
);

fn term(text: &str) -> Option<Term> {
    let (text, term): (_, fn(u16, u16) -> Term) = match text.strip_prefix('!') {
        Some(rest) => (rest, Term::Without),
        None => (text, Term::With),
    };
    let (first, last) = match text {
        "4xx" => (400, 499),
        "5xx" => (500, 599),
        one if one.starts_with('+') => return None,
        one => {
            let status = one.parse().ok().filter(|it| (failures::FIRST..=failures::LAST).contains(it))?;
            (status, status)
        }
    };
    Some(term(first, last))
}

/// The failures that the field names, or the default ones. Tells of a list that names none.
pub fn failures(section: &mut Section<'_>, field: &str) -> Failures {
    let terms: Vec<Term> = section.texts(field).iter().filter_map(|it| term(it)).collect();
    if terms.is_empty() {
        return Failures::default();
    }
    Failures::new(&terms).unwrap_or_else(|NamesNone| {
        section.refuse(field, format_args!("must name a failure, as \"5xx\" or \"503\""));
        Failures::default()
    })
}

/// What the document says is shown of decisions; the default where it says nothing.
pub fn monitor(document: &mut Section<'_>) -> Monitor {
    let section = document.enter("monitor");
    let flag = |name: &str, default| section.as_ref().and_then(|it| it.bool(name)).unwrap_or(default);
    Monitor {
        access_log: match section.as_ref().and_then(|it| it.word("access_log")) {
            Some(_) => AccessLog::Decisions,
            None if flag("access_log", true) => AccessLog::All,
            None => AccessLog::None,
        },
        reason_header: flag("reason_header", true),
        ratelimit_headers: match section.as_ref().and_then(|it| it.word("ratelimit_headers")) {
            Some("x-ratelimit") => RateLimitHeaders::XRateLimit,
            Some("none") => RateLimitHeaders::None,
            _ => RateLimitHeaders::Ietf,
        },
        ratelimit_headers_on_success: flag("ratelimit_headers_on_success", false),
        outcomes: if flag("outcomes", true) { Outcomes::All } else { Outcomes::AsNeeded },
    }
}
