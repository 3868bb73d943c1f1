//! A real gRPC service behind the proxy: the standard health service with answers by service name.

use std::net::SocketAddr;

use tonic::codegen::tokio_stream::{self, Stream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::rig::cluster::Cluster;

/// A health service. The name that a call asks about decides what it gets:
///
/// * `unavailable` fails with UNAVAILABLE: a check in the response headers, a watch in trailers after a message.
/// * `unknown` fails with NOT_FOUND.
/// * all others are serving.
pub(crate) struct GrpcUpstream {
    address: SocketAddr,
}

impl GrpcUpstream {
    pub(crate) async fn start() -> Self {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = incoming.local_addr().expect("a bound port");
        tokio::spawn(Server::builder().serve_with_incoming(HealthServer::new(Clinic), incoming));
        Self { address }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http2(self.address)
    }
}

struct Clinic;

type Diagnosis = Result<HealthCheckResponse, Status>;

#[tonic::async_trait]
impl Health for Clinic {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        diagnose(&request.get_ref().service).map(Response::new)
    }

    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Diagnosis> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let messages = [Ok(serving()), diagnose(&request.get_ref().service)];
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}

fn diagnose(service: &str) -> Diagnosis {
    match service {
        "unavailable" => Err(Status::unavailable("out of order")),
        "unknown" => Err(Status::not_found("no such service")),
        _ => Ok(serving()),
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}
