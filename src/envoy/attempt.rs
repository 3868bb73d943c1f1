//! One attempt of a request, where the filter is one of an upstream's.

use std::rc::Rc;

use super::abi::{self, Map};
use super::installed::Installed;
use super::machine::Flow;
use super::request::{report, send};
use crate::attempt::{self, Answer, Decision};
use crate::retry::router;

/// The stream of an attempt.
pub(super) struct AttemptStream {
    installed: Rc<Installed>,
    attempt: Option<attempt::Attempt>,
}

impl AttemptStream {
    pub(super) fn new(installed: Rc<Installed>) -> Self {
        Self { installed, attempt: None }
    }

    /// Lets it go to the service, or ends the request.
    pub(super) fn request_headers(&mut self) -> Flow {
        let installed = &*self.installed;
        let (decision, attempt) = attempt::on_request(&installed.host(), installed.worker());
        self.attempt = Some(attempt);
        match decision {
            Decision::Forward => Flow::Continue,
            Decision::Reply(reply) => send(installed, &reply),
        }
    }

    /// Lets its answer pass, or makes it the last one.
    pub(super) fn response_headers(&self) -> Flow {
        let installed = &*self.installed;
        if let Some(attempt) = &self.attempt {
            match attempt::on_response(&installed.host(), installed.worker(), attempt) {
                Answer::Pass => {}
                Answer::Mark => {
                    report(installed, "replace_header", abi::replace_header(Map::Response, router::LAST, "true"));
                }
            }
        }
        Flow::Continue
    }
}
