//! One configuration in one worker.

use std::cell::OnceCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::abi;
use super::host::{Envoy, root_id};
use super::queue::{Held, Queue};
use super::stream::Stream;
use super::timer::Timer;
use crate::config::Config;
use crate::filter::Filter;
use crate::host::{Direction, Host, HostError};
use crate::time::Timestamp;
use crate::worker::Worker;

/// A root context: a configuration, and the filter that it becomes on the first request.
pub(super) struct Root {
    worker: Rc<Worker>,
    installed: Option<Rc<Installed>>,
}

/// A configuration that was accepted.
pub(super) struct Installed {
    config: Config,
    /// The configuration at work, for each [`Direction`]. Envoy gives listeners of both directions one root context if
    /// their configurations are equal, and a request is the first to know its direction.
    filters: [OnceCell<Filter>; 3],
    worker: Rc<Worker>,
    timer: Timer,
    queue: Queue,
}

impl Root {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker, installed: None }
    }

    /// Reads the configuration that is being installed; the error is for the operator.
    fn read() -> Result<Config, String> {
        let bytes = abi::plugin_configuration().map_err(|status| format!("host call failed with status {status}"))?;
        Config::parse(&bytes.unwrap_or_default()).map_err(|error| error.to_string())
    }
}

impl Context for Root {
    /// The configuration is no longer in use: its streams have ended.
    fn on_done(&mut self) -> bool {
        if let Some(installed) = &self.installed {
            installed.retire();
        }
        true
    }
}

impl RootContext for Root {
    /// Compiles the configuration and takes it up only if all of it is good. Runs in throw-away machines too, so it
    /// touches no shared state.
    fn on_configure(&mut self, _size: usize) -> bool {
        match Self::read() {
            Ok(config) => {
                self.installed = Some(Rc::new(Installed::new(config, Rc::clone(&self.worker))));
                true
            }
            Err(error) => {
                log::error!("configuration refused: {error}");
                self.worker.trouble.config_rejected(&Envoy { timer: &Timer::default() });
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(installed) = &self.installed {
            installed.on_tick();
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(id, self.installed.clone())))
    }
}

impl Installed {
    fn new(config: Config, worker: Rc<Worker>) -> Self {
        let installed =
            Self { config, filters: Default::default(), worker, timer: Timer::default(), queue: Queue::default() };
        // The earlier configuration may serve the next request, and another direction than this one the first.
        for direction in [Direction::Unspecified, Direction::Inbound, Direction::Outbound] {
            Filter::announce(&installed.config, &default_scope(direction), &installed.worker);
        }
        if let Some(version) = &installed.config.version {
            let host = installed.host();
            installed.report(installed.worker.versions.taken_up(&host, &installed.worker.metrics, version));
        }
        installed
    }

    /// The proxy, with this root's timer.
    pub(super) fn host(&self) -> Envoy<'_> {
        Envoy { timer: &self.timer }
    }

    /// The worker's store.
    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The direction of the current request as far as it matters: asked for only where it decides over the scope of
    /// something shared.
    pub(super) fn direction(&self) -> Direction {
        if self.config.scope.is_some() || self.config.limits.is_empty() {
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
        filter.get_or_init(|| Filter::new(&self.config, &default_scope(direction), &self.worker))
    }

    /// Has the stream go on at its instant.
    pub(super) fn hold(&self, due: Timestamp, held: Held) {
        self.queue.hold(due, held);
        self.timer.wake_at(due);
    }

    /// Forgets a held request whose stream has ended.
    pub(super) fn forget(&self, due: Timestamp, stream: u32) {
        self.queue.forget(due, stream);
    }

    /// Counts a call that failed.
    pub(super) fn report(&self, done: Result<(), HostError>) {
        if let Err(error) = done {
            self.worker.trouble.host_error(&self.host(), error);
        }
    }

    fn retire(&self) {
        for filter in self.filters.iter().filter_map(OnceCell::get) {
            filter.retire(&self.host(), &self.worker);
        }
        self.timer.stop();
    }

    /// Does the filters' chores, and lets those requests go on whose wait is over.
    fn on_tick(&self) {
        let host = self.host();
        self.timer.tick(|| {
            for filter in self.filters.iter().filter_map(OnceCell::get) {
                filter.on_tick(&host, &self.worker);
            }
            let now = host.now();
            while let Some(held) = self.queue.release(now) {
                self.resume(&held);
            }
            if let Some(due) = self.queue.next() {
                self.timer.wake_at(due);
            }
        });
    }

    fn resume(&self, held: &Held) {
        if let Some(ticket) = held.ticket.borrow_mut().as_mut() {
            self.filter(held.direction).resume(&self.host(), &self.worker, ticket);
        }
        // Outside the borrow, because the stream's callbacks may run before this returns.
        if let Err(status) = abi::continue_request(held.stream) {
            self.report(Err(HostError { call: "continue_request", status }));
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(version) = &self.config.version {
            self.report(self.worker.versions.given_up(&self.host(), &self.worker.metrics, version));
        }
    }
}

/// The scope of configurations that name none.
fn default_scope(direction: Direction) -> String {
    format!("{}/{}", root_id(), direction.as_str())
}
