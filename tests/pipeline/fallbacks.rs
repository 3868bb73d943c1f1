//! Fallbacks: what is filled in, what is said to pages of other origins, and what a gRPC client gets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common::Random;
use crate::common::sidecar::{Sidecar, ended, header, reason, served as told};
use outrigger::config::Config;
use outrigger::reply::Reply;
use outrigger::reply::template::{Filling, Slot, Template, UnknownSlot};

/// The reply to a request for reviews when a switch gives them up with this fallback, but for its name.
fn served(fallback: &str, headers: &[(&str, &str)]) -> Reply {
    let sidecar = Sidecar::new(&format!(
        r#"{{
            "operations": [{{ "name": "reviews", "match": {{ "paths": ["/reviews/*"] }} }}],
            "switches": [{{ "name": "no-reviews", "active": true, "fallback": "f" }}],
            "fallbacks": [{{ "name": "f", {fallback} }}]
        }}"#
    ));
    let mut request = vec![(":path", "/reviews/17")];
    request.extend(headers);
    sidecar.serve(&request).unwrap()
}

fn body(fallback: &str, headers: &[(&str, &str)]) -> String {
    String::from_utf8(served(fallback, headers).body).unwrap()
}

fn values<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.headers.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str()).collect()
}

// === templates =======================================================================================================

#[test]
fn reason_operation_and_request_id_are_filled_in() {
    let text = r#""status": 503, "text": "%REASON% refused %OPERATION% (%REQUEST_ID%)%REASON%""#;
    let id = ("x-request-id", "6f1c0a5e-1f5d-4b0e-9a43-0a7d1c2b3e4f");
    let expected = "switch/no-reviews refused reviews (6f1c0a5e-1f5d-4b0e-9a43-0a7d1c2b3e4f)switch/no-reviews";
    assert_eq!(body(text, &[id]), expected);
    assert_eq!(body(r#""status": 503, "text": "[%REQUEST_ID%]""#, &[]), "[]", "who has none is told none");
}

#[test]
fn json_is_filled_in_wherever_it_has_text() {
    let json = r#""status": 503, "json": { "why": "%REASON%", "%OPERATION%": [1, null, { "id": "%REQUEST_ID%" }] }"#;
    let document: serde_json::Value = serde_json::from_str(&body(json, &[("x-request-id", "abc")])).unwrap();
    let expected = serde_json::json!({ "why": "switch/no-reviews", "reviews": [1, null, { "id": "abc" }] });
    assert_eq!(document, expected);
}

/// Whatever a client calls itself: no text, JSON or HTML can be broken out of, and no log line.
#[test]
fn a_request_id_cannot_break_out_of_what_stands_around_it() {
    let json = r#""status": 503, "json": { "id": "%REQUEST_ID%" }"#;
    let hostile = [
        ("\", \"admin\": true, \"x\": \"", "admin:truex:"),
        ("<script>alert(1)</script>", "scriptalert1script"),
        ("a\r\nset-cookie: b=c", "aset-cookie:bc"),
        ("\\", ""),
        ("\u{0}\u{1b}[31m\u{7f}", "31m"),
        ("%REASON%", "REASON"),
        ("{{7*7}}${x}", "77x"),
        ("äöü\u{202e}id", "id"),
    ];
    for (id, expected) in hostile {
        let text = body(json, &[("x-request-id", id)]);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{id:?}: {error}"));
        let shown = document["id"].as_str().unwrap();
        assert_eq!(document.as_object().unwrap().len(), 1, "{id:?}: {text}");
        assert_eq!(shown, expected, "{id:?}");
    }
}

#[test]
fn a_request_id_is_cut_at_128_characters() {
    let text = r#""status": 503, "text": "%REQUEST_ID%""#;
    for (length, shown) in [(127, 127), (128, 128), (129, 128), (100_000, 128)] {
        assert_eq!(body(text, &[("x-request-id", &"a".repeat(length))]).len(), shown, "{length}");
    }
}

#[test]
fn random_bytes_in_a_request_id_leave_json_json() {
    let template = Template::parse(r#"{"id":"%REQUEST_ID%"}"#).unwrap();
    let mut random = Random::seeded(11);
    for _ in 0..5_000 {
        let id: String = (0..random.below(40)).filter_map(|_| char::from_u32(random.below(0x500) as u32)).collect();
        let text = template.render(&Filling { request_id: &id, ..Filling::default() });
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{id:?}: {text}");
    }
}

#[test]
fn a_percent_sign_that_begins_no_word_is_one() {
    let plain =
        ["%", "%%", "100%", "5 % of 10 %", "%lower%", "% REASON%", "%REASON", "REASON%", "%C3%A4%20", "%Reason%"];
    for text in plain {
        let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let filling = Filling { reason: "r", operation: "o", request_id: "i" };
        assert_eq!(template.render(&filling), text);
        assert!(![Slot::Reason, Slot::Operation, Slot::RequestId].iter().any(|slot| template.has(*slot)), "{text}");
    }
    let filling = Filling { reason: "r", operation: "o", request_id: "i" };
    let mixed = [
        ("100%%REASON%", "100%r"),
        ("%REASON%%", "r%"),
        ("%REASON%OPERATION%", "rOPERATION%"),
        ("%x%OPERATION%", "%xo"),
    ];
    for (text, expected) in mixed {
        assert_eq!(Template::parse(text).unwrap().render(&filling), expected, "{text}");
    }
}

#[test]
fn a_word_that_is_no_slot_is_an_error() {
    for (text, word) in
        [("%START_TIME%", "START_TIME"), ("a %REASONS% b", "REASONS"), ("%_%", "_"), ("%REASON%%OPS%", "OPS")]
    {
        assert_eq!(Template::parse(text), Err(UnknownSlot(word.to_owned())), "{text}");
    }
}

#[test]
fn what_a_template_needs_is_known_and_nothing_else_is_kept() {
    let template = Template::parse("%REASON% %REQUEST_ID%").unwrap();
    assert!(template.has(Slot::Reason) && template.has(Slot::RequestId) && !template.has(Slot::Operation));
    assert!(!template.is_empty() && Template::parse("").unwrap().is_empty());
    assert!(!Template::parse("%REQUEST_ID%").unwrap().is_empty(), "it may come out empty, but it is a body");
}

// === plain replies ===================================================================================================

#[test]
fn the_content_type_is_that_of_the_body_unless_it_is_said() {
    let content_type = |fallback: &str| header(&served(fallback, &[]), "content-type").map(str::to_owned);
    assert_eq!(content_type(r#""status": 503, "json": []"#).as_deref(), Some("application/json"));
    assert_eq!(content_type(r#""status": 503, "text": "x""#).as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(content_type(r#""status": 503"#), None);
    let html = r#""status": 503, "text": "<p>", "headers": { "Content-Type": "text/html" }"#;
    assert_eq!(content_type(html).as_deref(), Some("text/html"));
    assert_eq!(values(&served(html, &[]), "content-type").len(), 1);
}

#[test]
fn a_reply_without_content_has_neither_body_nor_type() {
    let reply = served(r#""status": 204"#, &[]);
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    let headers: Vec<&str> = reply.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(headers, ["x-outrigger-reason"]);
}

#[test]
fn its_own_time_to_come_again_goes_before_the_refusals() {
    let retry_after = |fallback: &str| values(&served(fallback, &[]), "retry-after").join("+");
    assert_eq!(retry_after(r#""status": 503"#), "60", "the switch's");
    assert_eq!(retry_after(r#""status": 503, "retry_after": "1500ms""#), "2", "never too early");
    assert_eq!(retry_after(r#""status": 503, "retry_after": "2s", "headers": { "Retry-After": "never" }"#), "never");
    assert_eq!(retry_after(r#""status": 200"#), "");
    assert_eq!(retry_after(r#""status": 200, "retry_after": "2s""#), "2");
}

#[test]
fn only_what_does_not_pass_for_the_real_answer_is_marked_against_retries() {
    for (status, mark) in
        [(200, None), (204, None), (299, None), (302, Some("true")), (404, Some("true")), (503, Some("true"))]
    {
        let reply = served(&format!(r#""status": {status}"#), &[]);
        assert_eq!(header(&reply, "x-envoy-ratelimited"), mark, "{status}");
        assert_eq!(reason(&reply), "switch/no-reviews", "{status}");
    }
}

// === pages of other origins ==========================================================================================

const CORS: &str =
    r#""status": 503, "cors": { "allow_origin": ["https://shop.example.com", "https://m.example.com"] }"#;
const CREDENTIALS: &str =
    r#""status": 503, "cors": { "allow_origin": ["https://shop.example.com"], "allow_credentials": true }"#;
const ANY: &str = r#""status": 503, "cors": { "allow_origin": ["*"] }"#;

/// Allowed origin, credentials, exposed headers, `Vary`.
fn cors(fallback: &str, origin: Option<&str>) -> [Option<String>; 4] {
    let headers: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
    let reply = served(fallback, &headers);
    let names =
        ["access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers", "vary"];
    names.map(|name| {
        let all = values(&reply, name);
        assert!(all.len() <= 1, "{name}: {all:?}");
        all.first().map(|value| value.to_string())
    })
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_origin_that_is_allowed_may_read_it() {
    let exposed = some("retry-after,x-outrigger-reason");
    for origin in ["https://shop.example.com", "https://m.example.com"] {
        assert_eq!(cors(CORS, Some(origin)), [some(origin), None, exposed.clone(), some("origin")]);
    }
    let found = cors(CREDENTIALS, Some("https://shop.example.com"));
    assert_eq!(found, [some("https://shop.example.com"), some("true"), exposed.clone(), some("origin")]);
    assert_eq!(
        cors(ANY, Some("https://anybody.example")),
        [some("https://anybody.example"), None, exposed, some("origin")]
    );
}

#[test]
fn any_other_origin_may_not() {
    let almost = [
        "https://evil.example",
        "http://shop.example.com",
        "https://shop.example.com.evil.example",
        "https://shop.example.com:8443",
        "https://shop.example.com/",
        "https://SHOP.example.com",
        "null",
        "*",
        "",
    ];
    for origin in almost {
        for fallback in [CORS, CREDENTIALS] {
            assert_eq!(cors(fallback, Some(origin)), [None, None, None, some("origin")], "{origin:?}");
        }
    }
}

/// A cache must not serve what it got without an origin to who has one.
#[test]
fn without_an_origin_it_says_only_that_it_would_differ() {
    assert_eq!(cors(CORS, None), [None, None, None, some("origin")]);
    assert_eq!(cors(r#""status": 503"#, Some("https://shop.example.com")), [None, None, None, None]);
}

#[test]
fn what_the_fallback_itself_varies_by_stays() {
    let vary = |value: &str| {
        let fallback = format!(r#"{CORS}, "headers": {{ "Vary": "{value}" }}"#);
        cors(&fallback, Some("https://shop.example.com"))[3].clone()
    };
    assert_eq!(vary("accept-language"), some("accept-language, origin"));
    for enough in ["Origin", "origin", "ORIGIN", "accept, Origin", "*"] {
        assert_eq!(vary(enough), some(enough));
    }
}

#[test]
fn limits_and_breakers_serve_them_too() {
    let sidecar = Sidecar::new(&format!(
        r#"{{
            "limits": [{{ "name": "l", "concurrency": {{ "max_in_flight": 1 }}, "fallback": "f" }}],
            "fallbacks": [{{ "name": "f", "text": "%REASON% %OPERATION% %REQUEST_ID%", {CORS} }}]
        }}"#
    ));
    let ticket = sidecar.begin(&[]).unwrap();
    let reply = sidecar.serve(&[("origin", "https://shop.example.com"), ("x-request-id", "i-1")]).unwrap();
    assert_eq!(reply.body, b"limit/l other i-1");
    assert_eq!(header(&reply, "access-control-allow-origin"), Some("https://shop.example.com"));
    sidecar.answer(ticket);
}

// === JSON as it was written ==========================================================================================

/// What reads it knows better than we what its numbers, keys and spaces mean.
#[test]
fn a_json_body_is_sent_as_it_was_written() {
    for json in [
        r#"{"id":123456789012345678901234567890,"price":1.10,"e":1E+2,"tiny":0.1000000000000000055511151231257827}"#,
        r#"{ "b": 1,  "a": [ -0, 0.0, 1e-7 ] }"#,
        r#"{"\u006b\u00e9":"\u00e9\/","kéy":"é/"}"#,
        "[]",
        "7.50",
        "true",
        r#""text""#,
        r#"{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":2}]}"#,
        r#"{"json":{"json":[{"json":1}]}}"#,
    ] {
        assert_eq!(body(&format!(r#""status": 503, "json": {json}"#), &[]), json);
    }
    assert_eq!(body(r#""status": 503, "json": null"#, &[]), "", "as if it were not there");
    let header = served(r#""status": 503, "headers": { "json": "5" }, "json": [5]"#, &[]);
    assert_eq!(
        (values(&header, "json"), header.body.as_slice()),
        (vec!["5"], b"[5]".as_slice()),
        "a header of that name"
    );
}

#[test]
fn two_equal_keys_of_a_json_body_are_an_error_with_the_place() {
    let error = |json: &str| {
        let document = format!(r#"{{ "fallbacks": [{{ "name": "f", "status": 503, "json": {json} }}] }}"#);
        Config::parse(document.as_bytes()).expect_err(json).to_string()
    };
    for (json, expected) in [
        (r#"{"a":1,"b":2,"a":1}"#, r#"fallbacks[0].json.a: "a", is the name of an earlier field too"#),
        (r#"{"l":[0,{"x":{"a":1,"a":2}}]}"#, r#"fallbacks[0].json.l[1].x.a: "a", is the name of an earlier field too"#),
        (r#"{"a":1,"\u0061":2}"#, r#"fallbacks[0].json.a: "a", is the name of an earlier field too"#),
    ] {
        assert_eq!(error(json), expected, "{json}");
    }
}

// === for which requests ==============================================================================================

/// Whether the fallback takes the place of the standard refusal, by method, when a switch, a limit, an open breaker or a failure asks
/// for it.
fn takes_the_place(fallback: &str, method: &str) -> bool {
    let document = |policies: &str| {
        format!(
            r#"{{ "operations": [{{ "name": "reviews", "match": {{ "paths": ["/reviews/*"] }} }}],
                  {policies}, "fallbacks": [{{ "name": "f", {fallback} }}] }}"#
        )
    };
    let request = [(":path", "/reviews/1"), (":method", method)];
    let is_ours = |reply: Option<Reply>| reply.is_some_and(|reply| reply.body == b"prepared");
    let switch = Sidecar::new(&document(r#""switches": [{ "name": "s", "active": true, "fallback": "f" }]"#));
    let by_switch = is_ours(switch.serve(&request));

    let bucket = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "24h" }"#;
    let limit = Sidecar::new(&document(&format!(r#""limits": [{{ "name": "l", "fallback": "f", {bucket} }}]"#)));
    assert_eq!(limit.serve(&request), None);
    let by_limit = is_ours(limit.serve(&request));

    let trip = r#""breakers": [{ "name": "b", "trip": { "consecutive_failures": 1 }, "fallback": "f" }]"#;
    let breaker = Sidecar::new(&document(trip));
    let ticket = breaker.begin(&request).unwrap();
    assert_eq!(breaker.replacement(ticket, &[(":status", "503")]), None);
    let by_breaker = is_ours(breaker.serve(&request));

    let rule = format!(r#"{}, "on_failure": [{{ "fallback": "f" }}]"#, trip.replace(r#", "fallback": "f""#, ""));
    let failure = Sidecar::new(&document(&rule));
    let ticket = failure.begin(&request).unwrap();
    let by_failure = is_ours(failure.replacement(ticket, &[(":status", "503")]));
    let refusal = failure.serve(&request);
    assert!(refusal.is_some(), "the breaker is open");
    let by_rule = is_ours(refusal);

    let ways = [by_switch, by_limit, by_breaker, by_failure, by_rule];
    assert!(ways.iter().all(|it| *it == by_switch), "{fallback}, {method}: {ways:?}");
    by_switch
}

/// Or a write that was lost would be told to be done.
#[test]
fn a_fallback_that_says_success_is_for_reading_unless_it_says_otherwise() {
    const WRITES: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    for success in [r#""status": 200, "text": "prepared""#, r#""status": 299, "text": "prepared""#] {
        assert!(["GET", "HEAD", "get"].iter().all(|method| takes_the_place(success, method)), "{success}");
        assert!(!WRITES.iter().any(|method| takes_the_place(success, method)), "{success}");
    }
    for other in [r#""status": 503, "text": "prepared""#, r#""status": 303, "text": "prepared""#] {
        assert!(["GET", "HEAD"].iter().chain(&WRITES).all(|method| takes_the_place(other, method)), "{other}");
    }
    for (status, post) in [(202, "POST"), (503, "POST"), (202, "post")] {
        let some = format!(r#""status": {status}, "text": "prepared", "methods": ["{post}", "PUT"]"#);
        assert!(["POST", "PUT", "post"].iter().all(|method| takes_the_place(&some, method)), "{some}");
        assert!(!["GET", "HEAD", "DELETE", "delete"].iter().any(|method| takes_the_place(&some, method)), "{some}");
    }
}

#[test]
fn who_has_no_fallback_for_its_method_gets_the_standard_refusal_and_nothing_is_counted_as_served() {
    let sidecar = Sidecar::new(
        r#"{ "switches": [{ "name": "s", "active": true, "fallback": "f" }],
             "fallbacks": [{ "name": "f", "status": 200, "json": { "reviews": [] } }] }"#,
    );
    let reply = sidecar.serve(&[(":method", "POST")]).unwrap();
    assert_eq!((reply.status, header(&reply, "content-type")), (503, Some("application/problem+json")));
    assert_eq!((reason(&reply), header(&reply, "x-envoy-ratelimited")), ("switch/s", Some("true")));
    assert_eq!((told(&sidecar.host, "f", "switch/s"), ended(&sidecar.host, "other", "degraded")), (0, 1));
    assert_eq!(sidecar.serve(&[]).unwrap().status, 200);
    assert_eq!(told(&sidecar.host, "f", "switch/s"), 1);
}

// === gRPC ============================================================================================================

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[test]
fn a_grpc_client_gets_a_status_and_a_sentence() {
    let statuses = [
        (r#""status": 200, "json": {}"#, 14),
        (r#""status": 200, "grpc_status": 5"#, 5),
        (r#""status": 204"#, 14),
        (r#""status": 404, "text": "%REASON%""#, 14),
        (r#""status": 503, "grpc_status": 16"#, 16),
    ];
    for (fallback, status) in statuses {
        let reply = served(fallback, &[GRPC]);
        assert_eq!(reply.grpc_status, status, "{fallback}");
        assert_eq!(reply.body, b"refused by switch/no-reviews", "{fallback}");
        assert_eq!(header(&reply, "content-type"), None, "{fallback}");
        assert_eq!(header(&reply, "grpc-retry-pushback-ms"), Some("-1"), "{fallback}");
        assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"), "{fallback}");
    }
}

#[test]
fn grpc_web_is_a_page_to_us() {
    let reply = served(r#""status": 200, "json": {}"#, &[("content-type", "application/grpc-web+proto")]);
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"{}".as_slice()));
}
