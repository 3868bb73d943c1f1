//! One configuration in one worker, and the filter that it becomes on the first request.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use super::abi::{self, Expression};
use super::host::{Envoy, at_once, plugin};
use super::machine::Flow;
use super::queue::Queue;
use super::streams::Streams;
use super::timer::Timer;
use crate::config::foretold::{self, Foretold};
use crate::config::{Config, Warning};
use crate::filter::Filter;
use crate::host::{Direction, Host, HostError};
use crate::monitor::notice;
use crate::monitor::tenancy::Tenancy;
use crate::retry::register::Placement;
use crate::time::Timestamp;
use crate::worker::Worker;

/// A configuration that was accepted.
pub(super) struct Installed {
    config: Config,
    /// What tells its plugin from others, and its state from theirs.
    plugin: String,
    tenancy: Tenancy<Warning>,
    /// The configuration at work, for each [`Direction`]. Envoy gives listeners of both directions one root context if
    /// their configurations are equal, and a request is the first to know its direction.
    filters: [OnceCell<Filter>; 3],
    worker: Rc<Worker>,
    timer: Timer,
    at_once: Option<Expression>,
    queue: Queue,
    /// The counters that alerts are about and that were not defined yet; made by the first tick.
    foretold: RefCell<Option<Foretold>>,
}

impl Installed {
    pub(super) fn new(config: Config, worker: Rc<Worker>) -> Self {
        let (plugin, timer) = (plugin(), Timer::default());
        let tenancy = Tenancy::new(plugin.clone(), Envoy { timer: &timer, at_once: None }.now());
        let (filters, queue, foretold) = Default::default();
        // Nothing else wants to know how often a request was sent.
        let at_once = if config.retries.is_empty() { None } else { at_once() };
        let installed = Self { config, plugin, tenancy, filters, worker, timer, at_once, queue, foretold };
        installed.announce();
        let Self { config, worker, .. } = &installed;
        worker.retry.register.join(config.placement);
        worker.in_use.take_up(config.gauges());
        // At once, but not in a machine that is thrown away after this callback.
        installed.timer.wake_at(installed.host().now());
        installed
    }

    /// Makes these parameters the ones that hold. Not on the first request: the earlier configuration may serve that, and
    /// another direction than this one's.
    pub(super) fn announce(&self) {
        for direction in [Direction::Unspecified, Direction::Inbound, Direction::Outbound] {
            Filter::announce(&self.config, &self.default_scope(direction), &self.worker);
        }
    }

    /// Logs what the configuration can never do, and what it takes of those that are in use beside it.
    pub(super) fn warn<'i>(&self, others: impl Iterator<Item = &'i Self>) {
        notice::tell(&self.worker.cx(&self.host()), &self.record("warned"), &self.config.warnings());
        let mut said = Vec::new();
        for other in others.filter(|it| it.shares_scope(self)) {
            said.extend(other.tenancy.meet(&self.tenancy, self.config.disagreements(&other.config)));
        }
        self.warn_of_sharing(&said);
    }

    /// Takes note of a request.
    pub(super) fn serve(&self) {
        self.warn_of_sharing(&self.tenancy.serve(|| self.host().now()));
    }

    fn warn_of_sharing(&self, disagreements: &[Warning]) {
        if !disagreements.is_empty() {
            notice::tell(&self.worker.cx(&self.host()), &self.record("shared"), disagreements);
        }
    }

    fn record(&self, what: &str) -> String {
        notice::record(self.config.scope.as_deref(), &self.plugin, what)
    }

    fn shares_scope(&self, other: &Self) -> bool {
        match (&self.config.scope, &other.config.scope) {
            (None, None) => self.plugin == other.plugin,
            (one, other) => one == other,
        }
    }

    /// The scope of a configuration that names none.
    fn default_scope(&self, direction: Direction) -> String {
        format!("{}/{}", self.plugin, direction.as_str())
    }

    /// Where the filter stands.
    pub(super) fn placement(&self) -> Placement {
        self.config.placement
    }

    /// The proxy, with this root's timer.
    pub(super) fn host(&self) -> Envoy<'_> {
        Envoy { timer: &self.timer, at_once: self.at_once }
    }

    /// The worker's store.
    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The direction of the current request as far as it matters: asked for only where it decides over the scope of
    /// something shared.
    pub(super) fn direction(&self) -> Direction {
        if self.config.scope.is_some() || !self.config.has_shared_state() {
            return Direction::Unspecified;
        }
        self.host().direction().unwrap_or_else(|error| {
            self.report(Err(error));
            Direction::Unspecified
        })
    }

    /// The filter for requests of the direction.
    pub(super) fn filter(&self, direction: Direction) -> &Filter {
        let [unspecified, inbound, outbound] = &self.filters;
        let filter = match direction {
            Direction::Unspecified => unspecified,
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        };
        filter.get_or_init(|| Filter::new(&self.config, &self.default_scope(direction), &self.worker))
    }

    /// Has the stream woken at its instant.
    pub(super) fn hold(&self, due: Timestamp, stream: u32) {
        self.queue.hold(due, stream);
        self.timer.wake_at(due);
    }

    /// Forgets a stream that need not be woken any more.
    pub(super) fn forget(&self, due: Timestamp, stream: u32) {
        self.queue.forget(due, stream);
    }

    /// Counts a call that failed.
    pub(super) fn report(&self, done: Result<(), HostError>) {
        if let Err(error) = done {
            self.worker.cx(&self.host()).host_error(error);
        }
    }

    /// The configuration is no longer in use: its streams have ended.
    pub(super) fn retire(&self) {
        for filter in self.filters.iter().filter_map(OnceCell::get) {
            filter.retire(&self.host(), &self.worker);
        }
        self.timer.stop();
    }

    /// Does the filters' chores, and wakes those requests whose wait or whose time is over.
    pub(super) fn on_tick(&self, streams: &Streams) {
        let host = self.host();
        self.timer.tick(|| {
            for filter in self.filters.iter().filter_map(OnceCell::get) {
                filter.on_tick(&host, &self.worker);
            }
            let cx = self.worker.cx(&host);
            let now = cx.now();
            self.foretell(now);
            if let Some(wait) = self.worker.in_use.show(&cx) {
                self.timer.wake_at(now.saturating_add(wait));
            }
            while let Some(stream) = self.queue.release(now) {
                self.resume(streams, stream);
            }
            if let Some(due) = self.queue.next() {
                self.timer.wake_at(due);
            }
        });
    }

    /// Defines some of the counters that alerts are about, and asks to be called again while there are more.
    fn foretell(&self, now: Timestamp) {
        let Ok(mut foretold) = self.foretold.try_borrow_mut() else {
            return;
        };
        let foretold = foretold.get_or_insert_with(|| Foretold::of(&self.config));
        if foretold.is_done() {
            return;
        }
        self.report(foretold.define(&self.worker.cx(&self.host())));
        if !foretold.is_done() {
            self.timer.wake_at(now.saturating_add(foretold::PAUSE));
        }
    }

    /// Lets a held request go on, or has it or one whose time is over answered. Its stream is made the current one first: an answer
    /// goes to that.
    fn resume(&self, streams: &Streams, stream: u32) {
        let resumed = abi::set_effective_context(stream).and_then(|()| {
            match streams.with(stream, |it| it.request().map(|request| request.wake(stream))).flatten() {
                Some(Flow::Pause) => Ok(()),
                Some(Flow::Continue) | None => abi::continue_request(),
            }
        });
        if let Err(status) = resumed {
            self.report(Err(HostError { call: "continue_request", status }));
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.worker.retry.register.leave(self.config.placement);
        self.worker.in_use.give_up(&self.worker.cx(&self.host()), self.config.gauges());
    }
}
