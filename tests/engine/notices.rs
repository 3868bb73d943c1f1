//! What is said once of a configuration, and of two of them that are in use.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::RefCell;
use std::time::Duration;

use crate::common::MemoryHost;
use outrigger::config::{Config, Warning};
use outrigger::cx::{Cx, Telemetry};
use outrigger::monitor::notice;
use outrigger::monitor::tenancy::{AT_ONCE, DRAINED, Tenancy};
use outrigger::time::Timestamp;

const RECORD: &str = "outrigger/test/said/warned";

thread_local! {
    /// What was logged by the test that runs in this thread.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        SAID.with(|said| said.borrow_mut().push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// What is logged meanwhile.
fn said(during: impl FnOnce()) -> Vec<String> {
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    SAID.with(|said| said.borrow_mut().clear());
    during();
    SAID.with(|said| said.borrow_mut().clone())
}

#[test]
fn a_mistake_that_shows_in_thousands_of_places_does_not_fill_the_log() {
    let host = MemoryHost::new();
    let lines: Vec<String> = (0..9_990).map(|place| format!("place {place}: odd")).collect();
    let said = said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &lines));
    assert_eq!(said.len(), notice::MOST + 1);
    assert_eq!(said[notice::MOST - 1..], ["place 19: odd", "and 9970 more warnings"]);
}

#[test]
fn workers_that_read_one_configuration_say_once_what_is_odd_in_it() {
    let host = MemoryHost::new();
    let lines = ["limits[0]: odd", "limits[1]: odd"];
    assert_eq!(
        said(|| (0..5).for_each(|_| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &lines))),
        lines
    );
    assert_eq!(
        said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &["limits[0]: odd"])),
        ["limits[0]: odd"],
        "it is another text"
    );
    assert_eq!(
        said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), "outrigger/other/said/warned", &lines)),
        lines,
        "and another filter's"
    );
}

#[test]
fn filters_of_one_scope_have_each_its_own_warnings() {
    let host = MemoryHost::new();
    let filters: [(&str, &[&str]); 3] = [("a", &["a: odd"]), ("b", &["b: odd"]), ("c", &[])];
    let read = |scope: Option<&str>| {
        for (plugin, lines) in filters {
            notice::tell(&Cx::new(&*host, &Telemetry::default()), &notice::record(scope, plugin, "warned"), lines);
        }
    };
    for scope in [Some("shop"), Some("a"), None] {
        assert_eq!(said(|| (0..5).for_each(|_| read(scope))), ["a: odd", "b: odd"], "{scope:?}");
    }
    assert_eq!(host.record_keys().len(), 6, "who has nothing to say leaves nothing behind: {:?}", host.record_keys());
}

#[test]
fn what_was_mended_and_comes_back_is_said_again() {
    let host = MemoryHost::new();
    let nothing: [&str; 0] = [];
    assert_eq!(said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &nothing)), nothing);
    assert!(host.record_keys().is_empty(), "nothing to say leaves nothing behind");
    for _ in 0..2 {
        assert_eq!(said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &["odd"])), ["odd"]);
        assert_eq!(
            said(|| (0..3).for_each(|_| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &nothing))),
            nothing
        );
    }
}

#[test]
fn of_two_workers_that_read_at_once_one_speaks() {
    let host = MemoryHost::new();
    host.interfere(|host| notice::tell(&Cx::new(host, &Telemetry::default()), RECORD, &["odd"]));
    assert_eq!(said(|| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &["odd"])), ["odd"]);
}

#[test]
fn without_shared_records_everybody_speaks() {
    for call in ["shared_get", "shared_set"] {
        let host = MemoryHost::new();
        host.break_call(call);
        assert_eq!(
            said(|| (0..2).for_each(|_| notice::tell(&Cx::new(&*host, &Telemetry::default()), RECORD, &["odd"]))),
            ["odd", "odd"],
            "{call}"
        );
    }
}

// === two filters, or a change of one =================================================================================

fn at(time: Duration) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(time.as_nanos()).unwrap())
}

fn disagreements() -> Vec<Warning> {
    let config = |most: u32| {
        let limit = format!(r#"{{ "limits": [{{ "name": "l", "concurrency": {{ "max_in_flight": {most} }} }}] }}"#);
        Config::parse(limit.as_bytes()).unwrap()
    };
    config(1).disagreements(&config(2))
}

const START: Duration = Duration::from_secs(1000);
const SECOND: Duration = Duration::from_secs(1);

fn tenant(plugin: &str, since: Duration) -> Tenancy<Warning> {
    Tenancy::new(plugin.to_owned(), at(since))
}

#[test]
fn filters_of_other_plugins_are_told_apart_at_once() {
    let earlier = tenant("a", START);
    assert_eq!(earlier.serve(|| panic!("no time is asked for")), []);
    assert_eq!(earlier.meet(&tenant("b", START + 100 * AT_ONCE), disagreements()), disagreements());
}

#[test]
fn filters_of_a_proxy_that_starts_are_told_apart_at_once() {
    assert_eq!(tenant("a", START).meet(&tenant("a", START + SECOND), disagreements()), disagreements());
    assert_eq!(tenant("a", START).meet(&tenant("a", START + SECOND), Vec::new()), []);
}

#[test]
fn a_changed_configuration_is_no_other_filter() {
    let used = tenant("a", START);
    assert_eq!(used.serve(|| panic!("no time is asked for")), []);
    assert_eq!(used.meet(&tenant("a", START + SECOND), disagreements()), [], "it has served");
    let unused = tenant("a", START);
    assert_eq!(unused.meet(&tenant("a", START + AT_ONCE), disagreements()), [], "it came long before");
    for served in [SECOND, DRAINED - SECOND] {
        assert_eq!(used.serve(|| at(START + SECOND + served)), [], "its connections are being drained");
    }
}

#[test]
fn one_that_is_asked_long_after_a_later_one_came_is_another_filter() {
    let earlier = tenant("a", START);
    assert_eq!(earlier.serve(|| panic!("no time is asked for")), []);
    let came = START + 100 * AT_ONCE;
    assert_eq!(earlier.meet(&tenant("a", came), disagreements()), []);
    assert_eq!(earlier.serve(|| at(came + DRAINED)), disagreements());
    assert_eq!(earlier.serve(|| panic!("it was said")), []);
}
