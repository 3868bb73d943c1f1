//! How a document describes retries and deadlines.

use crate::document::field::LEAVE_OUT;
use crate::document::texts::HEADER;
use crate::document::{Absence, Kind, ListType, Section, Table, TextType};
use crate::monitor::fields::{FAILURES, failures};
use crate::operation::fields::{Choice, METHODS_OF, OPERATIONS, TIERS};
use crate::retry::budget::{Budget, Unrepresentable};
use crate::retry::deadline::{DeadlineRule, GRPC, Reach};
use crate::retry::policy::{Conditions, GRPC_CONDITIONS, HTTP_CONDITIONS, Hedging, MAX_ATTEMPTS, RetryPolicy};
use crate::retry::router;
use crate::retry::rule::{DeadlineSpec, RetrySpec};
use crate::{field, text_type};

/// No timer of the proxy is set for longer than a day; in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// What is retried unless the rule says otherwise.
const DEFAULT_RETRY_ON: [&str; 4] = ["5xx", "reset", "connect-failure", "unavailable"];

/// A rule for retries.
pub static RETRY: Table = Table {
    fields: &[
        OPERATIONS,
        TIERS,
        METHODS_OF,
        FAILURES,
        field!(
            "max_attempts",
            Kind::Whole(1, MAX_ATTEMPTS),
            default Absence::Whole(2),
            "attempts for one request, the first included; 1 switches retries off"
        ),
        field!(
            "retry_on",
            Kind::List(&CONDITIONS),
            else "`5xx`, `reset`, `connect-failure`, `unavailable`",
            "what is retried, in the words of `x-envoy-retry-on`: `5xx`, `gateway-error`, `reset`, `reset-before-request`, `connect-failure`, `refused-stream`, `retriable-4xx`, and of `x-envoy-retry-grpc-on`: `cancelled`, `deadline-exceeded`, `internal`, `unavailable`"
        ),
        field!(
            "per_try_timeout",
            Kind::Span(1, DAY),
            else "the route's",
            "time for each attempt of a request that may be retried; below `timeout`"
        ),
        field!(
            "timeout",
            Kind::Span(1, DAY),
            else "the route's",
            "time for all attempts; of a request that [may become an event stream](deadlines.md), until its answer begins"
        ),
        field!(
            "idempotency_key",
            Kind::Text(&HEADER),
            else "none",
            "header by which the service knows a repetition; a request that carries it may be repeated whatever its method"
        ),
        field!(
            "grpc_methods",
            Kind::List(&GRPC_METHODS),
            else "none",
            "gRPC methods that may be repeated, as `/shop.Orders/Get`"
        ),
        field!(
            "max_body_bytes",
            Kind::Whole(0, 1_073_741_824),
            else "65536, and no body of unknown length",
            "the longest body, in bytes, of a request that may be retried: no more than the route keeps, see below"
        ),
        field!(
            "hedge",
            Kind::Bool,
            default Absence::Bool(false),
            "an attempt whose time is over goes on beside the next one, and the first answer wins; needs `per_try_timeout`"
        ),
        field!("budget", Kind::Object(&BUDGET), else "as below", "what pays for the retries"),
    ],
};

static BUDGET: Table = Table {
    fields: &[
        field!("ratio", Kind::Number(0.0, 1.0), default Absence::Number(0.1), "retries that each success pays for"),
        field!(
            "min_per_second",
            Kind::Number(0.0, 1000.0),
            default Absence::Number(1.0),
            "retries per second that are free, for the whole proxy"
        ),
        field!(
            "ttl",
            Kind::Span(1_000, 60_000),
            default Absence::Span(10_000),
            "for how long what was not used is kept"
        ),
    ],
};

static CONDITIONS: ListType = ListType { of: Kind::Text(&CONDITION), empty: Some(LEAVE_OUT) };

static CONDITION: TextType = text_type!(
    |text| {
        let rule = "must be one of 5xx, gateway-error, reset, reset-before-request, connect-failure, refused-stream, \
                    retriable-4xx, cancelled, deadline-exceeded, internal and unavailable";
        (!HTTP_CONDITIONS.contains(&text) && !GRPC_CONDITIONS.contains(&text)).then_some(rule)
    },
    "^(5xx|gateway-error|reset|reset-before-request|connect-failure|refused-stream|retriable-4xx|cancelled|deadline-exceeded|internal|unavailable)$"
);

static GRPC_METHODS: ListType = ListType { of: Kind::Text(&GRPC_METHOD), empty: Some(LEAVE_OUT) };

static GRPC_METHOD: TextType = text_type!(
    |text| {
        let mut parts = text.split('/');
        let empty_first = parts.next().is_some_and(str::is_empty);
        let named = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
        let is_method = empty_first && named(parts.next()) && named(parts.next()) && parts.next().is_none();
        (!is_method).then_some("must be a gRPC method such as \"/shop.Orders/Get\"")
    },
    "^/[^/]+/[^/]+$"
);

/// A rule for deadlines.
pub static DEADLINE: Table = Table {
    fields: &[
        OPERATIONS,
        TIERS,
        METHODS_OF,
        field!(
            "header",
            Kind::Text(&HEADER),
            else "none",
            "header that has the caller's remaining time in milliseconds"
        ),
        field!(
            "default",
            Kind::Span(1, DAY),
            else "none",
            "the time of a request that says nothing, and the most that one may ask for"
        ),
        field!(
            "cut_responses",
            Kind::Bool,
            default Absence::Bool(false),
            "break off an answer that has begun and is not complete by then"
        ),
    ],
};

/// The rules for retries of the document.
pub fn retries(document: &mut Section<'_>, operations: &Choice) -> Vec<RetrySpec> {
    let count = document.count("retries");
    let mut rules = Vec::with_capacity(count);
    for index in 0..count {
        rules.extend(document.entry("retries", index).and_then(|mut section| retry(&mut section, operations)));
    }
    rules
}

fn retry(section: &mut Section<'_>, operations: &Choice) -> Option<RetrySpec> {
    let selection = operations.select(section);
    let failures = failures(section, "failures");
    let (per_try_timeout, timeout) = (section.span("per_try_timeout"), section.span("timeout"));
    // An attempt that has as much time as all together has no time of its own: the router would ignore it.
    if let (Some(per_try), Some(timeout)) = (per_try_timeout, timeout)
        && timeout <= per_try
    {
        section.refuse("per_try_timeout", format_args!("{per_try:?}, must be below timeout"));
    }
    // A hedge is sent when the time for an attempt is over, so without such a time there is none.
    let hedge = section.bool("hedge")?;
    if hedge && !section.has("per_try_timeout") {
        section.refuse("hedge", format_args!("means nothing without per_try_timeout"));
    }
    let budget = budget(section);
    if !section.is_good() {
        return None;
    }
    let conditions = section.texts("retry_on");
    let retry_on = match conditions.is_empty() {
        true => Conditions::new(&DEFAULT_RETRY_ON),
        false => Conditions::new(&conditions),
    };
    let policy = RetryPolicy {
        max_attempts: section.whole("max_attempts")?,
        retry_on: retry_on.ok()?,
        per_try_timeout,
        timeout,
        idempotency_key: section.lower_text("idempotency_key"),
        grpc_methods: section.texts("grpc_methods"),
        max_body_bytes: section.whole("max_body_bytes"),
        hedging: if hedge { Hedging::On } else { Hedging::Off },
        budget: budget?,
    };
    Some(RetrySpec { selection, failures, policy })
}

/// What pays for retries: the defaults where the section says nothing.
fn budget(section: &mut Section<'_>) -> Option<Budget> {
    let Some(mut section) = section.enter("budget") else {
        return Budget::new(0.1, 1.0, std::time::Duration::from_secs(10)).ok();
    };
    let (ratio, per_second, ttl) = (section.number("ratio")?, section.number("min_per_second")?, section.span("ttl")?);
    match Budget::new(ratio, per_second, ttl) {
        Ok(budget) => Some(budget),
        Err(Unrepresentable::Nothing) => {
            section.refuse("", format_args!("must not have both ratio and min_per_second 0"));
            None
        }
        Err(Unrepresentable::Ratio | Unrepresentable::PerSecond | Unrepresentable::Ttl) => None,
    }
}

/// The rules for deadlines of the document.
pub fn deadlines(document: &mut Section<'_>, operations: &Choice) -> Vec<DeadlineSpec> {
    let count = document.count("deadlines");
    let mut rules = Vec::with_capacity(count);
    for index in 0..count {
        rules.extend(document.entry("deadlines", index).and_then(|mut section| deadline(&mut section, operations)));
    }
    rules
}

fn deadline(section: &mut Section<'_>, operations: &Choice) -> Option<DeadlineSpec> {
    let selection = operations.select(section);
    let header = section.lower_text("header");
    if let Some(header) = &header {
        // The header of a deadline is written on every request: not over one by which the router is told, or by which a message
        // has its length.
        let problem = match header.as_str() {
            GRPC => Some("is read anyway, and has no milliseconds"),
            it if router::CONTROL.contains(&it) || it == "content-length" => {
                Some("says something else than a deadline")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            section.refuse("header", format_args!("\"{header}\", {problem}"));
        }
    }
    if !section.is_good() {
        return None;
    }
    let reach = if section.bool("cut_responses")? { Reach::End } else { Reach::Beginning };
    Some(DeadlineSpec { selection, rule: DeadlineRule { header, default: section.span("default") }, reach })
}
