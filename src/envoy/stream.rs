//! One request.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::abi::{self, LocalResponse, Map, Status};
use super::queue::{Held, SharedTicket};
use super::root::Installed;
use crate::headers::Headers;
use crate::host::{Direction, HostError};
use crate::pipeline::{Decision, Edits};
use crate::reply::Reply;
use crate::time::Timestamp;

/// A stream context. It keeps the configuration that the stream began under, and its ticket.
pub(super) struct Stream {
    id: u32,
    installed: Option<Rc<Installed>>,
    direction: Direction,
    ticket: SharedTicket,
    /// The instant until which the request was held, if it was.
    held_until: Option<Timestamp>,
}

impl Stream {
    pub(super) fn new(id: u32, installed: Option<Rc<Installed>>) -> Self {
        Self { id, installed, direction: Direction::Unspecified, ticket: SharedTicket::default(), held_until: None }
    }

    fn apply(installed: &Installed, edits: &Edits) {
        for name in &edits.remove {
            report(installed, "remove_header", abi::remove_header(Map::Request, name));
        }
    }

    /// Answers the request. A reply that cannot be sent must not leave the request waiting: it goes on.
    fn send(installed: &Installed, reply: &Reply) -> Action {
        let headers = Headers::from_pairs(&reply.headers);
        let response = LocalResponse {
            status: u32::from(reply.status),
            details: &reply.details,
            headers: headers.as_block(),
            body: reply.body.as_bytes(),
            grpc_status: i32::try_from(reply.grpc_status).unwrap_or(i32::MAX),
        };
        let sent = abi::send_local_response(&response);
        report(installed, "send_local_response", sent);
        if sent.is_ok() { Action::Pause } else { Action::Continue }
    }
}

fn report(installed: &Installed, call: &'static str, done: Result<(), Status>) {
    installed.report(done.map_err(|status| HostError { call, status }));
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        if let (Some(installed), Some(due)) = (&self.installed, self.held_until) {
            installed.forget(due, self.id);
        }
        let ticket = self.ticket.borrow_mut().take();
        if let (Some(installed), Some(ticket)) = (&self.installed, ticket) {
            installed.filter(self.direction).on_done(&installed.host(), installed.worker(), ticket);
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(installed) = &self.installed else {
            return Action::Continue;
        };
        self.direction = installed.direction();
        let (decision, ticket) = installed.filter(self.direction).on_request(&installed.host(), installed.worker());
        *self.ticket.borrow_mut() = Some(ticket);
        #[cfg(feature = "trap")]
        abi::trap_if_asked();
        match decision {
            Decision::Forward(edits) => {
                Self::apply(installed, &edits);
                Action::Continue
            }
            Decision::Wait(edits, due) => {
                Self::apply(installed, &edits);
                self.held_until = Some(due);
                let ticket = Rc::clone(&self.ticket);
                installed.hold(due, Held { stream: self.id, direction: self.direction, ticket });
                Action::Pause
            }
            Decision::Reply(reply) => Self::send(installed, &reply),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let (Some(installed), Some(ticket)) = (&self.installed, self.ticket.borrow_mut().as_mut()) {
            let edits = installed.filter(self.direction).on_response(&installed.host(), installed.worker(), ticket);
            for (name, value) in &edits.set {
                report(installed, "replace_header", abi::replace_header(Map::Response, name, value));
            }
            for name in &edits.remove {
                report(installed, "remove_header", abi::remove_header(Map::Response, name.as_bytes()));
            }
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let (Some(installed), Some(ticket)) = (&self.installed, self.ticket.borrow_mut().as_mut()) {
            installed.filter(self.direction).on_log(&installed.host(), installed.worker(), ticket);
        }
    }
}
