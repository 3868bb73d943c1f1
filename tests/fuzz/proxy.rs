//! Several workers of one proxy: their configurations, timers and streams, driven by steps as Envoy drives them.

use std::cell::Cell;
use std::rc::Rc;

use outrigger::attempt::{self, Attempt};
use outrigger::config::Config;
use outrigger::filter::Filter;
use outrigger::headers::Headers;
use outrigger::host::{End, Host, Origin};
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::worker::Worker;

use crate::common::MemoryHost;
use crate::common::sidecar::{SECOND, reason};
use crate::fickle::{FickleHost, SECRET};
use crate::steps::{Ending, Fields, MARK, Step};

/// Host calls of one callback. An update of a shared record is tried 32 times, two calls and a counter each; a request meets at
/// most some ten records, and a tick as many for each of a few limits.
const MOST_CALLS: u64 = 3_000;

/// Bytes of all shared records. Four kept answers rules of 64 KiB each, over as many documents as a run takes up.
const MOST_BYTES: usize = 8 << 20;

/// One configuration in one worker.
struct Root {
    config: Config,
    filter: Filter,
    /// When its timer goes off.
    due: Cell<Option<u64>>,
}

/// The virtual machine of one worker: its store, and its configurations, the latest last.
struct Machine {
    store: Rc<Worker>,
    roots: Vec<Rc<Root>>,
}

struct Stream {
    machine: usize,
    root: Rc<Root>,
    ticket: Ticket,
    /// When it is woken.
    alarm: Option<u64>,
    /// Whether the filter answered it.
    answered: bool,
    number: Option<u64>,
    attempts: u32,
}

/// The proxy.
pub struct Proxy {
    pub host: FickleHost,
    machines: Vec<Machine>,
    streams: Vec<Stream>,
    /// Streams that the filter was told the end of.
    ended: u64,
}

impl Proxy {
    pub fn new(workers: usize, seed: u64, document: &str) -> Self {
        let host = FickleHost::new(MemoryHost::new(), seed);
        host.memory.set_peer("192.0.2.7:1234");
        let machines = (0..workers).map(|_| Machine { store: Rc::default(), roots: Vec::new() }).collect();
        let mut proxy = Self { host, machines, streams: Vec::new(), ended: 0 };
        proxy.reload(document);
        proxy
    }

    pub fn workers(&self) -> usize {
        self.machines.len()
    }

    pub fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.host.take_calls();
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask { worker, request, end } => drop(self.ask(*worker, request, *end)),
            Step::Complete { stream } => self.with_stream(*stream, |host, store, it| {
                it.root.filter.on_request_end(host, store, &mut it.ticket);
            }),
            Step::Wake { stream } => self.wake(*stream),
            Step::Attempt { stream, status } => self.attempt(*stream, *status),
            Step::Respond { stream, response, origin, end } => self.respond(*stream, response, *origin, *end),
            Step::Body { stream, size } => {
                self.host.memory.set_body(&vec![b'z'; *size]);
                let size = *size;
                self.with_stream(*stream, |host, store, it| {
                    it.root.filter.on_response_body(host, store, &mut it.ticket, size);
                });
            }
            Step::Finish { stream, grpc_status } => {
                self.host.memory.set_grpc_status(*grpc_status);
                self.with_stream(*stream, |host, store, it| {
                    it.root.filter.on_response_end(host, store, &mut it.ticket);
                });
            }
            Step::Leave { stream, ending } => self.leave(*stream, *ending),
            Step::Pass { nanos } => self.pass(*nanos),
            Step::Tick { worker } => self.tick(*worker % self.machines.len()),
            Step::Reload { document } => self.reload(document),
            Step::Trap { worker } => self.trap(*worker % self.machines.len()),
            Step::Spoil { record, bytes } => {
                let keys: Vec<String> = self.host.memory.record_keys().into_iter().filter(|it| it != SECRET).collect();
                if let Some(key) = keys.get(record % keys.len().max(1)) {
                    self.host.memory.put_record(key, bytes);
                }
            }
            Step::Clock { nanos } => self.host.memory.set_now(*nanos),
        }
    }

    /// A request to a worker. What it was refused for; nothing if it goes on, or is held.
    pub fn ask(&mut self, worker: usize, request: &Fields, end: End) -> Option<String> {
        let machine = worker % self.machines.len();
        let Machine { store, roots } = &self.machines[machine];
        let root = Rc::clone(&roots[roots.len() - 1]);
        self.host.memory.set_headers(Headers::from_pairs(&request.0));
        self.host.memory.set_request_number_to(None);
        let (decision, ticket) = root.filter.on_request(&self.host, store, end);
        let (alarm, refused) = match decision {
            Decision::Forward(_) => (ticket.due().map(|due| due.as_nanos()), None),
            Decision::Wait(_, due) => (Some(due.as_nanos()), None),
            Decision::Reply(reply) => (None, Some(checked(&reply))),
        };
        let number = self.host.memory.request_number().unwrap();
        let answered = refused.is_some();
        self.streams.push(Stream { machine, root: Rc::clone(&root), ticket, alarm, answered, number, attempts: 0 });
        self.called(&root);
        refused
    }

    /// Whether the stream that came last waits for its turn.
    pub fn last_waits(&self) -> bool {
        self.streams.last().is_some_and(|it| it.ticket.is_held())
    }

    /// Answers the stream that came last with 200, and ends it.
    pub fn answer_last(&mut self) {
        let last = self.streams.len() - 1;
        self.respond(last, &[(":status".to_owned(), "200".to_owned())], Origin::Service, End::Here);
        self.leave(last, Ending::Plain);
    }

    fn wake(&mut self, stream: usize) {
        let Some(index) = self.index(stream).filter(|index| self.streams[*index].alarm.is_some()) else {
            return;
        };
        let it = &mut self.streams[index];
        let store = &self.machines[it.machine].store;
        it.alarm = None;
        let reply = if it.ticket.is_held() {
            match it.root.filter.resume(&self.host, store, &mut it.ticket) {
                Decision::Reply(reply) => Some(*reply),
                Decision::Forward(_) => None,
                Decision::Wait(..) => panic!("who has waited waits again"),
            }
        } else {
            it.root.filter.expire(&self.host, store, &mut it.ticket)
        };
        if let Some(reply) = reply {
            checked(&reply);
            it.answered = true;
        }
        it.alarm = it.alarm.or(it.ticket.due().map(|due| due.as_nanos()));
        self.called(&Rc::clone(&self.streams[index].root));
    }

    fn attempt(&mut self, stream: usize, status: u16) {
        let Some(index) = self.index(stream).filter(|index| self.can_be_answered(*index)) else {
            return;
        };
        let it = &mut self.streams[index];
        it.attempts += 1;
        let (number, store) = (it.number, &self.machines[it.machine].store);
        self.host.memory.set_request_number_to(number);
        let (_, attempt): (_, Attempt) = attempt::on_request(&self.host, store);
        self.host.memory.set_response(&[(":status", &status.to_string())]);
        let _ = attempt::on_response(&self.host, store, &attempt);
        self.called(&Rc::clone(&self.streams[index].root));
    }

    fn respond(&mut self, stream: usize, response: &[(String, String)], origin: Origin, end: End) {
        let Some(index) = self.index(stream) else {
            return;
        };
        // Nobody but the proxy itself answers a request that was not sent on.
        let origin = if self.can_be_answered(index) { origin } else { Origin::Elsewhere };
        let pairs: Vec<(&str, &str)> = response.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.host.memory.set_response(&pairs);
        self.host.memory.set_origin(origin);
        let answered = Cell::new(false);
        self.with_stream(index, |host, store, it| {
            match it.root.filter.on_response(host, store, end, &mut it.ticket) {
                Answer::Pass(_) => {}
                Answer::Become(placed) => drop(checked(&placed.reply)),
                Answer::Replace(reply) => {
                    checked(&reply);
                    answered.set(true);
                }
            }
            if end == End::Here && !answered.get() {
                it.root.filter.on_response_end(host, store, &mut it.ticket);
            }
        });
        self.streams[index].answered |= answered.get();
    }

    fn can_be_answered(&self, index: usize) -> bool {
        !self.streams[index].answered && !self.streams[index].ticket.is_held()
    }

    fn leave(&mut self, stream: usize, ending: Ending) {
        let Some(index) = self.index(stream) else {
            return;
        };
        let Stream { machine, root, ticket, attempts, .. } = self.streams.swap_remove(index);
        let memory = &self.host.memory;
        memory.set_broken_off(false);
        match ending {
            Ending::Plain => {}
            Ending::BrokenOff => memory.set_broken_off(true),
            Ending::Unsent => memory.set_unsent(true),
            Ending::TimedOut => memory.set_timed_out(true),
        }
        memory.set_attempts(Some(attempts).filter(|it| 0 < *it));
        root.filter.on_done(&self.host, &self.machines[machine].store, ticket);
        self.ended += 1;
        self.called(&root);
        drop(root);
        self.retire_unused();
    }

    /// Time passes. Each timer goes off once at most where it is due, and each alarm, in order.
    pub fn pass(&mut self, nanos: u64) {
        let until = self.host.memory.now().as_nanos().saturating_add(nanos);
        for _ in 0..1_000 {
            let timers = self.machines.iter().flat_map(|it| &it.roots).filter_map(|root| root.due.get());
            let alarms = self.streams.iter().filter_map(|it| it.alarm);
            let Some(next) = timers.chain(alarms).min().filter(|next| *next <= until) else {
                break;
            };
            self.host.memory.set_now(self.host.memory.now().as_nanos().max(next));
            if let Some(stream) = self.streams.iter().position(|it| it.alarm == Some(next)) {
                self.wake(stream);
            } else {
                for machine in 0..self.machines.len() {
                    if self.machines[machine].roots.iter().any(|root| root.due.get().is_some_and(|due| due <= next)) {
                        self.tick(machine);
                    }
                }
            }
        }
        self.host.memory.set_now(until);
    }

    fn tick(&mut self, machine: usize) {
        for root in self.machines[machine].roots.clone() {
            root.due.set(None);
            let store = &self.machines[machine].store;
            root.filter.on_tick(&self.host, store);
            let now = self.host.now();
            if let Some(wait) = store.in_use.show(&store.cx(&self.host)) {
                self.host.wake_at(now.saturating_add(wait));
            }
            self.called(&root);
        }
    }

    fn reload(&mut self, document: &str) {
        for machine in &mut self.machines {
            let config = Config::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{document}"));
            let store = &machine.store;
            Filter::announce(&config, "test", store);
            let filter = Filter::new(&config, "test", store);
            store.retry.register.join(config.placement);
            store.in_use.take_up(config.gauges());
            let due = Cell::new(Some(self.host.memory.now().as_nanos()));
            machine.roots.push(Rc::new(Root { config, filter, due }));
        }
        self.retire_unused();
    }

    /// Configurations that were replaced go when the last of their streams has.
    fn retire_unused(&mut self) {
        for machine in &mut self.machines {
            while 1 < machine.roots.len()
                && let Some(gone) = machine.roots.iter().rev().skip(1).position(|root| Rc::strong_count(root) == 1)
            {
                let root = machine.roots.remove(machine.roots.len() - 2 - gone);
                root.filter.retire(&self.host, &machine.store);
                for left in &machine.roots {
                    Filter::announce(&left.config, "test", &machine.store);
                }
                machine.store.retry.register.leave(root.config.placement);
                machine.store.in_use.give_up(&machine.store.cx(&self.host), root.config.gauges());
            }
        }
    }

    fn trap(&mut self, machine: usize) {
        self.streams.retain(|it| it.machine != machine);
        let store: Rc<Worker> = Rc::default();
        let roots = &mut self.machines[machine].roots;
        let Root { config, .. } = &*roots[roots.len() - 1];
        Filter::announce(config, "test", &store);
        let filter = Filter::new(config, "test", &store);
        store.retry.register.join(config.placement);
        store.in_use.take_up(config.gauges());
        let due = Cell::new(Some(self.host.memory.now().as_nanos()));
        *roots = vec![Rc::new(Root { config: config.clone(), filter, due })];
        self.machines[machine].store = store;
    }

    /// All streams end, and what is due after that is done.
    pub fn drain(&mut self) {
        while !self.streams.is_empty() {
            self.leave(0, Ending::Plain);
        }
        self.pass(10 * SECOND);
    }

    /// Panics if anything is held although no stream is left, or a request was not counted once.
    pub fn check_idle(&self) {
        for (index, machine) in self.machines.iter().enumerate() {
            assert_eq!(machine.store.limit.waiting.get(), 0, "worker {index} has somebody wait");
            assert!(!machine.store.limit.holdings.any(), "worker {index} holds places of limits");
            assert_eq!(machine.roots.len(), 1, "worker {index} keeps configurations that are gone");
            assert_eq!(Rc::strong_count(&machine.roots[0]), 1);
        }
        self.check_gauges();
        let memory = &self.host.memory;
        let counted = memory.metric_names().into_iter().filter(|name| name.ends_with("outrigger_requests_total"));
        assert_eq!(counted.map(|name| memory.metric(&name)).sum::<u64>(), self.ended, "each request is counted once");
    }

    /// Panics if a gauge shows what the configuration in use has not, or does not show what it has.
    fn check_gauges(&self) {
        let config = &self.machines[0].roots[0].config;
        let scope = config.scope.as_ref().map(|it| format!("scope=.={it};.;"));
        let shown = |name: &str, label: &str, value: &str| {
            let of_scope = scope.as_ref().map_or(!name.contains("scope=.="), |it| name.contains(it.as_str()));
            of_scope && name.contains(&format!("{label}=.={value};.;"))
        };
        let memory = &self.host.memory;
        for name in memory.metric_names() {
            let value = memory.metric(&name);
            if name.ends_with("outrigger_switch_on") {
                let on = config.switches.iter().any(|it| it.is_on() && shown(&name, "switch", &it.name));
                assert_eq!(value, u64::from(on), "{name}");
            } else if name.ends_with("outrigger_config_info") {
                let used = config.version.as_ref().is_some_and(|it| shown(&name, "version", it));
                assert_eq!(value, u64::from(used), "{name}");
            } else if name.ends_with("outrigger_breaker_state") {
                let used = config.breakers.iter().any(|it| shown(&name, "breaker", &it.name));
                assert!(value <= if used { 3 } else { 0 }, "{name}: {value}");
            }
        }
        let on = config.switches.iter().filter(|it| it.is_on()).count();
        let shown = memory
            .metric_names()
            .iter()
            .filter(|it| it.ends_with("outrigger_switch_on") && memory.metric(it) == 1)
            .count();
        assert_eq!(on, shown, "switches that are on");
    }

    /// Panics if anything that lasts was named by a request, or grows.
    pub fn check_names(&self) {
        let memory = &self.host.memory;
        let records = memory.records();
        for name in memory.metric_names().iter().chain(records.keys()) {
            assert!(!name.to_lowercase().contains(MARK), "{name:?} is of a request's making");
        }
        let bytes: usize = records.values().map(Vec::len).sum();
        assert!(bytes < MOST_BYTES, "{bytes} bytes in {} records", records.len());
    }

    /// How many troubles were counted.
    pub fn troubles(&self) -> u64 {
        let memory = &self.host.memory;
        let counted = memory.metric_names().into_iter().filter(|name| name.ends_with("outrigger_host_errors_total"));
        counted.map(|name| memory.metric(&name)).sum()
    }

    fn index(&self, stream: usize) -> Option<usize> {
        (!self.streams.is_empty()).then(|| stream % self.streams.len())
    }

    fn with_stream(&mut self, stream: usize, callback: impl FnOnce(&dyn Host, &Worker, &mut Stream)) {
        let Some(index) = self.index(stream) else {
            return;
        };
        let it = &mut self.streams[index];
        callback(&self.host, &self.machines[it.machine].store, it);
        if !it.ticket.is_held() {
            it.alarm = it.ticket.due().map(|due| due.as_nanos());
        }
        let root = Rc::clone(&it.root);
        self.called(&root);
    }

    /// A callback of the configuration is over.
    fn called(&self, root: &Root) {
        let calls = self.host.take_calls();
        assert!(calls <= MOST_CALLS, "{calls} host calls in one callback");
        root.due.set([root.due.get(), self.host.memory.take_wake()].into_iter().flatten().min());
    }
}

/// The reason of a reply that can be sent.
fn checked(reply: &Reply) -> String {
    assert!((200..600).contains(&reply.http_status()), "{reply:?}");
    for (name, value) in reply.all_headers() {
        let good = |byte: u8| byte == b'\t' || (b' ' <= byte && byte != 0x7f);
        assert!(!name.is_empty() && value.bytes().all(good), "{name:?}: {value:?}");
    }
    reason(reply).to_owned()
}
