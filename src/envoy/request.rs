//! One request, where the filter is one of a listener's.

use std::rc::Rc;

use super::abi::{self, LocalResponse, Map, Status};
use super::installed::Installed;
use super::machine::{End, Flow};
use crate::headers::Headers;
use crate::host::{Direction, HostError};
use crate::pipeline::{Answer, Decision, Edits, Ticket};
use crate::reply::Reply;
use crate::time::Timestamp;

/// The stream of a request. It keeps the configuration that it began under, and its ticket.
pub(super) struct RequestStream {
    installed: Rc<Installed>,
    direction: Direction,
    /// What the request holds; `None` before there is a request.
    ticket: Option<Ticket>,
    /// The instant until which the request was held, if it was.
    held_until: Option<Timestamp>,
}

impl RequestStream {
    pub(super) fn new(installed: Rc<Installed>) -> Self {
        Self { installed, direction: Direction::Unspecified, ticket: None, held_until: None }
    }

    /// Has the pipeline decide, and carries it out. `context` is the stream's own.
    pub(super) fn request_headers(&mut self, context: u32) -> Flow {
        let installed = &*self.installed;
        installed.serve();
        self.direction = installed.direction();
        let (decision, ticket) = installed.filter(self.direction).on_request(&installed.host(), installed.worker());
        self.ticket = Some(ticket);
        #[cfg(feature = "trap")]
        abi::trap_if_asked();
        match decision {
            Decision::Forward(edits) => {
                apply(installed, &edits);
                Flow::Continue
            }
            Decision::Wait(edits, due) => {
                apply(installed, &edits);
                self.held_until = Some(due);
                installed.hold(due, context);
                Flow::Pause
            }
            Decision::Reply(reply) => send(installed, &reply),
        }
    }

    /// The request's wait is over. Whether it goes on; otherwise it was answered.
    pub(super) fn resume(&mut self) -> Flow {
        let installed = &*self.installed;
        let Some(ticket) = &mut self.ticket else {
            return Flow::Continue;
        };
        match installed.filter(self.direction).resume(&installed.host(), installed.worker(), ticket) {
            Decision::Reply(reply) => send(installed, &reply),
            Decision::Forward(edits) | Decision::Wait(edits, _) => {
                apply(installed, &edits);
                Flow::Continue
            }
        }
    }

    /// Takes note of the response, the filter's own among them, and changes or replaces it.
    pub(super) fn response_headers(&mut self, end: End) -> Flow {
        let installed = &*self.installed;
        let Some(ticket) = &mut self.ticket else {
            return Flow::Continue;
        };
        let answer = installed.filter(self.direction).on_response(&installed.host(), installed.worker(), ticket);
        match answer {
            Answer::Replace(reply) => return send(installed, &reply),
            Answer::Pass(edits) => {
                for (name, value) in &edits.set {
                    report(installed, "replace_header", abi::replace_header(Map::Response, name, value));
                }
                for name in &edits.remove {
                    report(installed, "remove_header", abi::remove_header(Map::Response, name.as_bytes()));
                }
            }
        }
        if end == End::Here {
            self.response_end();
        }
        Flow::Continue
    }

    /// Hands a piece of the response's body on.
    pub(super) fn response_body(&mut self, size: usize, end: End) {
        let installed = &*self.installed;
        if let Some(ticket) = &mut self.ticket {
            installed.filter(self.direction).on_response_body(&installed.host(), installed.worker(), ticket, size);
        }
        if end == End::Here {
            self.response_end();
        }
    }

    /// The response is complete: its trailers are there, or its body or headers if nothing follows them.
    pub(super) fn response_end(&mut self) {
        let installed = &*self.installed;
        if let Some(ticket) = &mut self.ticket {
            installed.filter(self.direction).on_response_end(&installed.host(), installed.worker(), ticket);
        }
    }

    /// Settles what the request held.
    pub(super) fn done(&mut self, context: u32) {
        let installed = &*self.installed;
        if let Some(due) = self.held_until {
            installed.forget(due, context);
        }
        if let Some(ticket) = self.ticket.take() {
            installed.filter(self.direction).on_done(&installed.host(), installed.worker(), ticket);
        }
    }
}

fn apply(installed: &Installed, edits: &Edits<'_>) {
    for name in &edits.remove {
        report(installed, "remove_header", abi::remove_header(Map::Request, name));
    }
    for (name, value) in &edits.set {
        report(installed, "replace_header", abi::replace_header(Map::Request, name, value));
    }
}

/// Answers the request. A reply that cannot be sent must not leave the request waiting: it goes on.
pub(super) fn send(installed: &Installed, reply: &Reply) -> Flow {
    let headers = Headers::from_pairs(&reply.headers);
    let response = LocalResponse {
        status: u32::from(reply.status),
        details: &reply.details,
        headers: headers.as_block(),
        body: &reply.body,
        grpc_status: i32::try_from(reply.grpc_status).unwrap_or(i32::MAX),
    };
    let sent = abi::send_local_response(&response);
    report(installed, "send_local_response", sent);
    if sent.is_ok() { Flow::Pause } else { Flow::Continue }
}

/// Counts a call that failed.
pub(super) fn report(installed: &Installed, call: &'static str, done: Result<(), Status>) {
    installed.report(done.map_err(|status| HostError { call, status }));
}
