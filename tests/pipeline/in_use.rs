//! Gauges of what is in use are right after every kind of change: update, module, drain, trap.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::rc::Rc;

use outrigger::config::Config;
use outrigger::monitor::names::Names;
use outrigger::shared::uses::{BEAT, EXPIRY};
use outrigger::worker::Worker;

use crate::common::{MemoryHost, Random};

const RECORD: &str = "outrigger/uses";

/// A virtual machine, and the configurations that it has taken up.
#[derive(Default)]
struct Machine {
    worker: Worker,
    configs: Vec<Rc<Config>>,
}

impl Machine {
    fn take_up(&mut self, config: &Rc<Config>) {
        self.worker.in_use.take_up(config.gauges());
        self.configs.push(Rc::clone(config));
    }

    fn tick(&self, host: &MemoryHost) {
        self.worker.in_use.show(&self.worker.cx(host));
    }

    /// With a first tick, which a canary does not have.
    fn started(host: &MemoryHost, config: &Rc<Config>) -> Self {
        let mut machine = Self::default();
        machine.take_up(config);
        machine.tick(host);
        machine
    }

    fn give_up(&mut self, host: &MemoryHost, place: usize) {
        let config = self.configs.remove(place);
        self.worker.in_use.give_up(&self.worker.cx(host), config.gauges());
    }
}

fn switch_on(name: &str) -> String {
    Names::default().switch_on(name)
}

fn config_info(version: &str) -> String {
    Names::default().config_info(version)
}

fn breaker_state(name: &str) -> String {
    Names::default().breaker_state(name)
}

/// A proxy with a main thread and two workers.
fn proxy(host: &MemoryHost, config: &Rc<Config>) -> [Machine; 3] {
    std::array::from_fn(|_| Machine::started(host, config))
}

fn config(text: &str) -> Rc<Config> {
    Rc::new(Config::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}")))
}

fn on() -> Rc<Config> {
    config(r#"{ "version": "one", "switches": [{ "name": "a", "active": true }] }"#)
}

fn off() -> Rc<Config> {
    config(r#"{ "version": "two", "switches": [{ "name": "a" }] }"#)
}

/// The gauges of switch `a` and of the versions `one` and `two`.
fn gauges(host: &MemoryHost) -> [u64; 3] {
    [switch_on("a"), config_info("one"), config_info("two")].map(|name| host.metric(&name))
}

/// Time passes in which these machines are alive.
fn pass(host: &MemoryHost, machines: &[&Machine], beats: u32) {
    for _ in 0..beats {
        host.advance(BEAT.as_nanos() as u64);
        machines.iter().for_each(|machine| machine.tick(host));
    }
}

fn beats_of_expiry() -> u32 {
    EXPIRY.div_duration_f64(BEAT).ceil() as u32 + 1
}

#[test]
fn a_machine_that_is_thrown_away_shows_nothing() {
    let host = MemoryHost::new();
    let mut canary = Machine::default();
    canary.take_up(&on());
    assert_eq!(gauges(&host), [0, 0, 0]);
    assert!(host.take_calls().is_empty(), "it touches nothing");
    canary.give_up(&host, 0);
    assert!(host.take_calls().is_empty());
}

#[test]
fn an_update_is_complete_when_the_last_worker_has_drained() {
    let host = MemoryHost::new();
    let mut machines = proxy(&host, &on());
    assert_eq!(gauges(&host), [1, 1, 0]);
    for machine in &mut machines {
        machine.take_up(&off());
        machine.tick(&host);
    }
    assert_eq!(gauges(&host), [1, 1, 1], "the old one drains");
    for (worker, left) in [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0, 0, 1])] {
        machines[worker].give_up(&host, 0);
        assert_eq!(gauges(&host), left, "after worker {worker}");
    }
    assert!(host.metric_names().contains(&switch_on("a")), "one that is off is there, and says so");
}

#[test]
fn a_switch_that_is_off_from_the_beginning_is_seen() {
    let host = MemoryHost::new();
    // A new process begins with the gauges of the old one.
    Worker::default().cx(&*host).set(switch_on("a"), 7).unwrap();
    let _machines = proxy(&host, &off());
    assert_eq!(gauges(&host), [0, 0, 1]);
}

/// The clean-up of the old machines comes last, whatever they know.
#[test]
fn a_module_that_is_replaced_leaves_what_the_new_one_uses() {
    let host = MemoryHost::new();
    let mut old = proxy(&host, &on());
    let new = proxy(&host, &on());
    for machine in &mut old {
        machine.give_up(&host, 0);
        assert_eq!(gauges(&host), [1, 1, 0], "never anything else");
    }
    pass(&host, &new.each_ref(), 10);
    assert_eq!(gauges(&host), [1, 1, 0]);
}

#[test]
fn a_module_that_is_replaced_takes_along_what_the_new_one_does_not_use() {
    let host = MemoryHost::new();
    let mut old = proxy(&host, &on());
    let _new = proxy(&host, &off());
    assert_eq!(gauges(&host), [1, 1, 1], "the old one drains");
    old.iter_mut().for_each(|machine| machine.give_up(&host, 0));
    assert_eq!(gauges(&host), [0, 0, 1]);
}

#[test]
fn a_filter_that_is_removed_leaves_nothing() {
    let host = MemoryHost::new();
    proxy(&host, &on()).iter_mut().for_each(|machine| machine.give_up(&host, 0));
    assert_eq!(gauges(&host), [0, 0, 0]);
}

#[test]
fn two_listeners_have_a_say_each() {
    let host = MemoryHost::new();
    let mut machines = proxy(&host, &on());
    for machine in &mut machines {
        machine.take_up(&off());
        machine.tick(&host);
    }
    // A third listener in machines of its own.
    let mut others = proxy(&host, &on());
    machines.iter_mut().for_each(|machine| machine.give_up(&host, 0));
    assert_eq!(gauges(&host), [1, 1, 1]);
    others.iter_mut().for_each(|machine| machine.give_up(&host, 0));
    assert_eq!(gauges(&host), [0, 0, 1]);
}

/// A machine that traps takes nothing back.
#[test]
fn what_a_trapped_machine_used_is_in_use_no_longer_than_its_successor_uses_it() {
    let host = MemoryHost::new();
    let [main, trapped, other] = proxy(&host, &on());
    drop(trapped);
    let mut machines = [main, Machine::started(&host, &on()), other];
    pass(&host, &machines.each_ref(), beats_of_expiry());
    assert_eq!(gauges(&host), [1, 1, 0]);
    for machine in &mut machines {
        machine.take_up(&off());
        machine.tick(&host);
        machine.give_up(&host, 0);
    }
    assert_eq!(gauges(&host), [0, 0, 1]);
}

/// The update comes right after the trap, before anybody can know of it.
#[test]
fn what_only_a_trapped_machine_used_is_found_out() {
    let host = MemoryHost::new();
    let [main, trapped, other] = proxy(&host, &on());
    drop(trapped);
    let mut machines = [main, other];
    for machine in &mut machines {
        machine.take_up(&off());
        machine.tick(&host);
        machine.give_up(&host, 0);
    }
    assert_eq!(gauges(&host), [1, 1, 1], "it may be alive");
    pass(&host, &machines.each_ref(), beats_of_expiry());
    assert_eq!(gauges(&host), [0, 0, 1]);
}

/// Modules of an earlier release, and machines under another VM id, know nothing of the record.
#[test]
fn what_a_stranger_writes_last_lasts_for_a_beat() {
    let host = MemoryHost::new();
    let machines = proxy(&host, &on());
    for name in [switch_on("a"), config_info("one")] {
        Worker::default().cx(&*host).set(name, 0).unwrap();
    }
    pass(&host, &machines.each_ref(), 1);
    assert_eq!(gauges(&host), [1, 1, 0]);
}

/// A breaker that was open when it was removed is not open for ever, and one that is there still is not closed by clean-up.
#[test]
fn the_state_of_a_breaker_is_shown_as_long_as_it_is_configured() {
    let guarded = config(r#"{ "breakers": [{ "name": "b", "trip": { "consecutive_failures": 1 } }] }"#);
    let host = MemoryHost::new();
    let mut old = proxy(&host, &guarded);
    assert_eq!(host.metric(&breaker_state("b")), 0);
    Worker::default().cx(&*host).set(breaker_state("b"), 3).unwrap();
    let mut new = proxy(&host, &guarded);
    old.iter_mut().for_each(|machine| machine.give_up(&host, 0));
    pass(&host, &new.each_ref(), beats_of_expiry());
    assert_eq!(host.metric(&breaker_state("b")), 3, "the module was replaced");
    for machine in &mut new {
        machine.take_up(&on());
        machine.tick(&host);
        machine.give_up(&host, 0);
    }
    assert_eq!(host.metric(&breaker_state("b")), 0, "the breaker was removed");
}

/// Filters of different scopes have switches of their own, also if they are called the same.
#[test]
fn each_scope_has_gauges_of_its_own() {
    let host = MemoryHost::new();
    let scoped = |scope: &str, active: bool| {
        config(&format!(
            r#"{{ "scope": "{scope}", "version": "v", "switches": [{{ "name": "a", "active": {active} }}] }}"#
        ))
    };
    let gauges = |scope| {
        let names = Names::of(Some(scope));
        [names.switch_on("a"), names.config_info("v")].map(|name| host.metric(&name))
    };
    let mut machine = Machine::started(&host, &scoped("inbound", true));
    machine.take_up(&scoped("outbound", false));
    machine.tick(&host);
    assert_eq!((gauges("inbound"), gauges("outbound")), ([1, 1], [0, 1]));
    machine.give_up(&host, 0);
    assert_eq!((gauges("inbound"), gauges("outbound")), ([0, 0], [0, 1]));
}

/// Between beats nobody is called.
#[test]
fn a_beat_costs_two_calls_for_the_record_and_one_for_each_gauge() {
    let host = MemoryHost::new();
    let machine = Machine::started(&host, &on());
    host.take_calls();
    host.advance(BEAT.as_nanos() as u64 - 1);
    assert_eq!(machine.worker.in_use.show(&machine.worker.cx(&*host)).map(|wait| wait.as_nanos()), Some(1));
    host.advance(1);
    assert_eq!(machine.worker.in_use.show(&machine.worker.cx(&*host)), Some(BEAT));
    let calls = host.take_calls();
    assert_eq!([calls["shared_get"], calls["shared_set"], calls["record_metric"]], [1, 1, 2], "{calls:?}");
    assert!(!calls.contains_key("define_metric"), "{calls:?}");
    assert_eq!(Worker::default().in_use.show(&Worker::default().cx(&*host)), None, "and nothing, if there is nothing");
}

#[test]
fn a_record_that_nobody_wrote_is_replaced_and_counted() {
    for garbage in [&b"x"[..], &[1; 17], &[1; 40], &[0xff; 200]] {
        let host = MemoryHost::new();
        host.put_record(RECORD, garbage);
        let mut machines = proxy(&host, &on());
        assert_eq!(gauges(&host), [1, 1, 0]);
        machines.iter_mut().for_each(|machine| machine.give_up(&host, 0));
        assert_eq!(gauges(&host), [0, 0, 0]);
    }
}

/// Without shared data each machine speaks for itself, and the next beat tries again.
#[test]
fn without_the_record_what_is_in_use_is_shown_all_the_same() {
    let host = MemoryHost::new();
    host.break_call("shared_get");
    let machine = Machine::started(&host, &on());
    assert_eq!(gauges(&host), [1, 1, 0]);
    let mut off = Machine::started(&host, &off());
    host.repair("shared_get");
    pass(&host, &[&machine, &off], 1);
    assert_eq!(gauges(&host), [1, 1, 1]);
    off.give_up(&host, 0);
    assert_eq!(gauges(&host), [1, 1, 0]);
}

/// Against a model: after a while without changes a gauge is 1 if any living machine uses it, and 0 otherwise.
#[test]
fn however_machines_come_and_go_the_gauges_settle() {
    let mut random = Random::seeded(8);
    let documents: Vec<Rc<Config>> = (0..8_u32)
        .map(|bits| {
            let switch = |bit: u32| format!(r#"{{ "name": "s{bit}", "active": {} }}"#, bits >> bit & 1 == 1);
            config(&format!(r#"{{ "version": "v{bits}", "switches": [{}, {}] }}"#, switch(0), switch(1)))
        })
        .collect();
    for _ in 0..300 {
        let host = MemoryHost::new();
        // Somebody always lives: without anybody nobody finds out about the dead.
        let mut machines = vec![Machine::started(&host, &config("{ \"version\": \"rest\" }"))];
        for _ in 0..40 {
            host.advance(random.below(3_000_000_000));
            let place = random.below(machines.len() as u64) as usize;
            let document = &documents[random.below(8) as usize];
            match random.below(6) {
                0 => machines.push(Machine::started(&host, document)),
                // A trap, or a canary.
                1 if 0 < place => drop(machines.remove(place)),
                2 => machines[place].take_up(document),
                3 if 1 < machines[place].configs.len() => machines[place].give_up(&host, 1),
                4 if 0 < place => {
                    let mut machine = machines.remove(place);
                    while !machine.configs.is_empty() {
                        machine.give_up(&host, 0);
                    }
                }
                _ => machines[place].tick(&host),
            }
        }
        pass(&host, &machines.iter().collect::<Vec<_>>(), beats_of_expiry());
        let used: BTreeSet<String> =
            machines.iter().flat_map(|machine| &machine.configs).flat_map(names_in_use).collect();
        for document in &documents {
            for name in names(document) {
                assert_eq!(host.metric(&name), u64::from(used.contains(&name)), "{name}");
            }
        }
    }
}

fn names(config: &Rc<Config>) -> Vec<String> {
    let switches = config.switches.iter().map(|switch| switch_on(&switch.name));
    config.version.iter().map(|version| config_info(version)).chain(switches).collect()
}

fn names_in_use(config: &Rc<Config>) -> Vec<String> {
    let switches = config.switches.iter().filter(|switch| switch.is_on()).map(|switch| switch_on(&switch.name));
    config.version.iter().map(|version| config_info(version)).chain(switches).collect()
}
