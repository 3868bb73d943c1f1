//! A running Envoy, and all that can be learned from the outside: admin interface, logs, `/proc`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::rig::access_log::{self, Entry};
use crate::rig::bootstrap::{self, Bootstrap};
use crate::rig::client::Client;
use crate::rig::listener::Listener;
use crate::rig::stats::Stats;
use crate::rig::tool;
use crate::rig::wire::Wire;

/// How long anything may take that should happen soon. Under valgrind, on a busy machine, an Envoy starts in a minute or two.
const PATIENCE: Duration = Duration::from_secs(180);

/// An Envoy that lives as long as this value. When a test fails, the end of its log is printed.
pub(crate) struct Envoy {
    child: Child,
    home: TempDir,
    workers: usize,
    admin: Client,
    listeners: Vec<(String, SocketAddr)>,
}

impl Envoy {
    /// Starts an Envoy and waits until all its workers serve.
    pub(crate) async fn start(bootstrap: Bootstrap) -> Self {
        let home = TempDir::new().expect("a folder for Envoy");
        bootstrap.write(home.path());
        let output = File::create(home.path().join("envoy.log")).expect("a log for Envoy");
        let child = bootstrap
            .command(&tool::envoy())
            .args(["--disable-hot-restart", "--service-node", "test", "--service-cluster", "test"])
            .args(["--log-level", "warning", "--component-log-level", "wasm:info"])
            .args(["--file-flush-interval-msec", "20"])
            .args(bootstrap.arguments())
            .arg("--admin-address-path")
            .arg(home.path().join("admin.txt"))
            .arg("-c")
            .arg(home.path().join("bootstrap.json"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log can be shared"))
            .stderr(output)
            .spawn()
            .expect("Envoy can be started");
        // From here on a panic must end the process: the value exists before anything else can fail.
        let nowhere = Client::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut envoy = Self { child, home, workers: bootstrap.workers(), admin: nowhere, listeners: Vec::new() };
        envoy.admin = Client::new(envoy.admin_address().await);
        eventually("Envoy is ready", async || {
            envoy.assert_alive();
            (envoy.admin.get("/ready").await.status == 200).then_some(())
        })
        .await;
        envoy.listeners = envoy.bound_listeners().await;
        envoy
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where the listener `main` is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of("main")
    }

    /// Where the listener of this name is.
    pub(crate) fn address_of(&self, listener: &str) -> SocketAddr {
        let known = self.listeners.iter().find(|(name, _)| name == listener);
        known.unwrap_or_else(|| panic!("no listener {listener}")).1
    }

    /// A client with a connection of its own to `main`.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Clients with connections that are spread over all workers.
    ///
    /// Connections are opened with a request to `path`, which should cost nothing.
    pub(crate) async fn clients(&self, path: &str) -> Vec<Client> {
        let clients: Vec<Client> = (0..self.workers * 4).map(|_| self.client()).collect();
        for client in &clients {
            client.get(path).await;
        }
        self.assert_every_worker_serves().await;
        clients
    }

    /// Open sockets that are spread over all workers.
    pub(crate) async fn wires(&self, count: usize) -> Vec<Wire> {
        let mut wires = Vec::new();
        for _ in 0..count {
            wires.push(Wire::connect(self.address()).await);
        }
        eventually("connections are accepted", async || {
            let accepted = self.stats().await.sum("envoy_listener_downstream_cx_total", &[]);
            (accepted >= count as f64).then_some(())
        })
        .await;
        self.assert_every_worker_serves().await;
        wires
    }

    /// The answer of the admin interface.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let answer = self.admin.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    /// All statistics as Prometheus would read them.
    pub(crate) async fn stats(&self) -> Stats {
        Stats::parse(&self.admin("/stats/prometheus").await)
    }

    /// The sum of a metric over all samples that carry these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.stats().await.sum(name, labels)
    }

    /// Waits for a metric to get where it should be: a stream ends a little later than its response, and histograms come with the
    /// next flush of statistics, every five seconds unless the bootstrap says otherwise.
    pub(crate) async fn expect_metric(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        let deadline = Instant::now() + Duration::from_secs(8);
        while self.metric(name, labels).await != expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let stats = self.stats().await;
        assert_eq!(stats.sum(name, labels), expected, "{name}{labels:?}; there is:\n{}", stats.ours());
    }

    /// How often a VM of the filter died or was replaced, in all workers.
    pub(crate) async fn vm_reloads(&self) -> f64 {
        let text = self.admin("/stats?filter=vm_reload").await;
        assert!(text.contains("vm_reload_success"), "Envoy counts reloads:\n{text}");
        text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Everything that Envoy and the filter logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("envoy.log")).unwrap_or_default()
    }

    /// The access log, once it has at least `count` lines for which `wanted` holds: those lines.
    pub(crate) async fn access_log(&self, count: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let path = self.home.path().join("access.log");
        eventually("the access log is written", async || {
            let entries: Vec<Entry> = access_log::read(&path).into_iter().filter(&wanted).collect();
            (entries.len() >= count).then_some(entries)
        })
        .await
    }

    /// Replaces the listeners by discovery.
    pub(crate) fn publish(&self, listeners: &[Listener]) {
        bootstrap::publish(self.home.path(), listeners);
    }

    /// Waits until a counter of the admin interface has reached `value`.
    pub(crate) async fn reaches(&self, counter: &str, value: f64) {
        eventually(&format!("{counter} reaches {value}"), async || {
            (self.metric(counter, &[]).await >= value).then_some(())
        })
        .await;
    }

    /// The resident memory of the process, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel tells its size");
        let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        kibibytes * 1024
    }

    /// The processor time that the process has used, to the nanosecond.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process())).expect("the process lives");
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        tasks.filter_map(of_task).sum()
    }

    /// Asserts that no worker is left out, or a scenario about workers would show nothing.
    async fn assert_every_worker_serves(&self) {
        for worker in 0..self.workers {
            let counter = format!("worker_{worker}.downstream_cx_total");
            let text = self.admin(&format!("/stats?filter={counter}")).await;
            let served = text.lines().any(|line| line.starts_with("listener.main.") && !line.ends_with(": 0"));
            assert!(served, "worker {worker} has no connection:\n{text}");
        }
    }

    fn assert_alive(&self) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process())).unwrap_or_default();
        // The state stands behind the program's name; `Z` is a process that ended.
        let ended = stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'));
        assert!(!ended, "Envoy ended at once");
    }

    async fn admin_address(&self) -> SocketAddr {
        let path = self.home.path().join("admin.txt");
        eventually("Envoy tells its admin address", async || {
            self.assert_alive();
            fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
        .await
    }

    async fn bound_listeners(&self) -> Vec<(String, SocketAddr)> {
        let text = self.admin("/listeners?format=json").await;
        let listing: Value = serde_json::from_str(&text).expect("listeners are JSON");
        let listeners = listing["listener_statuses"].as_array().expect("Envoy listens");
        listeners
            .iter()
            .map(|listener| {
                let address = &listener["local_address"]["socket_address"];
                let port = address["port_value"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
                let name = listener["name"].as_str().expect("listeners have names").to_owned();
                (name, SocketAddr::from(([127, 0, 0, 1], port)))
            })
            .collect()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the end of Envoy's log ---\n{}", tail(&self.log(), 60));
        }
    }
}

/// Runs `envoy --mode validate` on a bootstrap.
pub(crate) fn validate(bootstrap: &Bootstrap) -> Output {
    let home = TempDir::new().expect("a folder for Envoy");
    bootstrap.write(home.path());
    run_validation(&home.path().join("bootstrap.json"))
}

fn run_validation(path: &Path) -> Output {
    Command::new(tool::envoy())
        .args(["--mode", "validate", "--service-node", "test", "--service-cluster", "test", "-c"])
        .arg(path)
        .output()
        .expect("Envoy can be started")
}

/// Polls until there is an answer, and fails the test when there is none in time.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
