//! The client over real sockets, against servers that play a script.

mod repeats;
mod server;
mod service;
mod tls;
mod wire;
mod wrappers;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use self::server::Server;
use super::{
    BodyStream, Http, Service, Target, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse, body,
};
use crate::{
    config::upstream::Upstream as Settings,
    ident::Name,
    throttle::{Asker, Client, Priority},
};

/// Far above what any test needs, so that only a test about a timeout meets one.
const AMPLE: Duration = Duration::from_secs(60);
/// A wait that is meant to run out.
const SHORT: Duration = Duration::from_millis(50);

/// Settings that lead to `server` alone: for both of the service's hosts and for blobs.
fn settings(server: &Server) -> Settings {
    let service = format!("{}/{{org}}", server.url());
    Settings {
        pkgs: service.parse().unwrap(),
        feeds: service.parse().unwrap(),
        blob_hosts: vec![server.url().parse().unwrap()],
        connect_timeout: AMPLE,
        first_byte_timeout: AMPLE,
        idle_timeout: AMPLE,
        ..Settings::default()
    }
}

fn http(server: &Server) -> Http {
    Http::new(&settings(server)).unwrap()
}

fn shared(server: &Server) -> Arc<dyn Upstream> {
    Arc::new(http(server))
}

fn target(path: &str) -> Target {
    Target::Service { service: Service::Pkgs, org: Name::parse("contoso").unwrap(), path: path.to_owned() }
}

fn anybody() -> Asker {
    Asker::always(Client::new(1), Priority::Document)
}

fn get(path: &str) -> UpstreamRequest {
    UpstreamRequest::get(target(path), anybody())
}

async fn whole(response: UpstreamResponse) -> Result<Bytes, UpstreamError> {
    body::read_to_end(response.body, 1 << 20).await
}

async fn text(upstream: &impl Upstream, path: &str) -> Result<Bytes, UpstreamError> {
    whole(upstream.fetch(&get(path)).await?).await
}

/// Reads until the body ends or fails; the bytes that came before.
async fn drained(body: &mut dyn BodyStream) -> (usize, Result<(), UpstreamError>) {
    let mut received = 0;
    loop {
        match body.next().await {
            Ok(Some(bytes)) => received += bytes.len(),
            Ok(None) => return (received, Ok(())),
            Err(error) => return (received, Err(error)),
        }
    }
}
