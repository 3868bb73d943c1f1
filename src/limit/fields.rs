//! How a document describes limits, the keys by which they count, and how a client's address is found.

use crate::document::field::NO_MOST;
use crate::document::texts::{HEADER, HOST, NAME, REFERENCE, is_token};
use crate::document::{Absence, Kind, ListType, Names, Section, Table, TextType};
use crate::limit::concurrency::Concurrency;
use crate::limit::cost::Cost;
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::policy::Policy;
use crate::limit::rule::LimitSpec;
use crate::limit::token_bucket::{TokenBucket, Unrepresentable};
use crate::limit::window::Window;
use crate::operation::client_ip::ClientIp;
use crate::operation::fields::{Choice, METHODS_OF, OPERATIONS, TIERS};
use crate::operation::key::{KeyPart, KeySpec, Missing};
use crate::shared::failure_mode::FailureMode;
use crate::{field, text_type};

/// The largest size, rate and cost of a bucket.
const MAX_TOKENS: u32 = 1_000_000_000;

/// A limit.
pub static LIMIT: Table = Table {
    fields: &[
        field!("name", Kind::Text(&NAME), required, "its name; a refusal's reason is `limit/NAME`"),
        OPERATIONS,
        TIERS,
        METHODS_OF,
        field!("key", Kind::List(&KEY), else "all requests together", "what is counted apart, see [keys](requests.md#keys)"),
        field!(
            "max_keys",
            Kind::Whole(1, 1_048_576),
            default Absence::Whole(4096),
            "how many keys are kept apart; only with `key`"
        ),
        field!(
            "missing",
            Kind::Word(&["shared", "skip"]),
            default Absence::Word("shared"),
            "a request that lacks a part of the key: `shared` counts all such requests together, `skip` leaves them to the other limits; only with `key`. [Preflights](requests.md#preflights) that lack a header or cookie are always left to the others"
        ),
        field!("token_bucket", Kind::Object(&TOKEN_BUCKET), else "one of the four kinds is required", "counts by a bucket of tokens, see below"),
        field!("leaky_bucket", Kind::Object(&LEAKY_BUCKET), else "one of the four kinds is required", "lets requests go on at a constant rate, see below"),
        field!("window", Kind::Object(&WINDOW), else "one of the four kinds is required", "counts requests of the time just past, see below"),
        field!("concurrency", Kind::Object(&CONCURRENCY), else "one of the four kinds is required", "counts requests in flight, see below"),
        field!(
            "cost",
            Kind::WholeOr(1, MAX_TOKENS, &COST),
            default Absence::Whole(1),
            "what a request takes: a number up to what the limit ever admits, or `header:NAME` to read it there"
        ),
        field!("enforced", Kind::Bool, default Absence::Bool(true), "`false`: shadow mode, see below"),
        field!(
            "fallback",
            Kind::Text(&REFERENCE),
            else "the standard refusal",
            "the name of the reply to give instead of the standard one"
        ),
        field!(
            "failure_mode",
            Kind::Word(&["allow", "deny"]),
            default Absence::Word("allow"),
            "`allow` or `deny` when the limit's state cannot be used, see [when things go wrong](../operations.md#when-things-go-wrong)"
        ),
    ],
};

static TOKEN_BUCKET: Table = Table {
    fields: &[
        field!("max_tokens", Kind::Whole(1, MAX_TOKENS), required, "so many at once"),
        field!("tokens_per_fill", Kind::Whole(1, MAX_TOKENS), required, "so many more per `fill_interval`"),
        field!(
            "fill_interval",
            Kind::Span(1, NO_MOST),
            required,
            "the time over which `tokens_per_fill` come, evenly spread"
        ),
    ],
};

static LEAKY_BUCKET: Table = Table {
    fields: &[
        field!("capacity", Kind::Whole(0, 1_000_000), required, "so many may wait"),
        field!("drain", Kind::Whole(1, MAX_TOKENS), required, "so many leave per `drain_interval`"),
        field!("drain_interval", Kind::Span(1, NO_MOST), required, "the time over which `drain` leave, evenly spaced"),
    ],
};

static WINDOW: Table = Table {
    fields: &[
        field!("max_requests", Kind::Whole(1, MAX_TOKENS), required, "so many in any interval, however it is laid"),
        field!("interval", Kind::Span(1, NO_MOST), required, "the length of the interval, at most 366 days"),
    ],
};

static CONCURRENCY: Table = Table {
    fields: &[
        field!(
            "max_in_flight",
            Kind::Whole(1, 1_000_000),
            required,
            "never more than so many in flight at once, but for those that have lasted longer than `max_hold`"
        ),
        field!("max_hold", Kind::Span(1, NO_MOST), else "until it ends", "for how long a request counts at most"),
    ],
};

static COST: TextType = text_type!(
    |text| match text.strip_prefix("header:") {
        Some(name) if is_token(name) && !name.eq_ignore_ascii_case(HOST) => None,
        _ => Some("must be a number or \"header:NAME\""),
    },
    "^header:[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
);

/// How a client's address is found.
pub static CLIENT_IP: Table = Table {
    fields: &[
        field!(
            "header",
            Kind::Text(&HEADER),
            else "`x-forwarded-for`",
            "where proxies append the address that they were called from; only with `trusted_hops`. `x-real-ip` and the like, which hold one address, are a list of one. Not `forwarded`, whose form is another"
        ),
        field!(
            "trusted_hops",
            Kind::Whole(0, 32),
            else "0: the peer",
            "how many proxies append to it and are believed, **this one included** if it has `use_remote_address`: with `1` the address is the last entry, with `2` the last but one, and so on. So it is **one more** than Envoy's `xff_num_trusted_hops` or Istio's `numTrustedProxies`, see [client address](requests.md#client-address). With fewer entries than that it is the peer's, which is [warned of](../operations.md#warnings)"
        ),
        field!(
            "ipv6_prefix",
            Kind::Whole(1, 128),
            default Absence::Whole(64),
            "leading bits of an IPv6 address that count"
        ),
    ],
};

/// A key.
pub static KEY: ListType = ListType {
    of: Kind::Text(&KEY_PART),
    empty: Some("must not be empty (leave it out to count all requests together)"),
};

static KEY_PART: TextType = text_type!(
    |text| match (key_part(text), text.split_once(':')) {
        (_, Some(("header", name))) if name.eq_ignore_ascii_case(HOST) => {
            Some("must be \"host\": Envoy keeps no header of that name")
        }
        (Some(_), _) => None,
        (None, _) => Some("must be client_ip, method, path, host, operation, header:NAME, cookie:NAME or query:NAME"),
    },
    "^(client_ip|method|path|host|operation|(header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+|query:[\\s\\S]+)$"
);

fn key_part(text: &str) -> Option<KeyPart> {
    match (text, text.split_once(':')) {
        ("client_ip", _) => Some(KeyPart::ClientIp),
        ("method", _) => Some(KeyPart::Method),
        ("path", _) => Some(KeyPart::Path),
        ("host", _) => Some(KeyPart::Host),
        ("operation", _) => Some(KeyPart::Operation),
        (_, Some(("header", name))) if is_token(name) => Some(KeyPart::Header(name.to_ascii_lowercase())),
        (_, Some(("cookie", name))) if is_token(name) => Some(KeyPart::Cookie(name.to_owned())),
        (_, Some(("query", name))) if !name.is_empty() => Some(KeyPart::Query(name.to_owned())),
        _ => None,
    }
}

/// The parts of the key of a section; none if it has no key.
pub fn key_parts(section: &Section<'_>) -> Vec<KeyPart> {
    section.texts("key").iter().filter_map(|it| key_part(it)).collect()
}

/// How RFC 7239 writes addresses, which is not read.
const FORWARDED: &str = "forwarded";

/// How the document says that a client's address is found.
pub fn client_ip(document: &mut Section<'_>) -> ClientIp {
    let mut client_ip = ClientIp::default();
    let Some(mut section) = document.enter("client_ip") else {
        return client_ip;
    };
    if let Some(header) = section.lower_text("header") {
        if !section.has("trusted_hops") {
            section.refuse("header", format_args!("\"{header}\", means nothing without trusted_hops"));
        } else if header == FORWARDED {
            let rule = "must be a list of addresses such as x-forwarded-for; the form of RFC 7239 is not read";
            section.refuse("header", format_args!("\"{header}\", {rule}"));
        }
        client_ip.header = header;
    }
    client_ip.trusted_hops = section.whole("trusted_hops").unwrap_or(0) as usize;
    client_ip.ipv6_prefix = section.whole("ipv6_prefix").and_then(|it| u8::try_from(it).ok()).unwrap_or(64);
    client_ip
}

/// What limits refer to.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// The operations.
    pub operations: &'k Choice,
    /// The fallbacks.
    pub fallbacks: &'k Names,
    /// How a client's address is found.
    pub client_ip: &'k ClientIp,
}

/// The limits of the document.
pub fn limits(document: &mut Section<'_>, known: Known<'_>) -> Vec<LimitSpec> {
    Names::read(document, "limits", "a limit");
    let count = document.count("limits");
    let mut limits = Vec::with_capacity(count);
    for index in 0..count {
        limits.extend(document.entry("limits", index).and_then(|mut section| limit(&mut section, known)));
    }
    limits
}

fn limit(section: &mut Section<'_>, known: Known<'_>) -> Option<LimitSpec> {
    let selection = known.operations.select(section);
    let fallback = known.fallbacks.resolve(section, "fallback");
    let key = key(section, known.client_ip);
    let policy = policy(section);
    let cost = cost(section, policy.as_ref());
    if !section.is_good() {
        return None;
    }
    Some(LimitSpec {
        name: section.text("name")?,
        selection,
        key,
        max_keys: section.whole("max_keys")?,
        policy: policy?,
        cost: cost?,
        enforced: section.bool("enforced")?,
        fallback,
        failure_mode: match section.word("failure_mode") {
            Some("deny") => FailureMode::Deny,
            _ => FailureMode::Allow,
        },
    })
}

fn key(section: &mut Section<'_>, client_ip: &ClientIp) -> Option<KeySpec> {
    if !section.has("key") {
        for field in ["max_keys", "missing"] {
            if section.has(field) {
                section.refuse(field, format_args!("means nothing without a key"));
            }
        }
        return None;
    }
    let missing = match section.word("missing") {
        Some("skip") => Missing::Skip,
        _ => Missing::Shared,
    };
    Some(KeySpec { parts: key_parts(section), missing, client_ip: client_ip.clone() })
}

/// Exactly one of the four.
fn policy(section: &mut Section<'_>) -> Option<Policy> {
    const KINDS: [&str; 4] = ["token_bucket", "leaky_bucket", "window", "concurrency"];
    if KINDS.iter().filter(|it| section.has(it)).count() != 1 {
        if section.is_as_described() {
            let rule = "must have exactly one of token_bucket, leaky_bucket, window and concurrency";
            section.refuse("", format_args!("{rule}"));
        }
        return None;
    }
    if let Some(mut section) = section.enter("token_bucket") {
        return token_bucket(&mut section).map(Policy::TokenBucket);
    }
    if let Some(mut section) = section.enter("leaky_bucket") {
        return leaky_bucket(&mut section).map(Policy::LeakyBucket);
    }
    if let Some(mut section) = section.enter("window") {
        return window(&mut section).map(Policy::Window);
    }
    let section = section.enter("concurrency")?;
    Some(Policy::Concurrency(Concurrency {
        max_in_flight: section.whole("max_in_flight")?,
        max_hold: section.span("max_hold"),
    }))
}

fn token_bucket(section: &mut Section<'_>) -> Option<TokenBucket> {
    let size = section.whole("max_tokens")?;
    let added = section.whole("tokens_per_fill")?;
    let interval = section.span("fill_interval")?;
    match TokenBucket::new(size, added, interval) {
        Ok(bucket) => return Some(bucket),
        Err(Unrepresentable::TooSlow) => {
            section.refuse("", format_args!("{size} tokens at {added} per {interval:?}, must fill within 366 days"));
        }
        Err(Unrepresentable::TooFast) => {
            let rule = "must not get more than 1000000000 tokens per second";
            section.refuse("", format_args!("{added} tokens per {interval:?}, {rule}"));
        }
        Err(Unrepresentable::Zero) => section.refuse("", format_args!("must hold and get tokens")),
    }
    None
}

fn leaky_bucket(section: &mut Section<'_>) -> Option<LeakyBucket> {
    let capacity = section.whole("capacity")?;
    let drain = section.whole("drain")?;
    let interval = section.span("drain_interval")?;
    let bucket = LeakyBucket::new(capacity, drain, interval);
    if bucket.is_none() {
        let rule = "must release at most 1000000000 a second, and the last one that waits within an hour";
        section.refuse("", format_args!("{capacity} waiting at {drain} per {interval:?}, {rule}"));
    }
    bucket
}

fn window(section: &mut Section<'_>) -> Option<Window> {
    let max_requests = section.whole("max_requests")?;
    let interval = section.span("interval")?;
    let window = Window::new(max_requests, interval);
    if window.is_none() {
        section.refuse("interval", format_args!("{interval:?}, must be at most 366 days"));
    }
    window
}

/// What a request takes: no more than the limit ever admits.
fn cost(section: &mut Section<'_>, policy: Option<&Policy>) -> Option<Cost> {
    if let Some(name) = section.lower_text("cost")
        && let Some(name) = name.strip_prefix("header:")
    {
        return Some(Cost::Header(name.to_owned()));
    }
    let tokens = u64::from(section.whole("cost")?);
    if let Some(most) = policy.map(Policy::max_cost)
        && most < tokens
    {
        section.refuse("cost", format_args!("{tokens}, must be at most what the limit ever admits ({most})"));
    }
    Some(Cost::Fixed(tokens))
}
