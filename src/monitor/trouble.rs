//! What goes wrong at run time: counted always, logged now and then, never silent.
//!
//! A request never fails because of it: the configured failure mode decides. The counter says how often, the log says
//! what, at most once in [`LOG_INTERVAL`] per kind and worker, so that a proxy in trouble is not drowned in its own log.

use std::fmt;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::{HostError, MetricKind};
use crate::monitor::metrics;
use crate::monitor::word::Word;
use crate::word;

/// The least time between two log lines of one kind of trouble in one worker.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The same for what clients can show at any time, and somebody should change once.
pub const HINT_INTERVAL: Duration = Duration::from_secs(3600);

/// All that `outrigger_host_errors_total` tells apart: calls of the proxy, and things that were of no use.
#[rustfmt::skip]
pub const CALLS: [Word; 28] = [
    word!("concurrency_table_full", "a keyed concurrency limit had no room for another key, and `failure_mode` decided"),
    word!("continue_request", "the proxy refused to let a request go on that had waited"),
    word!("cost_header", "a header that `cost` names is not a number; counted as 1"),
    word!("define_metric", "the proxy refused to define a metric"),
    word!("get_property", "the proxy refused to say a property of a request, such as the address of its client"),
    word!("increment_metric", "the proxy refused to raise a counter"),
    word!("merge_slashes", "a path that `merge_slashes` of the HTTP connection manager would have changed, see [warnings](operations.md#warnings)"),
    word!("normalize_path", "a path that `normalize_path` of the HTTP connection manager would have changed or refused, see [warnings](operations.md#warnings)"),
    word!("path_with_escaped_slashes_action", "a path with an encoded slash that this setting of the HTTP connection manager would have changed or refused, see [warnings](operations.md#warnings)"),
    word!("placement", "an instance among the filters of an upstream has no other one downstream to work with"),
    word!("random_get", "the proxy refused to give random bytes"),
    word!("record_metric", "the proxy refused to set a gauge, or to add to a histogram"),
    word!("remove_header", "the proxy refused to remove a header"),
    word!("repeated_header", "a header of a key came in several lines, see [warnings](operations.md#warnings)"),
    word!("replace_header", "the proxy refused to set a header"),
    word!("replace_headers", "the proxy refused to set all headers of a message"),
    word!("replace_response_body", "the proxy refused to replace the body of a response"),
    word!("request_headers", "the proxy refused to say the headers of a request"),
    word!("response_body", "the proxy refused to say the body of a response"),
    word!("response_headers", "the proxy refused to say the headers of a response"),
    word!("roster_contended", "other workers won every race for the list of workers"),
    word!("send_local_response", "the proxy refused to answer a request"),
    word!("set_property", "the proxy refused to write a field for the access log, or the number of a request"),
    word!("shared_decode", "a shared record could not be read, and was replaced"),
    word!("shared_get", "the proxy refused to read a shared record"),
    word!("shared_set", "the proxy refused to write a shared record"),
    word!("shared_set_contended", "other workers won every race for a shared record"),
    word!("trusted_hops", "requests of a limit by address had fewer entries in the header than `client_ip.trusted_hops`, see [warnings](operations.md#warnings)"),
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
