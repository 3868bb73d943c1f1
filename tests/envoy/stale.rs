//! The last good answer in place of a failure: what is kept, for whom, for how long, and at what cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::frames::{Connection, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, block};
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream, page};
use crate::rig::wire::Wire;

const REASON: &str = "failure/other";
const FRESH: &str = "cache-control=public, max-age=60";

/// A rule for all requests.
fn policy(stale: Value) -> Value {
    json!({
        "fallbacks": [{ "name": "none", "status": 503, "text": "nothing kept" }],
        "on_failure": [{ "stale": stale, "fallback": "none" }],
    })
}

async fn start(turn: &Turn, upstream: &Upstream, policy: &Value, workers: usize) -> Envoy {
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(policy));
    turn.start(Bootstrap::new(listener).concurrency(workers)).await
}

/// A GET whose answer carries this header.
fn getting(client: &Client, path: &str, header: &str) -> RequestBuilder {
    client.request(Method::GET, path).header("x-answer-header", header)
}

fn assert_kept(answer: &Answer, original: &Answer) {
    assert_eq!((answer.status, answer.reason()), (200, Some(REASON)), "{answer:?}");
    assert_eq!(answer.body, original.body);
    // HTTP/2 needs no length to tell that there is no body.
    if !original.body.is_empty() {
        let length = original.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()), "{answer:?}");
    }
    assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    let age: u64 = answer.header("age").and_then(|age| age.parse().ok()).expect("an age");
    assert!(age < 60, "{age}");
    let status = answer.header("cache-status").expect("it says where it comes from");
    assert!(status.starts_with("outrigger; fwd=bypass; fwd-status=503; ttl="), "{status}");
}

fn assert_not_kept(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (503, "nothing kept"), "{:?}", answer.headers);
    assert_eq!((answer.header("age"), answer.header("cache-status")), (None, None));
}

/// What one worker saw serves all, over both protocols, with and without a length.
async fn kept(http2_upstream: bool, workers: usize) {
    let turn = Turn::shared().await;
    let mut upstream = Upstream::start().await;
    let cluster = if http2_upstream { upstream.cluster_http2() } else { upstream.cluster() };
    let listener = Listener::to(cluster).filter(Filter::new(&policy(json!({ "max_age": "10m" }))));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(workers)).await;
    let client = envoy.client();
    let sized = send(getting(&client, "/sized?a=1", FRESH).header("x-answer-size", "20000")).await;
    let chunked = getting(&client, "/chunked", FRESH).header("x-answer-size", "20000").header("x-answer-chunked", "y");
    let chunked = send(chunked).await;
    let empty = send(getting(&client, "/empty", FRESH).header("x-answer-size", "0")).await;
    assert_eq!((sized.body.len(), chunked.body.len(), empty.body.len()), (20_000, 20_000, 0));

    upstream.crash();
    let mut clients = envoy.clients("/never-seen").await;
    clients.push(Client::http2(envoy.address()));
    for client in &clients {
        for (path, original) in [("/sized?a=1", &sized), ("/chunked", &chunked), ("/empty", &empty)] {
            assert_kept(&client.get(path).await, original);
        }
        for path in ["/sized?a=2", "/sized", "/never-seen"] {
            assert_not_kept(&client.get(path).await);
        }
        let head = send(client.request(Method::HEAD, "/sized?a=1")).await;
        assert_eq!((head.status, head.body.len()), (503, 0), "only what was asked for is answered");
        let posted = send(client.request(Method::POST, "/sized?a=1")).await;
        assert_not_kept(&posted);
    }
    let mut wire = Wire::connect(envoy.address()).await;
    let host = format!("host: {}\r\n", envoy.address());
    wire.send(format!("GET /empty HTTP/1.1\r\n{host}\r\n")).await;
    let bare = wire.reply().await;
    assert_eq!((bare.status, bare.header("content-length")), (200, Some("0")), "{}", bare.head);
    let count = clients.len() as f64;
    let served = [("fallback", "stale"), ("reason", REASON)];
    envoy.expect_metric("outrigger_fallbacks_total", &served, 3.0 * count + 1.0).await;
    let log = envoy.access_log(1, |entry| entry.path.as_deref() == Some("/chunked") && entry.reason.is_some()).await;
    assert_eq!((log[0].reason.as_deref(), log[0].detail.as_deref()), (Some(REASON), Some("503")));
    assert_eq!(log[0].details.as_deref(), Some("outrigger_failure_other"));

    upstream.revive().await;
    for client in &clients {
        let healed = client.get("/sized?a=1").await;
        assert_eq!((healed.status, healed.reason(), healed.header("age")), (200, None, None), "the service's own");
    }
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_saw_serves_all_in_an_outage_over_http_1() {
    kept(false, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_saw_serves_all_in_an_outage_over_http_2() {
    kept(true, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_answers_with_what_is_kept() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(json!({ "max_age": "10m" }));
    policy["breakers"] = json!([{ "name": "all", "trip": { "consecutive_failures": 3 }, "open_for": "5m",
                                  "max_open_for": "5m" }]);
    let envoy = start(&turn, &upstream, &policy, 1).await;
    let client = envoy.client();
    let original = send(getting(&client, "/page", FRESH)).await;
    upstream.behave("/", Manner::Resetting);

    for _ in 0..3 {
        assert_kept(&client.get("/page").await, &original);
    }
    let seen = upstream.count("/page");
    let spared = client.get("/page").await;

    assert_eq!((spared.status, spared.reason()), (200, Some("breaker/all")));
    assert_eq!(spared.body, original.body);
    let status = spared.header("cache-status").expect("it says where it comes from");
    assert!(status.starts_with("outrigger; hit; ttl="), "{status}");
    assert_eq!(upstream.count("/page"), seen, "the service is spared");
}

/// Direct responses and redirects of the route say nothing about the service's pages, whoever asks them and however.
#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_itself_answers_takes_no_kept_answer_back() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let own = |status: u16| {
        let header = json!({ "name": "x-own", "string_match": { "exact": status.to_string() } });
        let route = json!({ "prefix": "/", "headers": [header] });
        match status {
            301 => json!({ "match": route, "redirect": { "path_redirect": "/elsewhere" } }),
            _ => json!({ "match": route, "direct_response": { "status": status } }),
        }
    };
    let to_service = json!({ "match": { "prefix": "/" }, "route": { "cluster": upstream.cluster().name() } });
    let routes = [own(403), own(404), own(301), own(200), to_service];
    let host = json!({ "name": "shop", "domains": ["*"], "routes": routes });
    let mut without_outcomes = policy(json!({ "max_age": "10m" }));
    without_outcomes["monitor"] = json!({ "outcomes": false });
    for policy in [policy(json!({ "max_age": "10m" })), without_outcomes] {
        upstream.behave("/", Manner::Well);
        let listener = Listener::to(upstream.cluster())
            .connection_manager(json!({ "route_config": { "virtual_hosts": [host] } }))
            .filter(Filter::new(&policy));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        let client = envoy.client();
        let cases =
            [(Method::GET, 403), (Method::GET, 404), (Method::GET, 301), (Method::POST, 301), (Method::POST, 200)];
        let mut originals = Vec::new();
        for (number, (method, status)) in cases.into_iter().enumerate() {
            let path = format!("/good{number}");
            originals.push(send(getting(&client, &path, FRESH)).await);
            let own = send(client.request(method, &path).header("x-own", status.to_string())).await;
            assert_eq!(own.status, status);
        }
        let written = send(getting(&client, "/written", FRESH)).await;
        assert_eq!(send(client.request(Method::POST, "/written")).await.status, written.status);
        let with_host = |method, host| client.request(method, "/host").header("host", host);
        let named = with_host(Method::GET, "shop.example.com").header("x-answer-header", FRESH);
        assert_eq!(send(named).await.status, 200);
        assert_eq!(send(with_host(Method::DELETE, "shop.example.com.")).await.status, 200);
        upstream.behave("/", Manner::Failing(503));

        for (number, original) in originals.iter().enumerate() {
            assert_kept(&client.get(&format!("/good{number}")).await, original);
        }
        assert_not_kept(&client.get("/written").await);
        assert_not_kept(&send(with_host(Method::GET, "shop.example.com")).await);
        envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    }
}

/// A body needs no length over HTTP/2, and what it asks for is nobody else's answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_get_with_a_body_of_no_told_length_is_not_kept_over_http_2() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, &policy(json!({ "max_age": "10m" })), 2).await;
    let host = envoy.address().to_string();
    let mut connection = Connection::open(envoy.address()).await;
    // Of the same paths, and bodies that are all the request's end, its data or its trailers.
    let fields = |path: &'static str| {
        let asked: [(&str, &[u8]); 5] = [
            (":method", b"GET"),
            (":scheme", b"http"),
            (":path", path.as_bytes()),
            (":authority", host.as_bytes()),
            ("x-answer-header", FRESH.as_bytes()),
        ];
        block(&asked)
    };
    let mut answers = Vec::new();
    for (stream, path, parts) in [
        (1, "/bare", vec![]),
        (3, "/body", vec![Frame::new(DATA, END_STREAM, 3, *b"whose?")]),
        (5, "/pieces", vec![Frame::new(DATA, 0, 5, *b"who"), Frame::new(DATA, END_STREAM, 5, *b"se?")]),
        (
            7,
            "/trailers",
            vec![
                Frame::new(DATA, 0, 7, *b"whose?"),
                Frame::new(HEADERS, END_HEADERS | END_STREAM, 7, block(&[("x-last", b"1")])),
            ],
        ),
    ] {
        let end = if parts.is_empty() { END_STREAM } else { 0 };
        connection.send(&Frame::new(HEADERS, END_HEADERS | end, stream, fields(path))).await;
        for part in &parts {
            connection.send(part).await;
        }
        let told: Value =
            serde_json::from_slice(&connection.body(stream).await).expect("the service tells what it got");
        answers.push(told["body_size"].as_u64().expect("a size"));
    }
    assert_eq!(answers, [0, 6, 6, 6], "the service saw the bodies");
    upstream.behave("/", Manner::Failing(503));

    for client in envoy.clients("/elsewhere").await {
        assert_eq!(client.get("/bare").await.status, 200, "what has no body is kept");
        for path in ["/body", "/pieces", "/trailers"] {
            assert_not_kept(&client.get(path).await);
        }
    }
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ages_out() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, &policy(json!({ "max_age": "2s" })), 2).await;
    let client = envoy.client();
    let original = send(getting(&client, "/page", FRESH)).await;
    upstream.behave("/", Manner::Failing(503));
    let kept = Instant::now();

    assert_kept(&client.get("/page").await, &original);
    let gone = eventually("it is too old", async || {
        let answer = client.get("/page").await;
        (answer.status == 503).then_some(answer)
    })
    .await;

    assert_not_kept(&gone);
    let age = kept.elapsed();
    assert!(Duration::from_millis(1900) < age && age < Duration::from_secs(4), "{age:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_budget_leaves_no_more_than_the_budget() {
    const BUDGET: usize = 64 * 1024;
    const SIZE: usize = 4000;
    const PAGES: usize = 10 * BUDGET / SIZE;
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, &policy(json!({ "max_age": "10m", "max_bytes": BUDGET })), 4).await;
    let clients = envoy.clients("/elsewhere").await;
    for number in 0..PAGES {
        let client = &clients[number % clients.len()];
        let asked = getting(client, &format!("/page/{number}"), FRESH).header("x-answer-size", SIZE.to_string());
        assert_eq!(send(asked).await.body.len(), SIZE);
    }
    // A quarter of the budget, heads included, is the most that one answer may take.
    for chunked in [false, true] {
        let asked = getting(&clients[0], "/large", FRESH).header("x-answer-size", (BUDGET / 2).to_string());
        let asked = if chunked { asked.header("x-answer-chunked", "yes") } else { asked };
        assert_eq!(send(asked).await.body, page("/large", BUDGET / 2), "untouched");
    }
    upstream.behave("/", Manner::Failing(503));

    let mut bytes = 0;
    for number in 0..PAGES {
        let answer = clients[(number + 1) % clients.len()].get(&format!("/page/{number}")).await;
        if answer.status == 200 {
            assert_eq!(answer.body, page(&format!("/page/{number}"), SIZE), "whole, and its own");
            bytes += answer.body.len();
        }
    }

    assert!(bytes <= BUDGET, "{bytes} bytes are kept");
    assert!(BUDGET / 2 < bytes, "but not much less: {bytes}");
    assert_not_kept(&clients[0].get("/large").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_was_another_users() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(json!({ "max_age": "10m" }));
    policy["operations"] = json!([{ "name": "mine", "match": { "paths": ["/mine/*"] } }]);
    let keyed = json!({ "operations": ["mine"], "fallback": "none",
                        "stale": { "max_age": "10m", "key": ["header:x-user-id"] } });
    policy["on_failure"] = json!([keyed, policy["on_failure"][0].clone()]);
    let envoy = start(&turn, &upstream, &policy, 2).await;
    let client = envoy.client();
    let by = |user: &str, path: &str| client.request(Method::GET, path).header("x-user-id", user.to_owned());
    // Path, what the service says, and what else the first request says.
    let cases = [
        ("/silent", "x-nothing=1", ("x-other", "1")),
        ("/private", "cache-control=private, max-age=60", ("x-other", "1")),
        ("/no-store", "cache-control=public, no-store, max-age=60", ("x-other", "1")),
        ("/cookie-set", FRESH, ("x-answer-header", "set-cookie=session=1")),
        ("/cookie", FRESH, ("cookie", "session=1")),
        ("/authorised", FRESH, ("authorization", "Bearer 1")),
        ("/varied", FRESH, ("x-answer-header", "vary=x-user-id")),
        ("/star", FRESH, ("x-answer-header", "vary=*")),
        ("/mine/page", FRESH, ("x-other", "1")),
    ];
    let mut originals = BTreeMap::new();
    for (path, said, (name, value)) in cases {
        let answer = send(by("alice", path).header("x-answer-header", said).header(name, value)).await;
        assert_eq!(answer.json()["headers"]["x-user-id"], "alice");
        originals.insert(path, answer.body);
    }
    originals.insert("/shared", send(getting(&client, "/shared", FRESH)).await.body);
    upstream.behave("/", Manner::Failing(503));

    for client in envoy.clients("/elsewhere").await {
        for (path, _, _) in cases {
            for user in ["bob", ""] {
                let answer = send(client.request(Method::GET, path).header("x-user-id", user)).await;
                assert_not_kept(&answer);
            }
            assert_not_kept(&client.get(path).await);
        }
        // What one's own request said decides, too.
        for (name, value) in [("cookie", "session=2"), ("authorization", "Bearer 2")] {
            assert_not_kept(&client.get_with("/shared", name, value).await);
        }
        assert_eq!(client.get("/shared").await.body, originals["/shared"]);
        for path in ["/varied", "/mine/page"] {
            let own = send(client.request(Method::GET, path).header("x-user-id", "alice")).await;
            assert_eq!((own.status, &own.body), (200, &originals[path]), "one's own is kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_not_kept() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, &policy(json!({ "max_age": "10m" })), 2).await;
    upstream.behave("/page", Manner::Breaking);
    let mut wire = Wire::connect(envoy.address()).await;
    wire.send(format!("GET /page HTTP/1.1\r\nhost: {}\r\nx-answer-header: {FRESH}\r\n\r\n", envoy.address())).await;
    assert_eq!(wire.head().await.status, 200);
    wire.read(1).await;
    upstream.behave("/page", Manner::Failing(503));
    wire.rest().await;

    for client in envoy.clients("/elsewhere").await {
        assert_not_kept(&client.get("/page").await);
    }
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 1.0).await;
}

/// As many different paths as an attacker likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_paths_cost_no_more_memory_than_a_few_thousand() {
    const CONNECTIONS: usize = 32;
    const WARM: usize = 10_000;
    const MIB: f64 = 1024.0 * 1024.0;
    const GOOD: &str = "x-answer-header: cache-control=public, max-age=600\r\nx-answer-size: 2000\r\n";
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster())
        .quiet()
        .filter(Filter::new(&policy(json!({ "max_age": "10m", "max_bytes": 1_048_576 }))))
        .failing_with("x-fail", 503);
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    let mut wires = envoy.wires(CONNECTIONS).await;
    let mut memory = Vec::new();

    for (from, to) in [(0, WARM), (WARM, WARM + 100_000)] {
        let callers: Vec<_> = wires
            .drain(..)
            .enumerate()
            .map(|(place, mut wire)| {
                tokio::spawn(async move {
                    for number in (from + place..to).step_by(CONNECTIONS) {
                        assert_eq!(wire.get(&format!("/page/{number}"), GOOD).await.status, 200);
                    }
                    wire
                })
            })
            .collect();
        for caller in callers {
            wires.push(caller.await.expect("a caller does its work"));
        }
        memory.push((
            envoy.metric("envoy_server_memory_allocated", &[]).await / MIB,
            envoy.resident_memory() as f64 / MIB,
        ));
    }

    let [(allocated, resident), (allocated_after, resident_after)] = memory[..] else { panic!("{memory:?}") };
    assert!(allocated_after - allocated < 1.0, "MiB allocated and resident, before and after: {memory:?}");
    assert!(resident_after - resident < 4.0, "MiB allocated and resident, before and after: {memory:?}");
    // It did keep answers, up to its bound.
    let mut kept = 0;
    for number in 0..WARM + 100_000 {
        if number % 50 == 0 || number > WARM + 99_500 {
            let reply = wires[0].get(&format!("/page/{number}"), "x-fail: 1\r\n").await;
            kept += if reply.status == 200 { reply.body.len() } else { 0 };
        }
    }
    assert!(0 < kept && kept <= 1_048_576, "{kept} bytes kept");
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

/// A crawler that adds a number to one address, beside pages that are asked for all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_made_up_addresses_leaves_what_is_popular() {
    const PAGES: usize = 50;
    const GOOD: &str = "x-answer-header: cache-control=public, max-age=600\r\nx-answer-size: 2000\r\n";
    /// Requests a second of the flood, and of the pages together.
    const RATES: [u32; 2] = [245, 100];
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster())
        .quiet()
        .filter(Filter::new(&policy(json!({ "max_age": "10m" }))))
        .failing_with("x-fail", 503);
    let envoy = turn.start(Bootstrap::new(listener).concurrency(2)).await;
    let mut wires = envoy.wires(16).await;

    for season in 0..2 {
        let until = Instant::now() + Duration::from_secs(10);
        let mut callers = Vec::new();
        for rate in RATES {
            let mut own: Vec<Wire> = wires.drain(..8).collect();
            callers.push(tokio::spawn(async move {
                let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
                for number in 0.. {
                    beat.tick().await;
                    if until < Instant::now() {
                        break;
                    }
                    let path = match rate {
                        100 => format!("/popular/{season}/{}", number * 7 % PAGES),
                        _ => format!("/product/1?cb={season}{number}"),
                    };
                    let place = number / PAGES % own.len();
                    let wire = if rate == 100 { &mut own[place] } else { &mut own[number % 8] };
                    assert_eq!(wire.get(&path, GOOD).await.status, 200);
                }
                own
            }));
        }
        for caller in callers {
            wires.extend(caller.await.expect("a caller does its work"));
        }
        let mut kept = 0;
        for page in 0..PAGES {
            let reply = wires[page % 16].get(&format!("/popular/{season}/{page}"), "x-fail: 1\r\n").await;
            kept += usize::from(reply.status == 200);
        }
        assert!(48 <= kept, "{kept} of {PAGES} in season {season}");
    }
    let metrics = envoy.stats().await;
    let not_admitted = metrics.sum("outrigger_stale_not_kept_total", &[("cause", "not_admitted")]);
    assert!(1_000.0 < not_admitted, "{not_admitted}");
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

/// A service that says nothing of freshness, behind a page with analytics: its owner says what the filter cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_owner_knows_makes_answers_of_a_silent_service_last() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let stale = json!({ "max_age": "10m", "assume_fresh": "30s", "ignore_cookies": ["_ga", "_ga_*"] });
    let envoy = start(&turn, &upstream, &policy(stale), 2).await;
    let client = envoy.client();
    let analytics = |number: u32| format!("_ga=GA1.2.{number}; _ga_ABC123=GS1.1.{number}");
    let of = |cookie: String, header: &str| getting(&client, "/page", header).header("cookie", cookie);
    let original = send(of(analytics(1), "vary=cookie")).await;
    let forbidden = send(getting(&client, "/private", "cache-control=private")).await;
    let session = send(getting(&client, "/mine", FRESH).header("cookie", "_ga=1; sid=7")).await;
    assert_eq!([original.status, forbidden.status, session.status], [200; 3]);
    for (cause, count) in [("private", 1.0), ("request_cookie", 1.0), ("no_freshness", 0.0)] {
        envoy.expect_metric("outrigger_stale_not_kept_total", &[("cause", cause)], count).await;
    }
    upstream.behave("/", Manner::Failing(503));

    for client in envoy.clients("/elsewhere").await {
        for cookie in [Some(analytics(2)), None] {
            let asked = client.request(Method::GET, "/page");
            let asked = cookie.into_iter().fold(asked, |asked, cookie| asked.header("cookie", cookie));
            let answer = send(asked).await;
            assert_eq!((answer.status, answer.reason()), (200, Some(REASON)), "{answer:?}");
            assert_eq!(answer.body, original.body);
        }
        assert_not_kept(&client.get_with("/page", "cookie", "_ga=1; sid=7").await);
        assert_not_kept(&client.get("/private").await);
        assert_not_kept(&client.get("/mine").await);
    }
}
