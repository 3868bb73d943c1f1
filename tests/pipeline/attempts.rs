//! Retries that are paid for one by one: what the instance upstream says of each attempt, what is set aside when, and that
//! nobody gets more than the budget pays.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use crate::common::Random;
use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, ended};
use outrigger::attempt::{self, Attempt};
use outrigger::host::{Host, LogField};
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::retry::attendance::{Attendance, LONGEST_PROBATION, PROBATION};
use outrigger::retry::budget::Budget;
use outrigger::retry::policy::Payment;
use outrigger::retry::register::Placement;
use outrigger::retry::router;
use outrigger::time::Timestamp;

/// The default budget: a tenth of a retry per success, one a second, five at first.
const THREE: &str = r#"{ "retries": [{ "max_attempts": 3, "retry_on": ["5xx", "reset", "unavailable"],
                                     "grpc_methods": ["/shop.Orders/Get"] }] }"#;

const GOOD: &[(&str, &str)] = &[(":status", "200")];
const BAD: &[(&str, &str)] = &[(":status", "503")];

/// A worker with the filter in both places. Nobody has seen an attempt yet.
fn both(config: &str) -> Sidecar {
    let sidecar = Sidecar::new(config);
    sidecar.worker.retry.register.join(Placement::Downstream);
    sidecar.worker.retry.register.join(Placement::Upstream);
    sidecar
}

/// The same, and it is known.
fn attended(config: &str) -> Sidecar {
    let sidecar = both(config);
    assert_eq!(Request::begin(&sidecar).last_attempt(GOOD), Answer::Pass(Default::default()));
    sidecar
}

/// A request under way, and the router's part in it.
struct Request<'s> {
    sidecar: &'s Sidecar,
    ticket: Ticket,
    /// The number that it carries.
    number: Option<u64>,
    /// Retries that the router may make.
    allowed: u32,
    /// Attempts that it made.
    sent: u32,
}

/// What became of an attempt.
enum Became {
    /// Its answer, and whether it bears a mark.
    Answered(attempt::Answer),
    /// It was not let go.
    Refused(Reply),
}

impl<'s> Request<'s> {
    fn begin(sidecar: &'s Sidecar) -> Self {
        Self::begin_with(sidecar, &[])
    }

    fn begin_with(sidecar: &'s Sidecar, headers: &[(&str, &str)]) -> Self {
        sidecar.host.set_response(&[]);
        sidecar.host.set_request_number_to(None);
        let (Decision::Forward(edits), ticket) = sidecar.ask(headers) else { panic!("it goes on") };
        let number = sidecar.host.request_number().unwrap();
        let told = edits.set.iter().find(|(name, _)| *name == router::MAX_RETRIES).unwrap();
        let allowed = told.1.parse().unwrap();
        Self { sidecar, ticket, number, allowed, sent: 0 }
    }

    fn start(&mut self) -> (attempt::Decision, Attempt) {
        self.sidecar.host.set_request_number_to(self.number);
        self.sent += 1;
        attempt::on_request(&*self.sidecar.host, &self.sidecar.worker)
    }

    /// One attempt with its answer; `None` for one that is reset.
    fn attempt(&mut self, response: Option<&[(&str, &str)]>) -> Became {
        let (decision, attempt) = self.start();
        if let attempt::Decision::Reply(reply) = decision {
            return Became::Refused(*reply);
        }
        self.sidecar.host.set_response(response.unwrap_or_default());
        match response {
            None => Became::Answered(attempt::Answer::Pass),
            Some(_) => Became::Answered(attempt::on_response(&*self.sidecar.host, &self.sidecar.worker, &attempt)),
        }
    }

    /// The client is answered with what the last attempt was, and the stream ends.
    fn end(self, response: &[(&str, &str)]) -> Answer {
        self.sidecar.host.set_attempts(Some(self.sent));
        self.sidecar.answer_with(self.ticket, response)
    }

    fn last_attempt(mut self, response: &[(&str, &str)]) -> Answer {
        assert!(matches!(self.attempt(Some(response)), Became::Answered(attempt::Answer::Pass)));
        self.end(response)
    }

    /// All that the router does with a service that answers each attempt so (`None`: resets it). Returns the attempts that
    /// reached the service.
    fn run(mut self, response: Option<&[(&str, &str)]>) -> u32 {
        let mut reached = 0;
        loop {
            match self.attempt(response) {
                Became::Refused(reply) => {
                    let status = reply.status.to_string();
                    let _ = self.end(&[(":status", &status)]);
                    return reached;
                }
                Became::Answered(answer) => {
                    reached += 1;
                    if answer == attempt::Answer::Mark || reached == self.allowed + 1 {
                        let marked: &[_] =
                            if answer == attempt::Answer::Mark { &[(router::LAST, "true")] } else { &[] };
                        let _ = self.end(&[response.unwrap_or(BAD), marked].concat());
                        return reached;
                    }
                }
            }
        }
    }
}

/// A request whose answer was marked, because the budget is empty.
fn marked(sidecar: &Sidecar) -> Request<'_> {
    while 0 < funds(sidecar) {
        Request::begin(sidecar).run(Some(BAD));
    }
    let mut request = Request::begin(sidecar);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Mark)));
    request
}

/// How many retries the account would pay for now.
fn funds(sidecar: &Sidecar) -> u32 {
    let mut account = sidecar.worker.retry.accounts.of("test/0").borrow().clone();
    account.set_aside(&Budget::default(), u32::MAX, sidecar.worker.retry.census.last(), sidecar.host.now()).retries()
}

fn decided(sidecar: &Sidecar, decision: &str) -> u64 {
    sidecar.host.metric(&format!("operation=.=other;.;decision=.={decision};.;outrigger_retries_total"))
}

fn host_errors(sidecar: &Sidecar, call: &str) -> u64 {
    sidecar.host.metric(&format!("call=.={call};.;outrigger_host_errors_total"))
}

// === when what is paid for ===========================================================================================

#[test]
fn the_first_request_is_paid_for_in_advance_and_the_next_ones_when_they_fail() {
    let sidecar = both(THREE);
    let first = Request::begin(&sidecar);
    assert_eq!(funds(&sidecar), 3, "two of five are set aside");
    let _ = first.last_attempt(GOOD);
    assert_eq!(funds(&sidecar), 5);

    let many: Vec<Request<'_>> = (0..100).map(|_| Request::begin(&sidecar)).collect();
    assert!(many.iter().all(|request| request.allowed == 2));
    assert_eq!(funds(&sidecar), 5, "nothing is set aside for a hundred requests");
    let numbers: std::collections::BTreeSet<_> = many.iter().map(|request| request.number.unwrap()).collect();
    assert_eq!(numbers.len(), 100, "no number is given twice, though no time passes");
    for request in many {
        let _ = request.last_attempt(GOOD);
    }
}

#[test]
fn a_failed_answer_pays_for_the_next_attempt_and_a_good_one_gives_back_what_was_not_needed() {
    let sidecar = attended(THREE);
    let mut request = Request::begin(&sidecar);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)));
    assert_eq!(funds(&sidecar), 4);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)));
    assert_eq!(funds(&sidecar), 3);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)), "there is no fourth");
    assert_eq!(funds(&sidecar), 3);
    let _ = request.end(BAD);
    assert_eq!((funds(&sidecar), decided(&sidecar, "made"), decided(&sidecar, "no_budget")), (3, 2, 0));

    // The router does not retry after all, for a reason of its own.
    let mut request = Request::begin(&sidecar);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)));
    assert_eq!(funds(&sidecar), 2);
    let _ = request.end(BAD);
    assert_eq!((funds(&sidecar), decided(&sidecar, "made")), (3, 2));
}

#[test]
fn an_answer_after_which_nobody_pays_is_marked_and_the_client_does_not_see_the_mark() {
    let sidecar = attended(THREE);
    for _ in 0..2 {
        assert_eq!(Request::begin(&sidecar).run(Some(BAD)), 3);
    }
    let mut request = Request::begin(&sidecar);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)), "the fifth token");
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Mark)));
    let answer = request.end(&[(":status", "503"), (router::LAST, "true")]);
    let Answer::Pass(fields) = answer else { panic!("{answer:?}") };
    assert_eq!((fields.set, fields.remove), (vec![], vec![router::LAST]));
    assert_eq!(decided(&sidecar, "no_budget"), 1);
    assert_eq!(ended(&sidecar.host, "other", "failure"), 3, "it is the service's failure, mark or not");
    assert_eq!(sidecar.host.log_field(LogField::Reason), None, "nothing was refused");
}

#[test]
fn an_attempt_after_one_without_an_answer_is_refused_when_nobody_pays() {
    let sidecar = attended(THREE);
    let reached: Vec<u32> = (0..4).map(|_| Request::begin(&sidecar).run(None)).collect();
    assert_eq!(reached, [3, 3, 2, 1], "five retries");
    assert_eq!((decided(&sidecar, "made"), decided(&sidecar, "no_budget")), (5, 2));

    let mut request = Request::begin(&sidecar);
    assert!(matches!(request.attempt(None), Became::Answered(_)), "the first attempt costs nothing");
    let Became::Refused(reply) = request.attempt(None) else { panic!("nobody pays") };
    assert_eq!((reply.status, reply.grpc_status, reply.details.as_str()), (503, 14, "outrigger_no_budget"));
    let says_not_to_retry = |(name, _): &(std::borrow::Cow<'_, str>, String)| name == router::LAST;
    assert!(!reply.headers.iter().any(says_not_to_retry), "it is a failure like any other");
    let _ = request.end(&[(":status", "503")]);
    assert_eq!(ended(&sidecar.host, "other", "failure"), 5);
    assert_eq!(decided(&sidecar, "made"), 5, "an attempt that was refused is none");
}

#[test]
fn what_the_router_would_not_retry_costs_nothing() {
    let sidecar = attended(THREE);
    let responses: [&[(&str, &str)]; 4] = [
        &[(":status", "404")],
        &[(":status", "409")],
        &[(":status", "200"), ("grpc-status", "8")],
        // Another proxy's refusal, whose mark is not ours.
        &[(":status", "503"), (router::LAST, "true")],
    ];
    for response in responses {
        let mut request = Request::begin(&sidecar);
        assert!(matches!(request.attempt(Some(response)), Became::Answered(attempt::Answer::Pass)), "{response:?}");
        assert_eq!(funds(&sidecar), 5, "{response:?}");
        assert_eq!(request.end(response), Answer::Pass(Default::default()), "{response:?}");
    }
    // A GET cannot fail by a status of gRPC, a call can.
    let unavailable = &[(":status", "200"), ("grpc-status", "14")];
    let call = [(":path", "/shop.Orders/Get"), (":method", "POST"), ("content-type", "application/grpc")];
    for (headers, left) in [(&[][..], 5), (&call[..], 4)] {
        let mut request = Request::begin_with(&sidecar, headers);
        assert!(matches!(request.attempt(Some(unavailable)), Became::Answered(attempt::Answer::Pass)));
        assert_eq!(funds(&sidecar), left, "{headers:?}");
        let _ = request.end(unavailable);
    }
}

#[test]
fn attempts_side_by_side_are_always_paid_for_in_advance() {
    let hedged = r#"{ "retries": [{ "max_attempts": 3, "per_try_timeout": "100ms", "hedge": true }] }"#;
    let sidecar = both(hedged);
    for _ in 0..3 {
        let request = Request::begin(&sidecar);
        assert_eq!((request.number, funds(&sidecar)), (None, 3));
        let _ = request.end(GOOD);
    }
}

#[test]
fn a_request_that_cannot_be_sent_twice_is_not_paid_for_one_by_one_either() {
    let sidecar = attended(THREE);
    let put = |length| [(":method", "PUT"), ("content-length", length)];
    let request = Request::begin_with(&sidecar, &put("65537"));
    assert_eq!((request.number, request.allowed), (None, 0));
    assert_eq!(request.run(Some(BAD)), 1);
    assert_eq!(Request::begin_with(&sidecar, &put("65536")).run(Some(BAD)), 3);
}

#[test]
fn without_an_instance_upstream_no_request_is_given_a_number() {
    let sidecar = Sidecar::new(THREE);
    sidecar.worker.retry.register.join(Placement::Downstream);
    let request = Request::begin(&sidecar);
    assert_eq!(request.number, None);
    let _ = request.end(GOOD);
    // One that has gone again is none.
    sidecar.worker.retry.register.join(Placement::Upstream);
    sidecar.worker.retry.register.leave(Placement::Upstream);
    assert_eq!(Request::begin(&sidecar).number, None);
}

#[test]
fn an_attempt_that_succeeds_costs_two_calls_that_return_bytes() {
    let sidecar = attended(THREE);
    let mut request = Request::begin(&sidecar);
    sidecar.host.take_calls();
    let _ = request.attempt(Some(GOOD));
    assert_eq!(sidecar.host.take_calls(), [("request_number", 1), ("response_status", 1)].into());
    let _ = request.end(GOOD);
    assert_eq!(sidecar.host.take_calls().get("attempts"), None, "how many there were is known");

    // What was paid for in advance is not looked at again.
    let sidecar = both(THREE);
    let mut request = Request::begin(&sidecar);
    sidecar.host.take_calls();
    let _ = request.attempt(Some(GOOD));
    assert_eq!(sidecar.host.take_calls(), [("request_number", 1)].into());
    let _ = request.end(GOOD);
}

// === nobody there ====================================================================================================

#[test]
fn requests_whose_attempts_nobody_saw_put_the_rule_on_probation_and_are_owed() {
    let sidecar = attended(THREE);
    let unseen: Vec<Request<'_>> = (0..10).map(|_| Request::begin(&sidecar)).collect();
    for mut request in unseen {
        assert_eq!(request.allowed, 2);
        request.sent = 3;
        let _ = request.end(BAD);
    }
    assert_eq!((funds(&sidecar), decided(&sidecar, "made")), (0, 20), "nobody paid, so five are charged");
    let request = Request::begin(&sidecar);
    assert_eq!((request.allowed, request.number), (0, None), "in advance, and there is nothing");
    let _ = request.end(GOOD);

    // Fifteen are owed, less what a success paid, so for nearly fifteen seconds there is nothing either.
    sidecar.host.advance(14 * SECOND);
    assert_eq!(funds(&sidecar), 0);
    sidecar.host.advance(2 * SECOND);
    assert_eq!(funds(&sidecar), 1);
    let request = Request::begin(&sidecar);
    assert_eq!((request.allowed, funds(&sidecar)), (1, 0), "in advance, which shows that the debt is paid");
    let _ = request.last_attempt(GOOD);
    let request = Request::begin(&sidecar);
    assert_eq!((request.allowed, funds(&sidecar)), (2, 1), "one by one again");
    let _ = request.last_attempt(GOOD);
}

#[test]
fn each_probation_is_twice_as_long_as_the_one_before() {
    let attendance = Attendance::default();
    let mut now = Timestamp::from_nanos(SECOND);
    assert_eq!(attendance.payment(now), Payment::InAdvance);
    attendance.saw();
    let mut expected = PROBATION;
    for _ in 0..12 {
        assert_eq!(attendance.payment(now), Payment::OneByOne);
        attendance.missed(now);
        // Others that were under way count from their own time, and do not double it.
        now = now.saturating_add(Duration::from_millis(1));
        attendance.missed(now);
        attendance.saw();
        now = now.saturating_add(expected - Duration::from_nanos(1));
        assert_eq!(attendance.payment(now), Payment::InAdvance, "{expected:?}");
        now = now.saturating_add(Duration::from_nanos(1));
        expected = (expected * 2).min(LONGEST_PROBATION);
    }
    assert_eq!(expected, LONGEST_PROBATION);
}

#[test]
fn a_request_that_went_nowhere_says_nothing_about_who_sees_attempts() {
    let sidecar = attended(THREE);
    sidecar.host.set_unsent(true);
    let mut request = Request::begin(&sidecar);
    request.sent = 1;
    let _ = request.end(BAD);
    sidecar.host.set_unsent(false);
    let request = Request::begin(&sidecar);
    assert_eq!(funds(&sidecar), 5, "still one by one");
    let _ = request.last_attempt(GOOD);
}

/// A route may retry what is marked.
#[test]
fn a_mark_that_did_not_hold_is_forgotten() {
    let sidecar = attended(THREE);
    let mut request = marked(&sidecar);
    sidecar.host.advance(2 * SECOND);
    let refusal = &[(":status", "503"), (router::LAST, "true")];
    assert!(matches!(request.attempt(Some(refusal)), Became::Answered(attempt::Answer::Pass)));
    let before = decided(&sidecar, "no_budget");
    assert_eq!(request.end(refusal), Answer::Pass(Default::default()), "this mark is another's");
    assert_eq!(decided(&sidecar, "no_budget"), before);
}

#[test]
fn a_mark_is_taken_off_though_the_answer_cannot_be_read() {
    let sidecar = attended(THREE);
    let request = marked(&sidecar);
    sidecar.host.break_call("response_status");
    let Answer::Pass(fields) = request.end(BAD) else { panic!("it passes") };
    assert_eq!(fields.remove, vec![router::LAST]);
}

#[test]
fn attempts_of_requests_that_nobody_entered_pass() {
    let sidecar = attended(THREE);
    let closed = Request::begin(&sidecar);
    let number = closed.number;
    let _ = closed.last_attempt(GOOD);
    for number in [None, Some(7), Some(u64::MAX), number] {
        sidecar.host.set_request_number_to(number);
        for response in [GOOD, BAD] {
            let (decision, attempt) = attempt::on_request(&*sidecar.host, &sidecar.worker);
            sidecar.host.set_response(response);
            let answer = attempt::on_response(&*sidecar.host, &sidecar.worker, &attempt);
            assert_eq!((decision, answer), (attempt::Decision::Forward, attempt::Answer::Pass), "{number:?}");
        }
    }
    assert_eq!(funds(&sidecar), 5);
}

#[test]
fn an_instance_upstream_that_is_alone_lets_everything_pass_and_counts_it() {
    let sidecar = Sidecar::new(r#"{ "placement": "upstream" }"#);
    sidecar.worker.retry.register.join(Placement::Upstream);
    let (decision, _) = attempt::on_request(&*sidecar.host, &sidecar.worker);
    assert_eq!((decision, host_errors(&sidecar, "placement")), (attempt::Decision::Forward, 1));
}

// === trouble =========================================================================================================

#[test]
fn calls_that_fail_are_counted_and_cost_nobody_a_request() {
    let sidecar = attended(THREE);
    sidecar.host.break_call("request_number");
    let (decision, attempt) = attempt::on_request(&*sidecar.host, &sidecar.worker);
    assert_eq!(decision, attempt::Decision::Forward);
    assert_eq!(attempt::on_response(&*sidecar.host, &sidecar.worker, &attempt), attempt::Answer::Pass);
    assert_eq!(host_errors(&sidecar, "get_property"), 1);
    sidecar.host.repair("request_number");

    let mut request = Request::begin(&sidecar);
    sidecar.host.break_call("response_status");
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)));
    assert_eq!(host_errors(&sidecar, "response_headers"), 1);
    sidecar.host.repair("response_status");
    assert!(matches!(request.start().0, attempt::Decision::Forward));
    assert_eq!(funds(&sidecar), 4, "paid for when it began");
    let _ = request.end(GOOD);
}

#[test]
fn a_request_outlives_the_configuration_that_it_began_under() {
    let sidecar = attended(THREE);
    let mut request = Request::begin(&sidecar);
    let _next = sidecar.reconfigured(r#"{ "retries": [{ "max_attempts": 2 }] }"#);
    assert!(matches!(request.attempt(Some(BAD)), Became::Answered(attempt::Answer::Pass)));
    assert!(matches!(request.attempt(Some(GOOD)), Became::Answered(attempt::Answer::Pass)));
    let _ = request.end(GOOD);
    assert_eq!(decided(&sidecar, "made"), 1);
}

// === the bound =======================================================================================================

/// Whatever requests do, over any interval: retries ≤ ratio × successes + min_per_second × time + cap, the cap being what ten
/// seconds and the successes in them pay.
#[test]
fn no_interval_has_more_retries_than_the_budget_pays() {
    const CAP: f64 = 30.0;
    for seed in 1..=20 {
        let mut random = Random::seeded(seed);
        let sidecar = attended(THREE);
        let mut open: Vec<Request<'_>> = Vec::new();
        // For each instant, how many retries and successes there were before it.
        let mut history = vec![(sidecar.now(), 0_u64, 0_u64)];
        let (mut retries, mut successes) = (0, 0);
        for _ in 0..4_000 {
            sidecar.host.advance(random.below(20) * MILLISECOND);
            if open.len() < 30 && random.below(3) == 0 {
                open.push(Request::begin(&sidecar));
            } else if !open.is_empty() {
                let index = random.below(open.len() as u64) as usize;
                let mut request = open.swap_remove(index);
                let (response, good) = match random.below(10) {
                    0..=2 => (Some(GOOD), true),
                    3..=7 => (Some(BAD), false),
                    _ => (None, false),
                };
                let retry = 0 < request.sent;
                match request.attempt(response) {
                    Became::Refused(_) => {
                        let _ = request.end(BAD);
                    }
                    Became::Answered(answer) => {
                        retries += u64::from(retry);
                        if good || answer == attempt::Answer::Mark || request.sent == request.allowed + 1 {
                            successes += u64::from(good);
                            let marked: &[_] =
                                if answer == attempt::Answer::Mark { &[(router::LAST, "true")] } else { &[] };
                            let _ = request.end(&[response.unwrap_or(BAD), marked].concat());
                        } else {
                            open.push(request);
                        }
                    }
                }
            }
            history.push((sidecar.now(), retries, successes));
        }
        for (index, (from, retries_before, successes_before)) in history.iter().enumerate().step_by(7) {
            for (until, retries, successes) in history[index..].iter().step_by(7) {
                let time = (until - from) as f64 / SECOND as f64;
                let bound = 0.1 * (successes - successes_before) as f64 + time + CAP;
                let made = retries - retries_before;
                assert!(made as f64 <= bound, "seed {seed}: {made} retries in {time} s, {bound} at most");
            }
        }
        assert!((50..400).contains(&retries), "seed {seed}: {retries} retries show nothing");
    }
}
