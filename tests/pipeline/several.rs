//! Several limits on one request: all or nothing, whatever they are and in whatever order.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, header, reason};
use crate::common::{MemoryHost, Random};
use outrigger::host::Host;
use outrigger::limit::leaky_bucket::LeakyBucket;
use outrigger::limit::token_bucket::TokenBucket;
use outrigger::limit::window::{Ring, Window};
use outrigger::pipeline::{Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::shared::format::HEADER_SIZE;
use outrigger::shared::meter::Meter;
use outrigger::time::Timestamp;

/// One limit of a random set.
#[derive(Clone, Debug)]
struct Rule {
    name: String,
    policy: Policy,
    keyed: bool,
    enforced: bool,
    /// Whether the cost is that of the request; 1 otherwise.
    priced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Size, and milliseconds per token.
    TokenBucket(u32, u32),
    /// Capacity, and milliseconds between releases.
    LeakyBucket(u32, u32),
    /// Size, and milliseconds.
    Window(u32, u32),
    /// So many at once.
    Concurrency(u32),
}

impl Policy {
    fn random(random: &mut Random) -> Self {
        let some = 1 + random.below(5) as u32;
        match random.below(4) {
            0 => Self::TokenBucket(some, 100 + random.below(5_000) as u32),
            1 => Self::LeakyBucket(some - 1, 100 + random.below(2_000) as u32),
            2 => Self::Window(some, 1_000 + random.below(9_000) as u32),
            _ => Self::Concurrency(some),
        }
    }

    fn json(self) -> String {
        match self {
            Self::TokenBucket(size, pace) => format!(
                r#""token_bucket": {{ "max_tokens": {size}, "tokens_per_fill": 1, "fill_interval": "{pace}ms" }}"#
            ),
            Self::LeakyBucket(capacity, pace) => {
                format!(r#""leaky_bucket": {{ "capacity": {capacity}, "drain": 1, "drain_interval": "{pace}ms" }}"#)
            }
            Self::Window(size, interval) => {
                format!(r#""window": {{ "max_requests": {size}, "interval": "{interval}ms" }}"#)
            }
            Self::Concurrency(size) => format!(r#""concurrency": {{ "max_in_flight": {size} }}"#),
        }
    }
}

impl Rule {
    fn random(index: usize, random: &mut Random) -> Self {
        Self {
            name: format!("limit-{index}"),
            policy: Policy::random(random),
            keyed: random.below(2) == 0,
            enforced: random.below(4) != 0,
            priced: random.below(3) == 0,
        }
    }

    fn json(&self) -> String {
        let Self { name, policy, keyed, enforced, priced } = self;
        let key = if *keyed { r#""key": ["header:x-user"], "# } else { "" };
        let cost = if *priced { r#""cost": "header:x-cost", "# } else { "" };
        format!(r#"{{ "name": "{name}", {key}{cost}"enforced": {enforced}, {} }}"#, policy.json())
    }

    fn alone(&self) -> String {
        config(&[Self { enforced: true, ..self.clone() }])
    }

    fn shadow_refusals(&self, host: &MemoryHost) -> u64 {
        host.metric(&format!("reason=.=limit/{};.;enforced=.=false;.;outrigger_refusals_total", self.name))
    }
}

fn config(rules: &[Rule]) -> String {
    let limits: Vec<String> = rules.iter().map(Rule::json).collect();
    format!(r#"{{ "limits": [{}] }}"#, limits.join(", "))
}

/// One to four limits.
fn random_rules(random: &mut Random) -> Vec<Rule> {
    (0..=random.below(4) as usize).map(|index| Rule::random(index, random)).collect()
}

/// A proxy with the same records, in the hands of a worker that does not exist on the other.
fn copy(host: &MemoryHost, config: &str) -> Sidecar {
    let twin = MemoryHost::new();
    for (key, bytes) in host.records() {
        twin.put_record(&key, &bytes);
    }
    twin.set_now(host.now().as_nanos());
    // Numbers that the first proxy has given to nobody.
    for _ in 0..100 {
        let _ = twin.random();
    }
    Sidecar::on(&twin, config)
}

/// What the records say about the future, without what does not matter.
fn meaning(records: &BTreeMap<String, Vec<u8>>, rules: &[Rule], now: u64) -> BTreeMap<String, Vec<String>> {
    let mut meaning = BTreeMap::new();
    for (key, bytes) in records {
        let Some(rule) = rules.iter().find(|rule| key.split('/').any(|part| part == rule.name)) else {
            continue;
        };
        let mut said = match rule.policy {
            Policy::TokenBucket(size, pace) => states(
                &TokenBucket::new(size, 1, milliseconds(pace)).unwrap(),
                bytes,
                rule.keyed,
                now,
                |bucket, it, at| format!("{} ahead", bucket.load(it, at)),
            ),
            Policy::LeakyBucket(capacity, pace) => states(
                &LeakyBucket::new(capacity, 1, milliseconds(pace)).unwrap(),
                bytes,
                rule.keyed,
                now,
                |queue, it, at| format!("{} ahead", queue.load(it, at)),
            ),
            Policy::Window(size, interval) => {
                let window = Window::new(size, milliseconds(interval)).unwrap();
                match rule.keyed {
                    true => states(&window, bytes, true, now, in_sight),
                    false => states(&window.leased(), bytes, false, now, in_sight),
                }
            }
            Policy::Concurrency(_) => bytes[HEADER_SIZE..].chunks(12).map(|share| format!("{share:?}")).collect(),
        };
        said.sort();
        if !said.is_empty() {
            meaning.insert(key.clone(), said);
        }
    }
    meaning
}

/// What is in sight as time goes on.
fn in_sight<const PARTS: usize, const SEEN: usize>(
    window: &Ring<PARTS, SEEN>,
    counts: <Ring<PARTS, SEEN> as Meter>::State,
    now: Timestamp,
) -> String {
    let loads: Vec<u64> =
        (0..SEEN as u32).map(|it| window.load(counts, now.saturating_add(window.part() * it))).collect();
    format!("{loads:?}")
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

/// The states that are not as good as none, each with its tag.
fn states<M: Meter>(
    meter: &M,
    bytes: &[u8],
    keyed: bool,
    now: u64,
    say: impl Fn(&M, M::State, Timestamp) -> String,
) -> Vec<String> {
    let tag = if keyed { 4 } else { 0 };
    let now = Timestamp::from_nanos(now);
    let cells = bytes[HEADER_SIZE..].chunks(tag + M::SIZE).map(|cell| (&cell[..tag], M::decode(&cell[tag..]).unwrap()));
    let loaded = cells.filter(|(_, state)| meter.load(*state, now) != 0);
    loaded.map(|(tag, state)| format!("{tag:?} {}", say(meter, state, now))).collect()
}

fn is_admitted(decision: &Decision) -> bool {
    !matches!(decision, Decision::Reply(_))
}

fn reply<'a>(decision: &'a Decision<'_>) -> Option<&'a Reply> {
    if let Decision::Reply(reply) = decision { Some(reply) } else { None }
}

/// How long a refusal lasts in whole seconds, as the client is told; the end of time if it says nothing.
fn lasts(reply: &Reply) -> u64 {
    header(reply, "retry-after").map_or(u64::MAX, |seconds| seconds.parse().unwrap())
}

/// Requests with users and costs, sane and absurd.
fn random_request(random: &mut Random) -> Vec<(&'static str, &'static str)> {
    let users = ["alice", "bob", "carol"];
    let costs = ["1", "1", "2", "3", "5", "1000000000000000000000000000000", "-5", "NaN"];
    let mut request = vec![("x-cost", costs[random.below(costs.len() as u64) as usize])];
    if random.below(5) != 0 {
        request.push(("x-user", users[random.below(3) as usize]));
    }
    request
}

/// Ends some of the streams that are open.
fn end_some(sidecar: &Sidecar, open: &mut Vec<Ticket>, random: &mut Random) {
    while !open.is_empty() && random.below(3) != 0 {
        let index = random.below(open.len() as u64) as usize;
        let mut ticket = open.swap_remove(index);
        // Who leaves while it waits leaves its place to its worker, which a copy of the records does not know of.
        let _ = sidecar.resume(&mut ticket);
        sidecar.end(ticket);
    }
}

/// A set of limits under random requests; whatever happens must follow from what each limit says alone.
fn all_or_nothing(seed: u64, steps: usize) {
    let mut random = Random::seeded(seed);
    let rules = random_rules(&mut random);
    let sidecar = Sidecar::new(&config(&rules));
    let host = &sidecar.host;
    let mut open = Vec::new();
    let mut shadow: BTreeMap<&str, u64> = BTreeMap::new();
    for step in 0..steps {
        // What is on lease is back after this.
        host.advance((80 + random.below(320)) * MILLISECOND);
        end_some(&sidecar, &mut open, &mut random);
        sidecar.tick();
        host.advance(80 * MILLISECOND);
        sidecar.tick();

        let before = host.records();
        let request = random_request(&mut random);
        let context = format!("seed {seed}, step {step}, {request:?}, {}", config(&rules));
        let copies: Vec<Sidecar> = rules.iter().map(|rule| copy(host, &rule.alone())).collect();
        let alone: Vec<Decision> = copies.iter().map(|copy| copy.ask(&request).0).collect();
        let (decision, ticket) = sidecar.ask(&request);

        let enforced = || rules.iter().zip(&alone).filter(|(rule, _)| rule.enforced);
        let expected = enforced().all(|(_, decision)| is_admitted(decision));
        assert_eq!(is_admitted(&decision), expected, "{context}: {alone:?}");

        let Some(reply) = reply(&decision) else {
            for (rule, _) in rules.iter().zip(&alone).filter(|(rule, it)| !rule.enforced && !is_admitted(it)) {
                *shadow.entry(&rule.name).or_default() += 1;
            }
            open.push(ticket);
            continue;
        };
        sidecar.end(ticket);
        host.advance(80 * MILLISECOND);
        sidecar.tick();
        let now = sidecar.now();
        assert_eq!(meaning(&host.records(), &rules, now), meaning(&before, &rules, now), "{context}");
        assert_longest(reply, enforced().filter_map(|(rule, it)| Some((rule, self::reply(it)?))), &context);
    }
    for rule in rules.iter().filter(|rule| !rule.enforced) {
        let expected = shadow.get(rule.name.as_str()).copied().unwrap_or(0);
        assert_eq!(rule.shadow_refusals(host), expected, "seed {seed}: {}, {}", rule.name, config(&rules));
    }
}

/// The reply names the limit that would refuse the request longest. `refusals` are those that each limit gives alone.
fn assert_longest<'a>(reply: &Reply, refusals: impl Iterator<Item = (&'a Rule, &'a Reply)>, context: &str) {
    let refusals: Vec<(&Rule, &Reply)> = refusals.collect();
    let named = refusals.iter().find(|(rule, _)| reason(reply) == format!("limit/{}", rule.name));
    let Some((named, alone)) = named else { panic!("{context}: {} does not refuse", reason(reply)) };
    assert_eq!(lasts(reply), lasts(alone), "{context}: {} says so alone", named.name);
    // Nobody knows when a request in flight ends, and an unkeyed bucket is asked only if the worker remembers it.
    let known = refusals.iter().filter(|(rule, alone)| match rule.policy {
        Policy::Concurrency(_) => false,
        Policy::TokenBucket(..) => rule.keyed && lasts(alone) != u64::MAX,
        Policy::LeakyBucket(..) | Policy::Window(..) => lasts(alone) != u64::MAX,
    });
    let longest = known.map(|(_, alone)| lasts(alone)).max();
    assert!(longest <= Some(lasts(reply)), "{context}: {} is not the longest", named.name);
}

#[test]
fn a_request_is_admitted_if_each_limit_would_admit_it_and_otherwise_changes_no_state() {
    for seed in 1..=150 {
        all_or_nothing(seed, 40);
    }
}

#[test]
fn the_order_of_limits_decides_nothing() {
    for seed in 201..=300 {
        let mut random = Random::seeded(seed);
        let rules = random_rules(&mut random);
        let mut shuffled = rules.clone();
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, random.below(index as u64 + 1) as usize);
        }
        let (one, other) = (Sidecar::new(&config(&rules)), Sidecar::new(&config(&shuffled)));
        let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
        for step in 0..100 {
            let pause = (20 + random.below(300)) * MILLISECOND;
            let request = random_request(&mut random);
            let ends = random.next();
            let decide = |sidecar: &Sidecar, open: &mut Vec<Ticket>| {
                sidecar.host.advance(pause);
                end_some(sidecar, open, &mut Random::seeded(ends));
                sidecar.tick();
                let (decision, ticket) = sidecar.ask(&request);
                if is_admitted(&decision) {
                    open.push(ticket);
                } else {
                    sidecar.end(ticket);
                }
                // Edits and instant, or that it is refused.
                if let Decision::Wait(_, until) = decision { Ok(until) } else { Err(is_admitted(&decision)) }
            };
            let (first, second) = (decide(&one, &mut of_one), decide(&other, &mut of_other));
            assert_eq!(first, second, "seed {seed}, step {step}, {}", config(&rules));
        }
    }
}

/// A limit that lets so many pass at one instant.
fn passing(count: u32, kind: usize) -> Policy {
    match kind {
        0 => Policy::TokenBucket(count, 3_600_000 / count),
        1 => Policy::LeakyBucket(count - 1, 3_000_000 / count),
        2 => Policy::Window(count, 3_600_000),
        _ => Policy::Concurrency(count),
    }
}

#[test]
fn what_one_client_is_refused_is_not_taken_from_the_others() {
    for shared in 0..4 {
        for own in 0..4 {
            for own_first in [false, true] {
                let rule = |name: &str, policy, keyed| Rule {
                    name: name.to_owned(),
                    policy,
                    keyed,
                    enforced: true,
                    priced: false,
                };
                let mut rules = vec![rule("shared", passing(20, shared), false), rule("own", passing(5, own), true)];
                if own_first {
                    rules.reverse();
                }
                let context = config(&rules);
                let workers = Sidecar::several(3, &context);
                let mut open = Vec::new();
                let mut admitted = |user: &str, tries: usize| {
                    let mut admitted = 0;
                    for turn in 0..tries {
                        let worker = &workers[turn % workers.len()];
                        let (decision, ticket) = worker.ask(&[("x-user", user)]);
                        if is_admitted(&decision) {
                            admitted += 1;
                            open.push(ticket);
                        } else {
                            worker.end(ticket);
                        }
                    }
                    // Nobody is busy enough to keep for long what came back.
                    workers[0].host.advance(100 * MILLISECOND);
                    workers.iter().for_each(Sidecar::tick);
                    admitted
                };
                assert_eq!(admitted("abuser", 500), 5, "{context}");
                for user in ["one", "two", "three"] {
                    assert_eq!(admitted(user, 5), 5, "{user} under {context}");
                }
                assert_eq!(admitted("late", 5), 0, "{context}");
            }
        }
    }
}

#[test]
fn who_is_refused_by_a_later_limit_has_evicted_nobody() {
    for mode in ["allow", "deny"] {
        for own in 0..3 {
            for shared in 0..4 {
                let [own_policy, shared_policy] = [passing(5, own).json(), passing(9, shared).json()];
                let config = format!(
                    r#"{{ "limits": [
                        {{ "name": "own", "key": ["header:x-user"], "max_keys": 8, "failure_mode": "{mode}", {own_policy} }},
                        {{ "name": "shared", {shared_policy} }} ] }}"#
                );
                let sidecar = Sidecar::new(&config);
                let mut open = Vec::new();
                for user in ["1", "2", "3", "4", "5", "6", "7", "8", "8"] {
                    let (decision, ticket) = sidecar.ask(&[("x-user", user)]);
                    assert!(is_admitted(&decision), "user {user} under {config}");
                    open.push(ticket);
                }
                let table = |records: BTreeMap<String, Vec<u8>>| {
                    records.into_iter().filter(|(key, _)| key.contains("/own/")).collect::<BTreeMap<_, _>>()
                };
                let before = table(sidecar.host.records());
                assert_eq!(before.len(), 1, "{config}");
                for user in 0..20 {
                    let (decision, ticket) = sidecar.ask(&[("x-user", &format!("new-{user}"))]);
                    let Decision::Reply(reply) = decision else { panic!("user {user} under {config}") };
                    assert_eq!(reason(&reply), "limit/shared", "user {user} under {config}");
                    sidecar.end(ticket);
                    assert_eq!(table(sidecar.host.records()), before, "user {user} under {config}");
                }
            }
        }
    }
}

// === cost ===

#[test]
fn a_cost_takes_that_much_of_every_kind() {
    for kind in 0..4 {
        for keyed in [false, true] {
            let policy = passing(10, kind);
            let rule = Rule { name: "all".to_owned(), policy, keyed, enforced: true, priced: true };
            let sidecar = Sidecar::new(&config(std::slice::from_ref(&rule)));
            let mut open = Vec::new();
            let mut asks = |cost: &str| {
                let (decision, ticket) = sidecar.ask(&[("x-cost", cost)]);
                open.push(ticket);
                is_admitted(&decision)
            };
            assert!(asks("4") && asks("6"), "{rule:?}");
            assert!(!asks("1"), "{rule:?}");
        }
    }
}

#[test]
fn an_absurd_cost_is_refused_without_a_promise_or_counts_as_one() {
    for kind in 0..4 {
        for keyed in [false, true] {
            let policy = passing(10, kind);
            let rule = Rule { name: "all".to_owned(), policy, keyed, enforced: true, priced: true };
            let sidecar = Sidecar::new(&config(std::slice::from_ref(&rule)));
            for cost in ["11", "4294967296", "4294967297", "18446744073709551617", &"9".repeat(400)] {
                let (decision, ticket) = sidecar.ask(&[("x-cost", cost)]);
                let Decision::Reply(reply) = decision else { panic!("{cost} passes {rule:?}") };
                assert_eq!(header(&reply, "retry-after"), None, "{cost}, {rule:?}");
                sidecar.end(ticket);
            }
            let malformed = ["", "0", "-1", "+1", "1.5", "1e3", "NaN", "inf", "0x10", "１"];
            let tickets: Vec<Ticket> = malformed
                .iter()
                .map(|cost| {
                    let (decision, ticket) = sidecar.ask(&[("x-cost", cost)]);
                    assert!(is_admitted(&decision), "{cost:?}, {rule:?}");
                    ticket
                })
                .collect();
            assert_eq!(sidecar.host.metric("call=.=cost_header;.;outrigger_host_errors_total"), 10, "{rule:?}");
            assert!(!is_admitted(&sidecar.ask(&[]).0), "ten times one, {rule:?}");
            drop(tickets);
        }
    }
}

#[test]
fn a_request_that_never_passes_is_not_told_to_come_again() {
    for kind in 0..4 {
        for keyed in [false, true] {
            let small =
                Rule { name: "small".to_owned(), policy: passing(3, kind), keyed, enforced: true, priced: true };
            let window = Rule {
                name: "window".to_owned(),
                policy: Policy::Window(1, 5_000),
                keyed: false,
                enforced: true,
                priced: false,
            };
            for rules in [[small.clone(), window.clone()], [window.clone(), small.clone()]] {
                let sidecar = Sidecar::new(&config(&rules));
                let (_, _ticket) = sidecar.ask(&[]);
                let (decision, _ticket) = sidecar.ask(&[("x-cost", "4")]);
                let Decision::Reply(reply) = decision else { panic!("{rules:?}") };
                assert_eq!((reason(&reply), header(&reply, "retry-after")), ("limit/small", None), "{rules:?}");
            }
        }
    }
}

#[test]
fn a_malformed_cost_counts_as_one_when_reasons_are_compared_too() {
    let rule =
        |name: &str, policy, keyed, priced| Rule { name: name.to_owned(), policy, keyed, enforced: true, priced };
    let short = rule("short", Policy::Window(1, 1_000), false, false);
    let long = rule("long", Policy::Window(1, 100_000), false, true);
    let sidecar = Sidecar::new(&config(&[short, long]));
    let (_, _ticket) = sidecar.ask(&[]);
    for cost in ["1", "NaN"] {
        let (decision, _ticket) = sidecar.ask(&[("x-cost", cost)]);
        assert_eq!(reply(&decision).map(reason), Some("limit/long"), "cost {cost}");
    }
}

// === shadow mode ===

#[test]
fn a_shadow_queue_holds_nobody() {
    let rule =
        |name: &str, policy, enforced| Rule { name: name.to_owned(), policy, keyed: false, enforced, priced: false };
    let shadow = rule("shadow", Policy::LeakyBucket(3, 1_000), false);
    let sidecar = Sidecar::new(&config(std::slice::from_ref(&shadow)));
    for request in 0..10 {
        let (decision, ticket) = sidecar.ask(&[("x-envoy-expected-rq-timeout-ms", "100")]);
        assert!(matches!(decision, Decision::Forward(_)), "request {request}: {decision:?}");
        sidecar.answer(ticket);
    }
    assert_eq!(shadow.shadow_refusals(&sidecar.host), 6, "one passes at once, three would wait");
    assert_eq!(sidecar.worker.limit.waiting.get(), 0);
}

#[test]
fn a_shadow_limit_does_not_count_what_an_enforced_queue_refuses_for_want_of_time() {
    let rule =
        |name: &str, policy, enforced| Rule { name: name.to_owned(), policy, keyed: false, enforced, priced: false };
    let queue = rule("queue", Policy::LeakyBucket(100, 1_000), true);
    let shadow = rule("shadow", Policy::Window(1, 100_000), false);
    let sidecar = Sidecar::new(&config(&[queue, shadow.clone()]));
    let patient = [("x-envoy-expected-rq-timeout-ms", "600000")];
    let hasty = [("x-envoy-expected-rq-timeout-ms", "10")];
    let (_, _first) = sidecar.ask(&patient);
    for _ in 0..5 {
        let (decision, ticket) = sidecar.ask(&hasty);
        assert_eq!(reply(&decision).map(reason), Some("limit/queue"));
        sidecar.end(ticket);
    }
    assert_eq!(shadow.shadow_refusals(&sidecar.host), 0, "the queue refused these");
    let (_, _second) = sidecar.ask(&patient);
    assert_eq!(shadow.shadow_refusals(&sidecar.host), 1);
}

#[test]
fn a_shadow_limit_that_is_full_takes_nothing_more() {
    for kind in 0..4 {
        let shadow =
            Rule { name: "shadow".to_owned(), policy: passing(3, kind), keyed: false, enforced: false, priced: false };
        let sidecar = Sidecar::new(&config(std::slice::from_ref(&shadow)));
        let tickets: Vec<Ticket> = (0..10).map(|_| sidecar.ask(&[]).1).collect();
        assert_eq!(shadow.shadow_refusals(&sidecar.host), 7, "{shadow:?}");
        tickets.into_iter().for_each(|ticket| sidecar.end(ticket));
        sidecar.host.advance(SECOND);
        sidecar.tick();
        if let Policy::Concurrency(_) = shadow.policy {
            let record = sidecar.host.record("outrigger/test/concurrency/shadow").unwrap();
            assert_eq!(record.len(), HEADER_SIZE, "all that was taken is back");
        }
        assert_eq!(Rc::strong_count(&sidecar.worker), 1);
    }
}
