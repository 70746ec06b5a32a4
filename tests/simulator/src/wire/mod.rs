//! The wire: sockets, TLS, HTTP/1.1 framing, and everything that can be done wrong with them.
//!
//! Heads and bodies are written byte by byte here instead of by an HTTP library, so that every fault is possible.

pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod request;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod transmit;
