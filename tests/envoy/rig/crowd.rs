//! Many clients at once, who come when they like and not when the last was served.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::rig::envoy_process::Envoy;
use crate::rig::wire::{Reply, Wire};

/// Clients on connections of their own. A request takes the connection that was idle longest, so that all workers get
/// their share; without one it opens one.
#[derive(Clone)]
pub(crate) struct Crowd {
    address: SocketAddr,
    idle: Arc<Mutex<VecDeque<Wire>>>,
}

/// A request and what became of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Its place in the order of sending, from 0.
    pub(crate) number: usize,
    /// Just before it was sent.
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
    pub(crate) reply: Reply,
}

impl Crowd {
    /// So many clients, spread over all workers.
    pub(crate) async fn at(envoy: &Envoy, size: usize) -> Self {
        Self { address: envoy.address(), idle: Arc::new(Mutex::new(envoy.wires(size).await.into())) }
    }

    /// Clients that open their connections when they need them.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Arc::default() }
    }

    /// Sends one request, to be awaited or not.
    pub(crate) fn send(&self, number: usize, request: Vec<u8>) -> JoinHandle<Exchange> {
        let crowd = self.clone();
        tokio::spawn(async move {
            let mut wire = crowd.connection().await;
            let sent = Instant::now();
            wire.send(request).await;
            let reply = wire.reply().await;
            let took = sent.elapsed();
            if reply.header("connection") != Some("close") {
                crowd.idle().push_back(wire);
            }
            Exchange { number, sent, took, reply }
        })
    }

    /// Sends all requests at once.
    pub(crate) async fn burst(&self, requests: impl IntoIterator<Item = Vec<u8>>) -> Vec<Exchange> {
        let sent: Vec<_> = (0..).zip(requests).map(|(number, request)| self.send(number, request)).collect();
        all(sent).await
    }

    /// Sends `rate` requests a second for `duration`, whether or not those before them are answered. All the replies.
    pub(crate) async fn steady(
        &self,
        rate: u32,
        duration: Duration,
        request: impl Fn(usize) -> Vec<u8>,
    ) -> Vec<Exchange> {
        let mut beat = interval_at(tokio::time::Instant::now(), Duration::from_secs(1) / rate);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (start, mut sent) = (Instant::now(), Vec::new());
        while start.elapsed() < duration {
            beat.tick().await;
            sent.push(self.send(sent.len(), request(sent.len())));
        }
        all(sent).await
    }

    async fn connection(&self) -> Wire {
        let idle = self.idle().pop_front();
        match idle {
            Some(wire) => wire,
            None => Wire::connect(self.address).await,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Wire>> {
        self.idle.lock().expect("no panic while holding it")
    }
}

/// Waits for all of them.
pub(crate) async fn all(sent: Vec<JoinHandle<Exchange>>) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for exchange in sent {
        exchanges.push(exchange.await.expect("a client gets its answer"));
    }
    exchanges
}

/// How many were answered with this status.
pub(crate) fn count(exchanges: &[Exchange], status: u16) -> usize {
    exchanges.iter().filter(|exchange| exchange.reply.status == status).count()
}
