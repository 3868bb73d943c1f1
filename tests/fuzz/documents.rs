//! Documents that are nearly right: every one that the project shows, and many by chance, with bytes, words and values changed.

use std::time::{Duration, Instant};

use outrigger::config::Config;
use outrigger::document::error::MOST;
use outrigger::host::End;

use crate::common::Random;
use crate::common::seeds::seeds;
use crate::common::sidecar::SECOND;
use crate::json::{Json, Style};
use crate::policies::Policies;
use crate::proxy::Proxy;
use crate::steps::Fields;

/// Seeds of a short run, of [`MUTANTS`] each.
const RUNS: u64 = if cfg!(target_arch = "wasm32") { 60 } else { 120 };

/// Documents that are made of one.
const MUTANTS: u64 = 20;

/// The longest text of an error: a place of at most a few names of 200 characters, a value of as many, the rule, and the names of all fields
/// that there might have been.
const LONGEST_ERROR: usize = 8_000;

/// Time for one document, on a machine that does much else.
const LONGEST_READING: Duration = Duration::from_secs(5);

/// Words that mean something somewhere, numbers at bounds, and texts that are none.
const WORDS: [&str; 48] = [
    "null",
    "true",
    "false",
    "0",
    "-0.0",
    "1",
    "-1",
    "1.0",
    "0.5",
    "1e3",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1e308",
    "5e-324",
    "0.1e-7",
    "[]",
    "{}",
    "\"\"",
    "\"0s\"",
    "\"1ms\"",
    "\"1d\"",
    "\"584y\"",
    "\"213503d23h34m33s\"",
    "\"9999999999999999999h\"",
    "\"0.0000000000000000000001s\"",
    "\"1h1h\"",
    "\"P0\"",
    "\"other\"",
    "\"*\"",
    "\"/\"",
    "\"/{*}/{**}\"",
    "\"/**{*}\"",
    "\"header:\"",
    "\"header:x-user\"",
    "\"query:\\u0000\"",
    "\"5xx\"",
    "\"!599\"",
    "\"%REASON%\"",
    "\"%\"",
    "\"ietf\"",
    "\"\\ud83d\\ude00\\u202e\"",
    "\"[::1]\"",
    "\"*.example.com.\"",
    "\"upstream\"",
    "\"GET\"",
];

/// Names of fields, so that one lands where another belongs.
const FIELDS: [&str; 22] = [
    "name",
    "on",
    "true",
    "active",
    "operations",
    "tiers",
    "key",
    "cost",
    "json",
    "text",
    "headers",
    "match",
    "trip",
    "stale",
    "budget",
    "failures",
    "statuses",
    "token_bucket",
    "concurrency",
    "fallback",
    "",
    "ключ",
];

#[test]
fn any_document_is_refused_in_words_or_does_what_it_says() {
    let shown = shown();
    shown.iter().for_each(|document| check(document.as_bytes()));
    for seed in seeds("any_document_is_refused_in_words_or_does_what_it_says", RUNS) {
        let mut random = Random::seeded(seed);
        let original = match shown.len() as u64 {
            0 => Policies(&mut random).document().to_string(),
            // One that is shown every other time.
            all if seed % 2 == 0 => shown[(seed / 2 % all) as usize].clone(),
            _ => Policies(&mut random).document().to_string(),
        };
        check(original.as_bytes());
        for _ in 0..MUTANTS {
            let mutant = mutant(&original, &mut random);
            check(&mutant);
        }
    }
}

/// Panics unless the document is refused in words that help, or does something and means the same however it is written.
fn check(document: &[u8]) {
    let started = Instant::now();
    let read = Config::parse(document);
    let took = started.elapsed();
    let text = String::from_utf8_lossy(document);
    assert!(took < LONGEST_READING, "{took:?} for {text}");
    let tree = Json::parse(document);
    match (read, tree) {
        (Err(errors), tree) => {
            assert!(0 < errors.iter().count() && errors.iter().count() <= MOST, "{errors} for {text}");
            for error in errors.iter() {
                let said = error.to_string();
                assert!(said.chars().count() <= LONGEST_ERROR, "{} characters: {said}", said.len());
                assert!(!said.is_empty() && !said.chars().any(char::is_control), "{said:?} for {text}");
                if let Some(tree @ Json::Object(_)) = &tree {
                    assert!(tree.has(error.path()), "{said:?}: there is no {:?} in {text}", error.path());
                }
            }
        }
        (Ok(config), Some(mut tree)) => {
            sort_headers(&mut tree);
            let plain = Config::parse(tree.render(Style::Plain).as_bytes());
            let istio = Config::parse(tree.render(Style::Istio).as_bytes());
            assert_eq!(plain, istio, "written in two ways: {text}");
            let _ = config.warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
            serve(&text, &config);
        }
        // The body of a fallback is read by itself, so that it may be as deep as a whole document.
        (Ok(_), None) => assert!(document.trim_ascii().is_empty() || 127 < depth(document), "no JSON: {text}"),
    }
}

/// Sorts the headers of fallbacks, which are sent in the order of the document. It means nothing.
fn sort_headers(document: &mut Json) {
    if let Some(Json::List(fallbacks)) = document.field("fallbacks") {
        for fallback in fallbacks {
            if let Some(Json::Object(headers)) = fallback.field("headers") {
                headers.sort_by(|(one, _), (other, _)| one.cmp(other));
            }
        }
    }
}

/// How deep lists and objects are in each other at most.
fn depth(document: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in document {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// A few requests under the document.
fn serve(document: &str, config: &Config) {
    let mut proxy = Proxy::new(1, 1, document);
    for path in ["/", "/read", "/checkout"] {
        let request =
            Fields::of(&[(":method", "GET"), (":path", path), (":authority", "shop.example.com"), ("x-user-id", "zq")]);
        proxy.ask(0, &request, End::Here);
        if proxy.last_waits() {
            proxy.pass(SECOND);
        }
        proxy.answer_last();
    }
    proxy.drain();
    assert!(!config.operations.is_empty());
    proxy.check_idle();
}

fn mutant(original: &str, random: &mut Random) -> Vec<u8> {
    let Some(mut tree) = Json::parse(original.as_bytes()).filter(|_| random.below(3) != 0) else {
        return other_bytes(original.as_bytes().to_vec(), random);
    };
    for _ in 0..=random.below(3) {
        other_tree(&mut tree, random);
    }
    tree.render(if random.below(4) == 0 { Style::Istio } else { Style::Plain }).into_bytes()
}

/// The text with a few bytes or words changed.
fn other_bytes(mut text: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(3) {
        let place = random.below(text.len() as u64 + 1) as usize;
        let end = text.len().min(place + random.below(20) as usize);
        match random.below(7) {
            0 if place < text.len() => text[place] ^= 1 << random.below(8),
            1 => drop(text.drain(place..end)),
            2 => drop(text.splice(place..place, WORDS[random.below(48) as usize].bytes())),
            3 => {
                let copy = text[place..end].to_vec();
                text.splice(place..place, copy);
            }
            4 => text.truncate(place),
            5 => {
                let deep = 1 + random.below(300) as usize;
                text.splice(place..place, [b'[', b'{'][random.below(2) as usize].to_string().repeat(deep).into_bytes());
            }
            // The next number becomes another.
            _ => {
                if let Some(start) = text[place..].iter().position(u8::is_ascii_digit).map(|at| place + at) {
                    let end =
                        text[start..].iter().position(|it| !it.is_ascii_digit()).map_or(text.len(), |at| start + at);
                    text.splice(start..end, WORDS[3 + random.below(15) as usize].bytes());
                }
            }
        }
    }
    text
}

/// The tree with one value changed.
fn other_tree(tree: &mut Json, random: &mut Random) {
    let size = tree.size() as u64;
    let (target, donor) = (random.below(size) as usize, random.below(size) as usize);
    let copy = tree.nth(donor).unwrap().clone();
    let word = WORDS[random.below(48) as usize];
    let field = FIELDS[random.below(22) as usize].to_owned();
    let value = tree.nth(target).unwrap();
    match (random.below(9), value) {
        (0 | 1, value) => *value = Json::parse(word.as_bytes()).unwrap_or(Json::Word(word.to_owned())),
        (2, value) => *value = copy,
        (3, Json::Object(fields)) => fields.push((field, copy)),
        // A field twice.
        (4, Json::Object(fields)) if !fields.is_empty() => {
            let twice = fields[random.below(fields.len() as u64) as usize].clone();
            fields.push(twice);
        }
        (5, Json::Object(fields)) if !fields.is_empty() => {
            fields.remove(random.below(fields.len() as u64) as usize);
        }
        (5, Json::List(list)) if !list.is_empty() => {
            list.remove(random.below(list.len() as u64) as usize);
        }
        (6, Json::List(list)) => {
            let more = 1 + random.below(200) as usize;
            list.extend(std::iter::repeat_n(copy, more).filter(|it| it.size() < 20));
        }
        (6, value) => {
            for _ in 0..random.below(140) {
                *value = Json::List(vec![std::mem::replace(value, Json::List(Vec::new()))]);
            }
        }
        // What YAML makes of a text without quotes, or the other way round.
        (7, Json::Text(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
            let word = Json::parse(text.as_bytes());
            if let (Some(word), value) = (word, tree.nth(target).unwrap()) {
                *value = word;
            }
        }
        (7, value @ Json::Word(_)) => {
            if let Json::Word(word) = value.clone() {
                *value = Json::Text(word);
            }
        }
        (_, Json::Text(text)) => text.push_str(
            &["ä\u{202e}", "\u{0}", "😀", "-", " ", "x"][random.below(6) as usize]
                .repeat(1 + random.below(300) as usize),
        ),
        (_, Json::Object(fields)) if !fields.is_empty() => {
            let place = random.below(fields.len() as u64) as usize;
            fields[place].0 = field;
        }
        _ => {}
    }
}

/// The documents that the project shows, in its pages, manifests and tests.
#[cfg(not(target_arch = "wasm32"))]
fn shown() -> Vec<String> {
    let mut found = Vec::new();
    collect(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(30 < found.len(), "only {} documents found", found.len());
    found
}

/// There are no files.
#[cfg(target_arch = "wasm32")]
fn shown() -> Vec<String> {
    Vec::new()
}

#[cfg(not(target_arch = "wasm32"))]
fn collect(folder: &std::path::Path, found: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let ending = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if path.is_dir() {
            let skipped = name.starts_with('.') || ["target", "dist", "src", "node_modules"].contains(&name);
            if !skipped {
                collect(&path, found);
            }
            continue;
        }
        if !["md", "rs", "yaml"].contains(&ending) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let between = |start: &'static str, end: &'static str| {
            let pieces = text.split(start).skip(1);
            pieces.filter_map(move |piece| piece.split(end).next().map(str::to_owned)).collect::<Vec<_>>()
        };
        match ending {
            "md" => found.extend(between("```json\n", "\n```")),
            // Those with places for values have their braces doubled.
            "rs" => {
                let raw = between("r#\"", "\"#").into_iter().map(|it| it.replace("{{", "{").replace("}}", "}"));
                found.extend(raw.filter(|it| it.trim_start().starts_with('{')));
            }
            _ => {
                for document in serde_yaml_ng::Deserializer::from_str(&text) {
                    let value = <serde_yaml_ng::Value as serde::Deserialize>::deserialize(document).unwrap();
                    embedded(&value, found);
                }
            }
        }
    }
}

/// The documents in a manifest: the text of a StringValue, or an object in the words of Istio.
#[cfg(not(target_arch = "wasm32"))]
fn embedded(value: &serde_yaml_ng::Value, found: &mut Vec<String>) {
    use serde_yaml_ng::Value;
    match value {
        Value::Mapping(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    (Some("value"), Value::String(text)) if text.trim_start().starts_with('{') => {
                        found.push(text.clone())
                    }
                    (Some("pluginConfig"), value) => found.push(serde_json::to_string(value).unwrap()),
                    _ => embedded(value, found),
                }
            }
        }
        Value::Sequence(list) => list.iter().for_each(|it| embedded(it, found)),
        _ => {}
    }
}
