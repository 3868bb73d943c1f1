//! How many proxies are trusted to name the client, and what happens where there are fewer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use crate::common::sidecar::{Sidecar, reason};

const LOGIN: &str = r#"{
  "client_ip": { "trusted_hops": 2 },
  "limits": [{ "name": "logins", "key": ["client_ip"],
               "token_bucket": { "max_tokens": 1000, "tokens_per_fill": 1, "fill_interval": "1h" } }]
}"#;

fn short_chains(sidecar: &Sidecar) -> u64 {
    sidecar.host.metric("call=.=trusted_hops;.;outrigger_host_errors_total")
}

/// So many requests that two proxies named, and then so many that one did or none.
fn serve(sidecar: &Sidecar, long: usize, short: usize) {
    for number in 0..long + short {
        let chain = match number {
            _ if number < long => "203.0.113.7, 198.51.100.1",
            _ if number % 2 == 0 => "203.0.113.7",
            _ => "",
        };
        let headers = [("x-forwarded-for", chain)];
        assert!(sidecar.serve(if chain.is_empty() { &[] } else { &headers }).is_none());
    }
}

#[test]
fn too_many_trusted_proxies_are_counted_once_most_requests_show_it() {
    for (long, short, counted) in [(0, 99, 0), (0, 100, 100), (50, 50, 0), (49, 51, 51), (100, 99, 0), (100, 100, 100)]
    {
        let sidecar = Sidecar::new(LOGIN);
        sidecar.host.set_peer("192.0.2.1:40000");
        serve(&sidecar, long, short);
        assert_eq!(short_chains(&sidecar), counted, "{long} long, {short} short");
    }
}

#[test]
fn each_hundred_is_judged_by_itself_and_each_worker_by_its_own() {
    let workers = Sidecar::several(2, LOGIN);
    workers[0].host.set_peer("192.0.2.1:40000");
    (0..2).for_each(|_| serve(&workers[0], 40, 60));
    serve(&workers[1], 0, 99);
    assert_eq!(short_chains(&workers[0]), 120);
    serve(&workers[1], 0, 1);
    assert_eq!(short_chains(&workers[0]), 220);
}

#[test]
fn without_trusted_proxies_or_the_address_in_the_key_there_is_nothing_to_see() {
    for (from, to) in [(r#""trusted_hops": 2"#, r#""trusted_hops": 0"#), ("[\"client_ip\"]", "[\"path\"]")] {
        let sidecar = Sidecar::new(&LOGIN.replace(from, to));
        sidecar.host.set_peer("192.0.2.1:40000");
        serve(&sidecar, 0, 300);
        assert_eq!(short_chains(&sidecar), 0, "{to}");
    }
}

/// What the warning is about: all clients behind one proxy share one budget.
#[test]
fn with_one_proxy_too_many_everybody_is_the_last_proxy() {
    let config = LOGIN.replace("1000", "1");
    for (hops, second) in [(1, None), (2, Some("limit/logins"))] {
        let sidecar = Sidecar::new(&config.replace(r#""trusted_hops": 2"#, &format!(r#""trusted_hops": {hops}"#)));
        sidecar.host.set_peer("192.0.2.1:40000");
        assert!(sidecar.serve(&[("x-forwarded-for", "203.0.113.7")]).is_none());
        let other = sidecar.serve(&[("x-forwarded-for", "203.0.113.8")]);
        assert_eq!(other.as_ref().map(reason), second, "{hops} trusted");
    }
}
