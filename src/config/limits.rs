//! `[limits]`: what one client may cost the gate before a request of it is understood.

use std::time::Duration;

use super::keys::Keys;

const SECOND: Duration = Duration::from_secs(1);

/// Limits of every listener for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Most bytes of a request's head. Default 32 KiB: the longest Entra bearer tokens seen take a few KiB, and other
    /// servers stop at 8 to 64.
    pub header_size: u64,
    /// Most header lines. Default 100: npm and NuGet send fewer than 20.
    pub headers: usize,
    /// Most bytes of a request line. Default 8 KiB, what RFC 9112 §3 asks for at least.
    pub request_line: u64,
    /// Most connections at once. Default 10,000: at some 20 KB each, 200 MB.
    pub connections: usize,
    /// Most connections at once from one address. Default 2,000: a build farm behind one address opens up to 15 for
    /// each npm.
    pub connections_per_address: usize,
    /// Longest time from a connection's begin, or a request's first byte, to the end of its head; the TLS handshake
    /// and a PROXY header have as long. Default 10 s: a head is one or two packets.
    pub header_timeout: Duration,
    /// Longest time that a client may be waited for while it sends a body. Default 30 s, three lost packets in a row.
    pub body_timeout: Duration,
    /// Longest time that a client may be waited for while it takes an answer. Default 60 s: a build machine may be
    /// busy unpacking what it got.
    pub send_timeout: Duration,
    /// Bytes per second, in both directions, that a client must keep up while the gate waits for it; less uses up the
    /// two times above. Default 240 B, slower than any line that a build is run over.
    pub min_rate: u64,
    /// How long a connection without a request is kept. Default 60 s, longer than pauses within an install.
    pub idle_timeout: Duration,
    /// Most requests on one HTTP/1.1 connection; then it is closed, and its memory free. Default 10,000: no install
    /// meets it.
    pub requests_per_connection: usize,
}

// === impl ClientLimits ===

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            header_size: 32 << 10,
            headers: 100,
            request_line: 8 << 10,
            connections: 10_000,
            connections_per_address: 2_000,
            header_timeout: 10 * SECOND,
            body_timeout: 30 * SECOND,
            send_timeout: 60 * SECOND,
            min_rate: 240,
            idle_timeout: 60 * SECOND,
            requests_per_connection: 10_000,
        }
    }
}

impl ClientLimits {
    pub(super) fn read(mut keys: Keys<'_>) -> Self {
        let default = Self::default();
        let least = Duration::from_millis(1);
        let limits = Self {
            header_size: keys.size("header_size", default.header_size, 1 << 10),
            // Pingora's parser has room for 256.
            headers: keys.count("headers", default.headers, 8..=256),
            request_line: keys.size("request_line", default.request_line, 256),
            connections: keys.count("connections", default.connections, 1..=1_000_000),
            connections_per_address: keys.count(
                "connections_per_address",
                default.connections_per_address,
                1..=1_000_000,
            ),
            header_timeout: keys.span("header_timeout", default.header_timeout, least),
            body_timeout: keys.span("body_timeout", default.body_timeout, least),
            send_timeout: keys.span("send_timeout", default.send_timeout, least),
            min_rate: keys.size("min_rate", default.min_rate, 1),
            idle_timeout: keys.span("idle_timeout", default.idle_timeout, least),
            requests_per_connection: keys.count(
                "requests_per_connection",
                default.requests_per_connection,
                1..=1_000_000_000,
            ),
        };
        keys.finish();
        limits
    }
}
