//! One request.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::abi::{self, LocalResponse, Map, Status};
use super::host::Envoy;
use super::root::Installed;
use crate::headers::Headers;
use crate::host::{Direction, HostError};
use crate::pipeline::{Decision, Edits, Ticket};
use crate::reply::Reply;
use crate::worker::Worker;

/// A stream context. It keeps the configuration that the stream began under, and its ticket.
pub(super) struct Stream {
    installed: Option<Rc<Installed>>,
    worker: Rc<Worker>,
    direction: Direction,
    ticket: Option<Ticket>,
}

impl Stream {
    pub(super) fn new(installed: Option<Rc<Installed>>, worker: Rc<Worker>) -> Self {
        Self { installed, worker, direction: Direction::Unspecified, ticket: None }
    }

    fn report(&self, call: &'static str, done: Result<(), Status>) {
        if let Err(status) = done {
            self.worker.trouble.host_error(&Envoy, HostError { call, status });
        }
    }

    fn apply(&self, edits: &Edits) {
        for name in &edits.remove {
            self.report("remove_header", abi::remove_header(Map::Request, name));
        }
    }

    /// Answers the request. A reply that cannot be sent must not leave the request waiting: it goes on.
    fn send(&self, reply: &Reply) -> Action {
        let headers = Headers::from_pairs(&reply.headers);
        let response = LocalResponse {
            status: u32::from(reply.status),
            details: &reply.details,
            headers: headers.as_block(),
            body: reply.body.as_bytes(),
            grpc_status: i32::try_from(reply.grpc_status).unwrap_or(i32::MAX),
        };
        let sent = abi::send_local_response(&response);
        self.report("send_local_response", sent);
        if sent.is_ok() { Action::Pause } else { Action::Continue }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        if let (Some(installed), Some(ticket)) = (&self.installed, self.ticket.take()) {
            installed.filter(self.direction).on_done(&Envoy, &self.worker, ticket);
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
        let (decision, ticket) = installed.filter(self.direction).on_request(&Envoy, &self.worker);
        self.ticket = Some(ticket);
        match decision {
            Decision::Forward(edits) => {
                self.apply(&edits);
                Action::Continue
            }
            Decision::Reply(reply) => self.send(&reply),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let (Some(installed), Some(ticket)) = (&self.installed, &mut self.ticket) {
            installed.filter(self.direction).on_response(&Envoy, &self.worker, ticket);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let (Some(installed), Some(ticket)) = (&self.installed, &mut self.ticket) {
            installed.filter(self.direction).on_log(&Envoy, &self.worker, ticket);
        }
    }
}
