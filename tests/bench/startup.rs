//! How long a proxy takes to apply a change: from the moment in which a new listener is published in a file until a new
//! connection is served by it. Envoy has one core for all of it, as its workers have at other times.
//!
//! The listener before the change answers by itself, the one after it forwards; so the answer shows which one it was.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench;
use crate::plan::Plan;
use crate::policy;
use crate::results::Start;
use crate::rig::bootstrap::Bootstrap;
use crate::rig::cluster::Cluster;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::upstream::BODY;
use crate::variant;

/// Between two questions: how finely the time is told.
const PAUSE: Duration = Duration::from_millis(1);

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A change, by the filters before and after it.
struct Change {
    name: &'static str,
    before: Option<Filter>,
    after: Option<Filter>,
}

/// What a change took.
struct Taken {
    /// On the clock. Says something only where nothing else runs.
    elapsed: Duration,
    /// Of the processor.
    processor: Duration,
}

/// The processor time that the first answer through this filter takes. It grows a little where other programs use the same
/// cores, elapsed time grows with them.
pub(crate) async fn processor_time(after: Option<Filter>, cluster: &Cluster) -> Duration {
    apply(&Change { name: "from no filter", before: None, after }, cluster).await.processor
}

/// Each change in turn, as often as planned, each time in a new Envoy.
pub(crate) async fn measure(cluster: &Cluster, plan: &Plan) -> Vec<Start> {
    let changes = changes();
    let mut starts: Vec<Start> =
        changes.iter().map(|change| Start { name: change.name.to_owned(), ms: Vec::new() }).collect();
    for _ in 0..plan.repetitions {
        for (change, start) in changes.iter().zip(&mut starts) {
            let millis = apply(change, cluster).await.elapsed.as_secs_f64() * 1000.0;
            start.ms.push((millis * 10.0).round() / 10.0);
        }
    }
    starts
}

fn changes() -> Vec<Change> {
    let nothing = || Filter::new(&json!({}));
    let many = || Filter::new(&policy::many_operations());
    vec![
        Change { name: "a listener without a filter", before: None, after: None },
        Change { name: "the same with the empty SDK filter", before: None, after: Some(variant::empty_filter()) },
        Change { name: "with Outrigger and an empty configuration", before: None, after: Some(nothing()) },
        Change { name: "with Outrigger and 200 operations", before: None, after: Some(many()) },
        Change {
            name: "Outrigger already there: from an empty configuration to 200 operations",
            before: Some(nothing()),
            after: Some(many()),
        },
    ]
}

async fn apply(change: &Change, cluster: &Cluster) -> Taken {
    // Envoy must know the upstream from the start, though nobody asks for it yet.
    let before = with(Listener::direct().quiet(), change.before.as_ref()).route("/never", cluster.clone());
    let after = with(Listener::to(cluster.clone()).quiet(), change.after.as_ref());
    let bootstrap = Bootstrap::new(before).concurrency(1).by_discovery();
    let envoy = bench::start(bootstrap).await;
    assert!(!forwards(envoy.address()), "the first listener answers by itself");
    let (start, used) = (Instant::now(), envoy.processor_time());
    envoy.publish(&[after]);
    while !forwards(envoy.address()) {
        assert!(start.elapsed() < PATIENCE, "the change was not applied:\n{}", envoy.log());
        thread::sleep(PAUSE);
    }
    Taken { elapsed: start.elapsed(), processor: envoy.processor_time().saturating_sub(used) }
}

fn with(listener: Listener, filter: Option<&Filter>) -> Listener {
    match filter {
        Some(filter) => listener.filter(filter.clone()),
        None => listener,
    }
}

/// Whether a request on a new connection reaches the upstream. Not so if it is answered by the listener before.
fn forwards(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").ok()?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        // Not until the end of the connection: Envoy leaves it to the client to close it, and waits a second for that.
        while !answer.ends_with(BODY.as_bytes()) && !answer.ends_with(b"\r\n\r\nok") {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            answer.extend(buffer.get(..count)?);
        }
        Some(answer.ends_with(BODY.as_bytes()))
    };
    ask().unwrap_or(false)
}
