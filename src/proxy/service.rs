//! The edge as a Pingora application, and what one HTTP/2 connection may do there.

use std::sync::Arc;

use pingora::{
    apps::HttpServerOptions, protocols::http::v2::server::H2Options, proxy::HttpProxy,
    server::configuration::ServerConf,
};

use super::Edge;
use crate::config::ClientLimits;

/// Most requests at once on one HTTP/2 connection: what RFC 9113 §6.5.2 asks for at least.
const STREAMS: u32 = 100;
/// Streams that a client may open and reset before its connection is closed: those that it means come to few, and many
/// are an attack (CVE-2023-44487).
const RESETS: usize = 20;
/// Streams that the gate itself may reset for a client's mistakes, likewise.
const LOCAL_RESETS: usize = 128;

/// The edge as Pingora runs it.
pub fn app(edge: Edge, limits: &ClientLimits, conf: &Arc<ServerConf>) -> Arc<HttpProxy<Edge>> {
    let mut proxy = pingora::proxy::http_proxy(conf, edge);
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS));
    proxy.h2_options = Some(h2);
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(limits.idle_timeout);
    proxy.server_options = Some(options);
    Arc::new(proxy)
}
