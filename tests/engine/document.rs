//! The reading kit: JSON against another reader of it, numbers, durations.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use outrigger::document::node::{Node, Value};
use outrigger::document::{duration, json, number};
use serde_json::Value as Json;

use crate::common::Random;

/// The tree as serde_json has it. Numbers are compared apart.
fn same(node: &Node<'_>, json: &Json) -> bool {
    match (&node.value, json) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(one), Json::Bool(other)) => one == other,
        (Value::Text(one), Json::String(other)) => one == other,
        (Value::Number, Json::Number(other)) => near(number::double(node.raw), other.as_f64().unwrap(), 16),
        (Value::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Json::Object(other)) => {
            // serde_json keeps the last of those given twice.
            let last = |name: &str| one.iter().rev().find(|it| it.name == name);
            other.iter().all(|(name, json)| last(name).is_some_and(|it| same(&it.node, json)))
                && one.iter().all(|it| other.contains_key(&*it.name))
        }
        _ => false,
    }
}

/// The same double, or one of so many beside it.
fn near(one: f64, other: f64, units: u64) -> bool {
    one == other
        || (one.is_sign_negative() == other.is_sign_negative() && one.to_bits().abs_diff(other.to_bits()) <= units)
}

fn agree(text: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(text);
    match (json::parse(text), serde_json::from_slice::<Json>(text)) {
        (Ok(node), Ok(json)) => {
            assert!(same(&node, &json), "{shown}");
            true
        }
        (Err(_), Err(_)) => false,
        (one, other) => panic!("{shown:?}: {one:?}, {other:?}"),
    }
}

const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\udc00x\"",
    "\\",
    "\\n",
    "\\x",
    "true",
    "false",
    "null",
    "nul",
    "0",
    "-0",
    "-",
    "1",
    "01",
    "1.5",
    "1.",
    ".5",
    "1e3",
    "1E-3",
    "1e",
    "1e999",
    "-1e400",
    " ",
    "\n",
    "\t",
    "\u{c}",
    "\u{1}",
    "é",
    "12345678901234567890123",
    "\"\\u12g4\"",
];

#[test]
fn reads_what_another_reader_of_json_reads() {
    let mut random = Random::seeded(7);
    let mut read = 0;
    for _ in 0..60_000 {
        let mut text = Vec::new();
        any_json(&mut random, 4, &mut text);
        for _ in 0..random.below(3) {
            let at = random.below(text.len() as u64 + 1) as usize;
            let end = (at + random.below(3) as usize).min(text.len());
            let piece = PIECES[random.below(PIECES.len() as u64) as usize];
            text.splice(at..end, piece.bytes());
        }
        if random.below(50) == 0 && !text.is_empty() {
            let at = random.below(text.len() as u64) as usize;
            text[at] = 0xff;
        }
        read += usize::from(agree(&text));
    }
    assert!((10_000..50_000).contains(&read), "{read}");
}

fn any_json(random: &mut Random, depth: u32, text: &mut Vec<u8>) {
    let blank = [" ", "", "", "\n"][random.below(4) as usize];
    text.extend(blank.bytes());
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => text.extend(["true", "false", "null"][random.below(3) as usize].bytes()),
        1 => text.extend(
            ["0", "-1", "3.25", "1e2", "-0.0", "17976931348623157e200", "5e-324"][random.below(7) as usize].bytes(),
        ),
        2 | 3 => text.extend(
            ["\"\"", "\"a\\\"b\"", "\"\\u0041\\u00df\"", "\"\\ud83d\\ude00\"", "\"é\""][random.below(5) as usize]
                .bytes(),
        ),
        4 => {
            text.push(b'[');
            for index in 0..random.below(4) {
                if index != 0 {
                    text.push(b',');
                }
                any_json(random, depth - 1, text);
            }
            text.push(b']');
        }
        _ => {
            text.push(b'{');
            for index in 0..random.below(4) {
                if index != 0 {
                    text.push(b',');
                }
                text.extend(["\"a\"", "\"b\" ", "\"\\u0061\""][random.below(3) as usize].bytes());
                text.push(b':');
                any_json(random, depth - 1, text);
            }
            text.push(b'}');
        }
    }
}

#[test]
fn nests_as_deep_as_a_body_may_within_a_document() {
    for (depth, is_read) in [(1, true), (130, true), (131, false), (100_000, false)] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(json::parse(text.as_bytes()).is_ok(), is_read, "{depth}");
    }
}

/// Exact for what people write; next to the nearest for the rest.
#[test]
fn reads_numbers_as_the_standard_library_does() {
    let mut random = Random::seeded(3);
    for _ in 0..100_000 {
        let digits = 1 + random.below(15) as usize;
        let whole: String = (0..digits).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = random.below(whole.len() as u64 + 1) as usize;
        let (head, tail) = whole.split_at(point);
        let text = match (head, tail) {
            ("", tail) => format!("0.{tail}"),
            (head, "") => head.to_owned(),
            (head, tail) => format!("{head}.{tail}"),
        };
        assert_eq!(number::double(&text), text.parse::<f64>().unwrap(), "{text}");
        let shifted = format!("-{text}e{}", random.below(40) as i64 - 20);
        assert!(near(number::double(&shifted), shifted.parse().unwrap(), 2), "{shifted}");
    }
    for text in ["1e999", "-1e999", "1e99999999999999"] {
        assert!(number::double(text).is_infinite(), "{text}");
    }
    assert_eq!(number::double("1e-99999999999999"), 0.0);
    for (text, whole) in [
        ("5", Some(5)),
        ("5.0", Some(5)),
        ("0.5e1", Some(5)),
        ("0.1E+4", Some(1000)),
        ("-0", Some(0)),
        ("-0.0", Some(0)),
        ("4294967295", Some(u32::MAX)),
        ("4294967295.0", Some(u32::MAX)),
        ("4294967296", None),
        ("4294967296.0", None),
        ("-1", None),
        ("0.5", None),
        ("1e300", None),
    ] {
        assert_eq!(number::whole(text), whole, "{text}");
    }
    for (text, digits) in [
        ("1000", Some("1000")),
        ("1e3", Some("1000")),
        ("1000.0", Some("1000")),
        ("-5.0", Some("-5")),
        ("9007199254740991.0", Some("9007199254740991")),
        ("9007199254740992.0", None),
        ("18446744073709551615", Some("18446744073709551615")),
        ("18446744073709551616", None),
        ("1.5", None),
    ] {
        assert_eq!(number::digits(text).as_deref(), digits, "{text}");
    }
}

#[test]
fn shows_durations_in_the_unit_that_people_use() {
    for (millis, text) in
        [(1, "1ms"), (1_000, "1s"), (1_500, "1500ms"), (60_000, "60s"), (600_000, "10m"), (86_400_000, "24h")]
    {
        assert_eq!(duration::text(millis), text);
        assert_eq!(duration::parse(text), Some(std::time::Duration::from_millis(millis)));
    }
}
