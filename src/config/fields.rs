//! The document as a whole: its table, and how its parts become one configuration.

use super::Config;
use crate::degrade::breaker::fields::{BREAKER, breakers};
use crate::degrade::failure::fields::{ON_FAILURE, on_failure};
use crate::degrade::switch::fields::{SWITCH, switches};
use crate::document::check::check;
use crate::document::place::Place;
use crate::document::texts::NAME;
use crate::document::{Absence, ConfigError, ConfigErrors, Kind, ListType, Names, Section, Table, TextType, json};
use crate::field;
use crate::limit::fields::{CLIENT_IP, Known, LIMIT, client_ip, limits};
use crate::monitor::fields::{MONITOR, monitor};
use crate::operation::Operation;
use crate::operation::fields::{Choice, OPERATION, operations};
use crate::reply::fallback::fields::{FALLBACK, fallbacks};
use crate::retry::fields::{DEADLINE, RETRY, deadlines, retries};
use crate::retry::register::Placement;

/// The longest document, in bytes: 8 MiB. Ten thousand operations and limits take less than half of it.
pub const MOST_BYTES: usize = 8 << 20;

/// The document.
pub static DOCUMENT: Table = Table {
    fields: &[
        field!("version", Kind::Text(&VERSION), else "none", "a name of yours for this document, shown in metrics"),
        field!(
            "scope",
            Kind::Text(&NAME),
            else "the plugin's root id, its name if that is another, and the direction of the traffic",
            "name under which state is kept, and a label of metrics; limits of the same scope and name share their state. Naming one also spares each request a call of the proxy"
        ),
        field!(
            "placement",
            Kind::Word(&["downstream", "upstream"]),
            default Absence::Word("downstream"),
            "`downstream`: before the router; `upstream`: behind it, where retries are paid for [one by one](retries.md)"
        ),
        field!("client_ip", Kind::Object(&CLIENT_IP), else "the peer's address", "how a client's address is found, see [keys](requests.md#keys)"),
        field!("operations", Kind::List(&OPERATIONS), else "none", "what kinds of requests there are, see [operations](requests.md#operations)"),
        field!("limits", Kind::List(&LIMITS), else "none", "how much is let through, see [limits](limits.md)"),
        field!("fallbacks", Kind::List(&FALLBACKS), else "none", "prepared replies, see [fallbacks](fallbacks.md)"),
        field!(
            "switches",
            Kind::List(&SWITCHES),
            else "none",
            "what people have decided to give up, see [switches](switches.md)"
        ),
        field!(
            "breakers",
            Kind::List(&BREAKERS),
            else "none",
            "when to stop asking a service that fails, see [breakers](breakers.md)"
        ),
        field!(
            "on_failure",
            Kind::List(&ON_FAILURES),
            else "none",
            "what takes the place of a failure, see [on failure](failures.md)"
        ),
        field!("retries", Kind::List(&RETRIES), else "none", "what may be retried, and how often, see [retries](retries.md)"),
        field!("deadlines", Kind::List(&DEADLINES), else "none", "how much time a request has, see [deadlines](deadlines.md)"),
        field!("monitor", Kind::Object(&MONITOR), else "all of it", "what is shown of decisions, see [monitor](monitor.md)"),
    ],
};

static OPERATIONS: ListType = ListType { of: Kind::Object(&OPERATION), empty: None };
static LIMITS: ListType = ListType { of: Kind::Object(&LIMIT), empty: None };
static FALLBACKS: ListType = ListType { of: Kind::Object(&FALLBACK), empty: None };
static SWITCHES: ListType = ListType { of: Kind::Object(&SWITCH), empty: None };
static BREAKERS: ListType = ListType { of: Kind::Object(&BREAKER), empty: None };
static ON_FAILURES: ListType = ListType { of: Kind::Object(&ON_FAILURE), empty: None };
static RETRIES: ListType = ListType { of: Kind::Object(&RETRY), empty: None };
static DEADLINES: ListType = ListType { of: Kind::Object(&DEADLINE), empty: None };

/// What versions are made of. It becomes the label of a metric. A version is shown and compared with nothing, so that it does no harm
/// if `1.10` was written and a reader of YAML made 1.1 of it.
static VERSION: TextType = TextType {
    check: |text| {
        let good = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.:/+@".contains(&it));
        let is_version = good && !text.is_empty() && text.len() <= 63;
        (!is_version).then_some("must be 1 to 63 letters, digits and characters of -_.:/+@")
    },
    takes_fractions: true,
    #[cfg(not(target_arch = "wasm32"))]
    pattern: "^[A-Za-z0-9_.:/+@-]{1,63}$",
};

const NOT_JSON: &str = "the configuration must be a JSON object; in Envoy's own configuration that is a \
                        google.protobuf.StringValue that holds JSON text (a google.protobuf.Struct reaches filters as \
                        protobuf bytes)";

/// Control characters, which JSON text never contains and a serialised `Struct` always does.
fn is_binary(byte: &u8) -> bool {
    *byte < b' ' && !byte.is_ascii_whitespace()
}

/// Reads a configuration.
pub(super) fn read(bytes: &[u8]) -> Result<Config, ConfigErrors> {
    if MOST_BYTES < bytes.len() {
        let problem = format!("{} bytes, must be at most {MOST_BYTES} (8 MiB)", bytes.len());
        return Err(ConfigError::at("", problem).into());
    }
    let text = match bytes {
        blank if blank.trim_ascii().is_empty() => b"{}",
        text => text,
    };
    if !text.trim_ascii_start().starts_with(b"{") || text.iter().any(is_binary) {
        return Err(ConfigError::at("", NOT_JSON).into());
    }
    let mut root = json::parse(text)?;
    let mut errors = ConfigErrors::default();
    check(&mut root, &Kind::Object(&DOCUMENT), &Place::ROOT, &mut errors);
    let config = compose(&mut Section::root(&root, &DOCUMENT, &mut errors));
    if errors.count() != 0 {
        return Err(errors);
    }
    Ok(match config.placement {
        Placement::Downstream => config,
        Placement::Upstream => without_policies(config),
    })
}

/// Reads the parts: first what others refer to.
fn compose(document: &mut Section<'_>) -> Config {
    let client_ip = client_ip(document);
    let operations = operations(document);
    let fallbacks = fallbacks(document);
    let choice = Choice::new(document, &operations);
    let names = Names::read(document, "fallbacks", "a fallback");
    let known = Known { operations: &choice, fallbacks: &names, client_ip: &client_ip };
    Config {
        version: document.text("version"),
        placement: match document.word("placement") {
            Some("upstream") => Placement::Upstream,
            _ => Placement::Downstream,
        },
        scope: document.text("scope"),
        limits: limits(document, known),
        switches: switches(document, known),
        breakers: breakers(document, known),
        on_failure: on_failure(document, known),
        retries: retries(document, &choice),
        deadlines: deadlines(document, &choice),
        monitor: monitor(document),
        operations,
        fallbacks,
    }
}

/// What of a configuration has a meaning for single attempts.
fn without_policies(config: Config) -> Config {
    Config {
        operations: vec![Operation::other()],
        limits: Vec::new(),
        switches: Vec::new(),
        breakers: Vec::new(),
        on_failure: Vec::new(),
        retries: Vec::new(),
        deadlines: Vec::new(),
        fallbacks: Vec::new(),
        ..config
    }
}
