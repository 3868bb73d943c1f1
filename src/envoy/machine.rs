//! One virtual machine: its configurations, and its streams.
//!
//! The proxy knows both as contexts, by numbers that it gives once in a machine's life. Callbacks for contexts that are not
//! there any more, or not yet, do nothing.

use std::cell::RefCell;
use std::rc::Rc;

use super::abi;
use super::host::Envoy;
use super::installed::Installed;
use super::stream::Stream;
use super::streams::Streams;
use super::timer::Timer;
use crate::config::Config;
use crate::host::End;
use crate::sorted::SortedMap;
use crate::worker::Worker;

/// What becomes of a stream after a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It goes on.
    Continue,
    /// It is held, or was answered.
    Pause,
}

/// The machine. Its worker's store is shared by all configurations; see [`Worker`].
#[derive(Default)]
pub(super) struct Machine {
    worker: Rc<Worker>,
    /// Root contexts, with the configuration that each has taken up.
    roots: RefCell<SortedMap<u32, Option<Rc<Installed>>>>,
    streams: Streams,
}

thread_local! {
    static MACHINE: Machine = Machine::default();
}

/// Passes a callback on to the machine.
pub(super) fn with<R>(callback: impl FnOnce(&Machine) -> R) -> R {
    MACHINE.with(callback)
}

impl Machine {
    /// A root context if there is no `parent`, a stream of that root otherwise.
    pub(super) fn create(&self, context: u32, parent: u32) {
        if parent == 0 {
            self.roots.borrow_mut().insert(context, None);
        } else if let Some(installed) = self.installed(parent) {
            self.streams.add(context, Stream::new(installed));
        }
    }

    /// Compiles the configuration and takes it up only if all of it is good. Runs in throw-away machines too, so of shared
    /// state it touches only the records of what was said in the log.
    pub(super) fn configure(&self, root: u32) -> bool {
        match read() {
            Ok(config) => {
                let installed = Rc::new(Installed::new(config, Rc::clone(&self.worker)));
                installed.warn(self.roots.borrow().values().flatten().map(Rc::as_ref));
                self.roots.borrow_mut().insert(root, Some(installed));
                true
            }
            Err(errors) => {
                // Each has the time and the filter's name before it. An error is one line.
                errors.lines().for_each(|error| log::error!("configuration refused: {error}"));
                let host = Envoy { timer: &Timer::default(), at_once: None };
                self.worker.cx(&host).config_rejected();
                false
            }
        }
    }

    /// The root's timer went off.
    pub(super) fn tick(&self, root: u32) {
        if let Some(installed) = self.installed(root) {
            installed.on_tick(&self.streams);
        }
    }

    /// A request's headers are there.
    pub(super) fn request_headers(&self, stream: u32, end: End) -> Flow {
        self.streams.with(stream, |it| it.request_headers(stream, end)).unwrap_or(Flow::Continue)
    }

    /// A request is complete.
    pub(super) fn request_end(&self, stream: u32) {
        self.streams.with(stream, |it| it.request().map(|request| request.request_end(stream)));
    }

    /// A response's headers are there.
    pub(super) fn response_headers(&self, stream: u32, end: End) -> Flow {
        self.streams.with(stream, |it| it.response_headers(stream, end)).unwrap_or(Flow::Continue)
    }

    /// A part of a response's body is there.
    pub(super) fn response_body(&self, stream: u32, size: usize, end: End) {
        self.streams.with(stream, |it| it.request().map(|request| request.response_body(stream, size, end)));
    }

    /// A response's trailers are there, which end it.
    pub(super) fn response_trailers(&self, stream: u32) {
        self.streams.with(stream, |it| it.request().map(|request| request.response_trailers(stream)));
    }

    /// A stream has ended, or a configuration is no longer in use because all its streams have.
    pub(super) fn done(&self, context: u32) {
        if let Some(mut stream) = self.streams.remove(context) {
            if let Some(request) = stream.request() {
                request.done(context);
            }
            return;
        }
        // Not within the borrow of a statement: what goes away with the configuration is free to look around.
        let root = self.roots.borrow_mut().remove(&context);
        if let Some(installed) = root.flatten() {
            installed.retire();
            // One that was replaced and came back while it was drained was not configured anew. Contexts are numbered in the
            // order in which they come, so that the latest has the last word.
            for left in self.roots.borrow().values().flatten() {
                left.announce();
            }
        }
    }

    fn installed(&self, root: u32) -> Option<Rc<Installed>> {
        self.roots.borrow().get(&root).cloned().flatten()
    }
}

/// Reads the configuration that is being installed; the error is for the operator.
fn read() -> Result<Config, String> {
    let bytes = abi::plugin_configuration().map_err(|status| format!("host call failed with status {status}"))?;
    Config::parse(&bytes.unwrap_or_default()).map_err(|error| error.to_string())
}
