//! The configuration that an Envoy starts with.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outrigger::monitor::table::labels;
use serde_json::{Value, json};

use crate::rig::listener::Listener;

/// One Envoy: its listeners, its workers, and how it learns of changes.
pub(crate) struct Bootstrap {
    listeners: Vec<Listener>,
    concurrency: usize,
    discovery: bool,
    drain: Option<Duration>,
    flush: Duration,
    manifest: Option<Value>,
    under: Vec<String>,
}

impl Bootstrap {
    /// Two workers and one listener, fixed for life; statistics flushed ten times a second.
    pub(crate) fn new(listener: Listener) -> Self {
        let flush = Duration::from_millis(100);
        Self {
            listeners: vec![listener],
            concurrency: 2,
            discovery: false,
            drain: None,
            flush,
            manifest: None,
            under: Vec::new(),
        }
    }

    /// This very bootstrap, with two workers.
    #[allow(dead_code, reason = "the bench shares this module")]
    pub(crate) fn manifest(manifest: Value) -> Self {
        Self { manifest: Some(manifest), ..Self::new(Listener::direct()) }
    }

    /// Flushes its statistics so often. Histograms show only after a flush, and a flush costs time.
    #[allow(dead_code, reason = "for the bench, which shares this module")]
    pub(crate) fn flush_every(mut self, interval: Duration) -> Self {
        self.flush = interval;
        self
    }

    /// With one more listener.
    pub(crate) fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// With so many workers.
    pub(crate) fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = workers;
        self
    }

    /// Run by this program, which is told what to run after its own arguments.
    #[allow(dead_code, reason = "for the bench, which shares this module")]
    pub(crate) fn under(mut self, program: Vec<String>) -> Self {
        self.under = program;
        self
    }

    /// Reads its listeners from a file that [`publish`] replaces, so that they can change.
    pub(crate) fn by_discovery(mut self) -> Self {
        self.discovery = true;
        self
    }

    /// Closes the connections of a replaced listener within so many whole seconds, instead of ten minutes: at once those
    /// that carry traffic, with `connection: close`.
    pub(crate) fn drain_within(mut self, time: Duration) -> Self {
        self.drain = Some(time);
        self
    }

    /// The command that starts `envoy`, as far as that goes.
    pub(crate) fn command(&self, envoy: &Path) -> Command {
        let Some((program, arguments)) = self.under.split_first() else {
            return Command::new(envoy);
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(envoy);
        command
    }

    /// What Envoy's command line says of this.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--concurrency".to_owned(), self.concurrency.to_string()];
        if let Some(time) = self.drain {
            let time = time.as_secs().to_string();
            arguments.extend(["--drain-strategy", "immediate", "--drain-time-s", &time].map(str::to_owned));
        }
        arguments
    }

    pub(crate) fn workers(&self) -> usize {
        self.concurrency
    }

    /// Writes the files that Envoy starts from into its `home`.
    pub(crate) fn write(&self, home: &Path) {
        let bootstrap = self.manifest.clone().unwrap_or_else(|| self.render(home));
        std::fs::write(home.join("bootstrap.json"), bootstrap.to_string()).expect("the bootstrap can be written");
    }

    fn render(&self, home: &Path) -> Value {
        let mut bootstrap = json!({
            "admin": { "address": socket_address(SocketAddr::from(([127, 0, 0, 1], 0))) },
            "stats_flush_interval": format!("{}s", self.flush.as_secs_f64()),
            "stats_config": stats_config(),
            "static_resources": { "clusters": self.clusters() },
        });
        if self.discovery {
            publish(home, &self.listeners);
            let source = json!({ "path": home.join("listeners.json"), "watched_directory": { "path": home } });
            bootstrap["dynamic_resources"] =
                json!({ "lds_config": { "resource_api_version": "V3", "path_config_source": source } });
        } else {
            let listeners: Vec<Value> = self.listeners.iter().map(|listener| listener.render(home)).collect();
            bootstrap["static_resources"]["listeners"] = json!(listeners);
        }
        bootstrap
    }

    fn clusters(&self) -> Vec<Value> {
        let mut clusters: Vec<Value> = Vec::new();
        for cluster in self.listeners.iter().flat_map(Listener::clusters) {
            let rendered = cluster.render();
            if !clusters.contains(&rendered) {
                clusters.push(rendered);
            }
        }
        clusters
    }
}

/// Replaces the listeners of an Envoy that was started [`Bootstrap::by_discovery`], at one stroke.
pub(crate) fn publish(home: &Path, listeners: &[Listener]) {
    let resource = |listener: &Listener| any("envoy.config.listener.v3.Listener", listener.render(home));
    let resources: Vec<Value> = listeners.iter().map(resource).collect();
    let draft = home.join("listeners.draft");
    std::fs::write(&draft, json!({ "resources": resources }).to_string()).expect("listeners can be written");
    // Envoy watches for a rename, because a file in the middle of a write is no configuration.
    std::fs::rename(&draft, home.join("listeners.json")).expect("listeners can be replaced");
}

/// Rules that make Prometheus labels of what the filter writes into the names of its metrics.
pub(crate) fn stats_config() -> Value {
    let rule = |label: &str| json!({ "tag_name": label, "regex": format!("({label}=\\.=(.*?);\\.;)") });
    json!({ "stats_tags": labels().into_iter().map(rule).collect::<Vec<_>>() })
}

/// The message with its type written into it, as protobuf's `Any` is in JSON.
pub(crate) fn any(kind: &str, mut message: Value) -> Value {
    message["@type"] = json!(format!("type.googleapis.com/{kind}"));
    message
}

pub(crate) fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
