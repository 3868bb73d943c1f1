//! Stale answers: never another's, never too old, never more than there is room for.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::common::interleaving::{Race, in_every_order, in_random_orders};
use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, header, take_shared_calls};
use crate::common::{MemoryHost, Random};
use outrigger::cx::Cx;
use outrigger::degrade::stale::{
    Address, Capture, IgnoredCookies, MAX_CAPTURES, MAX_REQUEST_HEADERS, Origin, Progress, RESERVED_FOR, SLOTS, Spec,
    Stale, Store,
};
use outrigger::headers::Headers;
use outrigger::host::{Host, HostError};
use outrigger::monitor::names::Names;
use outrigger::operation::client_ip::ClientIp;
use outrigger::operation::key::KeyPart;
use outrigger::operation::request::Request;
use outrigger::reply::Reply;
use outrigger::time::Timestamp;
use outrigger::worker::Worker;

const PREFIX: &str = "outrigger/test/stale/reviews/";
const INDEX: &str = "outrigger/test/stale/reviews/index";
const SEED: &str = "outrigger/seed";
const START: u64 = 1_000 * HOUR;
const MINUTE: u64 = 60 * SECOND;
const MAX_AGE: u64 = 10 * MINUTE;
/// How long an answer is not written again.
const REWRITE: u64 = 10 * SECOND;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const GOOD: Pairs<'_> = &[("cache-control", "max-age=60")];

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn spec(max_bytes: u32) -> Spec {
    Spec {
        max_age: Duration::from_nanos(MAX_AGE),
        max_bytes,
        assume_fresh: None,
        ignore_cookies: IgnoredCookies::default(),
        key: Vec::new(),
        client_ip: ClientIp::default(),
    }
}

/// `GET` of a path with headers.
fn get(path: &str, headers: Pairs<'_>) -> Headers {
    let mut pairs = vec![(":method", "GET"), (":scheme", "https"), (":authority", "shop.example.com"), (":path", path)];
    pairs.extend(headers);
    Headers::from_pairs(&pairs)
}

/// `200` with headers.
fn ok(headers: Pairs<'_>) -> Headers {
    let mut pairs = vec![(":status", "200")];
    pairs.extend(headers);
    Headers::from_pairs(&pairs)
}

/// One worker of a proxy.
struct Shop {
    host: Rc<MemoryHost>,
    worker: Worker,
    store: Store,
    stale: Stale,
}

impl Shop {
    fn new() -> Self {
        Self::with(spec(1 << 20))
    }

    fn with(spec: Spec) -> Self {
        let host = MemoryHost::new();
        host.set_now(START);
        Self::on(&host, spec)
    }

    fn on(host: &Rc<MemoryHost>, spec: Spec) -> Self {
        let worker = Worker::default();
        let store = Store::new(&worker.seed);
        let stale = Stale::new(PREFIX.to_owned(), spec, &Names::default(), &store);
        Self { host: Rc::clone(host), worker, store, stale }
    }

    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn begin(&self, request: &Headers, response: &Headers) -> Option<Capture> {
        let candidate = self
            .stale
            .candidate(&Cx::new(&*self.host, &self.worker.telemetry), &Request::read(request), "reviews")?
            .ok()?;
        self.stale.begin(&Cx::at(&*self.host, &self.worker.telemetry, self.now()), &candidate, response)
    }

    fn finish(&self, capture: Capture) {
        capture.finish(&Cx::at(&*self.host, &self.worker.telemetry, self.now()));
    }

    /// The service answers; returns whether that was of interest.
    fn answer(&self, request: &Headers, response: &Headers, body: &[u8]) -> bool {
        let Some(mut capture) = self.begin(request, response) else {
            return false;
        };
        match capture.push(body, self.now()) {
            Progress::More => self.finish(capture),
            Progress::Enough => capture.abandon(&Cx::new(&*self.host, &self.worker.telemetry)),
        }
        true
    }

    /// The service answers well.
    fn good(&self, path: &str, body: &str) -> bool {
        self.answer(&get(path, &[]), &ok(GOOD), body.as_bytes())
    }

    /// Has the request asked for as often as is counted, by answers that are too long to be kept.
    fn make_popular(&self, path: &str) {
        for _ in 0..16 {
            assert!(!self.answer(&get(path, &[]), &sized("100000000"), b""));
        }
    }

    /// The service fails.
    fn fail(&self, request: &Headers) -> Option<Reply> {
        let candidate = self
            .stale
            .candidate(&Cx::new(&*self.host, &self.worker.telemetry), &Request::read(request), "reviews")?
            .ok()?;
        let kept = self.stale.lookup(&Cx::at(&*self.host, &self.worker.telemetry, self.now()), &candidate)?;
        Some(kept.into_reply(Origin::Failed(503)))
    }

    /// What is served instead of a failure.
    fn instead(&self, path: &str) -> Option<String> {
        self.fail(&get(path, &[])).map(text)
    }
}

fn text(reply: Reply) -> String {
    String::from_utf8(reply.body).unwrap()
}

/// The index by its documented layout: per slot its state, its charge, and what the charge is for.
fn charges(host: &MemoryHost) -> Vec<(u8, u32)> {
    let Some(index) = host.record(INDEX) else {
        return Vec::new();
    };
    let mut rest = &index[10..];
    for _ in 0..index[9] {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    assert_eq!(rest.len() % 47, 0);
    rest.chunks(47).map(|slot| (slot[0], u32::from_le_bytes(slot[26..30].try_into().unwrap()))).collect()
}

/// What the slots hold or are promised, each counted with the larger.
fn spoken_for(host: &MemoryHost) -> u64 {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for (slot, (state, size)) in charges(host).into_iter().enumerate() {
        bytes.insert(format!("{PREFIX}{slot}"), if state == 0 { 0 } else { u64::from(size) });
    }
    for (key, record) in host.records() {
        if key.starts_with(PREFIX) && key != INDEX {
            let most = bytes.entry(key).or_default();
            *most = (record.len() as u64).max(*most);
        }
    }
    bytes.values().sum()
}

fn states(host: &MemoryHost, state: u8) -> usize {
    charges(host).iter().filter(|(it, _)| *it == state).count()
}

const RESERVED: u8 = 1;
const STORED: u8 = 2;

// === what may be kept ===

#[test]
fn an_answer_is_kept_if_the_service_said_that_it_is_good_for_some_time_and_nothing_else() {
    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let cases: &[(bool, Pairs<'_>)] = &[
        (false, &[]),
        (false, &[("etag", "\"1\"")]),
        (false, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        (true, &[("cache-control", "public")]),
        (true, &[("cache-control", "PUBLIC")]),
        (true, &[("cache-control", "max-age=1")]),
        (true, &[("cache-control", "Max-Age=1")]),
        (true, &[("cache-control", "max-age=\"1\"")]),
        (true, &[("cache-control", "max-age=99999999999999999999")]),
        (true, &[("cache-control", "s-maxage=1")]),
        (true, &[("cache-control", "public, max-age=60, stale-if-error=60")]),
        (true, &[("cache-control", " , public ,, max-age=60 , ")]),
        (true, &[("cache-control", "public"), ("cache-control", "max-age=60")]),
        (true, &[("cache-control", "max-age=60, max-age=60")]),
        (true, &[("cache-control", "max-age=60, no-transform, immutable, x=y, z=\"a, no-store\"")]),
        (true, &[("cache-control", r#"z="\", no-store", max-age=60"#)]),
        (true, &[("cache-control", "stale-while-revalidate=5, max-age=60")]),
        (true, &[("cache-control", "max-age=60"), ("pragma", "x")]),
        // No freshness, or none left.
        (false, &[("cache-control", "")]),
        (false, &[("cache-control", "immutable, stale-if-error=60")]),
        (false, &[("cache-control", "max-age=0")]),
        (false, &[("cache-control", "public, max-age=0")]),
        (false, &[("cache-control", "max-age=60, s-maxage=0")]),
        (true, &[("cache-control", "max-age=0, s-maxage=60")]),
        (true, &[("cache-control", "max-age=60"), ("age", "59")]),
        (false, &[("cache-control", "max-age=60"), ("age", "60")]),
        (true, &[("cache-control", "public"), ("age", "60")]),
        // Forbidden, each with a lifetime.
        (false, &[("cache-control", "max-age=60, no-store")]),
        (false, &[("cache-control", "max-age=60, No-Store")]),
        (false, &[("cache-control", "max-age=60"), ("cache-control", "no-store")]),
        (false, &[("cache-control", "public, no-cache")]),
        (false, &[("cache-control", "public, no-cache=\"x-user\"")]),
        (false, &[("cache-control", "max-age=60, private")]),
        (false, &[("cache-control", "max-age=60, private=\"x-user, x-more\"")]),
        (false, &[("cache-control", "max-age=60, must-revalidate")]),
        (false, &[("cache-control", "max-age=60, proxy-revalidate")]),
        (false, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")]),
        (false, &[("cache-control", "max-age=60"), ("set-cookie2", "a=b")]),
        (false, &[("cache-control", "max-age=60"), ("pragma", "No-Cache")]),
        (false, &[("cache-control", "max-age=60"), ("content-range", "bytes 0-1/2")]),
        (false, &[("cache-control", "max-age=60"), ("content-type", "application/grpc+proto")]),
        (false, &[("cache-control", "max-age=60"), ("vary", "*")]),
        (false, &[("cache-control", "max-age=60"), ("vary", "accept, *")]),
        (false, &[("cache-control", "max-age=60"), ("vary", "accept"), ("vary", "*")]),
        (false, &[("cache-control", "max-age=60"), ("vary", "two words")]),
        (true, &[("cache-control", "max-age=60"), ("vary", ", accept,,")]),
        // Malformed.
        (false, &[("cache-control", "max-age")]),
        (false, &[("cache-control", "public, max-age=")]),
        (false, &[("cache-control", "public, max-age=x")]),
        (false, &[("cache-control", "public, max-age=-1")]),
        (false, &[("cache-control", "public, max-age=1.5")]),
        (false, &[("cache-control", "public, max-age = 60")]),
        (false, &[("cache-control", "public, max-age=60 60")]),
        (false, &[("cache-control", "max-age=60, max-age=61")]),
        (false, &[("cache-control", "max-age=60"), ("cache-control", "max-age=61")]),
        (false, &[("cache-control", "public, z=\"open")]),
        (false, &[("cache-control", "public; max-age=60")]),
        (false, &[("cache-control", "public, =60")]),
        (false, &[("cache-control", "public\u{e9}")]),
        (false, &[("cache-control", "max-age=60"), ("age", "x")]),
        (false, &[("cache-control", "max-age=60"), ("age", "1"), ("age", "1")]),
        (false, &[("cache-control", "max-age=60"), ("content-length", "3x")]),
        (false, &[("cache-control", "max-age=60"), ("content-length", "")]),
        (false, &[("cache-control", "max-age=60"), ("content-length", "3"), ("content-length", "3")]),
        // Dates.
        (true, &[DATE, ("expires", "Sun, 06 Nov 1994 08:49:38 GMT")]),
        (false, &[DATE, ("expires", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        (false, &[DATE, ("expires", "Sun, 06 Nov 1994 08:49:36 GMT")]),
        (true, &[DATE, ("expires", "Mon, 06 Nov 1995 00:00:00 GMT")]),
        (true, &[DATE, ("expires", "Thu, 31 Dec 9999 23:59:59 GMT")]),
        (true, &[("date", "Thu, 29 Feb 2024 23:59:60 GMT"), ("expires", "Fri, 01 Mar 2024 00:00:00 GMT")]),
        (false, &[("date", "Fri, 01 Mar 2024 00:00:00 GMT"), ("expires", "Thu, 29 Feb 2024 23:59:60 GMT")]),
        (true, &[DATE, ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("age", "59")]),
        (false, &[DATE, ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("age", "60")]),
        (false, &[("expires", "Sun, 06 Nov 1994 08:49:38 GMT")]),
        (false, &[DATE, ("expires", "0"), ("cache-control", "public")]),
        (false, &[DATE, ("expires", "-1")]),
        (false, &[DATE, ("expires", "Sunday, 06-Nov-95 08:49:37 GMT")]),
        (false, &[DATE, ("expires", "Mon Nov  6 08:49:37 1995")]),
        (false, &[DATE, ("expires", "Mon, 06 Nov 1995 08:49:37 CET")]),
        (false, &[DATE, ("expires", "Mon, 06 Nov 1995 24:00:00 GMT")]),
        (false, &[DATE, ("expires", "Mon, 6 Nov 1995 08:49:37 GMT")]),
        (false, &[DATE, ("expires", "Mon, 06 Foo 1995 08:49:37 GMT")]),
        (false, &[DATE, ("expires", "Mon, 06 Nov 1995 08:49:37 GMT"), ("expires", "Mon, 06 Nov 1995 08:49:37 GMT")]),
        // `max-age` overrules `Expires`.
        (true, &[DATE, ("expires", "0"), ("cache-control", "max-age=1")]),
        (false, &[DATE, ("expires", "Mon, 06 Nov 1995 00:00:00 GMT"), ("cache-control", "max-age=0")]),
    ];
    for (kept, headers) in cases {
        let shop = Shop::new();
        shop.answer(&get("/a", &[]), &ok(headers), b"one");
        assert_eq!(shop.instead("/a").is_some(), *kept, "{headers:?}");
        assert_eq!(shop.host.record(INDEX).is_some(), *kept, "no call of the proxy for {headers:?}");
    }
}

#[test]
fn only_a_200_is_kept() {
    for status in ["", "100", "101", "201", "203", "204", "206", "301", "304", "404", "410", "429", "500", "503"] {
        let shop = Shop::new();
        let response = Headers::from_pairs(&[(":status", status), ("cache-control", "public, max-age=60")]);
        assert!(!shop.answer(&get("/a", &[]), &response, b"one"), "{status}");
    }
    let without = Headers::from_pairs(&[("cache-control", "public, max-age=60")]);
    assert!(!Shop::new().answer(&get("/a", &[]), &without, b"one"));
}

#[test]
fn requests_that_say_who_asks_have_no_part_in_it() {
    let cases: &[(bool, Pairs<'_>)] = &[
        (true, &[]),
        (true, &[("accept", "*/*"), ("user-agent", "x")]),
        (false, &[("cookie", "session=1")]),
        (false, &[("cookie", "")]),
        (false, &[("authorization", "Bearer x")]),
        (false, &[("authorization", "")]),
        (false, &[("proxy-authorization", "Basic x")]),
        (false, &[("range", "bytes=0-1")]),
        (false, &[("if-range", "\"1\"")]),
        (false, &[("if-match", "\"1\"")]),
        (false, &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        (true, &[("if-none-match", "\"1\"")]),
        (true, &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        (false, &[("content-length", "1")]),
        (true, &[("content-length", "0")]),
        (false, &[("transfer-encoding", "chunked")]),
        (false, &[("cache-control", "no-store")]),
        (false, &[("cache-control", "max-age=0"), ("cache-control", "no-store")]),
        (false, &[("cache-control", "max-age=x")]),
        (true, &[("cache-control", "no-cache")]),
        (true, &[("cache-control", "max-age=0")]),
        (true, &[("pragma", "no-cache")]),
        (false, &[("content-type", "application/grpc")]),
        (false, &[("upgrade", "websocket"), ("connection", "upgrade")]),
    ];
    for (takes_part, headers) in cases {
        let shop = Shop::new();
        assert_eq!(shop.answer(&get("/a", headers), &ok(GOOD), b"one"), *takes_part, "{headers:?}");
        // What somebody else's request has kept.
        let shop = Shop::new();
        shop.good("/a", "one");
        assert_eq!(shop.fail(&get("/a", headers)).is_some(), *takes_part, "{headers:?}");
    }
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "head", ""] {
        let shop = Shop::new();
        shop.good("/a", "one");
        let pairs = [(":method", method), (":scheme", "https"), (":authority", "shop.example.com"), (":path", "/a")];
        assert_eq!(shop.fail(&Headers::from_pairs(&pairs)), None, "{method}");
        assert!(!shop.answer(&Headers::from_pairs(&pairs), &ok(GOOD), b"one"), "{method}");
    }
}

#[test]
fn a_request_too_long_to_be_set_aside_has_no_part_in_it() {
    let shop = Shop::new();
    let room = MAX_REQUEST_HEADERS - get("/a", &[("x", "")]).as_block().len();
    assert!(shop.answer(&get("/a", &[("x", &"x".repeat(room))]), &ok(GOOD), b"one"));
    assert!(!shop.answer(&get("/b", &[("x", &"x".repeat(room + 1))]), &ok(GOOD), b"one"));
}

// === whose answer ===

/// Whether the answer to one request is served to another.
fn is_shared(spec: Spec, response: Pairs<'_>, one: &Headers, other: &Headers) -> bool {
    let shop = Shop::with(spec);
    let mut headers = vec![("cache-control", "max-age=60")];
    headers.extend(response);
    assert!(shop.answer(one, &ok(&headers), b"one"));
    assert_eq!(shop.fail(one).map(text).as_deref(), Some("one"), "to the same request it is");
    shop.fail(other).is_some()
}

#[test]
fn an_answer_belongs_to_scheme_authority_path_and_query() {
    let with = |scheme, authority, path| {
        let pairs = [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)];
        Headers::from_pairs(&pairs)
    };
    let one = with("https", "a.example", "/a?x=1");
    assert!(is_shared(spec(1 << 20), &[], &one, &with("https", "a.example", "/a?x=1")));
    for other in [
        with("http", "a.example", "/a?x=1"),
        with("https", "b.example", "/a?x=1"),
        with("https", "a.example:8443", "/a?x=1"),
        with("https", "a.example", "/a"),
        with("https", "a.example", "/a?"),
        with("https", "a.example", "/a?x=2"),
        with("https", "a.example", "/b?x=1"),
        with("https", "a.example/a", "?x=1"),
    ] {
        assert!(!is_shared(spec(1 << 20), &[], &one, &other), "{other:?}");
    }
}

#[test]
fn an_answer_belongs_to_the_values_of_the_rules_key() {
    let key = vec![KeyPart::Header("accept-language".to_owned()), KeyPart::Header("x-user".to_owned())];
    let with = |headers| get("/a", headers);
    let rule = || Spec { key: key.clone(), ..spec(1 << 20) };
    let one = with(&[("accept-language", "de"), ("x-user", "1")]);
    assert!(is_shared(rule(), &[], &one, &with(&[("x-user", "1"), ("accept-language", "de"), ("x-other", "2")])));
    for other in [
        with(&[("accept-language", "de"), ("x-user", "2")]),
        with(&[("accept-language", "en"), ("x-user", "1")]),
        with(&[("accept-language", "de")]),
        with(&[("accept-language", "de1")]),
        with(&[("accept-language", "de"), ("x-user", "")]),
        with(&[("accept-language", "de"), ("x-user", "1"), ("x-user", "1")]),
        with(&[("accept-language", "1"), ("x-user", "de")]),
    ] {
        assert!(!is_shared(rule(), &[], &one, &other), "{other:?}");
    }
}

#[test]
fn an_answer_belongs_to_the_addresses_client_if_the_rule_says_so() {
    let shop = Shop::with(Spec { key: vec![KeyPart::ClientIp], ..spec(1 << 20) });
    shop.host.set_peer("192.0.2.1:1234");
    assert!(shop.good("/a", "one"));
    shop.host.set_peer("192.0.2.1:9999");
    assert_eq!(shop.instead("/a").as_deref(), Some("one"));
    shop.host.set_peer("192.0.2.2:1234");
    assert_eq!(shop.instead("/a"), None);
}

#[test]
fn an_answer_belongs_to_the_headers_that_it_varies_with() {
    let one = get("/a", &[("accept", "x"), ("x-user", "1"), ("x-other", "1")]);
    let same = get("/a", &[("x-other", "2"), ("x-user", "1"), ("accept", "x")]);
    for vary in [&[("vary", "X-User, Accept")] as Pairs<'_>, &[("vary", "accept"), ("vary", "x-user,accept")]] {
        assert!(is_shared(spec(1 << 20), vary, &one, &same), "{vary:?}");
        for headers in [
            &[("accept", "x"), ("x-user", "2")] as Pairs<'_>,
            &[("accept", "y"), ("x-user", "1")],
            &[("accept", "x")],
            &[("accept", "x"), ("x-user", "")],
            &[("accept", "x1")],
            &[("accept", "1"), ("x-user", "x")],
        ] {
            assert!(!is_shared(spec(1 << 20), vary, &one, &get("/a", headers)), "{vary:?}, {headers:?}");
        }
    }
    // Without the service's word for it there is no difference; see the documentation of the rules.
    assert!(is_shared(spec(1 << 20), &[], &one, &get("/a", &[("x-user", "2")])));
}

#[test]
fn an_encoded_answer_is_for_who_can_decode_it() {
    let zipped = get("/a", &[("accept-encoding", "gzip")]);
    for headers in [&[("content-encoding", "gzip")] as Pairs<'_>, &[("vary", "accept-encoding")]] {
        assert!(is_shared(spec(1 << 20), headers, &zipped, &zipped));
        assert!(!is_shared(spec(1 << 20), headers, &zipped, &get("/a", &[])));
        assert!(!is_shared(spec(1 << 20), headers, &zipped, &get("/a", &[("accept-encoding", "br")])));
    }
}

#[test]
fn variants_of_a_page_live_side_by_side_and_the_newest_that_fits_is_served() {
    let shop = Shop::new();
    let vary = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
    for language in ["de", "en", "fr"] {
        assert!(shop.answer(&get("/a", &[("accept-language", language)]), &ok(vary), language.as_bytes()));
    }
    for language in ["de", "en", "fr"] {
        assert_eq!(shop.fail(&get("/a", &[("accept-language", language)])).map(text).as_deref(), Some(language));
    }
    shop.host.advance(1);
    shop.good("/a", "for all");
    assert_eq!(shop.fail(&get("/a", &[("accept-language", "de")])).map(text).as_deref(), Some("for all"));
    shop.host.advance(REWRITE);
    shop.answer(&get("/a", &[("accept-language", "de")]), &ok(vary), b"de again");
    assert_eq!(shop.fail(&get("/a", &[("accept-language", "de")])).map(text).as_deref(), Some("de again"));
    assert_eq!(shop.fail(&get("/a", &[("accept-language", "en")])).map(text).as_deref(), Some("for all"));
}

#[test]
fn there_is_room_for_eight_different_lists_of_names_and_for_more_when_these_are_gone() {
    let shop = Shop::new();
    let answer = |number: usize| {
        let name = format!("x-header-{number}");
        let headers = [("cache-control", "max-age=60"), ("vary", name.as_str())];
        shop.answer(&get(&format!("/{number}"), &[]), &ok(&headers), b"one");
        shop.instead(&format!("/{number}")).is_some()
    };
    let kept: Vec<bool> = (0..10).map(answer).collect();
    assert_eq!(kept, [true, true, true, true, true, true, true, true, false, false]);
    // An answer that has been evicted needs no list.
    let large = "x".repeat(195_000);
    let headers: Pairs<'_> = &[("cache-control", "max-age=60"), ("vary", "x-header-7"), ("content-length", "195000")];
    for number in 0..5 {
        shop.host.advance(1);
        assert!(shop.answer(&get(&format!("/large/{number}"), &[]), &ok(headers), large.as_bytes()));
    }
    let often = || {
        shop.host.advance(2 * SECOND);
        shop.answer(&get("/large/5", &[]), &ok(headers), large.as_bytes())
    };
    assert!((0..16).any(|_| often()), "asked for often, it takes the place of the small ones");
    assert!(answer(11));
}

#[test]
fn an_answer_that_varies_with_too_much_is_not_kept() {
    let vary = |length: usize| {
        let names = format!("{},x", "n".repeat(length - 2));
        let shop = Shop::new();
        shop.answer(&get("/a", &[]), &ok(&[("cache-control", "max-age=60"), ("vary", &names)]), b"one")
    };
    assert!(vary(200));
    assert!(!vary(201));
}

// === what is served ===

#[test]
fn the_answer_is_served_as_it_was_without_what_was_of_the_moment() {
    let shop = Shop::new();
    let response = ok(&[
        ("content-type", "image/png"),
        ("content-length", "5"),
        ("cache-control", "max-age=60"),
        ("content-encoding", "br"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("etag", "\"1\""),
        ("link", "<a>"),
        ("link", "<b>"),
        ("x-service", "yes"),
        ("age", "7"),
        ("cache-status", "cdn; hit"),
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-outrigger-detail", "1"),
        ("x-envoy-upstream-service-time", "3"),
        ("x-request-id", "1"),
        ("ratelimit", "\"a\";r=1"),
        ("ratelimit-policy", "\"a\";q=1"),
        ("x-ratelimit-remaining", "1"),
    ]);
    let request = get("/a", &[("accept-encoding", "br")]);
    assert!(shop.answer(&request, &response, b"\x00\xff\r\n\x80"));
    shop.host.advance(70 * SECOND + 999 * MILLISECOND);

    let reply = shop.fail(&request).unwrap();

    assert_eq!((reply.status, reply.body.as_slice()), (200, b"\x00\xff\r\n\x80".as_slice()));
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
    let expected = [
        ("content-type", "image/png"),
        ("cache-control", "max-age=60"),
        ("content-encoding", "br"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("etag", "\"1\""),
        ("link", "<a>"),
        ("link", "<b>"),
        ("x-service", "yes"),
        ("cache-status", "cdn; hit"),
        ("age", "77"),
        ("cache-status", "outrigger; fwd=stale; fwd-status=503; ttl=-17; detail=stale-if-error"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn an_answer_without_a_body_is_kept_too() {
    let shop = Shop::new();
    let capture = shop.begin(&get("/a", &[]), &ok(&[("cache-control", "max-age=60"), ("content-length", "0")]));
    shop.finish(capture.unwrap());
    assert_eq!(shop.instead("/a").as_deref(), Some(""));
}

#[test]
fn a_header_that_is_no_text_keeps_the_answer_from_being_kept() {
    let shop = Shop::new();
    let response = |name, value: &[u8]| {
        Headers::from_pairs(&[(":status", b"200".as_slice()), ("cache-control", b"max-age=60"), (name, value)])
    };
    assert!(!shop.answer(&get("/a", &[]), &response("x-name", b"caf\xe9"), b"one"));
    assert!(
        shop.answer(&get("/a", &[]), &response("x-envoy-name", b"caf\xe9"), b"one"),
        "one that is not kept does not"
    );
}

/// Parsed by a parser that is not ours.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn age_and_cache_status_are_what_the_rfcs_say() {
    use sfv::{Item, List, ListEntry, Parser};

    let status = |control: &str, wait: u64, origin: Origin| {
        let shop = Shop::new();
        shop.answer(&get("/a", &[]), &ok(&[("cache-control", control), ("age", "5")]), b"one");
        shop.host.advance(wait);
        let request = get("/a", &[]);
        let candidate = shop
            .stale
            .candidate(&Cx::new(&*shop.host, &shop.worker.telemetry), &Request::read(&request), "reviews")
            .unwrap()
            .unwrap();
        let kept = shop.stale.lookup(&Cx::at(&*shop.host, &shop.worker.telemetry, shop.now()), &candidate).unwrap();
        assert_eq!(kept.age(), Duration::from_secs(5) + Duration::from_nanos(wait));
        let reply = kept.into_reply(origin);
        let age: Item = Parser::new(header(&reply, "age").unwrap()).parse().unwrap();
        let list: List = Parser::new(header(&reply, "cache-status").unwrap()).parse().unwrap();
        let Ok([ListEntry::Item(item)]) = <[ListEntry; 1]>::try_from(list) else {
            panic!("one item");
        };
        assert_eq!(item.bare_item.as_token().unwrap().as_str(), "outrigger");
        assert_eq!(item.params.get("detail").unwrap().as_token().unwrap().as_str(), "stale-if-error");
        let ttl: i64 = item.params.get("ttl").unwrap().as_integer().unwrap().into();
        let fwd = item.params.get("fwd").map(|it| it.as_token().unwrap().as_str().to_owned());
        let fwd_status: Option<i64> = item.params.get("fwd-status").map(|it| it.as_integer().unwrap().into());
        let hit = item.params.get("hit").is_some_and(|it| it.as_boolean().unwrap());
        let age: i64 = age.bare_item.as_integer().unwrap().into();
        (age, ttl, hit, fwd.unwrap_or_default(), fwd_status)
    };
    let none = String::new;
    assert_eq!(status("max-age=60", 100 * SECOND, Origin::Spared), (105, -45, true, none(), None));
    assert_eq!(status("max-age=60", 10 * SECOND, Origin::Spared), (15, 45, true, none(), None));
    assert_eq!(status("public", 10 * SECOND, Origin::Spared), (15, -15, true, none(), None));
    let failed = Origin::Failed(503);
    assert_eq!(status("max-age=60", 100 * SECOND, failed), (105, -45, false, "stale".to_owned(), Some(503)));
    assert_eq!(status("max-age=60", 55 * SECOND, failed), (60, 0, false, "stale".to_owned(), Some(503)));
    assert_eq!(status("max-age=60", 0, Origin::Failed(504)), (5, 55, false, "bypass".to_owned(), Some(504)));
    let long = status("max-age=99999999999", 0, failed);
    assert_eq!((long.0, long.1), (5, (1 << 31) - 5));
}

// === time ===

#[test]
fn an_answer_is_served_until_its_age_is_reached_and_not_at_it() {
    let shop = Shop::new();
    shop.good("/a", "one");
    shop.host.set_now(START + MAX_AGE - 1);
    assert_eq!(shop.instead("/a").as_deref(), Some("one"));
    shop.host.set_now(START + MAX_AGE);
    assert_eq!(shop.instead("/a"), None);
}

#[test]
fn its_age_counts_from_its_headers() {
    let shop = Shop::new();
    let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    shop.host.advance(20 * SECOND);
    assert_eq!(capture.push(b"one", shop.now()), Progress::More);
    shop.finish(capture);
    assert_eq!(header(&shop.fail(&get("/a", &[])).unwrap(), "age"), Some("20"));
    shop.host.set_now(START + MAX_AGE);
    assert_eq!(shop.instead("/a"), None);
}

#[test]
fn the_service_may_ask_for_less() {
    // The last second in which it is served, of what the rule allows.
    for (control, seconds) in [
        ("max-age=60", 600),
        ("public", 600),
        // Forbids stale answers.
        ("s-maxage=60", 55),
        ("max-age=5000, s-maxage=60", 55),
        ("s-maxage=5000", 600),
        // Allows them for a time.
        ("s-maxage=60, stale-if-error=100", 155),
        ("max-age=60, stale-if-error=0", 55),
        ("max-age=60, stale-if-error=100", 155),
        ("max-age=60, stale-if-error=99999999999", 600),
        ("public, stale-if-error=30", 30),
    ] {
        let shop = Shop::new();
        assert!(shop.answer(&get("/a", &[]), &ok(&[("cache-control", control), ("age", "5")]), b"one"));
        shop.host.set_now(START + seconds * SECOND - 1);
        assert!(shop.instead("/a").is_some(), "{control}");
        shop.host.set_now(START + seconds * SECOND);
        assert!(shop.instead("/a").is_none(), "{control}");
    }
}

#[test]
fn a_clock_that_goes_back_makes_no_answer_immortal() {
    let shop = Shop::new();
    shop.good("/a", "one");
    // As late as a worker can be.
    shop.host.set_now(START - SECOND);
    assert_eq!(header(&shop.fail(&get("/a", &[])).unwrap(), "age"), Some("0"));
    shop.host.set_now(START - SECOND - 1);
    assert_eq!(shop.instead("/a"), None);
    shop.host.set_now(START - HOUR);
    assert_eq!(shop.instead("/a"), None);
    assert!(shop.good("/a", "two"), "and it is replaced");
    assert_eq!(shop.instead("/a").as_deref(), Some("two"));
}

#[test]
fn an_answer_is_written_again_when_it_is_a_tenth_of_its_age_old_but_every_ten_seconds() {
    for (max_age, rewrite) in [(MAX_AGE, REWRITE), (100 * SECOND, 10 * SECOND), (SECOND, 100 * MILLISECOND)] {
        let rule = || Spec { max_age: Duration::from_nanos(max_age), ..spec(1 << 20) };
        let one = Shop::with(rule());
        let other = Shop::on(&one.host, rule());
        assert!(one.good("/a", "one"));
        // The index hears of it four times more as it is asked for twice as often.
        (0..100).for_each(|_| assert!(!one.good("/a", "one")));
        one.host.set_now(START + rewrite - 1);
        one.host.take_calls();
        assert!(!one.good("/a", "two"));
        assert_eq!(take_shared_calls(&one.host), 0, "who wrote it remembers");
        other.good("/b", "for its hash secret");
        one.host.take_calls();
        assert!(!other.good("/a", "two"));
        assert_eq!(take_shared_calls(&one.host), 1, "another looks");
        (0..15).for_each(|_| assert!(!other.good("/a", "two")));
        assert_eq!(take_shared_calls(&one.host), 4, "as it is asked for twice as often, and again");
        (0..100).for_each(|_| assert!(!other.good("/a", "two")));
        assert_eq!(take_shared_calls(&one.host), 0, "and remembers");
        assert_eq!(one.instead("/a").as_deref(), Some("one"));
        one.host.set_now(START + rewrite);
        assert!(one.good("/a", "two"));
        assert_eq!(other.instead("/a").as_deref(), Some("two"));
    }
}

// === calls ===

#[test]
fn an_answer_costs_six_calls_to_keep_two_to_find_and_none_if_it_is_known() {
    let shop = Shop::new();
    shop.good("/first", "for the hash secret");
    shop.host.take_calls();
    let capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    let expected = BTreeMap::from([("now", 1), ("shared_get", 2), ("shared_set", 1)]);
    assert_eq!(shop.host.take_calls(), expected);
    shop.finish(capture);
    let expected = BTreeMap::from([("now", 1), ("shared_get", 1), ("shared_set", 2)]);
    assert_eq!(shop.host.take_calls(), expected);
    for _ in 0..16 {
        shop.good("/a", "one");
    }
    assert_eq!(
        take_shared_calls(&shop.host),
        8,
        "the index hears of it at the second, fourth, eighth and sixteenth time"
    );
    for _ in 0..1_000 {
        shop.good("/a", "one");
    }
    assert_eq!(take_shared_calls(&shop.host), 0);
    shop.instead("/a");
    assert_eq!(shop.host.take_calls(), BTreeMap::from([("now", 1), ("shared_get", 2)]));
}

#[test]
fn a_worker_begins_a_hundred_answers_a_second() {
    let shop = Shop::new();
    let mut page = 0;
    let mut kept_of = |tries: usize| {
        let one = |_: &usize| {
            page += 1;
            let capture = shop.begin(&get(&format!("/{page}"), &[]), &ok(GOOD));
            capture.map(|capture| capture.abandon(&Cx::new(&*shop.host, &shop.worker.telemetry))).is_some()
        };
        (0..tries).filter(one).count()
    };
    assert_eq!(kept_of(1_000), 200);
    shop.host.advance(SECOND);
    assert_eq!(kept_of(1_000), 100);
    shop.host.set_now(START - HOUR);
    kept_of(1_000);
    shop.host.advance(SECOND);
    assert!(100 <= kept_of(1_000), "a clock that goes back does not end it");
}

// === room ===

#[test]
fn a_long_answer_passes_untouched() {
    let shop = Shop::with(spec(100_000));
    let with_length = |path: &str, length: usize| {
        let length = length.to_string();
        shop.begin(&get(path, &[]), &ok(&[("cache-control", "max-age=60"), ("content-length", &length)]))
    };
    // A quarter, less what stands before the body.
    let before = shop.begin(&get("/", &[]), &ok(&[("cache-control", "max-age=60"), ("content-length", "0")]));
    shop.finish(before.unwrap());
    let head = shop.host.record(&format!("{PREFIX}0")).unwrap().len();
    shop.host.take_calls();
    assert!(with_length("/long", 25_001 - head).is_none());
    assert!(with_length("/long", usize::MAX).is_none());
    assert_eq!(take_shared_calls(&shop.host), 0);
    let mut capture = with_length("/fits", 25_000 - head).unwrap();
    assert_eq!(capture.push(&vec![b'x'; 25_000 - head], shop.now()), Progress::More);
    shop.finish(capture);
    assert_eq!(shop.instead("/fits").map(|body| body.len()), Some(25_000 - head));
    // One that does not say how long it is: a sixteenth.
    for (path, length, kept) in [("/16th", 6_250 - head, true), ("/more", 6_251 - head, false)] {
        shop.good(path, &"x".repeat(length));
        assert_eq!(shop.instead(path).is_some(), kept, "{path}");
    }
    assert_eq!(states(&shop.host, RESERVED), 0);
    shop.host.take_calls();
    assert!(!shop.good("/more", "short this time"), "which is remembered");
    assert_eq!(take_shared_calls(&shop.host), 0);
}

#[test]
fn a_body_that_is_not_as_long_as_it_said_is_not_kept() {
    for (length, parts) in [("3", &["one", "x"] as &[&str]), ("4", &["one"]), ("1", &[]), ("0", &["x"])] {
        let shop = Shop::new();
        let response = ok(&[("cache-control", "max-age=60"), ("content-length", length)]);
        let mut capture = shop.begin(&get("/a", &[]), &response).unwrap();
        for part in parts {
            let _ = capture.push(part.as_bytes(), shop.now());
        }
        shop.finish(capture);
        assert_eq!(shop.instead("/a"), None, "{length}, {parts:?}");
        assert_eq!(spoken_for(&shop.host), 0);
    }
}

#[test]
fn what_is_not_needed_of_a_reservation_is_given_back() {
    let shop = Shop::new();
    let capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    assert_eq!(spoken_for(&shop.host), 1 << 16);
    shop.finish(capture);
    assert_eq!(spoken_for(&shop.host), shop.host.record(&format!("{PREFIX}0")).unwrap().len() as u64);
}

#[test]
fn an_abandoned_answer_leaves_nothing_and_the_next_one_is_kept() {
    let shop = Shop::new();
    let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    let _ = capture.push(b"on", shop.now());
    capture.abandon(&Cx::new(&*shop.host, &shop.worker.telemetry));
    assert_eq!((spoken_for(&shop.host), shop.instead("/a")), (0, None));
    assert!(shop.good("/a", "one"));
    assert_eq!(shop.instead("/a").as_deref(), Some("one"));
}

#[test]
fn one_answer_to_a_request_is_kept_at_a_time_and_the_old_one_is_served_until_it_is_there() {
    let shop = Shop::new();
    let other = Shop::on(&shop.host, spec(1 << 20));
    shop.good("/a", "one");
    shop.host.advance(REWRITE);
    let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    assert!(!other.good("/a", "three"));
    let _ = capture.push(b"two", shop.now());
    assert_eq!(shop.instead("/a").as_deref(), Some("one"));
    shop.finish(capture);
    assert_eq!(other.instead("/a").as_deref(), Some("two"));
    assert_eq!(states(&shop.host, STORED), 1);
}

#[test]
fn a_worker_holds_a_fixed_number_of_answers_on_their_way() {
    let shop = Shop::with(spec(1 << 26));
    let begin = |number: usize| shop.begin(&get(&format!("/{number}"), &[]), &ok(GOOD));
    let mut captures: Vec<Capture> = (0..MAX_CAPTURES).map(|number| begin(number).unwrap()).collect();
    assert!(begin(100).is_none());
    shop.finish(captures.pop().unwrap());
    captures.push(begin(101).unwrap());
    drop(captures.pop());
    captures.push(begin(102).unwrap());
    captures.pop().unwrap().abandon(&Cx::new(&*shop.host, &shop.worker.telemetry));
    captures.push(begin(103).unwrap());
    assert!(begin(104).is_none());
    // A new configuration is the same worker.
    let newer = Stale::new(PREFIX.to_owned(), spec(1 << 26), &Names::default(), &shop.store);
    let request = get("/105", &[]);
    let candidate = newer
        .candidate(&Cx::new(&*shop.host, &shop.worker.telemetry), &Request::read(&request), "reviews")
        .unwrap()
        .unwrap();
    assert!(newer.begin(&Cx::at(&*shop.host, &shop.worker.telemetry, shop.now()), &candidate, &ok(GOOD)).is_none());
    assert_eq!(captures.len(), MAX_CAPTURES);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up_and_so_is_one_whose_worker_is_lost() {
    let time = u64::try_from(RESERVED_FOR.as_nanos()).unwrap();
    let shop = Shop::new();
    let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    shop.host.set_now(START + time - 1);
    assert_eq!(capture.push(b"one", shop.now()), Progress::More);
    shop.host.set_now(START + time);
    assert_eq!(capture.push(b"x", shop.now()), Progress::Enough);
    capture.abandon(&Cx::new(&*shop.host, &shop.worker.telemetry));
    assert_eq!(spoken_for(&shop.host), 0);

    let shop = Shop::new();
    let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
    let _ = capture.push(b"one", shop.now());
    shop.host.set_now(START + time);
    shop.finish(capture);
    assert_eq!((spoken_for(&shop.host), shop.instead("/a")), (0, None));

    let shop = Shop::new();
    let other = Shop::on(&shop.host, spec(1 << 20));
    drop(shop.begin(&get("/a", &[]), &ok(GOOD)));
    shop.host.set_now(START + time - 1);
    assert!(!other.good("/a", "two"), "it may still come");
    shop.host.set_now(START + time - 1 + REWRITE);
    assert!(other.good("/a", "two"));
    assert_eq!(other.instead("/a").as_deref(), Some("two"));

    let shop = Shop::new();
    drop(shop.begin(&get("/a", &[]), &ok(GOOD)));
    shop.host.set_now(START - HOUR);
    assert!(Shop::on(&shop.host, spec(1 << 20)).good("/a", "two"), "the clock went back");
}

#[test]
fn the_oldest_goes_first_but_before_it_what_cannot_be_served() {
    let shop = Shop::with(spec(40_000));
    let body = "x".repeat(9_000);
    let good = |path: &str| {
        let headers = [("cache-control", "max-age=60"), ("content-length", "9000")];
        assert!(shop.answer(&get(path, &[]), &ok(&headers), body.as_bytes()), "{path}");
    };
    for path in ["/a", "/b", "/c", "/d"] {
        good(path);
        shop.host.advance(MINUTE);
    }
    good("/a");
    shop.host.advance(MINUTE);
    good("/e");
    let kept = |paths: [&str; 5]| paths.map(|path| shop.instead(path).is_some());
    assert_eq!(kept(["/a", "/b", "/c", "/d", "/e"]), [true, false, true, true, true], "/a for /a, /b for /e");
    // The clock goes back: what was stored after now cannot be served.
    shop.host.set_now(START - HOUR);
    for path in ["/f", "/g"] {
        shop.host.advance(MINUTE);
        good(path);
    }
    shop.host.set_now(START + 6 * MINUTE);
    assert_eq!(kept(["/a", "/c", "/d", "/e", "/f"]), [true, false, false, true, false]);
}

/// The bound holds before each write of the proxy, and after the last.
fn watch(host: &MemoryHost, max_bytes: u64) -> Rc<Cell<u64>> {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    host.interfere(move |host| {
        let spoken_for = spoken_for(host);
        assert!(spoken_for <= max_bytes, "{spoken_for} of {max_bytes}");
        seen.set(seen.get().max(spoken_for));
    });
    most
}

#[test]
fn whatever_happens_there_is_never_more_than_max_bytes_and_never_an_answer_of_another() {
    for seed in 1..=6 {
        let mut random = Random::seeded(seed);
        let max_bytes = 60_000 + random.below(60_000) as u32;
        let host = MemoryHost::new();
        host.set_now(START);
        let most = watch(&host, u64::from(max_bytes));
        let workers: Vec<Shop> = (0..4).map(|_| Shop::on(&host, spec(max_bytes))).collect();
        // What was sent, when, by its body; a body begins with its path.
        let mut sent: BTreeMap<String, u64> = BTreeMap::new();
        let mut flying: Vec<(usize, Capture, String)> = Vec::new();
        let (mut bytes, mut served) = (0, 0);
        for turn in 0..5_000 {
            host.advance(random.below(SECOND));
            let worker = random.below(4) as usize;
            let shop = &workers[worker];
            let path = format!("/{}", random.below(60));
            match random.below(10) {
                0..=3 => {
                    let length = random.below(u64::from(max_bytes) / 10) as usize;
                    let body = format!("{path} {turn} {}", "x".repeat(length));
                    let said = (body.len() - random.below(20).saturating_sub(18) as usize).to_string();
                    let response = match random.below(2) {
                        0 => ok(GOOD),
                        _ => ok(&[("cache-control", "max-age=60"), ("content-length", &said)]),
                    };
                    sent.insert(body.clone(), host.now().as_nanos());
                    flying.extend(shop.begin(&get(&path, &[]), &response).map(|capture| (worker, capture, body)));
                }
                4..=6 if !flying.is_empty() => {
                    let (worker, mut capture, body) = flying.swap_remove(random.below(flying.len() as u64) as usize);
                    let shop = &workers[worker];
                    match (random.below(12), capture.push(body.as_bytes(), shop.now())) {
                        // Its worker is gone.
                        (0, _) => drop(capture),
                        (1, _) | (_, Progress::Enough) => {
                            capture.abandon(&Cx::new(&*shop.host, &shop.worker.telemetry))
                        }
                        _ => {
                            bytes += body.len();
                            shop.finish(capture);
                        }
                    }
                }
                7 if random.below(20) == 0 => host.advance(random.below(40) * SECOND),
                _ => {
                    let Some(body) = shop.instead(&path) else {
                        continue;
                    };
                    served += 1;
                    assert!(body.starts_with(&format!("{path} ")), "{body} for {path}");
                    let age = host.now().as_nanos() - sent[&body];
                    assert!(age < MAX_AGE, "{age}");
                }
            }
        }
        assert!(spoken_for(&host) <= u64::from(max_bytes));
        assert!(10 * max_bytes as usize <= bytes, "seed {seed}: {bytes} bytes only");
        assert!(u64::from(max_bytes) * 9 / 10 < most.get(), "seed {seed}: {} of {max_bytes}", most.get());
        assert!(50 < served, "seed {seed}: {served}");
        assert!(host.record_keys().len() <= SLOTS + 2);
    }
}

#[test]
fn a_hundred_thousand_paths_need_no_more_records_than_there_are_slots() {
    let shop = Shop::new();
    let mut kept = 0;
    for path in 0..100_000 {
        shop.host.advance(SECOND / 10_000);
        let path = format!("/{path}");
        let is_kept = shop.good(&path, "one");
        kept += usize::from(is_kept);
        if is_kept {
            assert_eq!(shop.instead(&path).as_deref(), Some("one"));
        }
    }
    // Of those that come later, few are taken for known.
    assert!((SLOTS..3 * SLOTS).contains(&kept), "{kept}");
    let keys: BTreeSet<String> = shop.host.record_keys().into_iter().collect();
    let expected = (0..SLOTS).map(|slot| format!("{PREFIX}{slot}")).chain([INDEX.to_owned(), SEED.to_owned()]);
    assert_eq!(keys, expected.collect());
    assert_eq!(states(&shop.host, STORED), SLOTS);
    assert!(shop.host.record(INDEX).unwrap().len() <= 12_100);
}

#[test]
fn a_smaller_budget_holds_from_the_next_answer_on() {
    let shop = Shop::with(spec(400_000));
    for path in 0..20 {
        shop.host.advance(1);
        shop.good(&format!("/{path}"), &"x".repeat(15_000));
    }
    assert!(300_000 < spoken_for(&shop.host));
    let smaller = Shop::on(&shop.host, spec(100_000));
    assert_eq!(smaller.instead("/0").map(|body| body.len()), Some(15_000), "what is there is served");
    shop.host.advance(1);
    assert!(smaller.good("/new", "one"), "what is beyond the budget goes whatever comes");
    assert!(spoken_for(&shop.host) <= 100_000);
    assert_eq!(smaller.instead("/19").map(|body| body.len()), Some(15_000), "and the newest stays");
    assert_eq!(smaller.instead("/new").as_deref(), Some("one"));
}

// === what should not be ===

#[test]
fn garbage_is_a_miss_and_is_replaced() {
    let mut shop = Shop::with(spec(100_000));
    let host = Rc::clone(&shop.host);
    shop.good("/a", "one");
    let (index, slot) = (host.record(INDEX).unwrap(), host.record(&format!("{PREFIX}0")).unwrap());
    let mut random = Random::seeded(7);
    for turn in 0..3_000 {
        let key = if turn % 2 == 0 { INDEX.to_owned() } else { format!("{PREFIX}0") };
        let mut bytes = if turn % 2 == 0 { index.clone() } else { slot.clone() };
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
            1 => bytes.extend((0..1 + random.below(50)).map(|_| 0xff)),
            2 => bytes = (0..random.below(200)).map(|_| random.next() as u8).collect(),
            _ => {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << random.below(8);
            }
        }
        host.put_record(INDEX, &index);
        host.put_record(&format!("{PREFIX}0"), &slot);
        host.put_record(&key, &bytes);
        shop.stale = Stale::new(PREFIX.to_owned(), spec(100_000), &Names::default(), &Store::new(&shop.worker.seed));
        assert_eq!(shop.instead("/b"), None);
        let _ = shop.fail(&get("/a", &[]));
        // Time for reservations that nobody made.
        host.set_now(START + HOUR);
        let _ = shop.good("/b", "two");
        if turn % 2 == 0 {
            // Another generation or charge is no garbage, but all else is found out or does no harm.
            assert!(shop.instead("/b").is_none_or(|body| body == "two"));
        }
        host.set_now(START);
    }
}

#[test]
fn an_unreadable_index_costs_what_was_kept_and_no_more() {
    let shop = Shop::with(spec(100_000));
    for path in ["/a", "/b", "/c"] {
        shop.good(path, &"x".repeat(6_000));
    }
    shop.host.put_record(INDEX, b"what is this?");
    assert_eq!(shop.instead("/a"), None);
    assert!(shop.good("/d", "four"));
    assert_eq!(shop.instead("/d").as_deref(), Some("four"));
    let kept = |slot: usize| shop.host.record(&format!("{PREFIX}{slot}")).map_or(0, |bytes| bytes.len());
    assert!((0..SLOTS).map(kept).sum::<usize>() < 1_000, "what nobody knows of does not stay beside the bound");
    assert_eq!(shop.host.metric(&outrigger::monitor::metrics::host_errors_total("shared_decode")), 1);
}

#[test]
fn an_answer_in_the_wrong_slot_is_not_served() {
    let shop = Shop::new();
    shop.good("/a", "one");
    shop.good("/b", "two");
    let [first, second] = [0, 1].map(|slot| shop.host.record(&format!("{PREFIX}{slot}")).unwrap());
    shop.host.put_record(&format!("{PREFIX}0"), &second);
    assert_eq!(shop.instead("/a"), None);
    let mut same_turn = second.clone();
    same_turn[17..25].copy_from_slice(&first[17..25]);
    shop.host.put_record(&format!("{PREFIX}0"), &same_turn);
    assert_eq!(shop.instead("/a"), None);
    // Nor one of an earlier turn of the slot.
    let mut earlier = first.clone();
    earlier[17] ^= 1;
    shop.host.put_record(&format!("{PREFIX}0"), &earlier);
    assert_eq!(shop.instead("/a"), None);
    shop.host.put_record(&format!("{PREFIX}0"), &first);
    assert_eq!(shop.instead("/a").as_deref(), Some("one"));
}

#[test]
fn a_proxy_that_refuses_costs_the_answer_and_is_counted() {
    for call in ["shared_get", "shared_set", "random_get"] {
        let shop = Shop::new();
        shop.host.break_call(call);
        assert!(!shop.good("/a", "one"), "{call}");
        assert_eq!(shop.instead("/a"), None);
        let counted = shop.host.metric(&outrigger::monitor::metrics::host_errors_total(call));
        assert!(1 <= counted, "{call}");
        shop.host.repair(call);
        shop.host.advance(REWRITE);
        assert!(shop.good("/a", "one"), "{call}");
        assert_eq!(shop.instead("/a").as_deref(), Some("one"));
    }
    for call in ["shared_get", "shared_set"] {
        let shop = Shop::new();
        shop.good("/first", "for the hash secret");
        let mut capture = shop.begin(&get("/a", &[]), &ok(GOOD)).unwrap();
        let _ = capture.push(b"one", shop.now());
        shop.host.break_call(call);
        shop.finish(capture);
        shop.host.repair(call);
        assert_eq!(shop.instead("/a"), None);
        shop.host.advance(30 * SECOND);
        assert!(shop.good("/a", "two"), "{call}: the slot is free after its time");
        assert_eq!(shop.instead("/a").as_deref(), Some("two"));
    }
}

// === races ===

/// A worker is stopped before its `stop`-th write, for as long as a reservation lasts, and others use all slots.
#[test]
fn a_worker_that_was_stopped_for_long_writes_nowhere() {
    const MAX_BYTES: u32 = 40_000;
    for full in [false, true] {
        for stop in 0..12 {
            let host = MemoryHost::new();
            host.set_now(START);
            host.put_record(SEED, &[7; 16]);
            let slow = Shop::on(&host, spec(MAX_BYTES));
            let fast = Rc::new(Shop::on(&host, spec(MAX_BYTES)));
            let body = "x".repeat(4_000);
            let headers = [("cache-control", "max-age=60"), ("content-length", "4000")];
            let long = [("cache-control", "max-age=60"), ("content-length", "9500")];
            let fill = move |shop: &Shop, prefix: &str| {
                // The second time, what was there goes; several of them for one long answer.
                for turn in 0..10 {
                    shop.host.advance(3 * SECOND);
                    let path = format!("/{prefix}{}", turn % 5);
                    shop.make_popular(&path);
                    shop.answer(&get(&path, &[]), &ok(&headers), body.as_bytes());
                    assert!(spoken_for(&shop.host) <= u64::from(MAX_BYTES), "{stop}, {turn}");
                }
            };
            if full {
                fill(&fast, "before");
            }
            let before = host.now();
            let writes = Cell::new(0);
            let others = Rc::clone(&fast);
            let filled = fill.clone();
            host.interfere(move |host| {
                writes.set(writes.get() + 1);
                if writes.get() == stop + 1 {
                    host.advance(31 * SECOND);
                    filled(&others, "meanwhile");
                }
            });
            slow.make_popular("/slow");
            let mut capture = slow.begin(&get("/slow", &[]), &ok(&long));
            // Its clock was read before.
            let now = before;
            if let Some(mut capture) = capture.take() {
                let _ = capture.push("y".repeat(9_500).as_bytes(), now);
                capture.finish(&Cx::at(&*host, &slow.worker.telemetry, now));
            }
            host.interfere(|_| {});
            assert!(spoken_for(&host) <= u64::from(MAX_BYTES), "{stop}: {}", spoken_for(&host));
            for path in ["/slow", "/meanwhile0", "/meanwhile1", "/meanwhile2", "/meanwhile3"] {
                let expected = if path == "/slow" { "y".repeat(9_500) } else { "x".repeat(4_000) };
                assert!(fast.instead(path).is_none_or(|body| body == expected), "{stop}: {path}");
            }
            fill(&fast, "after");
            assert!(fast.instead("/after3").is_some(), "and all goes on");
        }
    }
}

/// An answer of so many bytes.
fn sized(length: &str) -> Headers {
    ok(&[("cache-control", "max-age=60"), ("content-length", length)])
}

#[test]
fn who_was_taken_for_lost_cannot_write_into_the_next_turn_of_its_slot() {
    let host = MemoryHost::new();
    host.set_now(START);
    let (slow, fast) = (Shop::on(&host, spec(40_000)), Shop::on(&host, spec(40_000)));
    let body = "x".repeat(9_500);
    let mut late = slow.begin(&get("/slow", &[]), &sized("9500")).unwrap();
    let _ = late.push(body.as_bytes(), at(START));
    host.advance(31 * SECOND);
    for path in ["/1", "/2", "/3"] {
        assert!(fast.answer(&get(path, &[]), &sized("9500"), body.as_bytes()));
    }
    let next = fast.begin(&get("/next", &[]), &sized("20")).unwrap();
    let mut other = fast.begin(&get("/other", &[]), &sized("9500")).unwrap();
    let _ = other.push(body.as_bytes(), host.now());

    late.finish(&Cx::at(&*host, &slow.worker.telemetry, at(START)));

    assert!(spoken_for(&host) <= 40_000);
    next.abandon(&Cx::new(&*host, &fast.worker.telemetry));
    fast.finish(other);
    assert!(spoken_for(&host) <= 40_000);
    assert_eq!(fast.instead("/other"), Some(body), "nor does it keep the next one out");
    assert_eq!(fast.instead("/slow"), None);
}

/// Three slots are given up, and while one worker empties them, others fill two of them and give one up again.
#[test]
fn who_has_emptied_a_slot_frees_no_later_turn_of_it() {
    const NOW: u64 = START + MINUTE;
    let host = MemoryHost::new();
    host.set_now(START);
    let (slow, fast) = (Shop::on(&host, spec(40_000)), Rc::new(Shop::on(&host, spec(40_000))));
    let body = "x".repeat(3_000);
    for page in 0..12 {
        host.advance(SECOND);
        assert!(fast.answer(&get(&format!("/{page}"), &[]), &sized("3000"), body.as_bytes()));
    }
    host.set_now(NOW);
    let (writes, others) = (Rc::new(Cell::new(0)), Rc::clone(&fast));
    let count = Rc::clone(&writes);
    host.interfere(move |host| {
        writes.set(writes.get() + 1);
        // The index, and the first two slots.
        if writes.get() == 4 {
            for (now, path) in [(NOW - 11 * SECOND, "/x"), (NOW - 11 * SECOND, "/y"), (NOW, "/slow"), (NOW, "/y")] {
                host.set_now(now);
                assert!(others.answer(&get(path, &[]), &sized("3000"), &[b'x'; 3_000]), "{path}");
            }
        }
    });
    slow.make_popular("/slow");
    assert!(slow.begin(&get("/slow", &[]), &sized("9500")).is_none(), "there is one by now");
    host.interfere(|_| {});
    assert!(4 < count.get(), "and it gave three slots up for it");

    // A slot that is wrongly free has room for less than it holds.
    let small = fast.begin(&get("/small", &[]), &sized("10")).unwrap();
    for page in 20..40 {
        host.advance(SECOND);
        let path = format!("/{page}");
        fast.make_popular(&path);
        assert!(fast.answer(&get(&path, &[]), &sized("3000"), body.as_bytes()));
        assert!(spoken_for(&host) <= 40_000, "{page}: {}", spoken_for(&host));
        // Time for what it takes the place of to sink.
        host.advance(2 * MINUTE);
    }
    small.abandon(&Cx::new(&*host, &fast.worker.telemetry));
}

/// Workers that keep an answer each, whole in one step.
struct Keepers {
    shop: Shop,
    max_bytes: u32,
    paths: &'static [&'static str],
    /// By how much the clock of each worker is ahead of the one before.
    apart: u64,
}

impl Keepers {
    fn new(max_bytes: u32, paths: &'static [&'static str]) -> Self {
        let shop = Shop::with(spec(max_bytes));
        shop.host.set_now(START + MINUTE);
        shop.host.put_record(SEED, &[7; 16]);
        let _ = shop.worker.seed.hasher(&Cx::new(&*shop.host, &shop.worker.telemetry));
        Self { shop, max_bytes, paths, apart: 0 }
    }

    /// With so many answers of before, the oldest first.
    fn after(self, paths: &[&str]) -> Self {
        for (turn, path) in paths.iter().enumerate() {
            self.shop.host.set_now(START + turn as u64 * SECOND);
            let response = ok(&[("cache-control", "max-age=60"), ("content-length", "9505")]);
            assert!(self.shop.answer(&get(path, &[]), &response, Self::body(path, 0).as_bytes()));
        }
        self.shop.host.set_now(START + MINUTE);
        self
    }

    fn body(path: &str, worker: usize) -> String {
        format!("{path} {worker} {}", "x".repeat(9_500))
    }
}

impl Race for Keepers {
    type Answer = bool;

    fn proxy(&self) -> &MemoryHost {
        &self.shop.host
    }

    fn step(&self, worker: usize, host: &dyn Host) -> Result<bool, HostError> {
        let held = spoken_for(&self.shop.host);
        assert!(held <= u64::from(self.max_bytes), "{held}");
        let path = self.paths[worker];
        // Asked again, it remembers nothing of what it was asked before.
        let store = Store::new(&self.shop.worker.seed);
        let stale = Stale::new(PREFIX.to_owned(), spec(self.max_bytes), &Names::default(), &store);
        let (request, now) = (get(path, &[]), at(START + MINUTE + worker as u64 * self.apart));
        let candidate = stale
            .candidate(&Cx::new(host, &self.shop.worker.telemetry), &Request::read(&request), "reviews")
            .unwrap()
            .unwrap();
        // Asked for more often than what is there.
        for _ in 0..16 {
            let _ = stale.begin(
                &Cx::at(&*self.shop.host, &self.shop.worker.telemetry, now),
                &candidate,
                &sized("100000000"),
            );
        }
        let response = ok(&[("cache-control", "max-age=60"), ("content-length", "9505")]);
        let Some(mut capture) = stale.begin(&Cx::at(host, &self.shop.worker.telemetry, now), &candidate, &response)
        else {
            return Ok(false);
        };
        let _ = capture.push(Self::body(path, worker).as_bytes(), now);
        capture.finish(&Cx::at(host, &self.shop.worker.telemetry, now));
        Ok(true)
    }
}

#[test]
fn two_workers_with_an_answer_to_the_same_request_keep_one_of_them_in_any_order() {
    let start = || Keepers::new(1 << 20, &["/a", "/a"]);
    let orders = in_every_order(&[1, 1], start, |course| {
        let kept = course.answers.iter().flatten().filter(|kept| **kept).count();
        assert_eq!(kept, 1, "{:?}", course.order);
        let served = course.race.shop.instead("/a").unwrap();
        assert!((0..2).any(|worker| served == Keepers::body("/a", worker)), "{:?}", course.order);
        assert_eq!(states(course.race.proxy(), STORED), 1);
    });
    assert!(20 < orders, "{orders}");
}

#[test]
fn two_workers_with_different_answers_keep_both_in_any_order() {
    let start = || Keepers::new(1 << 20, &["/a", "/b"]);
    let orders = in_every_order(&[1, 1], start, |course| {
        for (worker, path) in ["/a", "/b"].into_iter().enumerate() {
            let served = course.race.shop.instead(path);
            assert_eq!(served, Some(Keepers::body(path, worker)), "{:?}", course.order);
        }
    });
    assert!(500 < orders, "{orders}");
}

#[test]
fn workers_that_make_room_at_once_never_overdraw_and_keep_what_they_keep() {
    let start = || Keepers::new(40_000, &["/a", "/b", "/c"]).after(&["/1", "/2", "/3", "/4"]);
    let mut kept = 0;
    in_random_orders(&[1, 1, 1], 11, 500, start, |course| {
        assert!(spoken_for(course.race.proxy()) <= 40_000, "{:?}", course.order);
        for (worker, path) in ["/a", "/b", "/c"].into_iter().enumerate() {
            if let Some(served) = course.race.shop.instead(path) {
                assert_eq!(served, Keepers::body(path, worker), "{:?}", course.order);
                kept += 1;
            }
        }
        for path in ["/1", "/2", "/3", "/4"] {
            assert!(course.race.shop.instead(path).is_none_or(|served| served == Keepers::body(path, 0)));
        }
    });
    // Of three each.
    assert!(500 * 2 <= kept, "{kept}");
}

/// The second worker takes the first for lost: its clock is a minute ahead. To the first, the clock has gone back.
#[test]
fn who_is_taken_for_lost_and_is_not_does_no_harm_in_any_order() {
    let start = || {
        let mut keepers = Keepers::new(39_000, &["/a", "/b"]).after(&["/1", "/2", "/3"]);
        keepers.apart = MINUTE;
        keepers
    };
    let mut kept = 0;
    in_random_orders(&[1, 1], 12, 500, start, |course| {
        let shop = &course.race.shop;
        assert!(spoken_for(&shop.host) <= 39_000, "{:?}", course.order);
        shop.host.set_now(START + 2 * MINUTE);
        let served = ["/a", "/b"].map(|path| shop.instead(path));
        kept += usize::from(served.iter().any(Option::is_some));
        for (worker, (path, served)) in ["/a", "/b"].into_iter().zip(served).enumerate() {
            assert!(served.is_none_or(|it| it == Keepers::body(path, worker)), "{:?}", course.order);
        }
        // And it can go on: what nobody is charged with is empty.
        let response = ok(&[("cache-control", "max-age=60"), ("content-length", "9505")]);
        for path in ["/5", "/6", "/7", "/8"] {
            shop.make_popular(path);
            shop.answer(&get(path, &[]), &response, Keepers::body(path, 0).as_bytes());
            assert!(spoken_for(&shop.host) <= 39_000, "{:?}", course.order);
        }
    });
    assert!(450 < kept, "{kept}");
}

// === what the service says later ===

/// What the service answers a `GET` with, by status and headers.
fn say(shop: &Shop, request: &Headers, status: &str, headers: Pairs<'_>, body: &str) {
    let response = [&[(":status", status)], headers].concat();
    shop.answer(request, &Headers::from_pairs(&response), body.as_bytes());
}

fn address(path: &str) -> Address {
    Address::of(&Request::read(&get(path, &[])))
}

/// "What the service says later about the same address counts, whatever it is."
#[test]
fn an_answer_that_is_not_to_be_kept_or_is_none_any_more_takes_back_the_one_before_it() {
    let cases: &[(&str, Pairs<'_>)] = &[
        ("200", &[("cache-control", "no-store")]),
        ("200", &[("cache-control", "private, max-age=60")]),
        ("200", &[("cache-control", "no-cache")]),
        ("200", &[("cache-control", "max-age=0")]),
        ("200", &[("cache-control", "public, max-age")]),
        ("200", &[("pragma", "no-cache"), ("cache-control", "max-age=60")]),
        ("200", &[("cache-control", "private"), ("set-cookie", "a=b")]),
        ("200", &[]),
        ("204", &[]),
        ("301", &[("location", "/elsewhere")]),
        ("302", &[("location", "/login")]),
        ("401", &[]),
        ("403", &[]),
        ("404", &[("cache-control", "max-age=60")]),
        ("410", &[]),
        ("451", &[]),
    ];
    for (status, headers) in cases {
        let shop = Shop::new();
        assert!(shop.good("/a", "first") && shop.good("/b", "other"));
        say(&shop, &get("/a", &[]), status, headers, "later");
        assert_eq!(shop.instead("/a"), None, "{status} {headers:?}");
        assert_eq!(shop.instead("/b").as_deref(), Some("other"), "{status} {headers:?}");
        // And is followed by the next good one, at once.
        assert!(shop.good("/a", "second"), "{status} {headers:?}");
        assert_eq!(shop.instead("/a").as_deref(), Some("second"), "{status} {headers:?}");
    }
}

#[test]
fn what_says_nothing_of_the_page_takes_nothing_back() {
    let cases: &[(&str, Pairs<'_>)] = &[
        ("500", &[]),
        ("503", &[("cache-control", "no-store")]),
        ("400", &[]),
        ("408", &[]),
        ("429", &[("cache-control", "no-store")]),
        ("403", &[("x-envoy-ratelimited", "true")]),
        ("404", &[("x-outrigger-reason", "switch/elsewhere")]),
        ("200", &[("x-outrigger-reason", "failure/elsewhere")]),
        ("200", &[("cache-status", "outrigger; hit")]),
        ("200", &[("cache-control", "max-age=60"), ("set-cookie", "a=b")]),
        ("200", &[("content-type", "text/event-stream")]),
        ("206", &[("content-range", "bytes 0-1/9")]),
    ];
    for (status, headers) in cases {
        let shop = Shop::new();
        assert!(shop.good("/a", "first"));
        say(&shop, &get("/a", &[]), status, headers, "later");
        assert_eq!(shop.instead("/a").as_deref(), Some("first"), "{status} {headers:?}");
    }
}

/// Only what that client could get is taken back by what was said to it.
#[test]
fn what_is_taken_back_from_one_variant_leaves_the_others() {
    let shop = Shop::new();
    let vary: Pairs<'_> = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
    let [german, english] = ["de", "en"].map(|language| get("/a", &[("accept-language", language)]));
    shop.answer(&german, &ok(vary), b"hallo");
    shop.answer(&english, &ok(vary), b"hello");
    say(&shop, &german, "404", &[], "");
    assert_eq!(shop.fail(&german).map(text), None);
    assert_eq!(shop.fail(&english).map(text).as_deref(), Some("hello"));
}

/// An answer that is never kept is not looked up each time.
#[test]
fn what_was_just_taken_back_costs_no_call() {
    let shop = Shop::new();
    shop.good("/b", "other");
    say(&shop, &get("/a", &[]), "404", &[], "");
    shop.host.take_calls();
    for _ in 0..100 {
        say(&shop, &get("/a", &[]), "404", &[], "");
    }
    assert_eq!(take_shared_calls(&shop.host), 0);
    shop.host.advance(SECOND);
    say(&shop, &get("/a", &[]), "404", &[], "");
    assert_eq!(take_shared_calls(&shop.host), 1);
}

#[test]
fn a_write_gives_up_all_variants_of_its_address_and_those_that_are_on_their_way() {
    let spec = Spec { key: vec![KeyPart::Header("x-user-id".to_owned())], ..spec(1 << 20) };
    let shop = Shop::with(spec);
    let vary: Pairs<'_> = &[("cache-control", "max-age=60"), ("vary", "accept-language")];
    let requests: Vec<Headers> = [("7", "de"), ("7", "en"), ("8", "de")]
        .map(|(user, language)| get("/a?x=1", &[("x-user-id", user), ("accept-language", language)]))
        .into();
    for request in &requests {
        shop.answer(request, &ok(vary), b"kept");
    }
    shop.good("/a", "another address");
    let on_its_way = shop.begin(&get("/a?x=1", &[("x-user-id", "9")]), &ok(GOOD)).unwrap();
    shop.stale.forget(&Cx::new(&*shop.host, &shop.worker.telemetry), &[address("/a?x=1")]);
    for request in &requests {
        assert!(shop.fail(request).is_none(), "{request:?}");
    }
    shop.finish(on_its_way);
    assert!(shop.fail(&get("/a?x=1", &[("x-user-id", "9")])).is_none(), "it was made before the write");
    assert_eq!(shop.instead("/a").as_deref(), Some("another address"));
    // What is made after it is kept, at once.
    assert!(shop.answer(&requests[0], &ok(vary), b"new"));
    assert_eq!(shop.fail(&requests[0]).map(text).as_deref(), Some("new"));
}

#[test]
fn a_304_renews_the_answer_that_it_confirms_and_no_other() {
    let tagged: Pairs<'_> = &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("content-type", "text/plain")];
    let dated: Pairs<'_> = &[("cache-control", "max-age=60"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let cases: &[(Pairs<'_>, Pairs<'_>, bool)] = &[
        (tagged, &[("etag", "\"1\"")], true),
        (tagged, &[("etag", "W/\"1\"")], true),
        (tagged, &[("etag", "\"2\"")], false),
        (tagged, &[], false),
        (dated, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], true),
        (dated, &[("last-modified", "Mon, 07 Nov 1994 08:49:37 GMT")], false),
        (GOOD, &[("etag", "\"1\"")], false),
    ];
    for (kept, confirmation, renewed) in cases {
        let shop = Shop::new();
        shop.answer(&get("/a", &[]), &ok(kept), b"text");
        shop.host.advance(9 * MINUTE);
        let conditional = get("/a", &[("if-none-match", "\"1\"")]);
        say(&shop, &conditional, "304", confirmation, "");
        shop.host.advance(9 * MINUTE);
        assert_eq!(shop.instead("/a").is_some(), *renewed, "{kept:?} {confirmation:?}");
    }
}

#[test]
fn a_304_brings_headers_and_terms_and_can_take_back() {
    let first: Pairs<'_> =
        &[("cache-control", "s-maxage=60"), ("etag", "\"1\""), ("content-type", "text/plain"), ("x-a", "1")];
    let shop = Shop::new();
    shop.answer(&get("/a", &[]), &ok(first), b"text");
    shop.host.advance(61 * SECOND);
    assert_eq!(shop.instead("/a"), None, "its lifetime is over");
    let conditional = get("/a", &[("if-none-match", "\"1\"")]);
    say(
        &shop,
        &conditional,
        "304",
        &[("etag", "\"1\""), ("cache-control", "max-age=30"), ("x-a", "2"), ("age", "5")],
        "",
    );
    let reply = shop.fail(&get("/a", &[])).unwrap();
    assert_eq!(header(&reply, "cache-control"), Some("max-age=30"));
    assert_eq!((header(&reply, "x-a"), header(&reply, "content-type")), (Some("2"), Some("text/plain")));
    assert_eq!((header(&reply, "age"), reply.body.as_slice()), (Some("5"), b"text".as_slice()));
    shop.host.advance(REWRITE);
    say(&shop, &conditional, "304", &[("etag", "\"1\""), ("cache-control", "private")], "");
    assert_eq!(shop.instead("/a"), None);
}

#[test]
fn what_a_location_names_is_resolved_as_the_rfc_says() {
    let base = address("/a/b/c?d");
    let cases = [
        ("/x/y?z", Some("/x/y?z")),
        ("x", Some("/a/b/x")),
        ("./x/", Some("/a/b/x/")),
        ("../x", Some("/a/x")),
        ("../../../x", Some("/x")),
        ("..", Some("/a/")),
        ("?y", Some("/a/b/c?y")),
        ("", Some("/a/b/c?d")),
        ("#top", Some("/a/b/c?d")),
        (" x#top ", Some("/a/b/x")),
        ("https://shop.example.com/x", Some("/x")),
        ("HTTP://SHOP.example.com:80/x", Some("/x")),
        ("//shop.example.com?x", Some("/?x")),
        ("https://shop.example.com./x", Some("/x")),
        ("https://shop.example.com.:443/x", Some("/x")),
        ("https://shop.example.com.:8443/x", None),
        ("https://shop.example.com", Some("/")),
        ("https://evil.example.com/x", None),
        ("https://shop.example.com.evil.example/x", None),
        ("https://shop.example.com:8443/x", None),
        ("//evil.example.com/x", None),
        ("mailto:a@b", None),
    ];
    for (reference, expected) in cases {
        assert_eq!(base.resolve(reference.as_bytes()), expected.map(address), "{reference}");
    }
    assert!(base.resolve(&[0xFF, b'/', 0]).is_some(), "whatever the network sends");
}

/// A client that names the host in full means the same pages.
#[test]
fn an_address_is_the_same_however_its_host_is_written() {
    let at = |authority: &str| {
        let headers = Headers::from_pairs(&[(":authority", authority), (":path", "/a")]);
        Address::of(&Request::read(&headers))
    };
    for host in
        ["shop.example.com.", "SHOP.example.com", "shop.example.com:80", "shop.example.com.:443", "Shop.Example.Com.:"]
    {
        assert_eq!(at(host), at("shop.example.com"), "{host}");
    }
    assert_eq!(at("shop.example.com.:8080"), at("shop.example.com:8080"));
    assert_eq!(at("[::1]:80"), at("[::1]"));
    for host in ["shop.example.com:8080", "shop.example.org", "[::1]", ""] {
        assert_ne!(at(host), at("shop.example.com"), "{host}");
    }
}

// === for pages of other origins ===

#[test]
fn an_answer_that_was_made_for_an_origin_comes_before_a_newer_one_that_was_made_for_none() {
    let shop = Shop::new();
    let from = |origin: &str| get("/a", &[("origin", origin)]);
    let page = "https://page.example";
    let readable: Pairs<'_> = &[("cache-control", "max-age=60"), ("access-control-allow-origin", page)];
    shop.answer(&from(page), &ok(readable), b"for the page");
    shop.host.advance(SECOND);
    shop.good("/a", "for nobody");
    assert_eq!(shop.fail(&from(page)).map(text).as_deref(), Some("for the page"));
    assert_eq!(shop.instead("/a").as_deref(), Some("for nobody"));
    assert_eq!(shop.fail(&from("https://other.example")).map(text).as_deref(), Some("for nobody"));
}

// === answers that stall ===

/// A place of a worker is lost after the time in which a slot is, whether the stream ends or not.
#[test]
fn answers_whose_bodies_stop_coming_give_their_places_back() {
    let shop = Shop::new();
    let begin = |number: usize| {
        let path = format!("/stalled/{number}");
        shop.make_popular(&path);
        shop.begin(&get(&path, &[]), &ok(GOOD)).unwrap()
    };
    let mut stalled: Vec<Capture> = (0..MAX_CAPTURES).map(begin).collect();
    assert!(!shop.good("/a", "no place"));
    shop.host.advance(RESERVED_FOR.as_nanos() as u64 - 1);
    assert!(!shop.good("/a", "no place"));
    shop.host.advance(1);
    assert!(shop.good("/a", "kept"));
    assert_eq!(shop.instead("/a").as_deref(), Some("kept"));
    // Those that go on after all are not kept, even if the clock goes back, nor do they take a place from others.
    shop.host.set_now(START);
    let late = stalled.pop().unwrap();
    late.finish(&Cx::at(&*shop.host, &shop.worker.telemetry, shop.now()));
    for mut capture in stalled {
        assert_eq!(capture.push(b"late", shop.now()), Progress::Enough);
        capture.abandon(&Cx::new(&*shop.host, &shop.worker.telemetry));
    }
    for number in 0..MAX_CAPTURES {
        assert_eq!(shop.instead(&format!("/stalled/{number}")), None);
    }
    shop.host.set_now(START + 2 * RESERVED_FOR.as_nanos() as u64);
    let places: Vec<Capture> = (MAX_CAPTURES..2 * MAX_CAPTURES).map(begin).collect();
    assert!(!shop.good("/b", "no place"));
    drop(places);
}
