//! One configuration in one worker, and the filter that it becomes on the first request.

use std::cell::OnceCell;
use std::rc::Rc;

use super::abi;
use super::host::{Envoy, root_id};
use super::machine::Flow;
use super::queue::Queue;
use super::streams::Streams;
use super::timer::Timer;
use crate::config::{Config, Placement};
use crate::filter::Filter;
use crate::host::{Direction, Host, HostError};
use crate::time::Timestamp;
use crate::worker::Worker;

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

impl Installed {
    pub(super) fn new(config: Config, worker: Rc<Worker>) -> Self {
        let installed =
            Self { config, filters: Default::default(), worker, timer: Timer::default(), queue: Queue::default() };
        // The earlier configuration may serve the next request, and another direction than this one the first.
        for direction in [Direction::Unspecified, Direction::Inbound, Direction::Outbound] {
            Filter::announce(&installed.config, &default_scope(direction), &installed.worker);
        }
        let Self { config, worker, .. } = &installed;
        worker.register.join(config.placement);
        installed.report(worker.in_use.take_up(&installed.host(), &worker.metrics, config));
        installed
    }

    /// Where the filter stands.
    pub(super) fn placement(&self) -> Placement {
        self.config.placement
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
        filter.get_or_init(|| Filter::new(&self.config, &default_scope(direction), &self.worker))
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
            self.worker.trouble.host_error(&self.host(), error);
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
            let now = host.now();
            while let Some(stream) = self.queue.release(now) {
                self.resume(streams, stream);
            }
            if let Some(due) = self.queue.next() {
                self.timer.wake_at(due);
            }
        });
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
        self.worker.register.leave(self.config.placement);
        self.report(self.worker.in_use.give_up(&self.host(), &self.worker.metrics, &self.config));
    }
}

/// The scope of configurations that name none.
fn default_scope(direction: Direction) -> String {
    format!("{}/{}", root_id(), direction.as_str())
}
