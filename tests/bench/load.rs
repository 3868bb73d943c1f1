//! The requests, and the load generator that sends them: h2load, speaking HTTP/1.1.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::variant::Status;

/// The path of every request: that of the operation `read-item`.
const PATH: &str = "/api/v1/items/4711?lang=en";

/// What a browser sends through a mesh, and who is asking.
const HEADERS: [&str; 12] = [
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.7,de;q=0.3",
    "accept-encoding: gzip, deflate, br, zstd",
    "referer: https://shop.example.com/items?page=2",
    "cookie: session=5f1d7a84c3b94d0f8a3e; theme=dark",
    "authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0NzExIn0.Vf0nYnJ7r6pIh0bJ4oSgQ2lNw8oG3h1kq5u9",
    "x-user-id: 8c1f2f5e",
    "x-forwarded-for: 203.0.113.7",
    "x-request-id: 0b5c0e0e-6a5b-4e0e-9d53-3f1d7a84c3b9",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "sec-fetch-mode: navigate",
];

/// Where requests go, and what they must be answered with.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) status: Status,
}

impl Target {
    /// Sends so many requests over so many connections, each as soon as the one before it is answered. Returns how long
    /// that took.
    pub(crate) fn burst(self, requests: u32, connections: u32) -> Duration {
        let report = self.run(requests, connections, &[]);
        let time = report.split("finished in ").nth(1).and_then(|rest| rest.split(',').next());
        time.and_then(duration).expect("h2load tells how long it took")
    }

    /// Sends a request on each of so many connections at a steady pace, `rate` a second in all. Returns how long each
    /// took from being sent until its whole answer was there.
    pub(crate) fn paced(self, requests: u32, connections: u32, rate: u32) -> Vec<Duration> {
        let home = TempDir::new().expect("a folder for the log");
        let log = home.path().join("requests");
        let pace = format!("--rps={}", rate / connections);
        self.run(requests, connections, &[&pace, &format!("--log-file={}", log.display())]);
        let log = fs::read_to_string(log).expect("h2load writes its log");
        // Start, status and microseconds.
        let micros = log.lines().filter_map(|line| line.rsplit('\t').next()?.parse().ok());
        let times: Vec<Duration> = micros.map(Duration::from_micros).collect();
        assert_eq!(times.len(), requests as usize, "h2load logs every request");
        times
    }

    /// What h2load says.
    fn run(self, requests: u32, connections: u32, options: &[&str]) -> String {
        let output = Command::new(program())
            .args(["--h1", "--threads=1", &format!("--requests={requests}"), &format!("--clients={connections}")])
            .args(HEADERS.iter().map(|header| format!("--header={header}")))
            .args(options)
            .arg(format!("http://{}{PATH}", self.address))
            .output()
            .expect("h2load can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted = match self.status {
            Status::Ok => format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx"),
            Status::Refused => format!("status codes: 0 2xx, 0 3xx, {requests} 4xx, 0 5xx"),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&wanted), "not every request was answered as it should be:\n{text}{errors}");
        text.into_owned()
    }
}

/// `65.07ms` or `4.50s`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// The load generator: `$H2LOAD`.
pub(crate) fn program() -> PathBuf {
    env::var_os("H2LOAD").expect("$H2LOAD names h2load: run `./build.sh bench`").into()
}
