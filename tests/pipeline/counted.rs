//! What is counted under which key, as far as that takes more than the key itself: preflights, and spellings that show a hole.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::rc::Rc;

use crate::common::MemoryHost;
use crate::common::sidecar::{SECOND, Sidecar, reason};
use outrigger::pipeline::Decision;

type Headers<'a> = &'a [(&'a str, &'a str)];

/// What a browser asks before it sends `POST /reports` with a token. It says nothing of who asks.
const PREFLIGHT: [(&str, &str); 7] = [
    (":method", "OPTIONS"),
    (":path", "/reports?user=7"),
    ("origin", "https://shop.example.com"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,x-user-id"),
    ("accept", "*/*"),
    ("user-agent", "Mozilla/5.0"),
];

/// Three an hour.
const WINDOW: &str = r#""window": { "max_requests": 3, "interval": "1h" }"#;

fn limited(limit: &str) -> Sidecar {
    Sidecar::new(&format!(r#"{{ "limits": [{{ "name": "l", {limit} }}] }}"#))
}

/// How many of thirty requests with these headers go on.
fn admitted(sidecar: &Sidecar, headers: Headers<'_>) -> usize {
    let goes_on = |_: &usize| sidecar.begin(headers).map(|ticket| sidecar.answer(ticket)).is_ok();
    (0..30).filter(goes_on).count()
}

fn with<'a>(headers: Headers<'a>, more: Headers<'a>) -> Vec<(&'a str, &'a str)> {
    [headers, more].concat()
}

#[test]
fn preflights_pass_a_limit_whose_key_they_cannot_carry() {
    let window = |key: &str| limited(&format!(r#""key": {key}, {WINDOW}"#));
    let carried = [r#"["host"]"#, r#"["path"]"#, r#"["method"]"#, r#"["operation"]"#, r#"["client_ip"]"#];
    for key in carried.into_iter().chain([r#"["query:user"]"#, r#"["query:page"]"#, r#"["header:user-agent"]"#]) {
        assert_eq!(admitted(&window(key), &PREFLIGHT), 3, "{key}");
    }
    let personal = [r#"["header:x-user-id"]"#, r#"["cookie:sid"]"#, r#"["header:authorization"]"#];
    for key in
        personal.into_iter().chain([r#"["client_ip", "cookie:sid"]"#, r#"["header:accept", "header:x-user-id"]"#])
    {
        let sidecar = window(key);
        assert_eq!(admitted(&sidecar, &PREFLIGHT), 30, "{key}");
        // The place of those who really lack the key is free, and it is theirs alone.
        assert_eq!(admitted(&sidecar, &[(":method", "POST"), (":path", "/reports")]), 3, "{key}");
        assert_eq!(admitted(&sidecar, &PREFLIGHT), 30, "{key}");
        assert_eq!(admitted(&sidecar, &[(":method", "OPTIONS"), (":path", "/reports")]), 0, "{key}: no preflight");
    }
}

#[test]
fn preflights_count_in_limits_for_all_requests() {
    assert_eq!(admitted(&limited(WINDOW), &PREFLIGHT), 3);
    let bucket = r#""token_bucket": { "max_tokens": 4, "tokens_per_fill": 1, "fill_interval": "1h" }"#;
    assert_eq!(admitted(&limited(bucket), &PREFLIGHT), 4);
}

#[test]
fn what_looks_like_a_preflight_and_carries_the_key_counts_by_it() {
    let sidecar = limited(&format!(r#""key": ["header:x-user-id"], {WINDOW}"#));
    assert_eq!(admitted(&sidecar, &with(&PREFLIGHT, &[("x-user-id", "ann")])), 3);
    assert_eq!(admitted(&sidecar, &[("x-user-id", "ann")]), 0);
}

#[test]
fn preflights_take_no_place_among_the_key_less_in_flight_and_do_not_queue_with_them() {
    let user = r#""key": ["header:x-user-id"]"#;
    let flights = limited(&format!(r#"{user}, "concurrency": {{ "max_in_flight": 1 }}"#));
    let held: Vec<_> =
        (0..5).map(|_| flights.begin(&PREFLIGHT).unwrap_or_else(|_| panic!("a preflight goes on"))).collect();
    let first = flights.begin(&[]).unwrap_or_else(|_| panic!("a place is free"));
    assert_eq!(reason(&flights.begin(&[]).unwrap_err()), "limit/l");
    flights.end(first);
    held.into_iter().for_each(|ticket| flights.end(ticket));

    let queue = limited(&format!(r#"{user}, "leaky_bucket": {{ "capacity": 2, "drain": 1, "drain_interval": "1s" }}"#));
    for _ in 0..5 {
        queue.end(queue.begin(&PREFLIGHT).unwrap_or_else(|_| panic!("a preflight does not wait")));
    }
    queue.end(queue.begin(&[]).unwrap_or_else(|_| panic!("nobody is before it")));
    let (decision, ticket) = queue.ask(&[]);
    assert!(matches!(decision, Decision::Wait(..)), "the next one waits");
    queue.end(ticket);
}

fn hints(host: &MemoryHost, call: &str) -> u64 {
    host.metric(&format!("call=.={call};.;outrigger_host_errors_total"))
}

#[test]
fn a_path_that_envoy_should_have_settled_is_counted_where_paths_matter() {
    let settings = ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action"];
    let paths = ["/a/../orders", "//orders", "/a%2Forders"];
    let counts = |config: &str, path: &str| {
        let sidecar = Sidecar::new(config);
        sidecar.end(sidecar.begin(&[(":path", path)]).unwrap_or_else(|_| panic!("nothing is limited")));
        settings.map(|setting| hints(&sidecar.host, setting))
    };
    let by_path = r#"{ "operations": [{ "name": "orders", "match": { "paths": ["/orders"] } }] }"#;
    let by_method = r#"{ "operations": [{ "name": "writes", "match": { "methods": ["POST"] } }] }"#;
    for (index, path) in paths.into_iter().enumerate() {
        let mut expected = [0; 3];
        assert_eq!(counts(by_method, path), expected, "{path}");
        expected[index] = 1;
        assert_eq!(counts(by_path, path), expected, "{path}");
    }
    assert_eq!(counts(by_path, "/orders;v=1?a=//../%2F"), [0; 3], "what follows the path is no path");
}

#[test]
fn a_header_of_a_key_in_several_lines_is_counted() {
    let sidecar = limited(&format!(r#""key": ["header:x-user-id", "header:x-shop"], {WINDOW}"#));
    let ask = |headers| sidecar.end(sidecar.begin(headers).unwrap_or_else(|_| panic!("each is the first of its key")));
    ask(&[("x-user-id", "ann"), ("x-shop", "1"), ("x-other", "1"), ("x-other", "2")]);
    ask(&[("x-user-id", "ann, bob")]);
    assert_eq!(hints(&sidecar.host, "repeated_header"), 0);
    ask(&[("x-user-id", "ann"), ("x-shop", "1"), ("x-shop", "2")]);
    assert_eq!(hints(&sidecar.host, "repeated_header"), 1);
}

/// Both cost what they say in counters and nothing else.
#[test]
fn to_look_at_spellings_takes_no_call_of_the_proxy() {
    let config = format!(
        r#"{{ "operations": [{{ "name": "orders", "match": {{ "paths": ["/orders"] }} }}],
              "limits": [{{ "name": "l", "key": ["header:x-user-id", "path", "host"], {WINDOW} }}] }}"#
    );
    let calls = |headers: Headers<'_>| {
        let sidecar = Sidecar::new(&config);
        sidecar.end(sidecar.begin(headers).unwrap_or_else(|_| panic!("each is the first of its key")));
        sidecar.host.advance(SECOND);
        Rc::clone(&sidecar.host).take_calls()
    };
    let plain = calls(&[(":path", "/orders"), ("x-user-id", "ann")]);
    let spelled = [(":path", "/orders;v=1"), (":authority", "shop.example.com.:80"), ("x-user-id", " ann\t")];
    assert_eq!(calls(&spelled), plain);
}
