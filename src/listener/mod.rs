//! Listeners for clients: from an accepted socket to requests that Pingora can take as they are.
//!
//! The accept loop is our own, because what is wanted before Pingora sees a byte has no place in its: limits on
//! connections, heads and time, and a strict reading of where each request ends. Pingora's parser is lenient where the
//! standard lets it be; what it is given here leaves nothing to be lenient about. And what is at hand in memory is answered
//! before there is a session ([`FastPath`]).

mod accept;
mod chunks;
mod connection;
mod dating;
mod facts;
mod fast_path;
mod framing;
mod gather;
mod head;
mod memory_file;
mod messages;
mod proxy_protocol;
mod room;
mod streams;
mod tls;
mod transport;
mod uploading;

pub use accept::{Door, serve};
pub use facts::{Asker, Facts};
pub use fast_path::{Answer, Body, FastPath};
pub use framing::{FramingError, TOO_LARGE};
pub use head::is_authority;
pub use memory_file::MemoryFile;
pub use room::{Room, RoomMetrics, client_of};
pub use tls::{Certificates, TlsError};
