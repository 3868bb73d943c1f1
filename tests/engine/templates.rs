//! Path templates: what they match, by a naive model, and what many of them cost on a long path.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and times work by the clock"
)]

use outrigger::config::Config;
use outrigger::headers::Headers;
use outrigger::operation::pattern::PathPattern;
use outrigger::operation::request::Request;
use outrigger::operation::{Operations, classify};

use crate::common::Random;

/// Whether the template matches, by trying each number of segments for `{**}`.
fn matches(template: &[&str], path: &[&str]) -> bool {
    match template {
        [] => path.is_empty(),
        ["{**}", rest @ ..] => (1..=path.len()).any(|many| matches(rest, &path[many..])),
        ["{*}", rest @ ..] => path.split_first().is_some_and(|(first, left)| !first.is_empty() && matches(rest, left)),
        [wanted, rest @ ..] => path.split_first().is_some_and(|(first, left)| first == wanted && matches(rest, left)),
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.strip_prefix('/').unwrap().split('/').collect()
}

fn text(random: &mut Random, most: u64, of: &[&str]) -> String {
    (0..=random.below(most)).map(|_| format!("/{}", of[random.below(of.len() as u64) as usize])).collect()
}

fn template(random: &mut Random) -> String {
    loop {
        let template = text(random, 6, &["a", "b", "", "ab", "{*}", "{*}", "{**}"]);
        if template.contains('{') && PathPattern::parse(&template).is_ok() {
            return template;
        }
    }
}

fn operations(templates: impl Iterator<Item = String>) -> Operations {
    let list: Vec<String> = templates
        .enumerate()
        .map(|(n, template)| format!(r#"{{"name": "o{n}", "match": {{"paths": ["{template}"]}}}}"#))
        .collect();
    let document = format!(r#"{{"operations": [{}]}}"#, list.join(","));
    Operations::new(Config::parse(document.as_bytes()).unwrap().operations)
}

#[test]
fn a_template_matches_what_a_naive_model_matches() {
    let mut random = Random::seeded(31);
    let mut matched = 0;
    for _ in 0..60_000 {
        let (template, path) = (template(&mut random), text(&mut random, 7, &["a", "b", "", "ab"]));
        let expected = matches(&segments(&template), &segments(&path));
        let pattern = PathPattern::parse(&template).unwrap();
        assert_eq!(pattern.matches(path.as_bytes()), expected, "{template} {path}");
        matched += usize::from(expected);
    }
    assert!(4_000 < matched && matched < 56_000, "{matched}");
}

/// Templates of all lengths in one set: what is found of a path for one is enough for another.
#[test]
fn the_first_template_that_matches_is_found_among_any_set_of_them() {
    let mut random = Random::seeded(32);
    let mut found = [0_usize; 2];
    for _ in 0..2_000 {
        let templates: Vec<String> = (0..1 + random.below(40)).map(|_| template(&mut random)).collect();
        let operations = operations(templates.iter().cloned());
        for _ in 0..20 {
            let path = text(&mut random, 7, &["a", "b", "", "ab", "a;b"]);
            let plain: String = path.replace(";b", "");
            let first = templates.iter().position(|it| matches(&segments(it), &segments(&plain)));
            let headers = Headers::from_pairs(&[(":path", path.as_str())]);
            let index = classify(&operations, &Request::read(&headers));
            assert_eq!(index, first.unwrap_or(templates.len()), "{path} among {templates:?}");
            found[usize::from(first.is_some())] += 1;
        }
    }
    assert!(found.iter().all(|it| 5_000 < *it), "{found:?}");
}

/// Each shape takes another way through the index; a path of 50 kB is walked once.
#[test]
fn thousands_of_templates_cost_a_long_path_no_more_than_one() {
    let long = "y".repeat(50_000);
    let many = "/y".repeat(25_000);
    let shapes: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("end", &|n| format!("/{{**}}/x{n}")),
        ("same beginning, different end", &|n| format!("/api/{{**}}/x{n}")),
        ("different beginning, same end", &|n| format!("/api{n}/{{**}}/x")),
        ("both different", &|n| format!("/api{n}/{{*}}/x{n}")),
    ];
    for (name, shape) in shapes {
        for path in
            [format!("/{long}"), many.clone(), format!("/api/{long}/x7"), format!("/api7{many}/x"), long.clone()]
        {
            let headers = Headers::from_pairs(&[(":path", path.as_str())]);
            let request = Request::read(&headers);
            for count in [200, 5_000] {
                let steps = operations((0..count).map(shape)).steps(&request);
                assert!(steps <= 8, "{name}, {count}: {steps}");
            }
        }
    }
}

/// What no end tells apart is tried, each at the cost of its first segment that differs and none at that of the path.
#[test]
fn templates_that_only_their_middle_tells_apart_do_not_walk_the_path_again() {
    let path = format!("/a/{}/b", "y".repeat(50_000));
    let headers = Headers::from_pairs(&[(":path", path.as_str())]);
    let request = Request::read(&headers);
    let [few, many] = [50, 5_000].map(|count| operations((0..count).map(|n| format!("/{{*}}/m{n}/{{*}}"))));
    assert_eq!(many.steps(&request), 1 + 5_000 + 1);
    let time = |operations: &Operations| {
        let run = || {
            let start = std::time::Instant::now();
            for _ in 0..20 {
                assert_eq!(classify(operations, &request), classify(operations, &request));
            }
            start.elapsed()
        };
        (0..5).map(|_| run()).min().unwrap()
    };
    // To walk the path for each of them would be a hundred times as much.
    let (few, many) = (time(&few), time(&many));
    assert!(many < few * 30, "{few:?}, {many:?}");
}
