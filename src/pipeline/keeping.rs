//! What an answer of the service means for the answers that are kept.
//!
//! Only the service speaks for its pages. What the proxy answers in its place (a direct response, a redirect, a filter's refusal)
//! changes nothing, so it is asked whether the request was sent on, which costs a call that returns no bytes.

use super::ticket::{Service, Ticket};
use super::verdict::was_sent;
use crate::cx::Cx;
use crate::degrade::failure::FailureRule;
use crate::degrade::stale::{Address, Capture, Stale};
use crate::filter::Filter;
use crate::headers::Headers;
use crate::operation::request::Request;

impl Filter {
    /// Where a request goes that may change what is kept, whatever operation it is: `None` for those that change nothing (RFC 9110,
    /// section 9.2.1), for tunnels, and for calls of gRPC, of which nothing is kept.
    pub(super) fn written_by(&self, request: &Request<'_>) -> Option<Box<Address>> {
        if !self.keeps_answers || request.grpc || request.has_one_of(&["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"]) {
            return None;
        }
        Some(Box::new(Address::of(request)))
    }

    /// Gives up what is kept of the address that the request has changed, and of those that its answer names. Failed writes change
    /// nothing (RFC 9111, section 4.4).
    pub(super) fn give_up_changed(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        let Some(address) = ticket.written.take() else {
            return;
        };
        if !ticket.service.has_succeeded() && ticket.service != Service::Unjudged {
            return;
        }
        let Some(response) = response_headers(cx) else {
            return;
        };
        if !matches!(response.get(":status"), Some([b'2' | b'3', ..])) || !was_sent(cx, ticket) {
            return;
        }
        let named = ["location", "content-location"].into_iter().filter_map(|name| response.get(name));
        let mut addresses: Vec<Address> = named.filter_map(|reference| address.resolve(reference)).collect();
        addresses.push(*address);
        for stale in self.kept() {
            stale.forget(cx, &addresses);
        }
    }

    /// Hears an answer that is no failure: begins to copy it, if its rule keeps answers and this one may be kept.
    pub(super) fn capture(&self, cx: &Cx<'_>, ticket: &mut Ticket) -> Option<Box<Capture>> {
        if !matches!(ticket.service, Service::Answered(..500)) {
            return None;
        }
        let memory = ticket.memory.as_deref()?;
        if let Err(cause) = memory.candidate.as_ref()? {
            if ticket.service == Service::Answered(200) {
                self.rule(memory)?.stale()?.count_not_kept(cx, *cause);
            }
            return None;
        }
        if !was_sent(cx, ticket) {
            return None;
        }
        let memory = ticket.memory.as_deref()?;
        let (stale, candidate) = (self.rule(memory)?.stale()?, memory.candidate.as_ref()?.as_ref().ok()?);
        let response = response_headers(cx)?;
        stale.begin(cx, candidate, &response).map(Box::new)
    }

    /// The answers that are kept, by rule.
    fn kept(&self) -> impl Iterator<Item = &Stale> {
        self.on_failure.iter().filter_map(FailureRule::stale)
    }
}

fn response_headers(cx: &Cx<'_>) -> Option<Headers> {
    cx.host.response_headers().map_err(|error| cx.host_error(error)).ok()
}
