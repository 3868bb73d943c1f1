//! What a request is: its parts, its operation, its key, its client and its cost; all from bytes that a client chose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::rc::Rc;

use crate::common::{MemoryHost, Random};
use outrigger::config::Config;
use outrigger::cx::{Cx, Telemetry};
use outrigger::headers::Headers;
use outrigger::host::HostError;
use outrigger::limit::cost::{Cost, Priced};
use outrigger::operation::client_ip::ClientIp;
use outrigger::operation::key::{KeyPart, KeySpec, Missing};
use outrigger::operation::path::{Parameters, Unsettled};
use outrigger::operation::pattern::{InvalidPath, PathPattern, Pattern};
use outrigger::operation::request::Request;
use outrigger::operation::selection::{Selected, Selection, Tiers};
use outrigger::operation::{HeaderMatcher, Matcher, Operation, Operations, Tier, classify};
use outrigger::retry::deadline::{DeadlineRule, Reach};
use outrigger::retry::rule::DeadlineSpec;
use outrigger::shared::seed::Seed;
use outrigger::shared::table::KeyHash;

type Pairs<'a> = &'a [(&'a str, &'a str)];

// === matching ========================================================================================================

/// The name of the operation that the request is, in a configuration with these operations.
fn operation_of(operations: &str, headers: &Headers) -> String {
    let document = format!(r#"{{"operations": {operations}}}"#);
    let config = Config::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{operations}: {error}"));
    let operations = Operations::new(config.operations);
    let index = classify(&operations, &Request::read(headers));
    operations.get(index).unwrap().name.clone()
}

fn check_match(matcher: &str, headers: Pairs<'_>, expected: bool) {
    let operations = format!(r#"[{{"name": "it", "match": {matcher}}}]"#);
    let matched = operation_of(&operations, &Headers::from_pairs(headers)) == "it";
    assert_eq!(matched, expected, "{matcher} on {headers:?}");
}

#[test]
fn hosts_match_in_any_case_and_without_port() {
    let check = |pattern: &str, authority: &str, expected| {
        check_match(&format!(r#"{{"hosts": ["{pattern}"]}}"#), &[(":authority", authority)], expected);
    };
    check("shop.example.com", "shop.example.com", true);
    check("shop.example.com", "SHOP.Example.Com", true);
    check("Shop.EXAMPLE.com", "shop.example.com", true);
    check("shop.example.com", "shop.example.com:8080", true);
    check("shop.example.com", "Shop.example.com:", true);
    check("shop.example.com", "shop.example.com.", true);
    check("shop.example.com", "Shop.example.com.:443", true);
    check("shop.example.com", "shop.example.com..", false);
    check("Shop.example.com.", "shop.example.com", true);
    check("shop.example.com.", "shop.example.com.", true);
    check("*.example.com.", "a.example.com.:80", true);
    check("shop.example.com", " shop.example.com\t", true);
    check("shop.example.com", "shop.example.com:http", false);
    check("shop.example.com", "example.com", false);
    check("shop.example.com", "workshop.example.com", false);
    check("shop.example.com", "shop.example.com.evil.org", false);
    check("shop.example.com", "", false);
    check("127.0.0.1", "127.0.0.1:80", true);

    check("[::1]", "[::1]", true);
    check("[::1]", "[::1]:8080", true);
    check("[::1]", "[::12]:8080", false);
    check("[2001:db8::A]", "[2001:DB8::a]:443", true);

    check("*.example.com", "shop.example.com", true);
    check("*.example.com", "a.b.EXAMPLE.com:443", true);
    check("*.example.com", "example.com", false);
    check("*.example.com", "shop.example.com.evil.org", false);
    check("*.EXAMPLE.com", "shop.example.com", true);
    check("shop.*", "SHOP.example.org", true);
    check("shop.*", "workshop.example.org", false);
    check("*", "anything", true);
    check("shop.*.com", "shop.example.com", false);
}

/// Istio: "`*` is used to specify anything but not empty".
#[test]
fn a_star_matches_any_host_and_path_that_is_there_and_none_that_is_not() {
    check_match(r#"{"hosts": ["*"]}"#, &[(":authority", "x")], true);
    check_match(r#"{"hosts": ["*"]}"#, &[(":path", "/")], false);
    check_match(r#"{"hosts": ["*"]}"#, &[(":authority", "")], false);
    check_match(r#"{"paths": ["*"]}"#, &[(":path", "/")], true);
    check_match(r#"{"paths": ["*"]}"#, &[(":path", "*")], true);
    check_match(r#"{"paths": ["*"]}"#, &[(":method", "CONNECT"), (":authority", "x:443")], false);
}

#[test]
fn methods_match_whole_and_in_any_case() {
    let check = |methods: &str, method: &str, expected| {
        check_match(&format!(r#"{{"methods": {methods}}}"#), &[(":method", method)], expected);
    };
    check(r#"["POST"]"#, "POST", true);
    // Envoy lets it pass over HTTP/2, and many a service takes it for POST.
    check(r#"["POST"]"#, "post", true);
    check(r#"["POST"]"#, "pOSt", true);
    check(r#"["post"]"#, "POST", true);
    check(r#"["POST"]"#, "POSTS", false);
    check(r#"["GET", "POST"]"#, "POST", true);
    check(r#"["GET", "POST"]"#, "PUT", false);
    check(r#"["M-SEARCH"]"#, "M-SEARCH", true);
    check_match(r#"{"methods": ["GET"]}"#, &[(":path", "/")], false);
}

fn check_path(pattern: &str, path: &str, expected: bool) {
    check_match(&format!(r#"{{"paths": ["{pattern}"]}}"#), &[(":path", path)], expected);
}

#[test]
fn paths_match_exactly_by_prefix_or_by_suffix() {
    check_path("/orders", "/orders", true);
    check_path("/orders", "/orders/", false);
    check_path("/orders", "/orders/1", false);
    check_path("/orders", "/order", false);
    check_path("/", "/", true);
    check_path("/", "/x", false);

    check_path("/v2/orders/*", "/v2/orders/", true);
    check_path("/v2/orders/*", "/v2/orders/1/items", true);
    check_path("/v2/orders/*", "/v2/orders", false);
    check_path("/v2*", "/v2", true);
    check_path("/v2*", "/v22/x", true);
    check_path("/*", "/", true);
    check_path("/*", "*", false);

    check_path("*/info", "/info", true);
    check_path("*/info", "/a/b/info", true);
    check_path("*/info", "/info/", false);
    check_path("*.php", "/x.php", true);
    check_path("*.php", "/x.html", false);

    check_path("/a*b", "/a*b", true);
    check_path("/a*b", "/axb", false);
}

#[test]
fn paths_match_up_to_the_query_undecoded_and_by_case() {
    check_path("/orders", "/orders?id=1", true);
    check_path("/orders", "/orders?", true);
    check_path("/orders", "/orders?a?b", true);
    check_path("*.php", "/x.php?y=.png", true);
    check_path("*.png", "/x.php?y=.png", false);
    check_path("/a/{*}", "/a/b?c/d", true);
    check_path("/orders", "/Orders", false);
    check_path("/a/{*}/C", "/a/b/c", false);
    check_path("/a/b", "/a%2Fb", false);
    check_path("/a%2Fb", "/a%2Fb", true);
    check_path("/a%2Fb", "/a%2fb", false);
    check_path("/a/b", "/a//b", false);
    check_path("/a/b", "/a/./b", false);
    check_path("/orders", "", false);
    check_path("/orders", "?id=1", false);
}

#[test]
fn path_parameters_are_cut_from_segments_unless_an_operation_keeps_them() {
    let check = |pattern: &str, keep: bool, path: &str, expected| {
        let keep = if keep { r#""path_parameters": "keep","# } else { "" };
        let operations = format!(r#"[{{"name": "it", {keep} "match": {{"paths": ["{pattern}"]}}}}]"#);
        let found = operation_of(&operations, &Headers::from_pairs(&[(":path", path)])) == "it";
        assert_eq!(found, expected, "{pattern} ({keep}) on {path}");
    };
    for path in ["/orders", "/orders;a=1", "/orders;", "/orders;a=1;b=2", "/orders;a=1?b=2"] {
        check("/orders", false, path, true);
        check("/orders", true, path, path == "/orders");
    }
    check("/orders/*", false, "/orders;a=1/5", true);
    check("/shops/{*}/orders", false, "/shops;x/7;y=/orders;z", true);
    check("/shops/{*}/orders", false, "/shops/;y/orders", false);
    check("*.json", false, "/a.json;v=1", true);
    check("/orders", false, "/orders?;", true);
    check("/orders;v=1", true, "/orders;v=1", true);
    check("/orders;v=1", true, "/orders", false);
}

#[test]
fn a_path_shows_which_setting_of_envoy_is_off() {
    let (normalize, slashes, escaped) = (Unsettled::Normalize, Unsettled::MergeSlashes, Unsettled::EscapedSlashes);
    for (path, expected) in [
        ("/", None),
        ("/orders/1.json", None),
        ("/a.b/..c/.d/e..", None),
        ("/a;v=1/%20/%C3%A9", None),
        ("*", None),
        ("", None),
        ("//orders", Some(slashes)),
        ("/a//", Some(slashes)),
        ("/./orders", Some(normalize)),
        ("/a/.", Some(normalize)),
        ("/a/../orders", Some(normalize)),
        ("/a/..", Some(normalize)),
        ("/a\\orders", Some(normalize)),
        ("/a/%2e%2E/orders", Some(normalize)),
        ("/orders/%31", Some(normalize)),
        ("/%6Frders", Some(normalize)),
        ("/%41", Some(normalize)),
        ("/%7e", Some(normalize)),
        ("/%5F", Some(normalize)),
        ("/a%2Forders", Some(escaped)),
        ("/a%5corders", Some(escaped)),
        ("/a%2", None),
        ("/%", None),
        ("/%40%5B%60%7B", None),
    ] {
        assert_eq!(Unsettled::in_path(path.as_bytes()), expected, "{path}");
    }
}

#[test]
fn a_request_without_path_matches_no_path() {
    for pattern in ["/", "/*", "*/", "/{*}", "/{**}"] {
        check_match(&format!(r#"{{"paths": ["{pattern}"]}}"#), &[(":method", "CONNECT")], false);
    }
    check_match(r#"{"methods": ["CONNECT"]}"#, &[(":method", "CONNECT")], true);
}

/// Picks one.
fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// A path of up to four segments of few kinds, so that many begin alike.
fn any_path(random: &mut Random, segments: &[&str]) -> String {
    (0..=random.below(4)).map(|_| format!("/{}", pick(random, segments))).collect()
}

fn any_path_pattern(random: &mut Random) -> PathPattern {
    let plain = ["", "a", "b", "aa", "ab"];
    loop {
        let path = any_path(random, &plain);
        let text = match random.below(6) {
            0 => path,
            1 => format!("{path}*"),
            2 => format!("*{path}"),
            3 => any_path(random, &["a", "b", "{*}", "{**}", ""]),
            4 => format!("{path}/{{**}}"),
            _ => "*".to_owned(),
        };
        if let Ok(pattern) = PathPattern::parse(&text) {
            return pattern;
        }
    }
}

/// None in half of the cases, else one to three.
fn some<T>(random: &mut Random, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
    let count = if random.below(2) == 0 { 0 } else { 1 + random.below(3) };
    (0..count).map(|_| make(random)).collect()
}

fn any_operation(random: &mut Random) -> Operation {
    let hosts = ["x.org", "X.ORG", "a.x.org", "*.x.org", "*.ORG", "*g", "x.*", "*", "[::1]"];
    let mut operation = Operation::other();
    operation.matcher = Matcher {
        paths: some(random, any_path_pattern),
        hosts: some(random, |random| Pattern::from_wildcard(pick(random, &hosts))),
        methods: match random.below(4) {
            0 => vec![pick(random, &["GET", "POST"]).to_owned()],
            _ => vec![],
        },
        headers: match random.below(4) {
            0 => vec![HeaderMatcher { name: "h".to_owned(), value: Pattern::from_wildcard(pick(random, &["1", "*"])) }],
            _ => vec![],
        },
        path_parameters: if random.below(4) == 0 { Parameters::Keep } else { Parameters::Cut },
    };
    operation.tier = TIERS[random.below(4) as usize];
    operation
}

/// Half a path or host is a prefix or suffix of another's pattern, some are missing.
fn any_request(random: &mut Random) -> Headers {
    let (path, host) = (
        any_path(random, &["", "a", "b", "aa", "ab", "c", "a;v", ";"]),
        ["x.org", "A.X.Org:80", "y", "", "[::1]:1", "g"],
    );
    let (host, method) = (pick(random, &host), pick(random, &["GET", "POST", "PUT"]));
    let mut pairs = vec![(":method", method), (":authority", host)];
    let all = random.below(8);
    if all != 0 {
        pairs.push((":path", &path));
    }
    if all.is_multiple_of(2) {
        pairs.push(("h", pick(random, &["1", "2"])));
    }
    Headers::from_pairs(&pairs)
}

/// What an index could get wrong: first, last, and everything between.
#[test]
fn the_first_operation_that_matches_is_found_among_any_set_of_them() {
    let mut random = Random::seeded(7);
    let mut found = [0_usize; 3];
    for round in 0..3_000 {
        let count = random.below(30);
        let mut list: Vec<Operation> = (0..count).map(|_| any_operation(&mut random)).collect();
        list.push(Operation::other());
        let operations = Operations::new(list.clone());
        // One operation needs no index.
        let alone = |it: &Operation| Operations::new(vec![it.clone(), Operation::other()]);
        let each: Vec<Operations> = list.iter().map(alone).collect();
        for _ in 0..25 {
            let headers = any_request(&mut random);
            let request = Request::read(&headers);
            let expected = each.iter().position(|it| classify(it, &request) == 0).unwrap();
            let index = classify(&operations, &request);
            assert_eq!(index, expected, "round {round}: {request:?} among {list:#?}");
            found[if index + 1 == list.len() { 2 } else { index.min(1) }] += 1;
        }
    }
    // Sets in which every request is the first or none would show little.
    assert!(found.iter().all(|it| 5_000 < *it), "{found:?}");
}

/// A warning is certain: whatever comes, it does not come to what it names.
#[test]
fn nothing_gets_to_an_operation_or_a_policy_that_is_warned_of() {
    let mut random = Random::seeded(11);
    let (mut warned, mut reached) = ([0_usize; 2], [0_usize; 2]);
    for round in 0..2_000 {
        let count = 1 + random.below(6);
        let mut operations: Vec<Operation> = (0..count).map(|_| any_operation(&mut random)).collect();
        operations.push(Operation::other());
        let deadlines = (0..4).map(|_| DeadlineSpec {
            selection: any_selection(&mut random, count),
            rule: DeadlineRule::default(),
            reach: Reach::Beginning,
        });
        let config = Config { deadlines: deadlines.collect(), operations, ..Config::parse(b"").unwrap() };
        let named: Vec<String> = config.warnings().iter().map(|it| it.path().to_owned()).collect();
        let is_named = |place: String| named.contains(&place);
        warned[0] += (0..count).filter(|index| is_named(format!("operations[{index}].match"))).count();
        warned[1] += (0..4).filter(|index| is_named(format!("deadlines[{index}]"))).count();
        let operations = Operations::new(config.operations.clone());
        for _ in 0..40 {
            let headers = any_request(&mut random);
            let request = Request::read(&headers);
            let index = classify(&operations, &request);
            assert!(!is_named(format!("operations[{index}].match")), "round {round}: {request:?} of {config:#?}");
            let acts = |it: &DeadlineSpec| {
                it.selection.includes(index, config.operations[index].tier) && it.selection.allows(&request)
            };
            if let Some(rule) = config.deadlines.iter().position(acts) {
                assert!(!is_named(format!("deadlines[{rule}]")), "round {round}: {request:?} of {config:#?}");
                reached[1] += usize::from(0 < rule);
            }
            reached[0] += usize::from(0 < index && index < count as usize);
        }
    }
    assert!(warned.iter().chain(&reached).all(|it| 300 < *it), "{warned:?} {reached:?}");
}

const TIERS: [Tier; 4] = [Tier::P0, Tier::P1, Tier::P2, Tier::P3];

fn any_selection(random: &mut Random, operations: u64) -> Selection {
    let methods = some(random, |random| pick(random, &["GET", "POST", "PUT"]).to_owned());
    let operations = match random.below(3) {
        0 => Selected::OfTiers(Tiers::of(TIERS.into_iter().filter(|_| random.below(2) == 0))),
        _ => Selected::Named((0..=operations as usize).filter(|_| random.below(2) == 0).collect()),
    };
    Selection { operations, methods }
}

/// Two hundred operations cost what twenty do, as long as they are told apart by how paths begin or hosts end.
#[test]
fn a_request_is_compared_with_few_of_many_operations() {
    let looked_at = |count: usize, matcher: &dyn Fn(usize) -> String, headers: Pairs<'_>| {
        let list: Vec<String> =
            (0..count).map(|n| format!(r#"{{"name": "o{n}", "match": {{{}}}}}"#, matcher(n))).collect();
        let config = Config::parse(format!(r#"{{"operations": [{}]}}"#, list.join(",")).as_bytes()).unwrap();
        let headers = Headers::from_pairs(headers);
        Operations::new(config.operations).steps(&Request::read(&headers))
    };
    let path = [(":path", "/api/v1/service7/items/1")];
    let host = [(":authority", "service7.example.com:80")];
    let exactly = |n| format!(r#""paths": ["/api/v1/service{n}/items/1"]"#);
    let start = |n| format!(r#""paths": ["/api/v1/service{n}/*", "/api/v2/service{n}/*"], "methods": ["GET"]"#);
    let template = |n| format!(r#""paths": ["/api/v1/service{n}/{{*}}/{{*}}"]"#);
    let name = |n| format!(r#""hosts": ["service{n}.example.com"]"#);
    for count in [20, 200] {
        // Its own list and the other of that text, and what is filed nowhere; its own operation, and `other`.
        for matcher in [&exactly as &dyn Fn(usize) -> String, &start, &template] {
            assert_eq!(looked_at(count, matcher, &path), 3 + 2, "{count}: {}", matcher(7));
        }
        assert_eq!(looked_at(count, &name, &host), 3 + 2, "{count}");
        // And the list of what begins so, of which there is nothing.
        let end = |n| format!(r#""paths": ["*/items/{n}"]"#);
        assert_eq!(looked_at(count, &end, &path), 3 + 2, "{count}");
    }
}

/// The examples of Istio's reference for `AuthorizationPolicy`.
#[test]
fn path_templates_match_as_istio_documents() {
    check_path("/foo/{*}", "/foo/bar", true);
    check_path("/foo/{*}", "/foo/bar/baz", false);
    check_path("/foo/{**}/", "/foo/bar/", true);
    check_path("/foo/{**}/", "/foo/bar/baz.txt/", true);
    check_path("/foo/{**}/", "/foo//", true);
    check_path("/foo/{**}/", "/foo/bar", false);
    check_path("/foo/{*}/bar/{**}", "/foo/buzz/bar/", true);
    check_path("/foo/{*}/bar/{**}", "/foo/buzz/bar/baz", true);
}

#[test]
fn path_templates_match_whole_segments() {
    check_path("/foo/{*}", "/foo/", false);
    check_path("/foo/{*}", "/foo", false);
    check_path("/foo/{*}", "/foo/bar/", false);
    check_path("/{*}", "/", false);
    check_path("/{*}", "/x", true);
    check_path("/{*}/{*}", "/a/b", true);
    check_path("/{*}/{*}", "/a/", false);
    check_path("/{*}/reviews", "/7/reviews", true);
    check_path("/{*}/reviews", "/7/8/reviews", false);
    check_path("/{*}/reviews", "//reviews", false);

    check_path("/foo/{**}", "/foo/", true);
    check_path("/foo/{**}", "/foo/a/b/c", true);
    check_path("/foo/{**}", "/foo", false);
    check_path("/foo/{**}", "/food", false);
    check_path("/{**}", "/", true);
    check_path("/{**}", "/a/b", true);
    check_path("/{**}", "*", false);
    check_path("/a/{**}/b/c", "/a/x/b/c", true);
    check_path("/a/{**}/b/c", "/a/x/y/b/c", true);
    check_path("/a/{**}/b/c", "/a/b/c", false);
    check_path("/a/{**}/b/c", "/a//b/c", true);
    check_path("/a/{**}/b/c", "/a/b/c/b/c", true);
    check_path("/a/{**}/b/c", "/a/x/b/d", false);
    check_path("/a/{*}/b/{**}/c", "/a/1/b/2/3/c", true);
    check_path("/a/{*}/b/{**}/c", "/a/1/b/c", false);
}

#[test]
fn refuses_path_patterns_that_match_nothing_or_break_istios_rules() {
    let check = |pattern: &str, problem| assert_eq!(PathPattern::parse(pattern).err(), Some(problem), "{pattern}");
    check("", InvalidPath::NotAbsolute);
    check("orders", InvalidPath::NotAbsolute);
    check("orders/*", InvalidPath::NotAbsolute);
    check("{*}", InvalidPath::NotAbsolute);
    check("http://x/", InvalidPath::NotAbsolute);
    // Istio's own examples.
    check("/*/baz/{*}", InvalidPath::StarInTemplate);
    check("/**/baz/{*}", InvalidPath::StarInTemplate);
    check("/{**}/foo/{*}", InvalidPath::OperatorAfterMany);
    check("/foo/{*}.txt", InvalidPath::StrayBrace);

    check("*/{*}", InvalidPath::StarInTemplate);
    check("/{*}/x*", InvalidPath::StarInTemplate);
    check("/{**}/{**}", InvalidPath::OperatorAfterMany);
    check("/{id}", InvalidPath::StrayBrace);
    check("/{", InvalidPath::StrayBrace);
    check("/}", InvalidPath::StrayBrace);
    check("/{***}", InvalidPath::StrayBrace);
    check("/a{*}", InvalidPath::StrayBrace);
    check("/{}/x", InvalidPath::StrayBrace);
}

#[test]
fn headers_match_exactly_by_prefix_by_suffix_or_by_presence() {
    let check = |condition: &str, headers: Pairs<'_>, expected| {
        check_match(&format!(r#"{{"headers": [{{"name": "x-app", {condition}}}]}}"#), headers, expected);
    };
    check(r#""exact": "web""#, &[("x-app", "web")], true);
    check(r#""exact": "web""#, &[("x-app", "Web")], false);
    check(r#""exact": "web""#, &[("x-app", "webs")], false);
    check(r#""exact": "web""#, &[("x-apps", "web")], false);
    check(r#""exact": "web""#, &[], false);
    check(r#""exact": "web*""#, &[("x-app", "website")], false);
    check(r#""exact": """#, &[("x-app", "")], true);
    check(r#""exact": """#, &[], false);
    check(r#""prefix": "we""#, &[("x-app", "web")], true);
    check(r#""prefix": "we""#, &[("x-app", "we")], true);
    check(r#""prefix": "we""#, &[("x-app", "w")], false);
    check(r#""prefix": "we""#, &[("x-app", "awe")], false);
    check(r#""suffix": "eb""#, &[("x-app", "web")], true);
    check(r#""suffix": "eb""#, &[("x-app", "b")], false);
    check(r#""suffix": "eb""#, &[("x-app", "ebb")], false);
    check(r#""present": true"#, &[("x-app", "anything")], true);
    check(r#""present": true"#, &[("x-app", "")], true);
    check(r#""present": true"#, &[("x-apps", "")], false);
}

#[test]
fn one_of_a_headers_values_is_enough_but_they_are_not_joined() {
    let twice: Pairs<'_> = &[("x-app", "ios"), ("x-app", "web")];
    let check = |condition: &str, expected| {
        check_match(&format!(r#"{{"headers": [{{"name": "x-app", {condition}}}]}}"#), twice, expected);
    };
    check(r#""exact": "web""#, true);
    check(r#""exact": "ios""#, true);
    check(r#""exact": "ios,web""#, false);
    check(r#""suffix": "os""#, true);
}

#[test]
fn names_of_headers_match_in_any_case() {
    check_match(r#"{"headers": [{"name": "X-App", "exact": "web"}]}"#, &[("x-app", "web")], true);
}

#[test]
fn every_condition_must_hold_and_one_entry_of_each_list() {
    let matcher = r#"{"hosts": ["a.example", "b.example"], "methods": ["POST", "PUT"], "paths": ["/x", "/y/*"],
                      "headers": [{"name": "one", "exact": "1"}, {"name": "two", "present": true}]}"#;
    let good = [(":authority", "b.example"), (":method", "PUT"), (":path", "/y/z"), ("one", "1"), ("two", "2")];
    check_match(matcher, &good, true);
    let poked = [(":authority", "c.example"), (":method", "GET"), (":path", "/z"), ("one", "2"), ("three", "2")];
    for place in 0..good.len() {
        let mut headers = good;
        headers[place] = poked[place];
        check_match(matcher, &headers, false);
    }
}

#[test]
fn the_first_match_names_the_request() {
    let operations = r#"[
        {"name": "one-order", "match": {"paths": ["/orders/{*}"]}},
        {"name": "orders", "match": {"paths": ["/orders*"]}},
        {"name": "posts", "match": {"methods": ["POST"]}},
        {"name": "never", "match": {"paths": ["/orders/1"]}}
    ]"#;
    let check = |method, path, expected| {
        let headers = Headers::from_pairs(&[(":method", method), (":path", path)]);
        assert_eq!(operation_of(operations, &headers), expected, "{method} {path}");
    };
    check("POST", "/orders/1", "one-order");
    check("POST", "/orders", "orders");
    check("POST", "/users", "posts");
    check("GET", "/users", "other");
}

#[test]
fn a_request_that_nothing_matches_is_other() {
    assert_eq!(operation_of("[]", &Headers::from_pairs(&[(":path", "/")])), "other");
    assert_eq!(operation_of("[]", &Headers::default()), "other");
    let operations = r#"[{"name": "a", "match": {"paths": ["/a"]}}]"#;
    assert_eq!(operation_of(operations, &Headers::default()), "other");
}

#[test]
fn bytes_that_are_no_text_match_what_their_bytes_match() {
    let headers = Headers::from_pairs(&[(":path", &b"/orders/\xff\xfe"[..]), ("x-app", b"\xc3\x28")]);
    assert_eq!(operation_of(r#"[{"name": "a", "match": {"paths": ["/orders/*"]}}]"#, &headers), "a");
    assert_eq!(operation_of(r#"[{"name": "a", "match": {"paths": ["/orders/{*}"]}}]"#, &headers), "a");
    let matcher = r#"[{"name": "a", "match": {"headers": [{"name": "x-app", "suffix": "("}]}}]"#;
    assert_eq!(operation_of(matcher, &headers), "a");
}

// === parts of a request ==============================================================================================

#[test]
fn reads_the_parts_of_a_request_in_one_pass() {
    let headers = Headers::from_pairs(&[
        (":authority", "Shop.example.com:8443"),
        (":method", "GET"),
        (":path", "/a/b?c=d&e"),
        ("x", "y"),
    ]);
    let request = Request::read(&headers);
    assert_eq!(request.host, b"Shop.example.com");
    assert_eq!(request.method, b"GET");
    assert_eq!(request.path, b"/a/b");
    assert_eq!(request.query, Some(&b"c=d&e"[..]));
    assert!(!request.grpc && !request.upgrade && !request.has_own_headers);
}

#[test]
fn parts_that_are_missing_are_empty() {
    let headers = Headers::default();
    let request = Request::read(&headers);
    assert_eq!((request.host, request.method, request.path), (&[][..], &[][..], &[][..]));
    assert_eq!(request.query, None);
    assert_eq!(request.cookie("a"), None);
    assert_eq!(request.query_parameter("a"), None);
}

#[test]
fn finds_the_first_cookie_of_a_name() {
    let check = |cookies: &[&str], expected: Option<&str>| {
        let pairs: Vec<(&str, &str)> = cookies.iter().map(|value| ("cookie", *value)).collect();
        let headers = Headers::from_pairs(&pairs);
        let found = Request::read(&headers).cookie("id").map(<[u8]>::to_vec);
        assert_eq!(found, expected.map(|value| value.as_bytes().to_vec()), "{cookies:?}");
    };
    check(&["id=7"], Some("7"));
    check(&["a=1; id=7; b=2"], Some("7"));
    check(&["a=1;id=7;b=2"], Some("7"));
    check(&["a=1;  id=7  ;b=2"], Some("7"));
    check(&["id=7; id=8"], Some("7"));
    check(&["a=1", "b=2; id=7", "id=8"], Some("7"));
    check(&["id="], Some(""));
    check(&["id=a=b"], Some("a=b"));
    check(&["id=\"7\""], Some("7"));
    check(&["id=\"7"], Some("\"7"));
    check(&["id=\""], Some("\""));
    check(&["id=\"\""], Some(""));
    check(&["a=1; id = \"7\" ; b=2"], Some("7"));
    check(&["id\t=\t7"], Some("7"));
    check(&["id=%37"], Some("%37"));
    check(&["ID=7"], None);
    check(&["xid=7"], None);
    check(&["idx=7"], None);
    check(&["id"], None);
    check(&["a=id=7"], None);
    check(&["", ";", "; ;="], None);
    check(&[], None);
}

#[test]
fn finds_the_first_query_parameter_of_a_name() {
    let check = |path: &str, expected: Option<&str>| {
        let headers = Headers::from_pairs(&[(":path", path)]);
        let found = Request::read(&headers).query_parameter("id").map(<[u8]>::to_vec);
        assert_eq!(found, expected.map(|value| value.as_bytes().to_vec()), "{path}");
    };
    check("/?id=7", Some("7"));
    check("/?a=1&id=7&b=2", Some("7"));
    check("/?id=7&id=8", Some("7"));
    check("/?id=&id=8", Some(""));
    check("/?id&id=8", Some(""));
    check("/?id", Some(""));
    check("/?id=a=b", Some("a=b"));
    check("/?id=%37+", Some("%37+"));
    check("/?%69d=7&id=8", Some("7"));
    check("/?i%64=7", Some("7"));
    check("/?i%6=7&id=8", Some("8"));
    check("/?a?id=7&id=8", Some("8"));
    check("/?xid=7&idx=7&ID=7", None);
    check("/?a=id=7", None);
    check("/?", None);
    check("/?&&=", None);
    check("/id=7", None);
}

#[test]
fn takes_for_grpc_what_envoy_takes_for_it() {
    let check = |content_type: &str, expected| {
        let headers = Headers::from_pairs(&[("content-type", content_type)]);
        assert_eq!(Request::read(&headers).grpc, expected, "{content_type}");
    };
    check("application/grpc", true);
    check("application/grpc+proto", true);
    check("application/grpc+json", true);
    check("application/grpc+", true);
    check("application/grpc-web", false);
    check("application/grpc-web+proto", false);
    check("application/grpc-web-text", false);
    check("application/grpc;charset=utf-8", false);
    check("application/grpcs", false);
    check("application/json", false);
    check("", false);
}

#[test]
fn knows_connect_and_upgrades() {
    let check = |headers: Pairs<'_>, expected| {
        assert_eq!(Request::read(&Headers::from_pairs(headers)).upgrade, expected, "{headers:?}");
    };
    check(&[(":method", "CONNECT"), (":authority", "a:443")], true);
    check(&[(":method", "GET"), ("connection", "upgrade"), ("upgrade", "websocket")], true);
    check(&[("upgrade", "websocket"), (":method", "GET")], true);
    check(&[(":method", "GET"), ("connection", "keep-alive")], false);
    check(&[(":method", "connect")], false);
    check(&[], false);
}

#[test]
fn finds_every_header_that_is_ours_alone() {
    let pairs = [("x-outrigger-reason", "1"), ("x", "2"), ("x-outrigger-", "3"), ("x-outrigger-reason", "4")];
    let headers = Headers::from_pairs(&pairs);
    let request = Request::read(&headers);
    assert!(request.has_own_headers);
    let names: Vec<&[u8]> = request.own_headers().collect();
    assert_eq!(names, [&b"x-outrigger-reason"[..], b"x-outrigger-", b"x-outrigger-reason"]);

    let headers = Headers::from_pairs(&[("x-outrigger", "1"), ("outrigger-reason", "2"), ("x", "x-outrigger-reason")]);
    assert!(!Request::read(&headers).has_own_headers);
    assert_eq!(Request::read(&headers).own_headers().count(), 0);
}

// === the block of headers ============================================================================================

fn collect(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// A request with repeated, empty and unusual headers.
fn sample() -> Vec<(&'static str, &'static [u8])> {
    vec![
        (":method", b"GET"),
        (":path", b"/orders?id=7&x"),
        (":authority", b"shop.example.com:8080"),
        ("cookie", b"a=1; id=7"),
        ("x-empty", b""),
        ("x-twice", b"one"),
        ("x-twice", b"two"),
        ("x-binary", b"\x00\xff\xfe\x80nul \x00 and more"),
        ("content-type", b"application/grpc"),
        ("x-outrigger-reason", b"mine"),
    ]
}

#[test]
fn headers_come_out_of_the_block_as_they_went_in() {
    let pairs = sample();
    let headers = Headers::from_block(Headers::from_pairs(&pairs).as_block().to_vec());
    let expected: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
    assert_eq!(collect(&headers), expected);
    assert_eq!(headers.get("x-twice"), Some(&b"one"[..]));
    assert_eq!(headers.all("x-twice").collect::<Vec<_>>(), [&b"one"[..], b"two"]);
    assert_eq!(headers.get("x-empty"), Some(&b""[..]));
    assert_eq!(headers.get("x-absent"), None);
    assert_eq!(headers.all("x-absent").count(), 0);
}

#[test]
fn the_block_has_the_layout_of_proxy_wasm() {
    let headers = Headers::from_pairs(&[("ab", "c"), ("d", "")]);
    let sizes: Vec<u8> = [2_u32, 2, 1, 1, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(headers.as_block(), [&sizes[..], b"ab\0c\0d\0\0"].concat());
}

#[test]
fn no_block_is_no_headers() {
    assert_eq!(Headers::default().iter().count(), 0);
    assert_eq!(Headers::from_pairs(&[] as Pairs<'_>).iter().count(), 0);
    assert_eq!(Headers::from_block(vec![0; 4]).iter().count(), 0);
}

#[test]
fn a_hundred_headers_of_sixty_kilobytes_are_all_found() {
    let values: Vec<String> = (0..100).map(|number| format!("{number}").repeat(300)).collect();
    let names: Vec<String> = (0..100).map(|number| format!("x-{number}")).collect();
    let pairs: Vec<(&String, &String)> = names.iter().zip(&values).collect();
    let headers = Headers::from_pairs(&pairs);
    assert!(headers.as_block().len() > 55_000);
    for (name, value) in pairs {
        assert_eq!(headers.get(name), Some(value.as_bytes()));
    }
    let large = "v".repeat(60 * 1024);
    let headers = Headers::from_pairs(&[("a", "1"), ("large", &large), ("z", "2")]);
    assert_eq!(headers.get("large"), Some(large.as_bytes()));
    assert_eq!(headers.get("z"), Some(&b"2"[..]));
}

#[test]
fn a_block_that_was_cut_short_ends_early() {
    let whole = Headers::from_pairs(&sample());
    let all = collect(&whole);
    let mut counts = Vec::new();
    for length in 0..whole.as_block().len() {
        let cut = collect(&Headers::from_block(whole.as_block()[..length].to_vec()));
        assert!(all.starts_with(&cut), "{cut:?} of {length} bytes");
        counts.push(cut.len());
    }
    assert!(counts.is_sorted());
    assert!((0..all.len()).all(|count| counts.contains(&count)), "{counts:?}");
}

#[test]
fn a_block_that_lies_about_its_sizes_ends_early() {
    let whole = Headers::from_pairs(&[("a", "1"), ("b", "2")]);
    let lie = |place: usize, size: u32| {
        let mut block = whole.as_block().to_vec();
        block[place..place + 4].copy_from_slice(&size.to_le_bytes());
        collect(&Headers::from_block(block))
    };
    let first = [(b"a".to_vec(), b"1".to_vec())];
    for huge in [u32::MAX, u32::MAX - 1, u32::MAX / 8, u32::MAX / 8 + 1, 1 << 31, 1 << 29, 1_000] {
        assert_eq!(lie(0, huge), [], "{huge} headers");
        assert_eq!(lie(4, huge), [], "a first name of {huge}");
        assert_eq!(lie(8, huge), [], "a first value of {huge}");
        assert_eq!(lie(12, huge), first, "a second name of {huge}");
        assert_eq!(lie(16, huge), first, "a second value of {huge}");
    }
    assert_eq!(lie(0, 1).len(), 1, "fewer headers than there are");
    assert_eq!(lie(0, 0).len(), 0, "no headers although there are");
}

#[test]
fn no_mutation_of_a_block_panics_or_yields_more_than_is_there() {
    let good = Headers::from_pairs(&sample()).as_block().to_vec();
    let sizes = 4 + sample().len() * 8;
    for seed in 1..=25_000 {
        let mut random = Random::seeded(seed);
        // Neighbouring seeds begin alike.
        for _ in 0..4 {
            random.next();
        }
        let mut block = good.clone();
        for _ in 0..=random.below(4) {
            if block.is_empty() {
                break;
            }
            let place = random.below(block.len() as u64) as usize;
            match random.below(6) {
                0 => block[place] = random.next() as u8,
                1 => block[place] ^= 1 << random.below(8),
                2 => block[place.min(sizes)] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
                3 => block.truncate(place),
                4 => drop(block.drain(place..(place + 8).min(block.len()))),
                _ => block.extend((0..random.below(8)).map(|_| random.next() as u8)),
            }
        }
        let declared = block.first_chunk().map_or(0, |count| u32::from_le_bytes(*count) as usize);
        let length = block.len();
        let headers = Headers::from_block(block);
        let found = collect(&headers);
        assert!(found.len() <= declared, "seed {seed}");
        let bytes: usize = found.iter().map(|(name, value)| name.len() + value.len() + 1).sum();
        assert!(bytes <= length, "seed {seed}: {bytes} of {length}");
        let request = Request::read(&headers);
        let _ = (request.cookie("id"), request.query_parameter("id"), request.own_headers().count());
        let _ = (headers.get("x-twice"), headers.all("x-twice").count());
        let _ = Cost::Header("x-twice".to_owned()).of(&request);
    }
}

// === keys ============================================================================================================

/// A worker that hashes keys.
struct Keyer {
    proxy: Rc<MemoryHost>,
    seed: Seed,
}

impl Keyer {
    fn new() -> Self {
        Self { proxy: MemoryHost::new(), seed: Seed::default() }
    }

    fn key_of(&self, parts: &[KeyPart], missing: Missing, headers: &Headers) -> Option<KeyHash> {
        let spec = KeySpec { parts: parts.to_vec(), missing, client_ip: ClientIp::default() };
        let hasher = self.seed.hasher(&Cx::new(&*self.proxy, &Telemetry::default())).unwrap();
        spec.hash(&Cx::new(&*self.proxy, &Telemetry::default()), &Request::read(headers), "place-order", hasher)
            .unwrap()
    }

    /// The key of a request; missing parts are shared.
    fn key(&self, parts: &[KeyPart], headers: Pairs<'_>) -> KeyHash {
        self.key_of(parts, Missing::Shared, &Headers::from_pairs(headers)).unwrap()
    }
}

fn header(name: &str) -> KeyPart {
    KeyPart::Header(name.to_owned())
}

#[test]
fn equal_requests_have_equal_keys_and_others_have_not() {
    let keyer = Keyer::new();
    let parts = [
        (KeyPart::Method, ":method", "GET", "POST"),
        (KeyPart::Path, ":path", "/a", "/b"),
        (KeyPart::Host, ":authority", "a.example", "b.example"),
        (header("x-user"), "x-user", "ann", "bob"),
        (KeyPart::Cookie("id".to_owned()), "cookie", "id=1", "id=2"),
        (KeyPart::Query("id".to_owned()), ":path", "/?id=1", "/?id=2"),
    ];
    for (part, name, one, other) in parts {
        let key = |value| keyer.key(std::slice::from_ref(&part), &[(name, value), ("x-noise", value)]);
        assert_eq!(key(one), key(one), "{part:?}");
        assert_ne!(key(one), key(other), "{part:?}");
        let noise = keyer.key(std::slice::from_ref(&part), &[(name, one), ("x-noise", other)]);
        assert_eq!(key(one), noise, "{part:?}: other headers do not matter");
    }
}

#[test]
fn the_operation_is_a_part_like_any_other() {
    let keyer = Keyer::new();
    let spec = KeySpec { parts: vec![KeyPart::Operation], missing: Missing::Skip, client_ip: ClientIp::default() };
    let headers = Headers::default();
    let key = |operation| {
        let hasher = keyer.seed.hasher(&Cx::new(&*keyer.proxy, &Telemetry::default())).unwrap();
        spec.hash(&Cx::new(&*keyer.proxy, &Telemetry::default()), &Request::read(&headers), operation, hasher)
            .unwrap()
            .unwrap()
    };
    assert_eq!(key("a"), key("a"));
    assert_ne!(key("a"), key("b"));
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let keyer = Keyer::new();
    let check = |parts: [KeyPart; 2], cases: &[Pairs<'_>]| {
        for (index, one) in cases.iter().enumerate() {
            for other in &cases[..index] {
                assert_ne!(keyer.key(&parts, one), keyer.key(&parts, other), "{parts:?}: {one:?} and {other:?}");
            }
        }
    };
    check(
        [header("one"), header("two")],
        &[
            &[("one", "ab"), ("two", "c")],
            &[("one", "a"), ("two", "bc")],
            &[("one", "abc"), ("two", "")],
            &[("one", ""), ("two", "abc")],
            &[("one", "abc")],
            &[("two", "abc")],
            &[("one", "c"), ("two", "ab")],
        ],
    );
    let cookie = |name: &str| KeyPart::Cookie(name.to_owned());
    check(
        [cookie("one"), cookie("two")],
        &[
            &[("cookie", "one=ab; two=c")],
            &[("cookie", "one=a; two=bc")],
            &[("cookie", "one=abc; two=")],
            &[("cookie", "one=abc")],
        ],
    );
    let query = |name: &str| KeyPart::Query(name.to_owned());
    check(
        [query("one"), query("two")],
        &[
            &[(":path", "/?one=ab&two=c")],
            &[(":path", "/?one=a&two=bc")],
            &[(":path", "/?one=&two=abc")],
            &[(":path", "/?two=abc")],
        ],
    );
    check(
        [KeyPart::Host, KeyPart::Method],
        &[
            &[(":authority", "shop"), (":method", "GET")],
            &[(":authority", "shopg"), (":method", "ET")],
            &[(":authority", "sho"), (":method", "pGET")],
            &[(":authority", "shopget")],
        ],
    );
    check(
        [KeyPart::Method, KeyPart::Path],
        &[
            &[(":method", "GET"), (":path", "/a")],
            &[(":method", "GET/"), (":path", "a")],
            &[(":method", "GET/a")],
            &[(":path", "GET/a")],
        ],
    );
}

#[test]
fn the_order_of_parts_matters_and_not_that_of_headers() {
    let keyer = Keyer::new();
    let (one, two) = (header("one"), header("two"));
    let headers: Pairs<'_> = &[("one", "x"), ("two", "y")];
    assert_ne!(keyer.key(&[one.clone(), two.clone()], headers), keyer.key(&[two.clone(), one.clone()], headers));
    let swapped: Pairs<'_> = &[("two", "y"), ("one", "x")];
    assert_eq!(keyer.key(&[one.clone(), two.clone()], headers), keyer.key(&[one, two], swapped));
}

#[test]
fn a_missing_part_is_a_value_of_its_own() {
    let keyer = Keyer::new();
    let missing = keyer.key(&[header("x-user")], &[]);
    assert_eq!(missing, keyer.key(&[header("x-user")], &[("x-other", "1")]));
    for value in ["", "\0", "missing", "\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}"] {
        assert_ne!(missing, keyer.key(&[header("x-user")], &[("x-user", value)]), "{value:?}");
    }
    let cookie = KeyPart::Cookie("id".to_owned());
    assert_ne!(keyer.key(std::slice::from_ref(&cookie), &[]), keyer.key(&[cookie], &[("cookie", "id=")]));
    let query = KeyPart::Query("id".to_owned());
    assert_ne!(keyer.key(std::slice::from_ref(&query), &[(":path", "/")]), keyer.key(&[query], &[(":path", "/?id=")]));
}

#[test]
fn a_limit_that_skips_has_no_key_for_a_request_without_a_part() {
    let keyer = Keyer::new();
    let parts = [
        KeyPart::ClientIp,
        KeyPart::Method,
        KeyPart::Path,
        KeyPart::Host,
        header("x-user"),
        KeyPart::Cookie("id".to_owned()),
        KeyPart::Query("id".to_owned()),
    ];
    for part in parts {
        let both = [KeyPart::Operation, part];
        assert_eq!(keyer.key_of(&both, Missing::Skip, &Headers::default()), None, "{both:?}");
        assert!(keyer.key_of(&both, Missing::Shared, &Headers::default()).is_some(), "{both:?}");
    }
    let empty = Headers::from_pairs(&[("x-user", "")]);
    assert!(keyer.key_of(&[header("x-user")], Missing::Skip, &empty).is_some(), "empty is not missing");
}

#[test]
fn repeated_headers_are_one_header_joined_by_commas() {
    let keyer = Keyer::new();
    let parts = [header("x-user")];
    let joined = keyer.key(&parts, &[("x-user", "a,b,c")]);
    assert_eq!(joined, keyer.key(&parts, &[("x-user", "a"), ("x-user", "b"), ("x-user", "c")]));
    assert_eq!(joined, keyer.key(&parts, &[("x-user", "a,b"), ("x", "y"), ("x-user", "c")]));
    assert_eq!(joined, keyer.key(&parts, &[("x-user", "a, b\t ,c")]));
    // Empty entries are none (RFC 9110, section 5.6.1), or each line without a value would make a new key.
    assert_eq!(joined, keyer.key(&parts, &[("x-user", ",a,, b"), ("x-user", ""), ("x-user", "c ,")]));
    assert_ne!(joined, keyer.key(&parts, &[("x-user", "b"), ("x-user", "a"), ("x-user", "c")]));
    assert_ne!(joined, keyer.key(&parts, &[("x-user", "a")]));
    assert_eq!(keyer.key(&parts, &[("x-user", ""), ("x-user", "")]), keyer.key(&parts, &[("x-user", ",")]));
    assert_eq!(keyer.key(&parts, &[("x-user", "")]), keyer.key(&parts, &[("x-user", ",")]));
    // A pseudo-header is no list: what is told apart by it must stay so.
    let path = [header(":path")];
    assert_ne!(keyer.key(&path, &[(":path", "/a?b=1,2")]), keyer.key(&path, &[(":path", "/a?b=1,,2")]));
}

#[test]
fn long_values_count_to_the_last_byte() {
    let keyer = Keyer::new();
    let long = |last: char| "v".repeat(100 * 1024) + &last.to_string();
    let parts = [
        (header("x-user"), "x-user", ""),
        (KeyPart::Path, ":path", "/"),
        (KeyPart::Host, ":authority", ""),
        (KeyPart::Cookie("id".to_owned()), "cookie", "id="),
        (KeyPart::Query("id".to_owned()), ":path", "/?id="),
    ];
    for (part, name, start) in parts {
        let key = |last| keyer.key(std::slice::from_ref(&part), &[(name, &format!("{start}{}", long(last)))]);
        assert_eq!(key('a'), key('a'), "{part:?}");
        assert_ne!(key('a'), key('b'), "{part:?}");
    }
}

#[test]
fn keys_see_hosts_without_case_and_port_and_all_else_as_it_is() {
    let keyer = Keyer::new();
    let host = |authority| keyer.key(&[KeyPart::Host], &[(":authority", authority)]);
    assert_eq!(host("Shop.Example.com:8080"), host("shop.example.COM"));
    assert_ne!(host("shop.example.com"), host("shop.example.org"));
    assert_ne!(keyer.key(&[KeyPart::Path], &[(":path", "/A")]), keyer.key(&[KeyPart::Path], &[(":path", "/a")]));
    assert_eq!(keyer.key(&[KeyPart::Path], &[(":path", "/a?b")]), keyer.key(&[KeyPart::Path], &[(":path", "/a")]));
    assert_ne!(keyer.key(&[header("x")], &[("x", "A")]), keyer.key(&[header("x")], &[("x", "a")]));
}

/// What a service settles before it compares makes no key of its own.
#[test]
fn however_a_value_is_spelled_it_is_one_key() {
    let keyer = Keyer::new();
    let check = |part: &KeyPart, name: &str, spellings: &[String]| {
        let key = |value: &str| keyer.key(std::slice::from_ref(part), &[(name, value), ("x-noise", value)]);
        for spelling in spellings {
            assert_eq!(key(spelling), key(&spellings[0]), "{part:?}: {spelling:?}");
        }
    };
    let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let blanks: Vec<String> =
        (0..200).map(|count| format!("{}ann{}", " ".repeat(count), "\t".repeat(count % 3))).collect();
    check(&header("x-user"), "x-user", &blanks);
    check(&header("x-user"), "x-user", &owned(&["a, b", "a,b", "a ,\tb", ",a,,b,"]));
    check(&KeyPart::Method, ":method", &owned(&["GET", "get", "GeT"]));
    let hosts = ["shop.org", "SHOP.org", "shop.org.", "shop.org:80", "shop.ORG.:443", " shop.org ", "shop.org:"];
    check(&KeyPart::Host, ":authority", &owned(&hosts));
    let paths = ["/a/b", "/a/b?q", "/a/b;v=1", "/a;v=2/b;w;x", "/a/b;", "/a;/b?c;d"];
    check(&KeyPart::Path, ":path", &owned(&paths));
    let cookies = ["id=a b", "id=\"a b\"", "id = a b ", "x=1;id=a%20b", "id=%61%20%62", "id=\"%61 b\"; id=other"];
    check(&KeyPart::Cookie("id".to_owned()), "cookie", &owned(&cookies));
    let queries = ["/?id=a b", "/?id=a+b", "/?id=a%20b", "/?x=1&id=%61+%62", "/?%69d=a+b&id=other"];
    check(&KeyPart::Query("id".to_owned()), ":path", &owned(&queries));
}

#[test]
fn what_is_no_encoding_stands_for_itself() {
    let keyer = Keyer::new();
    let query = |value: &str| keyer.key(&[KeyPart::Query("id".to_owned())], &[(":path", &format!("/?id={value}"))]);
    let different = ["%", "%2", "%zz", "%%", "a%", "+", "%2B", "%25", "2"];
    for (index, one) in different.iter().enumerate() {
        for other in &different[..index] {
            // A percent sign that begins no encoding is one, and so is its encoding.
            assert_eq!(query(one) == query(other), (*one, *other) == ("%25", "%"), "{one} and {other}");
        }
    }
    let cookie = |value: &str| keyer.key(&[KeyPart::Cookie("id".to_owned())], &[("cookie", &format!("id={value}"))]);
    assert_eq!(cookie("a+b"), cookie("a%2bb"), "a plus sign is a blank in forms only");
    assert_ne!(cookie("a+b"), cookie("a%20b"));
}

#[test]
fn an_operation_that_keeps_path_parameters_counts_them_apart() {
    let keyer = Keyer::new();
    let key = |path: &str, path_parameters| {
        let headers = Headers::from_pairs(&[(":path", path)]);
        let spec = KeySpec { parts: vec![KeyPart::Path], missing: Missing::Skip, client_ip: ClientIp::default() };
        let hasher = keyer.seed.hasher(&Cx::new(&*keyer.proxy, &Telemetry::default())).unwrap();
        let request = Request { path_parameters, ..Request::read(&headers) };
        spec.hash(&Cx::new(&*keyer.proxy, &Telemetry::default()), &request, "it", hasher).unwrap()
    };
    assert_eq!(key("/a;v=1", Parameters::Cut), key("/a;v=2", Parameters::Cut));
    assert_ne!(key("/a;v=1", Parameters::Keep), key("/a;v=2", Parameters::Keep));
    assert_eq!(key("/a", Parameters::Keep), key("/a", Parameters::Cut));
}

#[test]
fn values_that_are_no_text_make_keys_like_others() {
    let keyer = Keyer::new();
    let key = |value: &[u8]| {
        let headers = Headers::from_pairs(&[("x-user", value)]);
        keyer.key_of(&[header("x-user")], Missing::Skip, &headers).unwrap()
    };
    assert_eq!(key(b"\xff\xfe"), key(b"\xff\xfe"));
    assert_ne!(key(b"\xff\xfe"), key(b"\xff\xff"));
    assert_ne!(key(b"\xff"), key("\u{fffd}".as_bytes()));
}

#[test]
fn addresses_of_one_prefix_have_one_key() {
    let keyer = Keyer::new();
    let key = |peer| {
        keyer.proxy.set_peer(peer);
        keyer.key(&[KeyPart::ClientIp], &[])
    };
    assert_eq!(key("[2001:db8:1:2::1]:443"), key("[2001:db8:1:2:ffff::9]:80"));
    assert_ne!(key("[2001:db8:1:2::1]:443"), key("[2001:db8:1:3::1]:443"));
    assert_eq!(key("192.0.2.1:1"), key("192.0.2.1:2"));
    assert_eq!(key("192.0.2.1:1"), key("[::ffff:192.0.2.1]:1"));
    assert_ne!(key("192.0.2.1:1"), key("192.0.2.2:1"));
}

// === clients =========================================================================================================

const PEER: &str = "198.51.100.9:50000";

/// What is found with the given number of trusted hops, the lines of the header, and a peer of 198.51.100.9.
fn client(trusted_hops: usize, lines: &[&str]) -> String {
    let proxy = MemoryHost::new();
    proxy.set_peer(PEER);
    let pairs: Vec<(&str, &str)> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
    let client_ip = ClientIp { trusted_hops, ..ClientIp::default() };
    let headers = Headers::from_pairs(&pairs);
    client_ip.find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&headers)).unwrap().unwrap().to_string()
}

#[test]
fn believes_as_many_entries_from_the_right_as_proxies_are_trusted() {
    let check = |hops, lines: &[&str], expected| assert_eq!(client(hops, lines), expected, "{hops} hops, {lines:?}");
    check(0, &["192.0.2.1, 192.0.2.2"], "198.51.100.9");
    check(1, &["192.0.2.1, 192.0.2.2"], "192.0.2.2");
    check(2, &["192.0.2.1, 192.0.2.2"], "192.0.2.1");
    check(1, &["spoofed, 192.0.2.2"], "192.0.2.2");
    // Fewer entries than proxies: somebody came around them.
    check(3, &["192.0.2.1, 192.0.2.2"], "198.51.100.9");
    check(1, &[], "198.51.100.9");
    check(32, &["192.0.2.1"], "198.51.100.9");
    // Several lines are one list.
    check(1, &["192.0.2.1", "192.0.2.2, 192.0.2.3"], "192.0.2.3");
    check(2, &["192.0.2.1", "192.0.2.2, 192.0.2.3"], "192.0.2.2");
    check(3, &["192.0.2.1", "192.0.2.2, 192.0.2.3"], "192.0.2.1");
    check(4, &["192.0.2.1", "192.0.2.2, 192.0.2.3"], "198.51.100.9");
}

#[test]
fn reads_addresses_with_spaces_ports_and_brackets() {
    let check = |entry: &str, expected| assert_eq!(client(1, &[entry]), expected, "{entry}");
    check(" 192.0.2.1 ", "192.0.2.1");
    check("x,\t192.0.2.1\t", "192.0.2.1");
    check("192.0.2.1:8080", "192.0.2.1");
    check("[2001:db8:1:2::]", "2001:db8:1:2::");
    check("[2001:db8:1:2::]:443", "2001:db8:1:2::");
    check("2001:db8:1:2::", "2001:db8:1:2::");
    check("2001:DB8:1:2::", "2001:db8:1:2::");
    // The zone names a link of the machine that wrote it.
    check("fe80::1%eth0", "fe80::");
    check("fe80::1%25eth0", "fe80::");
    check("[fe80::1%eth0]", "fe80::");
    check("[fe80::1%eth0]:8080", "fe80::");
    check("::ffff:192.0.2.1%1", "192.0.2.1");
}

#[test]
fn falls_back_to_the_peer_where_a_trusted_entry_is_no_address() {
    for garbage in [
        "",
        " ",
        "unknown",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1.1",
        "[2001:db8::1",
        "[]",
        ":",
        "::g",
        "%eth0",
        "192.0.2.1%eth0",
        "fe80::1%",
    ] {
        assert_eq!(client(1, &[garbage]), "198.51.100.9", "{garbage:?}");
        assert_eq!(client(1, &["192.0.2.1", garbage]), "198.51.100.9", "{garbage:?}");
        assert_eq!(client(2, &["192.0.2.1", garbage]), "192.0.2.1", "{garbage:?} is an entry");
    }
}

#[test]
fn another_header_can_be_the_trusted_one() {
    let proxy = MemoryHost::new();
    proxy.set_peer(PEER);
    let client_ip = ClientIp { header: "x-real-ip".to_owned(), trusted_hops: 1, ipv6_prefix: 64 };
    let headers = Headers::from_pairs(&[("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.2")]);
    let found = client_ip.find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&headers)).unwrap().unwrap();
    assert_eq!(found.to_string(), "192.0.2.2");
}

#[test]
fn groups_ipv6_by_prefix_and_takes_mapped_addresses_for_ipv4() {
    let check = |ipv6_prefix, peer: &str, expected: &str| {
        let proxy = MemoryHost::new();
        proxy.set_peer(peer);
        let client_ip = ClientIp { ipv6_prefix, ..ClientIp::default() };
        let found = client_ip
            .find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&Headers::default()))
            .unwrap()
            .unwrap();
        assert_eq!(found.to_string(), expected, "/{ipv6_prefix} of {peer}");
    };
    let address = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:443";
    check(64, address, "2001:db8:ffff:ffff::");
    check(128, address, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
    check(127, address, "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe");
    check(56, address, "2001:db8:ffff:ff00::");
    check(65, address, "2001:db8:ffff:ffff:8000::");
    check(1, "[ffff::1]:443", "8000::");
    check(1, "[::1]:443", "::");
    check(64, "192.0.2.1:443", "192.0.2.1");
    check(1, "192.0.2.1:443", "192.0.2.1");
    check(64, "[::ffff:192.0.2.1]:443", "192.0.2.1");
    check(64, "::ffff:192.0.2.1", "192.0.2.1");
    check(64, "[::1]:443", "::");
}

#[test]
fn asks_the_proxy_only_where_the_header_does_not_tell() {
    let proxy = MemoryHost::new();
    proxy.set_peer(PEER);
    let headers = Headers::from_pairs(&[("x-forwarded-for", "192.0.2.1")]);
    let trusting = ClientIp { trusted_hops: 1, ..ClientIp::default() };
    trusting.find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&headers)).unwrap();
    assert_eq!(proxy.take_calls(), [].into());
    ClientIp::default().find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&headers)).unwrap();
    assert_eq!(proxy.take_calls(), [("peer_address", 1)].into());
}

#[test]
fn a_connection_without_address_has_no_client_and_a_proxy_that_fails_is_an_error() {
    let proxy = MemoryHost::new();
    let find =
        || ClientIp::default().find(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&Headers::default()));
    assert_eq!(find(), Ok(None));
    proxy.set_peer("/run/service.sock");
    assert_eq!(find(), Ok(None));
    proxy.break_call("peer_address");
    let refused = HostError { call: "get_property", status: 10 };
    assert_eq!(find(), Err(refused));

    let spec = KeySpec { parts: vec![KeyPart::ClientIp], missing: Missing::Shared, client_ip: ClientIp::default() };
    let hasher = Seed::default().hasher(&Cx::new(&*proxy, &Telemetry::default())).unwrap();
    assert_eq!(
        spec.hash(&Cx::new(&*proxy, &Telemetry::default()), &Request::read(&Headers::default()), "other", hasher),
        Err(refused)
    );
}

// === costs ===========================================================================================================

#[test]
fn costs_what_the_header_says_in_plain_digits() {
    let check = |value: &str, expected| {
        let headers = Headers::from_pairs(&[("x-cost", value)]);
        let cost = Cost::Header("x-cost".to_owned()).of(&Request::read(&headers));
        assert_eq!(cost, expected, "{value:?}");
    };
    check("1", Priced::Tokens(1));
    check("5", Priced::Tokens(5));
    check(" 5\t", Priced::Tokens(5));
    check("007", Priced::Tokens(7));
    check("4294967296", Priced::Tokens(4_294_967_296));
    check("18446744073709551614", Priced::Tokens(u64::MAX - 1));
    check("18446744073709551615", Priced::Tokens(u64::MAX));
    check("18446744073709551616", Priced::Tokens(u64::MAX));
    check("99999999999999999999", Priced::Tokens(u64::MAX));
    check(&format!("1{}", "0".repeat(30)), Priced::Tokens(u64::MAX));
    check(&"9".repeat(10_000), Priced::Tokens(u64::MAX));
    check(&format!("{}5", "0".repeat(10_000)), Priced::Tokens(5));
    for malformed in
        ["", " ", "0", "00", "-1", "+1", "1e3", "1.0", "1,5", "1 2", "0x10", "NaN", "inf", "five", "٣", "1\0", "1_000"]
    {
        check(malformed, Priced::Malformed);
    }
}

#[test]
fn costs_one_without_the_header_and_the_first_value_with_several() {
    let cost = |pairs: Pairs<'_>| Cost::Header("x-cost".to_owned()).of(&Request::read(&Headers::from_pairs(pairs)));
    assert_eq!(cost(&[]), Priced::Tokens(1));
    assert_eq!(cost(&[("x-costs", "5")]), Priced::Tokens(1));
    assert_eq!(cost(&[("x-cost", "5"), ("x-cost", "7")]), Priced::Tokens(5));
    let headers = Headers::from_pairs(&[("x-cost", &b"\xff5"[..])]);
    assert_eq!(Cost::Header("x-cost".to_owned()).of(&Request::read(&headers)), Priced::Malformed);
    let headers = Headers::from_pairs(&[("x-cost", "5")]);
    assert_eq!(Cost::Fixed(3).of(&Request::read(&headers)), Priced::Tokens(3));
}
