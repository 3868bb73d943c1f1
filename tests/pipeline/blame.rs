//! Who is to blame for a failure or for a long time: the service, its client, or the proxy. Only what the service did is heard of
//! by breakers, budgets and usual times.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, ended, header, reason, served};
use outrigger::host::{End, LogField, Origin};
use outrigger::monitor::names::Names;
use outrigger::pipeline::Ticket;
use outrigger::retry::usual::{AMPLE, MIN_SUCCESSES};

/// A breaker that opens with the third failure in a row, or when nearly all are slow; one probe.
fn shop(breaker: &str, more: &str) -> Sidecar {
    Sidecar::new(&format!(
        r#"{{ "breakers": [{{ "name": "b", "probes": 1 {breaker},
              "trip": {{ "consecutive_failures": 3, "slow_ratio": 0.5, "slow_after": "800ms", "min_requests": 10 }} }}],
              "fallbacks": [{{ "name": "sorry", "status": 200, "text": "sorry" }}] {more} }}"#
    ))
}

const POST: [(&str, &str); 1] = [(":method", "POST")];
const OK: [(&str, &str); 1] = [(":status", "200")];
/// Longer than the breaker is open after its first trip, jitter included.
const OPEN: u64 = 6_100 * MILLISECOND;

fn gauge(sidecar: &Sidecar) -> u64 {
    sidecar.host.metric(&Names::default().breaker_state("b"))
}

fn closed(sidecar: &Sidecar) -> bool {
    gauge(sidecar) == 0 && sidecar.serve(&[]).is_none()
}

/// As many answers of this status by `origin` as would open the breaker, and one more request to tell.
fn opens(sidecar: &Sidecar, origin: Origin, status: &str) -> bool {
    sidecar.host.set_origin(origin);
    for _ in 0..3 {
        let ticket = sidecar.begin(&[]).unwrap();
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
    }
    sidecar.host.set_origin(Origin::Service);
    !closed(sidecar)
}

/// The same, before the client has sent its whole request.
fn opens_early(sidecar: &Sidecar, origin: Origin, status: &str) -> bool {
    sidecar.host.set_origin(origin);
    for _ in 0..3 {
        let ticket = sidecar.begin_upload(&POST);
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
    }
    sidecar.host.set_origin(Origin::Service);
    !closed(sidecar)
}

// === the client ======================================================================================================

#[test]
fn the_services_time_runs_from_the_end_of_the_request() {
    let uploaded = |sidecar: &Sidecar, upload: u64, service: u64| {
        let mut ticket = sidecar.begin_upload(&POST);
        sidecar.host.advance(upload * MILLISECOND);
        sidecar.complete(&mut ticket);
        sidecar.host.advance(service * MILLISECOND);
        sidecar.answer(ticket);
    };
    let sidecar = shop("", "");
    (0..30).for_each(|_| uploaded(&sidecar, 60_000, 800));
    assert!(closed(&sidecar), "a minute to upload is not slow");
    let sidecar = shop("", "");
    for _ in 0..100 {
        if gauge(&sidecar) == 0 {
            uploaded(&sidecar, 0, 801);
        }
    }
    assert_eq!(gauge(&sidecar), 3, "but the service is, if it takes that long itself");
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_request_took_no_time() {
    let sidecar = shop("", "");
    for _ in 0..30 {
        let ticket = sidecar.begin_upload(&POST);
        sidecar.host.advance(60 * SECOND);
        sidecar.answer(ticket);
    }
    assert!(closed(&sidecar));
    assert_eq!(ended(&sidecar.host, "other", "success"), 31);
}

#[test]
fn a_failure_before_the_end_of_the_request_says_nothing_unless_nobody_could_be_reached() {
    for (origin, status, expected) in [
        (Origin::Service, "503", false),
        (Origin::Service, "504", false),
        (Origin::Unanswered, "503", false),
        (Origin::Unanswered, "504", false),
        (Origin::Unanswered, "408", false),
        (Origin::Elsewhere, "408", false),
        (Origin::Unreachable, "503", true),
        (Origin::Injected, "503", true),
    ] {
        let sidecar = shop("", "");
        assert_eq!(opens_early(&sidecar, origin, status), expected, "{origin:?} {status}");
        let got = if status == "408" { "client_error" } else { "failure" };
        assert_eq!(ended(&sidecar.host, "other", got), 3, "what the client got: {origin:?} {status}");
    }
}

/// Where nobody but the metric hears of it. Who did not finish is told apart from what the client got.
#[test]
fn what_fails_before_the_end_of_the_request_is_a_failure_in_the_metric() {
    let sidecar = Sidecar::new("{}");
    for (origin, status, outcome) in [
        (Origin::Service, "503", "failure"),
        (Origin::Unanswered, "504", "failure"),
        (Origin::Unreachable, "503", "failure"),
        (Origin::Unanswered, "408", "client_error"),
        (Origin::Elsewhere, "408", "client_error"),
        (Origin::Service, "413", "client_error"),
    ] {
        let before = ended(&sidecar.host, "other", outcome);
        sidecar.host.set_origin(origin);
        let ticket = sidecar.begin_upload(&POST);
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
        assert_eq!(ended(&sidecar.host, "other", outcome), before + 1, "{origin:?} {status}");
    }
}

/// Its client keeps its half open, as in a call that streams both ways.
#[test]
fn a_call_that_fails_while_its_client_still_sends_is_a_failure_to_it_and_says_nothing_of_the_service() {
    let sidecar = shop("", "");
    let call = [(":method", "POST"), ("content-type", "application/grpc")];
    let said: [&[(&str, &str)]; 2] = [&OK, &[(":status", "200"), ("grpc-status", "14")]];
    for number in 0..20 {
        let ticket = sidecar.begin_upload(&call);
        sidecar.host.set_grpc_status(Some(14));
        let _ = sidecar.answer_with(ticket, said[number % 2]);
    }
    sidecar.host.set_grpc_status(None);
    assert_eq!(ended(&sidecar.host, "other", "failure"), 20);
    assert!(closed(&sidecar));
}

/// The service breaks off what it began to answer before it had all of the request. Whoever does not finish makes it.
#[test]
fn an_answer_that_breaks_off_before_the_end_of_the_request_says_nothing_of_the_service() {
    for more in [&[][..], &[("content-type", "application/grpc")]] {
        for (is_complete, expected) in [(false, true), (true, false)] {
            let sidecar = shop("", "");
            sidecar.host.set_broken_off(true);
            for _ in 0..3 {
                let mut ticket = sidecar.begin_upload(&[&POST, more].concat());
                begins(&sidecar, &mut ticket);
                if is_complete {
                    sidecar.complete(&mut ticket);
                }
                sidecar.end(ticket);
            }
            sidecar.host.set_broken_off(false);
            assert_eq!(ended(&sidecar.host, "other", "failure"), 3, "{more:?} {is_complete}");
            assert_eq!(closed(&sidecar), expected, "{more:?} {is_complete}");
        }
    }
}

#[test]
fn a_probe_has_a_minute_to_be_sent_and_then_the_time_of_any_probe() {
    let half_open = || {
        let sidecar = shop("", "");
        assert!(opens(&sidecar, Origin::Service, "503"));
        sidecar.host.advance(OPEN);
        let probe = sidecar.begin_upload(&POST);
        assert_eq!(gauge(&sidecar), 1);
        (sidecar, probe)
    };
    let (sidecar, mut probe) = half_open();
    sidecar.host.advance(59 * SECOND);
    sidecar.complete(&mut probe);
    sidecar.host.advance(700 * MILLISECOND);
    sidecar.answer(probe);
    assert_eq!(gauge(&sidecar), 2, "its client took long, not the service");

    let (sidecar, mut probe) = half_open();
    sidecar.host.advance(30 * SECOND);
    sidecar.complete(&mut probe);
    sidecar.host.advance(SECOND);
    assert!(sidecar.begin(&[]).is_err());
    assert_eq!(gauge(&sidecar), 3, "lost: a second is what a probe has at least");
    sidecar.end(probe);

    let (sidecar, probe) = half_open();
    sidecar.host.advance(30 * SECOND);
    let _ = sidecar.answer_with(probe, &[(":status", "503")]);
    assert_eq!(gauge(&sidecar), 1, "a failure of a request that was never finished is given back");
}

#[test]
fn what_is_usual_is_told_by_the_services_time() {
    let sidecar = shop("", r#", "deadlines": [{ "header": "x-time" }]"#);
    for _ in 0..MIN_SUCCESSES {
        let mut ticket = sidecar.begin_upload(&POST);
        sidecar.host.advance(300 * MILLISECOND);
        sidecar.complete(&mut ticket);
        sidecar.host.advance(10 * MILLISECOND);
        sidecar.answer(ticket);
    }
    assert!(sidecar.begin(&[("x-time", "20")]).map(|ticket| sidecar.end(ticket)).is_ok(), "it takes ten");
    assert!(sidecar.begin(&[("x-time", "5")]).map(|ticket| sidecar.end(ticket)).is_ok(), "a trial");
    assert_eq!(sidecar.begin(&[("x-time", "5")]).map_err(|reply| reason(&reply).to_owned()).err().unwrap(), "deadline");
}

/// A caller's own deadline passes; whose fault that is depends on how much time it left.
fn times_out(sidecar: &Sidecar, millis: u64) {
    times_out_in("text/plain", sidecar, millis);
}

/// The same of a request in that format. Envoy tells a call of gRPC that its time is over as that nobody is there.
fn times_out_in(format: &str, sidecar: &Sidecar, millis: u64) {
    let ticket = sidecar.begin(&[("content-type", format), ("grpc-timeout", &format!("{millis}m"))]).unwrap();
    sidecar.host.set_origin(Origin::TimedOut);
    sidecar.host.advance(millis * MILLISECOND);
    let response: &[(&str, &str)] = match format {
        "application/grpc" => &[(":status", "200"), ("grpc-status", "14")],
        _ => &[(":status", "504")],
    };
    let _ = sidecar.answer_with(ticket, response);
    sidecar.host.set_origin(Origin::Service);
}

#[test]
fn a_call_that_leaves_hardly_any_time_is_to_blame_itself_too() {
    for rules in [r#", "retries": [{}]"#, r#", "deadlines": [{ "default": "1h" }]"#] {
        let sidecar = shop("", rules);
        (0..5).for_each(|_| times_out_in("application/grpc", &sidecar, 5));
        assert!(closed(&sidecar), "{rules}");
        let ample = u64::try_from(AMPLE.as_millis()).unwrap();
        (0..3).for_each(|_| times_out_in("application/grpc", &sidecar, ample));
        assert!(!closed(&sidecar), "{rules}");
    }
}

/// Of gRPC, too, by the status that says so.
#[test]
fn a_rule_for_timeouts_replaces_those_of_calls() {
    let sidecar = shop(
        "",
        r#", "on_failure": [{ "failures": ["504"], "fallback": "sorry" }], "deadlines": [{ "default": "1s" }]"#,
    );
    let ticket = sidecar.begin(&[("content-type", "application/grpc")]).unwrap();
    sidecar.host.set_origin(Origin::TimedOut);
    sidecar.host.advance(SECOND);
    let reply = sidecar.replacement(ticket, &[(":status", "200"), ("grpc-status", "14")]).unwrap();
    assert_eq!(reason(&reply), "failure/other");
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("504"));
}

#[test]
fn who_leaves_hardly_any_time_learns_nothing_of_a_service_that_nobody_knows() {
    let ample = u64::try_from(AMPLE.as_millis()).unwrap();
    for rules in [r#", "retries": [{}]"#, r#", "deadlines": [{}]"#, r#", "deadlines": [{ "default": "1h" }]"#] {
        let sidecar = shop("", rules);
        (0..5).for_each(|_| times_out(&sidecar, 5));
        (0..5).for_each(|_| times_out(&sidecar, ample - 1));
        assert!(closed(&sidecar), "{rules}");
        assert_eq!(ended(&sidecar.host, "other", "failure"), 10, "clients got no answer");
        (0..3).for_each(|_| times_out(&sidecar, ample));
        assert!(!closed(&sidecar), "a second is time enough for most: {rules}");
    }
}

#[test]
fn who_leaves_less_time_than_nearly_all_need_learns_nothing() {
    let known = |successes: &[u64]| {
        let sidecar = shop("", r#", "deadlines": [{ "default": "1h" }]"#);
        for millis in successes {
            let ticket = sidecar.begin(&[]).unwrap();
            sidecar.host.advance(millis * MILLISECOND);
            sidecar.answer(ticket);
        }
        sidecar
    };
    // Nineteen of twenty take 100 ms, one takes 500: nearly all take 100.
    let mut most = vec![100; 38];
    most.extend([500, 500]);
    let (less, enough) = (known(&most), known(&most));
    (0..5).for_each(|_| times_out(&less, 99));
    assert!(closed(&less));
    (0..3).for_each(|_| times_out(&enough, 115));
    assert!(!closed(&enough), "buckets are an eighth wide");
    // As long as little is known, all that is known count.
    let few = known(&[700, 1_500]);
    (0..5).for_each(|_| times_out(&few, 1_400));
    assert!(closed(&few));
    (0..3).for_each(|_| times_out(&few, 1_700));
    assert!(!closed(&few));
}

/// Nor does a failure that has nothing to do with time, or a time that the rule gives.
#[test]
fn only_a_timeout_by_the_callers_own_deadline_is_the_callers() {
    let sidecar = shop("", r#", "deadlines": [{ "default": "50ms" }]"#);
    (0..3).for_each(|_| times_out(&sidecar, 60));
    assert!(!closed(&sidecar), "the rule allows 50 ms, whatever the caller says");

    let sidecar = shop("", r#", "deadlines": [{}]"#);
    for _ in 0..3 {
        let ticket = sidecar.begin(&[("grpc-timeout", "5m")]).unwrap();
        let _ = sidecar.answer_with(ticket, &[(":status", "500")]);
    }
    assert!(!closed(&sidecar));
}

// === the proxy =======================================================================================================

#[test]
fn what_the_proxy_answers_without_asking_is_no_failure_and_what_nobody_answers_is() {
    for (origin, expected) in [
        (Origin::Service, true),
        (Origin::Unreachable, true),
        (Origin::Unanswered, true),
        (Origin::Injected, true),
        (Origin::Overflow, false),
        (Origin::Elsewhere, false),
    ] {
        let sidecar = shop("", "");
        assert_eq!(opens(&sidecar, origin, "503"), expected, "{origin:?}");
        assert_eq!(ended(&sidecar.host, "other", "failure"), 3, "clients got a failure: {origin:?}");
    }
}

#[test]
fn what_the_proxy_answers_without_asking_is_no_success_either() {
    // It does not end a run of failures.
    for status in ["200", "301", "404"] {
        let sidecar = shop("", "");
        for _ in 0..3 {
            sidecar.host.set_origin(Origin::Elsewhere);
            let ticket = sidecar.begin(&[]).unwrap();
            let _ = sidecar.answer_with(ticket, &[(":status", status)]);
            sidecar.host.set_origin(Origin::Service);
            let ticket = sidecar.begin(&[]).unwrap();
            let _ = sidecar.answer_with(ticket, &[(":status", "503")]);
        }
        assert_eq!(gauge(&sidecar), 3, "{status}");
        // Nor is it a probe's success.
        sidecar.host.advance(OPEN);
        sidecar.host.set_origin(Origin::Elsewhere);
        for _ in 0..5 {
            let ticket = sidecar.begin(&[]).unwrap();
            let _ = sidecar.answer_with(ticket, &[(":status", status)]);
            assert_eq!(gauge(&sidecar), 1, "{status}");
        }
        sidecar.host.set_origin(Origin::Service);
        let ticket = sidecar.begin(&[]).unwrap();
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
        assert_eq!(gauge(&sidecar), 2, "an answer of the service is, whatever it says: {status}");
    }
}

/// Who answered is asked of failures and probes; of a success no more than whether anybody was asked, which costs no bytes.
#[test]
fn a_success_costs_no_call_that_returns_bytes_for_it() {
    let sidecar = shop("", "");
    let calls = |status: &str| {
        let ticket = sidecar.begin(&[]).unwrap();
        sidecar.host.take_calls();
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
        let calls = sidecar.host.take_calls();
        ["response_status", "sent", "origin", "response_header"].map(|name| calls.get(name).copied().unwrap_or(0))
    };
    assert_eq!(calls("200"), [1, 1, 0, 0]);
    assert_eq!(calls("404"), [1, 1, 0, 0]);
    assert_eq!(calls("503"), [1, 0, 1, 1]);
    assert_eq!(calls("501"), [1, 1, 0, 0]);
}

#[test]
fn answers_of_the_proxy_pay_for_no_retry_and_are_not_usual() {
    let sidecar = Sidecar::new(r#"{ "retries": [{ "max_attempts": 3 }], "deadlines": [{ "header": "x-time" }] }"#);
    let account = || format!("{:?}", sidecar.worker.retry.accounts.of("test/0").borrow());
    sidecar.serve(&[]);
    let before = account();
    for attempts in [Some(0), None] {
        sidecar.host.set_attempts(attempts);
        sidecar.host.set_origin(Origin::Elsewhere);
        for _ in 0..30 {
            let ticket = sidecar.begin(&[("x-envoy-attempt-count", "2")]).unwrap();
            let _ = sidecar.answer_with(ticket, &[(":status", "301")]);
        }
    }
    assert_eq!(account(), before);
    sidecar.host.set_origin(Origin::Service);
    sidecar.host.set_attempts(Some(1));
    for _ in 0..MIN_SUCCESSES {
        let ticket = sidecar.begin(&[]).unwrap();
        sidecar.host.advance(100 * MILLISECOND);
        sidecar.answer(ticket);
    }
    let refused = (0..5).filter(|_| sidecar.begin(&[("x-time", "50")]).map(|it| sidecar.end(it)).is_err()).count();
    assert_eq!(refused, 4, "a hundred are usual; one is a trial");
}

#[test]
fn an_overflow_is_replaced_and_what_others_refuse_is_not() {
    let sidecar = shop("", r#", "on_failure": [{ "fallback": "sorry" }]"#);
    for (origin, expected) in
        [(Origin::Overflow, true), (Origin::Unreachable, true), (Origin::Service, true), (Origin::Elsewhere, false)]
    {
        sidecar.host.set_origin(origin);
        let ticket = sidecar.begin(&[]).unwrap();
        let replaced = sidecar.replacement(ticket, &[(":status", "503")]);
        assert_eq!(replaced.is_some(), expected, "{origin:?}");
    }
    assert_eq!(served(&sidecar.host, "sorry", "failure/other"), 3);
}

// === the lists =======================================================================================================

#[test]
fn a_breaker_fails_by_its_own_list() {
    for (list, status, expected) in [
        ("", "500", true),
        ("", "501", false),
        ("", "505", false),
        ("", "429", false),
        (r#", "failures": ["5xx"]"#, "501", true),
        (r#", "failures": ["5xx", "!503"]"#, "503", false),
        (r#", "failures": ["5xx", "!503"]"#, "502", true),
        (r#", "failures": ["429"]"#, "429", true),
        (r#", "failures": ["429"]"#, "503", false),
        (r#", "failures": ["4xx"]"#, "404", true),
    ] {
        let sidecar = shop(list, "");
        assert_eq!(opens(&sidecar, Origin::Service, status), expected, "{list} {status}");
    }
    let sidecar = shop(r#", "failures": ["429"]"#, "");
    assert!(opens(&sidecar, Origin::Unreachable, "503"), "where nobody answers, no list is asked");
    let sidecar = shop(r#", "failures": ["429"]"#, "");
    sidecar.host.set_response(&[]);
    for _ in 0..5 {
        let ticket = sidecar.begin(&[]).unwrap();
        let _ = sidecar.answer_with(ticket, &[(":status", "429"), ("x-envoy-ratelimited", "true")]);
    }
    assert!(closed(&sidecar), "a refusal that is marked as one is none");
}

#[test]
fn a_rule_for_failures_replaces_by_its_own_list() {
    for (list, status, expected) in [
        ("", "503", true),
        ("", "501", false),
        (r#""failures": ["429"],"#, "429", true),
        (r#""failures": ["429"],"#, "503", false),
        (r#""statuses": ["501"],"#, "501", true),
    ] {
        let sidecar = shop("", &format!(r#", "on_failure": [{{ {list} "fallback": "sorry" }}]"#));
        let ticket = sidecar.begin(&[]).unwrap();
        let replaced = sidecar.replacement(ticket, &[(":status", status)]);
        assert_eq!(replaced.is_some(), expected, "{list} {status}");
    }
}

#[test]
fn a_budget_hears_of_failures_by_its_own_list() {
    let spendable = |list: &str| {
        let sidecar = Sidecar::new(&format!(r#"{{ "retries": [{{ {list} "max_attempts": 2 }}] }}"#));
        sidecar.host.set_attempts(Some(1));
        for _ in 0..30 {
            let ticket = sidecar.begin(&[]).unwrap();
            let _ = sidecar.answer_with(ticket, &[(":status", "429")]);
        }
        // In an outage half of what it may hold is kept.
        let mut account = sidecar.worker.retry.accounts.of("test/0").borrow().clone();
        let workers = sidecar.worker.retry.census.last();
        let budget = outrigger::retry::budget::Budget::default();
        account.set_aside(&budget, u32::MAX, workers, outrigger::host::Host::now(&*sidecar.host)).retries()
    };
    assert!(spendable(r#""failures": ["429"],"#) < spendable(""), "429 speaks against the service if the rule says so");
}

// === deadlines =======================================================================================================

fn hurried(rule: &str) -> Sidecar {
    shop("", &format!(r#", "deadlines": [{rule}]"#))
}

/// The answer begins, and goes on.
fn begins(sidecar: &Sidecar, ticket: &mut Ticket) {
    sidecar.host.set_response(&OK);
    let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, ticket);
}

#[test]
fn a_deadline_is_for_the_beginning_of_the_answer_unless_the_rule_says_end() {
    for (rule, due_after) in [
        (r#"{ "default": "1s" }"#, false),
        (r#"{ "default": "1s", "cut_responses": false }"#, false),
        (r#"{ "default": "1s", "cut_responses": true }"#, true),
    ] {
        let sidecar = hurried(rule);
        let mut ticket = sidecar.begin(&[]).unwrap();
        let due = sidecar.now() + SECOND;
        assert_eq!(ticket.due().map(|it| it.as_nanos()), Some(due), "{rule}");
        sidecar.host.advance(10 * MILLISECOND);
        begins(&sidecar, &mut ticket);
        assert_eq!(ticket.due().map(|it| it.as_nanos()), due_after.then_some(due), "{rule}");
        sidecar.host.advance(SECOND);
        assert_eq!(sidecar.expire(&mut ticket).is_some(), due_after, "{rule}");
        if !due_after {
            sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
        }
        sidecar.end(ticket);
        let (outcome, detail) = if due_after { ("failure", Some("expired")) } else { ("success", None) };
        assert_eq!(ended(&sidecar.host, "other", outcome), 1, "{rule}");
        assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), detail, "{rule}");
    }
}

/// The library that counts it counts to the end.
#[test]
fn grpcs_own_deadline_is_for_all_of_a_call() {
    let sidecar = hurried("{}");
    let call = [(":method", "POST"), ("content-type", "application/grpc"), ("grpc-timeout", "2S")];
    let mut ticket = sidecar.begin(&call).unwrap();
    begins(&sidecar, &mut ticket);
    assert!(ticket.due().is_some());
    sidecar.host.advance(2 * SECOND);
    let reply = sidecar.expire(&mut ticket).unwrap();
    assert_eq!(reply.grpc_status, 4);
    assert_eq!(ticket.due(), None);
    sidecar.end(ticket);
    assert_eq!(ended(&sidecar.host, "other", "failure"), 1);

    let mut ticket = sidecar.begin(&call[..2]).unwrap();
    begins(&sidecar, &mut ticket);
    assert_eq!(ticket.due(), None, "nobody said a time");
    sidecar.end(ticket);
}

#[test]
fn a_request_whose_time_is_over_is_answered_and_counts_once() {
    let sidecar = hurried(r#"{ "default": "1s" }"#);
    for _ in 0..3 {
        let mut ticket = sidecar.begin(&[]).unwrap();
        sidecar.host.advance(SECOND);
        let reply = sidecar.expire(&mut ticket).unwrap();
        assert_eq!((reply.status, reply.details.as_str(), reason(&reply)), (504, "outrigger_expired", ""));
        assert_eq!(header(&reply, "x-envoy-ratelimited"), None, "nobody refused it");
        assert_eq!(ticket.due(), None);
        assert_eq!(sidecar.expire(&mut ticket), None);
        // The proxy shows the filter its own reply.
        let _ = sidecar.answer_with(ticket, &[(":status", "504")]);
    }
    assert_eq!(ended(&sidecar.host, "other", "failure"), 3);
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("expired"));
    assert!(!closed(&sidecar), "the service had the time that the rule gives it");

    // Its caller's time: nothing is known of the service.
    let sidecar = hurried("{}");
    for _ in 0..5 {
        let mut ticket = sidecar.begin(&[("grpc-timeout", "5m")]).unwrap();
        sidecar.host.advance(5 * MILLISECOND);
        assert!(sidecar.expire(&mut ticket).is_some());
        sidecar.end(ticket);
    }
    assert!(closed(&sidecar));
}

/// The caller has little time here, and the rule gives less: what is over first tells whose it was.
#[test]
fn the_time_of_a_rule_for_retries_is_not_its_callers() {
    let opens = |timeout: &str| {
        let sidecar = shop("", &format!(r#", "retries": [{{ "max_attempts": 1, "timeout": "{timeout}" }}]"#));
        for _ in 0..3 {
            let request = [("accept", "application/json, text/event-stream"), ("grpc-timeout", "500m")];
            let mut ticket = sidecar.begin(&request).unwrap();
            sidecar.host.set_now(ticket.due().unwrap().as_nanos());
            assert!(sidecar.expire(&mut ticket).is_some());
            sidecar.end(ticket);
        }
        !closed(&sidecar)
    };
    assert!(opens("100ms"));
    assert!(!opens("600ms"));
}

#[test]
fn what_takes_the_place_of_failures_takes_that_of_a_request_whose_time_is_over() {
    let sidecar = shop("", r#", "deadlines": [{ "default": "1s" }], "on_failure": [{ "fallback": "sorry" }]"#);
    let mut ticket = sidecar.begin(&[]).unwrap();
    sidecar.host.advance(SECOND);
    let reply = sidecar.expire(&mut ticket).unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"sorry".as_slice()));
    sidecar.end(ticket);
    assert_eq!(ended(&sidecar.host, "other", "degraded"), 1);
}

#[test]
fn a_deadline_runs_from_the_end_of_the_request() {
    let sidecar = hurried(r#"{ "default": "1s" }"#);
    let mut ticket = sidecar.begin_upload(&POST);
    assert_eq!(ticket.due(), None);
    sidecar.host.advance(5 * SECOND);
    assert_eq!(sidecar.expire(&mut ticket), None);
    sidecar.complete(&mut ticket);
    assert_eq!(ticket.due().map(|it| it.as_nanos()), Some(sidecar.now() + SECOND));
    sidecar.end(ticket);
    assert_eq!(ended(&sidecar.host, "other", "cancelled"), 1);
}

/// By the route's timeout, or by that of a rule for retries. A client that reads slowly runs into them too.
#[test]
fn an_answer_that_the_proxy_cuts_off_is_a_failure_to_its_client_and_says_nothing_of_the_service() {
    let sidecar = shop("", "");
    sidecar.host.set_timed_out(true);
    for _ in 0..3 {
        let mut ticket = sidecar.begin(&[]).unwrap();
        begins(&sidecar, &mut ticket);
        sidecar.end(ticket);
    }
    sidecar.host.set_timed_out(false);
    assert_eq!(ended(&sidecar.host, "other", "failure"), 3);
    assert!(closed(&sidecar));
}
