//! Workers of one proxy in memory, each with the whole pipeline, a timer of its own, and requests to serve.

use std::cell::Cell;
use std::rc::Rc;

use outrigger::config::Config;
use outrigger::filter::Filter;
use outrigger::host::{End, Host};
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::worker::Worker;

use super::MemoryHost;

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MILLISECOND;
pub const HOUR: u64 = 3_600 * SECOND;

/// One worker of a sidecar, under one configuration.
pub struct Sidecar {
    pub host: Rc<MemoryHost>,
    pub worker: Rc<Worker>,
    pub filter: Filter,
    /// When the worker's timer goes off.
    due: Cell<Option<u64>>,
}

impl Sidecar {
    pub fn new(config: &str) -> Self {
        Self::on(&MemoryHost::new(), config)
    }

    pub fn on(host: &Rc<MemoryHost>, config: &str) -> Self {
        Self::with(host, Rc::default(), config)
    }

    /// So many workers of one proxy.
    pub fn several(count: usize, config: &str) -> Vec<Self> {
        let host = MemoryHost::new();
        (0..count).map(|_| Self::on(&host, config)).collect()
    }

    /// The same worker after a configuration update.
    pub fn reconfigured(&self, config: &str) -> Self {
        Self::with(&self.host, Rc::clone(&self.worker), config)
    }

    fn with(host: &Rc<MemoryHost>, worker: Rc<Worker>, config: &str) -> Self {
        let config = Config::parse(config.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        Filter::announce(&config, "test", &worker);
        let filter = Filter::new(&config, "test", &worker);
        Self { host: Rc::clone(host), worker, filter, due: Cell::new(None) }
    }

    /// The decision about a request with these headers besides `GET /`.
    pub fn ask(&self, headers: &[(&str, &str)]) -> (Decision<'_>, Ticket) {
        self.ask_ending(End::Here, headers)
    }

    /// The same for a request that ends with its headers or goes on with a body.
    pub fn ask_ending(&self, end: End, headers: &[(&str, &str)]) -> (Decision<'_>, Ticket) {
        let mut request = vec![(":method", "GET"), (":path", "/"), (":authority", "shop.example.com")];
        request.extend(headers);
        self.host.set_request(&request);
        self.on_timer(|| self.filter.on_request(&*self.host, &self.worker, end))
    }

    /// The ticket of a request that goes on, or the refusal; the stream of a refused request ends at once.
    pub fn begin(&self, headers: &[(&str, &str)]) -> Result<Ticket, Reply> {
        match self.ask(headers) {
            (Decision::Forward(_), ticket) => Ok(ticket),
            (Decision::Wait(..), _) => panic!("nothing waits here"),
            (Decision::Reply(reply), ticket) => {
                self.end(ticket);
                Err(*reply)
            }
        }
    }

    /// The ticket of a request that goes on before it is complete.
    pub fn begin_upload(&self, headers: &[(&str, &str)]) -> Ticket {
        match self.ask_ending(End::Later, headers) {
            (Decision::Forward(_), ticket) => ticket,
            (decision, _) => panic!("{decision:?}"),
        }
    }

    /// The rest of the request comes.
    pub fn complete(&self, ticket: &mut Ticket) {
        self.on_timer(|| self.filter.on_request_end(&*self.host, &self.worker, ticket));
    }

    /// The request's time is over. The reply, if it is still due.
    pub fn expire(&self, ticket: &mut Ticket) -> Option<Reply> {
        self.on_timer(|| self.filter.expire(&*self.host, &self.worker, ticket))
    }

    /// The stream ends without an answer.
    pub fn end(&self, ticket: Ticket) {
        self.on_timer(|| self.filter.on_done(&*self.host, &self.worker, ticket));
    }

    /// The service answers, and the stream ends.
    pub fn answer(&self, ticket: Ticket) {
        let _ = self.answer_with(ticket, &[(":status", "200")]);
    }

    /// The service answers with these headers, and the stream ends. Returns what becomes of the answer.
    pub fn answer_with(&self, ticket: Ticket, response: &[(&str, &str)]) -> Answer {
        self.answer_with_body(ticket, response, b"")
    }

    /// The same; the reply if the answer was replaced.
    pub fn replacement(&self, ticket: Ticket, response: &[(&str, &str)]) -> Option<Reply> {
        match self.answer_with(ticket, response) {
            Answer::Pass(_) => None,
            Answer::Become(placed) => Some(placed.reply),
            Answer::Replace(reply) => Some(*reply),
        }
    }

    /// The same with a body.
    pub fn answer_with_body(&self, mut ticket: Ticket, response: &[(&str, &str)], body: &[u8]) -> Answer {
        self.host.set_response(response);
        let answer = self.on_timer(|| {
            let answer = self.filter.on_response(&*self.host, &self.worker, End::Later, &mut ticket);
            if let Answer::Pass(_) = answer {
                self.host.set_body(body);
                self.filter.on_response_body(&*self.host, &self.worker, &mut ticket, body.len());
                self.filter.on_response_end(&*self.host, &self.worker, &mut ticket);
            }
            answer
        });
        self.end(ticket);
        answer
    }

    pub fn resume(&self, ticket: &mut Ticket) -> Decision<'_> {
        self.on_timer(|| self.filter.resume(&*self.host, &self.worker, ticket))
    }

    /// A whole life: the reply if it was refused.
    pub fn serve(&self, headers: &[(&str, &str)]) -> Option<Reply> {
        self.begin(headers).map(|ticket| self.answer(ticket)).err()
    }

    /// How many of `tries` requests pass.
    pub fn admitted(&self, tries: usize, headers: &[(&str, &str)]) -> usize {
        (0..tries).filter(|_| self.serve(headers).is_none()).count()
    }

    /// A tick, whether it was asked for or not.
    pub fn tick(&self) {
        self.due.set(None);
        self.on_timer(|| self.filter.on_tick(&*self.host, &self.worker));
    }

    /// When the worker wants its next tick.
    pub fn due(&self) -> Option<u64> {
        self.due.get()
    }

    pub fn now(&self) -> u64 {
        self.host.now().as_nanos()
    }

    /// Keeps wakes apart, which the proxy in memory does not.
    fn on_timer<R>(&self, callback: impl FnOnce() -> R) -> R {
        self.host.take_wake();
        let answer = callback();
        let wakes = [self.due.get(), self.host.take_wake()];
        self.due.set(wakes.into_iter().flatten().min());
        answer
    }
}

/// Lets time pass until `nanos`, with every tick at the instant that was asked for.
pub fn pass_until<'a>(workers: impl IntoIterator<Item = &'a Sidecar>, nanos: u64) {
    let workers: Vec<&Sidecar> = workers.into_iter().collect();
    loop {
        let first = workers.iter().filter(|it| it.due().is_some_and(|due| due <= nanos)).min_by_key(|it| it.due());
        let Some(first) = first else {
            break;
        };
        // The proxy goes off no earlier than it was asked to, and not in the past.
        let due = first.due().unwrap_or(nanos).max(first.now());
        first.host.set_now(due);
        first.tick();
    }
    if let Some(worker) = workers.first() {
        worker.host.set_now(nanos);
    }
}

/// Calls for shared data since the last time this was asked.
pub fn take_shared_calls(host: &MemoryHost) -> usize {
    let calls = host.take_calls();
    ["shared_get", "shared_set"].iter().filter_map(|call| calls.get(call)).sum()
}

pub fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

/// How many requests of the operation ended so, whatever its tier.
pub fn ended(host: &MemoryHost, operation: &str, outcome: &str) -> u64 {
    let name =
        |tier| format!("operation=.={operation};.;tier=.={tier};.;outcome=.={outcome};.;outrigger_requests_total");
    ["P0", "P1", "P2", "P3"].into_iter().map(|tier| host.metric(&name(tier))).sum()
}

/// How many requests were refused for the reason.
pub fn refused(host: &MemoryHost, reason: &str) -> u64 {
    host.metric(&format!("reason=.={reason};.;enforced=.=true;.;outrigger_refusals_total"))
}

/// How often the fallback was served for the reason.
pub fn served(host: &MemoryHost, fallback: &str, reason: &str) -> u64 {
    host.metric(&format!("fallback=.={fallback};.;reason=.={reason};.;outrigger_fallbacks_total"))
}

/// What a refusal names as its reason.
pub fn reason(reply: &Reply) -> &str {
    header(reply, "x-outrigger-reason").unwrap_or_default()
}
