//! What goes wrong at run time: counted always, logged now and then, never silent.
//!
//! A request never fails because of it: the configured failure mode decides. The counter says how often, the log says
//! what, at most once in [`LOG_INTERVAL`] per kind and worker, so that a proxy in trouble is not drowned in its own log.

use std::fmt;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::{HostError, MetricKind};
use crate::monitor::metrics;

/// The least time between two log lines of one kind of trouble in one worker.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The same for what clients can show at any time, and somebody should change once.
pub const HINT_INTERVAL: Duration = Duration::from_secs(3600);

/// All that `outrigger_host_errors_total` tells apart: calls of the proxy, and things that were of no use.
pub const CALLS: [&str; 28] = [
    "concurrency_table_full",
    "continue_request",
    "cost_header",
    "define_metric",
    "get_property",
    "increment_metric",
    "merge_slashes",
    "normalize_path",
    "path_with_escaped_slashes_action",
    "placement",
    "random_get",
    "record_metric",
    "remove_header",
    "repeated_header",
    "replace_header",
    "replace_headers",
    "replace_response_body",
    "request_headers",
    "response_body",
    "response_headers",
    "roster_contended",
    "send_local_response",
    "set_property",
    "shared_decode",
    "shared_get",
    "shared_set",
    "shared_set_contended",
    "trusted_hops",
];

impl Cx<'_> {
    /// Takes note of a call that came to nothing else.
    pub fn report(&self, done: Result<(), HostError>) {
        if let Err(error) = done {
            self.host_error(error);
        }
    }

    /// A call that the proxy did not carry out.
    pub fn host_error(&self, error: HostError) {
        self.count_trouble(metrics::host_errors_total(error.call), 1);
        self.log(error.call, &error);
    }

    /// A shared record of a shape that nobody writes.
    pub fn undecodable(&self, record: &str) {
        self.count_trouble(metrics::host_errors_total("shared_decode"), 1);
        self.log("shared_decode", &format_args!("shared record {record} is unreadable and will be replaced"));
    }

    /// A cost header that holds no number. Its value is a client's and is not logged.
    pub fn malformed_cost(&self, limit: &str) {
        self.count_trouble(metrics::host_errors_total("cost_header"), 1);
        self.log("cost_header", &format_args!("limit {limit}: a cost header is not a number; counted as 1"));
    }

    /// Another worker wrote the record first. Not logged: it is how sharing works.
    pub fn conflict(&self, record: &'static str) {
        self.count_trouble(metrics::shared_conflicts_total(record), 1);
    }

    /// An instance among an upstream's filters that has no other one to work with.
    pub fn alone_upstream(&self) {
        self.count_trouble(metrics::host_errors_total("placement"), 1);
        let what = "placement is upstream, but this virtual machine has no filter downstream: retries are not paid for one by \
                    one; give both the same module, vm_id and VM configuration";
        self.log("placement", &what);
    }

    /// A path that shows a setting of the proxy to be off: with it off, a client can walk around operations and keys by another
    /// spelling of a path.
    pub fn unsettled_path(&self, setting: &'static str) {
        self.count_trouble(metrics::host_errors_total(setting), 1);
        let what = format_args!(
            "{setting} is off in the HTTP connection manager: a path came that it would have changed or refused, and by \
             such spellings clients get past the paths of operations and into new keys"
        );
        self.log_every(HINT_INTERVAL, setting, &what);
    }

    /// A header of a key that came in several lines.
    pub fn repeated_header(&self, limit: &str, header: &str) {
        self.count_trouble(metrics::host_errors_total("repeated_header"), 1);
        let what = format_args!(
            "limit {limit}: {header} of its key came in several lines, which are counted as one list; a service that reads \
             only one of them sees another value, so let something before the filter overwrite or refuse them"
        );
        self.log_every(HINT_INTERVAL, "repeated_header", &what);
    }

    /// Of the last hundred requests of a limit by address so many, more than half, named fewer proxies than are trusted. All of
    /// them are counted.
    pub fn short_chains(&self, limit: &str, header: &str, hops: usize, short: u32) {
        self.count_trouble(metrics::host_errors_total("trusted_hops"), short);
        let what = format_args!(
            "limit {limit}: client_ip.trusted_hops is {hops}, and {short} of the last 100 requests had fewer entries in \
             {header}: they are counted under the address of their peer, which may be one proxy for all clients. Count the \
             proxies that append to the header, this one only if its use_remote_address is on: then the number is one more \
             than Envoy's xff_num_trusted_hops or Istio's numTrustedProxies"
        );
        self.log_every(HINT_INTERVAL, "trusted_hops", &what);
    }

    /// A request held its place of a concurrency limit for longer than it may. The limit has a counter of its own for that.
    pub fn hold_expired(&self, limit: &str) {
        let what = format_args!(
            "limit {limit}: a request has held its place for max_hold; the place is free, and the request goes on and is not \
             counted any more. What ends such requests is the proxy's request_timeout, stream_idle_timeout or \
             max_stream_duration"
        );
        self.log("hold_expired", &what);
    }

    /// A configuration was refused.
    pub fn config_rejected(&self) {
        self.count_trouble(metrics::config_rejected_total(), 1);
    }

    fn count_trouble(&self, name: String, amount: u32) {
        // A proxy that cannot count either has been reported by the log line that goes with the count.
        if let Ok(id) = self.metric(MetricKind::Counter, name) {
            let _ = self.host.increment_metric(id, u64::from(amount));
        }
    }

    fn log(&self, kind: &'static str, what: &dyn fmt::Display) {
        self.log_every(LOG_INTERVAL, kind, what);
    }

    fn log_every(&self, interval: Duration, kind: &'static str, what: &dyn fmt::Display) {
        let now = self.now();
        let mut logged = self.telemetry.logged.borrow_mut();
        let due = logged.get(kind).is_none_or(|last| interval <= now.saturating_since(*last));
        if due {
            logged.insert(kind, now);
            log::warn!("{what}");
        }
    }
}
