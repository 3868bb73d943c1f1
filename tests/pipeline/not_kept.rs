//! Why an answer is not kept is told by a counter, one cause an answer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use crate::common::sidecar::{SECOND, Sidecar};
use outrigger::degrade::stale::{Cause, MAX_CAPTURES, RESERVED_FOR};
use outrigger::host::End;

const SHOP: &str = r#"{ "on_failure": [{ "stale": { "max_age": "10m", "max_bytes": 40000 } }] }"#;
const FRESH: (&str, &str) = ("cache-control", "max-age=60");

type Headers<'a> = &'a [(&'a str, &'a str)];

/// All that was counted, by cause.
fn counted(sidecar: &Sidecar) -> BTreeMap<&'static str, u64> {
    let count = |cause: &Cause| {
        let cause = cause.as_str();
        (cause, sidecar.host.metric(&format!("cause=.={cause};.;outrigger_stale_not_kept_total")))
    };
    Cause::ALL.iter().map(count).filter(|(_, count)| 0 < *count).collect()
}

fn only(cause: Cause) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([(cause.as_str(), 1)])
}

fn exchange(sidecar: &Sidecar, request: Headers<'_>, response: Headers<'_>, body: &[u8]) {
    let request = [&[(":path", "/a")], request].concat();
    let response = if response.iter().any(|(name, _)| *name == ":status") {
        response.to_vec()
    } else {
        [&[(":status", "200")], response].concat()
    };
    let _ = sidecar.answer_with_body(sidecar.begin(&request).unwrap(), &response, body);
}

#[test]
fn each_answer_that_is_not_kept_has_a_cause() {
    let names = "n".repeat(300);
    let long = "x".repeat(20_000);
    let not_utf8: Headers<'_> = &[FRESH, ("age", "soon")];
    let cases: &[(Headers<'_>, Headers<'_>, Cause)] = &[
        (&[("authorization", "Basic x")], &[FRESH], Cause::RequestAuthorization),
        (&[("proxy-authorization", "Basic x")], &[FRESH], Cause::RequestAuthorization),
        (&[("content-length", "1")], &[FRESH], Cause::RequestBody),
        (&[("range", "bytes=0-1")], &[FRESH], Cause::RequestCondition),
        (&[("if-match", "\"1\"")], &[FRESH], Cause::RequestCondition),
        (&[("cookie", "sid=1")], &[FRESH], Cause::RequestCookie),
        (&[("cache-control", "no-store")], &[FRESH], Cause::RequestNoStore),
        (&[("x-long", &long)], &[FRESH], Cause::RequestTooLarge),
        (&[], &[FRESH, ("content-type", "text/event-stream")], Cause::Stream),
        (&[], &[FRESH, ("x-outrigger-reason", "failure/a")], Cause::Substitute),
        (&[], &[FRESH, ("cache-status", "outrigger; hit")], Cause::Substitute),
        (&[], &[FRESH, ("set-cookie", "a=b")], Cause::SetCookie),
        (&[], &[("cache-control", "no-store, max-age=60")], Cause::NoStore),
        (&[], &[("cache-control", "private, max-age=60")], Cause::Private),
        (&[], &[("cache-control", "no-cache")], Cause::NoCache),
        (&[], &[FRESH, ("pragma", "no-cache")], Cause::NoCache),
        (&[], &[("cache-control", "max-age=60, must-revalidate")], Cause::MustRevalidate),
        (&[], &[("cache-control", "max-age=60, proxy-revalidate")], Cause::MustRevalidate),
        (&[], &[("cache-control", "max-age=soon")], Cause::Malformed),
        (&[], not_utf8, Cause::Malformed),
        (&[], &[FRESH, ("content-length", "1, 1")], Cause::Malformed),
        (&[], &[("expires", "Sun, 06 Nov 2033 08:49:37 GMT")], Cause::Malformed),
        (&[], &[FRESH, ("content-range", "bytes 0-1/2")], Cause::Malformed),
        (&[], &[("cache-control", "max-age=0")], Cause::NotFresh),
        (&[], &[("expires", "0")], Cause::NotFresh),
        (&[], &[FRESH, ("age", "60")], Cause::NotFresh),
        (&[], &[], Cause::NoFreshness),
        (&[], &[("etag", "\"1\"")], Cause::NoFreshness),
        (&[], &[FRESH, ("vary", "*")], Cause::Vary),
        (&[], &[FRESH, ("vary", &names)], Cause::Vary),
        (&[], &[FRESH, ("content-length", "20000")], Cause::TooLarge),
        (&[], &[FRESH, ("content-length", "4")], Cause::Incomplete),
    ];
    for (request, response, cause) in cases {
        let sidecar = Sidecar::new(SHOP);
        exchange(&sidecar, request, response, b"one");
        assert_eq!(counted(&sidecar), only(*cause), "{request:?} {response:?}");
        exchange(&sidecar, request, response, b"one");
        let again = if *cause == Cause::Incomplete { 2 } else { counted(&sidecar)[cause.as_str()] };
        assert_eq!(again, 2, "{request:?} {response:?}: each time");
    }
}

#[test]
fn what_becomes_known_on_the_way_is_a_cause_too() {
    // Longer than anybody said.
    let sidecar = Sidecar::new(SHOP);
    exchange(&sidecar, &[], &[FRESH], &[b'x'; 9_000]);
    assert_eq!(counted(&sidecar), only(Cause::TooLarge));

    let begin = |sidecar: &Sidecar, path: &str| {
        let mut ticket = sidecar.begin(&[(":path", path)]).unwrap();
        sidecar.host.set_response(&[(":status", "200"), FRESH, ("content-length", "3")]);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
        ticket
    };
    // The client goes away, or the service breaks off.
    let sidecar = Sidecar::new(SHOP);
    sidecar.end(begin(&sidecar, "/a"));
    assert_eq!(counted(&sidecar), only(Cause::Incomplete));

    // It takes too long.
    let sidecar = Sidecar::new(SHOP);
    let mut ticket = begin(&sidecar, "/a");
    sidecar.host.advance(RESERVED_FOR.as_nanos() as u64);
    sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
    assert_eq!(counted(&sidecar), only(Cause::TooSlow));
    sidecar.end(ticket);

    // The page is written to meanwhile.
    let sidecar = Sidecar::new(SHOP);
    let mut ticket = begin(&sidecar, "/a");
    sidecar.answer(sidecar.begin(&[(":path", "/a"), (":method", "DELETE")]).unwrap());
    sidecar.host.set_body(b"one");
    sidecar.filter.on_response_body(&*sidecar.host, &sidecar.worker, &mut ticket, 3);
    sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
    assert_eq!(counted(&sidecar), only(Cause::GivenUp));
    sidecar.end(ticket);

    // Too many at once.
    let sidecar = Sidecar::new(SHOP);
    let tickets: Vec<_> = (0..=MAX_CAPTURES).map(|page| begin(&sidecar, &format!("/{page}"))).collect();
    assert_eq!(counted(&sidecar), only(Cause::Busy));
    tickets.into_iter().for_each(|ticket| sidecar.end(ticket));
}

#[test]
fn what_nobody_expects_to_be_kept_has_no_cause() {
    let cases: &[(Headers<'_>, Headers<'_>)] = &[
        (&[], &[FRESH]),
        (&[(":method", "POST")], &[FRESH]),
        (&[(":method", "HEAD")], &[FRESH]),
        (&[("content-type", "application/grpc")], &[FRESH]),
        (&[], &[(":status", "404")]),
        (&[("cookie", "sid=1")], &[(":status", "404")]),
        (&[("cookie", "sid=1")], &[(":status", "503")]),
        (&[], &[(":status", "304"), ("etag", "\"1\"")]),
    ];
    for (request, response) in cases {
        let sidecar = Sidecar::new(SHOP);
        exchange(&sidecar, request, response, b"one");
        exchange(&sidecar, request, response, b"one");
        assert_eq!(counted(&sidecar), BTreeMap::new(), "{request:?} {response:?}");
    }
}

/// A number is raised, and nothing else; where no rule keeps answers, not even that.
#[test]
fn to_tell_a_cause_takes_one_call() {
    let calls = |document: &str, request: Headers<'_>| {
        let sidecar = Sidecar::new(document);
        exchange(&sidecar, request, &[FRESH], b"one");
        sidecar.host.take_calls();
        exchange(&sidecar, request, &[FRESH], b"one");
        sidecar.host.take_calls()
    };
    let cookie: Headers<'_> = &[("cookie", "sid=1")];
    let other = r#"{ "fallbacks": [{ "name": "f", "status": 200 }], "on_failure": [{ "fallback": "f" }] }"#;
    let mut expected = calls(other, cookie);
    assert_eq!(expected, calls(other, &[]));
    *expected.entry("increment_metric").or_default() += 1;
    assert_eq!(calls(SHOP, cookie), expected);
}

#[test]
fn the_causes_are_words_of_their_own() {
    let words: BTreeSet<&str> = Cause::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(words.len(), Cause::ALL.len());
    for (place, cause) in Cause::ALL.into_iter().enumerate() {
        assert_eq!(cause as usize, place);
    }
}

// === what its owner knows ============================================================================================

fn knowing(fields: &str) -> Sidecar {
    Sidecar::new(&format!(r#"{{ "on_failure": [{{ "stale": {{ "max_age": "10m", {fields} }} }}] }}"#))
}

fn kept(sidecar: &Sidecar, request: Headers<'_>) -> Option<Vec<u8>> {
    let request = [&[(":path", "/a")], request].concat();
    sidecar.replacement(sidecar.begin(&request).unwrap(), &[(":status", "503")]).map(|reply| reply.body)
}

#[test]
fn an_answer_that_says_nothing_of_freshness_is_kept_where_its_owner_says_how_long_it_is_fresh() {
    let cases: &[(Headers<'_>, bool)] = &[
        (&[], true),
        (&[("etag", "\"1\"")], true),
        (&[("cache-control", "no-transform")], true),
        (&[("cache-control", "stale-if-error=60")], true),
        (&[("age", "29")], true),
        (&[("age", "30")], false),
        (&[("cache-control", "no-store")], false),
        (&[("cache-control", "private")], false),
        (&[("cache-control", "no-cache")], false),
        (&[("cache-control", "must-revalidate")], false),
        (&[("pragma", "no-cache")], false),
        (&[("set-cookie", "a=b")], false),
        (&[("vary", "*")], false),
        // What is said holds.
        (&[("cache-control", "max-age=0")], false),
        (&[("expires", "0")], false),
        (&[("expires", "Sun, 06 Nov 2033 08:49:37 GMT")], false),
        (&[("cache-control", "max-age=x")], false),
    ];
    for (response, expected) in cases {
        let sidecar = knowing(r#""assume_fresh": "30s""#);
        exchange(&sidecar, &[], response, b"one");
        assert_eq!(kept(&sidecar, &[]).is_some(), *expected, "{response:?}");
    }
    // It counts as if the service had said so.
    let sidecar = knowing(r#""assume_fresh": "29500ms""#);
    exchange(&sidecar, &[], &[], b"one");
    sidecar.host.advance(40 * SECOND);
    let reply = sidecar.replacement(sidecar.begin(&[(":path", "/a")]).unwrap(), &[(":status", "503")]).unwrap();
    let status = reply.headers.iter().find(|(name, _)| name == "cache-status").unwrap();
    assert_eq!(status.1, "outrigger; fwd=stale; fwd-status=503; ttl=-10; detail=stale-if-error");
    assert!(reply.headers.iter().all(|(name, _)| name != "cache-control"), "nothing is said in the service's name");
}

#[test]
fn a_request_whose_cookies_are_all_ignored_counts_as_one_without() {
    let cases: &[(Headers<'_>, bool)] = &[
        (&[("cookie", "_ga=GA1.2.1")], true),
        (&[("cookie", "_ga=1; _ga_ABC123=GS1.1; consent=\"a\"")], true),
        (&[("cookie", "_ga=1"), ("cookie", "_ga_X=2")], true),
        (&[("cookie", "_ga=a=b;")], true),
        (&[("cookie", "_ga=")], true),
        (&[("cookie", "sid=1")], false),
        (&[("cookie", "_ga=1; sid=1")], false),
        (&[("cookie", "_ga=1"), ("cookie", "sid=1")], false),
        (&[("cookie", "_gax=1")], false),
        (&[("cookie", "_GA=1")], false),
        (&[("cookie", "x_ga=1")], false),
        (&[("cookie", "consent_x=1")], false),
        // What a service could read as another cookie.
        (&[("cookie", "_ga=1, sid=1")], false),
        (&[("cookie", "_ga=1 sid=1")], false),
        (&[("cookie", "_ga=\"1; sid=1\"")], false),
        (&[("cookie", "_ga")], false),
        (&[("cookie", "=_ga")], false),
        (&[("cookie", "_ga =1")], false),
        (&[("cookie", "_ga=1"), ("authorization", "Basic x")], false),
    ];
    for (request, expected) in cases {
        let sidecar = knowing(r#""ignore_cookies": ["_ga", "_ga_*", "consent"]"#);
        exchange(&sidecar, request, &[FRESH], b"one");
        assert_eq!(kept(&sidecar, &[]).is_some(), *expected, "{request:?}: kept for others");
        assert_eq!(counted(&sidecar).is_empty(), *expected, "{request:?}");
        let sidecar = knowing(r#""ignore_cookies": ["_ga", "_ga_*", "consent"]"#);
        exchange(&sidecar, &[], &[FRESH], b"one");
        assert_eq!(kept(&sidecar, request).is_some(), *expected, "{request:?}: served others'");
    }
}

/// Ignored cookies are none for `Vary` too; other headers still tell requests apart.
#[test]
fn an_answer_that_varies_with_cookies_is_shared_by_all_whose_cookies_are_ignored() {
    let sidecar = knowing(r#""ignore_cookies": ["_ga"]"#);
    let vary: Headers<'_> = &[FRESH, ("vary", "cookie, accept-language")];
    exchange(&sidecar, &[("cookie", "_ga=1"), ("accept-language", "de")], vary, b"hallo");
    assert_eq!(kept(&sidecar, &[("cookie", "_ga=2"), ("accept-language", "de")]).unwrap(), b"hallo");
    assert_eq!(kept(&sidecar, &[("accept-language", "de")]).unwrap(), b"hallo");
    assert_eq!(kept(&sidecar, &[("cookie", "_ga=1"), ("accept-language", "en")]), None);
    assert_eq!(kept(&sidecar, &[("cookie", "_ga=1; sid=1"), ("accept-language", "de")]), None);
}

/// What was kept while a cookie was ignored may be some user's own, if it turns out to be no such cookie.
#[test]
fn another_list_of_ignored_cookies_finds_nothing_that_was_kept_under_the_one_before() {
    let sidecar = knowing(r#""ignore_cookies": ["_ga", "sid"]"#);
    exchange(&sidecar, &[("cookie", "sid=1")], &[FRESH], b"of a user");
    assert!(kept(&sidecar, &[]).is_some());
    let document = r#"{ "on_failure": [{ "stale": { "max_age": "10m", "ignore_cookies": ["_ga"] } }] }"#;
    assert_eq!(kept(&sidecar.reconfigured(document), &[]), None);
}
