//! One request, where the filter is one of a listener's.

use std::rc::Rc;

use super::abi::{self, LocalResponse, Map, Status};
use super::installed::Installed;
use super::machine::Flow;
use crate::headers::Headers;
use crate::host::{Direction, End, HostError};
use crate::pipeline::{Answer, Decision, Edits, Ticket};
use crate::reply::{Protocol, Reply};
use crate::time::Timestamp;

/// The stream of a request. It keeps the configuration that it began under, and its ticket.
pub(super) struct RequestStream {
    installed: Rc<Installed>,
    direction: Direction,
    /// What the request holds; `None` before there is a request.
    ticket: Option<Ticket>,
    /// The instant at which it is woken, if it is: its wait in a queue, or its time, is over then.
    alarm: Option<Timestamp>,
    body: Body,
}

/// Whose the body of the response is.
enum Body {
    /// The service's.
    Own,
    /// This, as soon as the first part of the service's comes.
    Ours(Vec<u8>),
    /// What comes still of the service's goes nowhere.
    Sent,
}

impl RequestStream {
    pub(super) fn new(installed: Rc<Installed>) -> Self {
        Self { installed, direction: Direction::Unspecified, ticket: None, alarm: None, body: Body::Own }
    }

    /// Has the pipeline decide, and carries it out. `context` is the stream's own.
    pub(super) fn request_headers(&mut self, context: u32, end: End) -> Flow {
        let installed = &*Rc::clone(&self.installed);
        installed.serve();
        self.direction = installed.direction();
        let filter = installed.filter(self.direction);
        let (decision, ticket) = filter.on_request(&installed.host(), installed.worker(), end);
        self.ticket = Some(ticket);
        #[cfg(feature = "trap")]
        abi::trap_if_asked();
        match decision {
            Decision::Forward(edits) => {
                apply(installed, &edits);
                self.set_alarm(context);
                Flow::Continue
            }
            Decision::Wait(edits, due) => {
                apply(installed, &edits);
                self.alarm = Some(due);
                installed.hold(due, context);
                Flow::Pause
            }
            Decision::Reply(reply) => send(installed, &reply),
        }
    }

    /// The rest of the request is there.
    pub(super) fn request_end(&mut self, context: u32) {
        let installed = &*self.installed;
        if let Some(ticket) = &mut self.ticket {
            installed.filter(self.direction).on_request_end(&installed.host(), installed.worker(), ticket);
            self.set_alarm(context);
        }
    }

    /// The request's wait is over, or its time. Whether a held one goes on; otherwise it was answered.
    pub(super) fn wake(&mut self, context: u32) -> Flow {
        let installed = &*Rc::clone(&self.installed);
        self.alarm = None;
        let Some(ticket) = &mut self.ticket else {
            return Flow::Continue;
        };
        if !ticket.is_held() {
            let reply = installed.filter(self.direction).expire(&installed.host(), installed.worker(), ticket);
            if let Some(reply) = reply {
                send(installed, &reply);
            }
            return Flow::Pause;
        }
        match installed.filter(self.direction).resume(&installed.host(), installed.worker(), ticket) {
            Decision::Reply(reply) => send(installed, &reply),
            Decision::Forward(edits) | Decision::Wait(edits, _) => {
                apply(installed, &edits);
                self.set_alarm(context);
                Flow::Continue
            }
        }
    }

    /// Takes note of the response, the filter's own among them, and changes or replaces it.
    pub(super) fn response_headers(&mut self, context: u32, end: End) -> Flow {
        let installed = &*self.installed;
        let Some(ticket) = &mut self.ticket else {
            return Flow::Continue;
        };
        let answer = installed.filter(self.direction).on_response(&installed.host(), installed.worker(), end, ticket);
        match answer {
            Answer::Replace(reply) => {
                self.set_alarm(context);
                return send(&self.installed, &reply);
            }
            Answer::Become(placed) => {
                let done = abi::replace_headers(Map::Response, placed.headers.as_block());
                report(installed, "replace_headers", done);
                if done.is_err() {
                    return send(installed, &placed.reply);
                }
                self.body = Body::Ours(placed.into_body());
            }
            Answer::Pass(edits) => {
                for (name, value) in &edits.set {
                    report(installed, "replace_header", abi::replace_header(Map::Response, name, value));
                }
                for name in &edits.remove {
                    report(installed, "remove_header", abi::remove_header(Map::Response, name.as_bytes()));
                }
            }
        }
        match end {
            End::Here => self.response_end(context),
            End::Later => self.set_alarm(context),
        }
        Flow::Continue
    }

    /// Hands a piece of the response's body on.
    pub(super) fn response_body(&mut self, context: u32, size: usize, end: End) {
        let installed = &*self.installed;
        match (std::mem::replace(&mut self.body, Body::Sent), &mut self.ticket) {
            (Body::Own, ticket) => {
                self.body = Body::Own;
                if let Some(ticket) = ticket {
                    installed.filter(self.direction).on_response_body(
                        &installed.host(),
                        installed.worker(),
                        ticket,
                        size,
                    );
                }
            }
            (Body::Ours(body), _) => {
                report(installed, "replace_response_body", abi::replace_response_body(size, &body));
            }
            (Body::Sent, _) if 0 < size => {
                report(installed, "replace_response_body", abi::replace_response_body(size, &[]));
            }
            (Body::Sent, _) => {}
        }
        if end == End::Here {
            self.response_end(context);
        }
    }

    /// The response's trailers are there. Those of a response that something else has taken the place of go nowhere.
    pub(super) fn response_trailers(&mut self, context: u32) {
        if !matches!(self.body, Body::Own) {
            let none: [(&str, &[u8]); 0] = [];
            let none = Headers::from_pairs(&none);
            let done = abi::replace_headers(Map::ResponseTrailers, none.as_block());
            report(&self.installed, "replace_headers", done);
        }
        self.response_end(context);
    }

    /// The response is complete: its trailers are there, or its body or headers if nothing follows them.
    fn response_end(&mut self, context: u32) {
        let installed = &*self.installed;
        if let Some(ticket) = &mut self.ticket {
            installed.filter(self.direction).on_response_end(&installed.host(), installed.worker(), ticket);
            self.set_alarm(context);
        }
    }

    /// Has the request woken when its time is over, as that stands.
    fn set_alarm(&mut self, context: u32) {
        let due = self.ticket.as_ref().and_then(Ticket::due);
        let before = std::mem::replace(&mut self.alarm, due);
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.installed.forget(before, context);
        }
        if let Some(due) = due {
            self.installed.hold(due, context);
        }
    }

    /// Settles what the request held.
    pub(super) fn done(&mut self, context: u32) {
        let installed = &*self.installed;
        if let Some(due) = self.alarm {
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
    let pairs = reply.all_headers();
    let pairs: Vec<(&str, &[u8])> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
    let headers = Headers::from_pairs(&pairs);
    let response = LocalResponse {
        status: u32::from(reply.http_status()),
        details: &reply.details,
        headers: headers.as_block(),
        body: match reply.protocol {
            Protocol::Http => &reply.body,
            Protocol::Grpc => &[],
        },
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
