//! Bodies that the kernel sends from where they lie.
//!
//! A write copies a body into the socket. `sendfile` hands the socket the pages instead, and spares that copy: what nginx
//! does with files. It pays for bodies of some pages; a small one is copied faster than it is handed over, and a large one
//! reaches its receiver faster in few large pieces (`benches/README.md`). The pages belong to a file without a name, in
//! memory (`memfd_create(2)`), one for each body: nothing is ever written to it again, and its pages outlive it for as long
//! as a socket has to send them.

use std::{io, os::fd::AsFd, os::fd::OwnedFd};

use rustix::{
    fs::{MemfdFlags, memfd_create, sendfile},
    io::pwrite,
};

/// Bytes in memory, for sockets without TLS.
#[derive(Debug)]
pub struct MemoryFile {
    file: OwnedFd,
    length: usize,
}

// === impl MemoryFile ===

impl MemoryFile {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// When the system has no such files, or no more descriptors.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let file = memfd_create("feedgate-body", MemfdFlags::CLOEXEC)?;
        let mut written = 0;
        while written < bytes.len() {
            match pwrite(&file, &bytes[written..], written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => written += more,
            }
        }
        Ok(Self { file, length: bytes.len() })
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Sends what `socket` takes now of at most `most` bytes from `offset`.
    pub(super) fn send(&self, socket: impl AsFd, offset: usize, most: usize) -> io::Result<usize> {
        let mut from = offset as u64;
        Ok(sendfile(socket, &self.file, Some(&mut from), most.min(self.length.saturating_sub(offset)))?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use super::MemoryFile;

    #[test]
    fn what_is_sent_stays_whole_when_the_file_goes() {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        sender.set_nonblocking(true).unwrap();
        let file = MemoryFile::new(&bytes).unwrap();
        assert_eq!(file.length(), bytes.len());
        let mut sent = 0;
        while let Ok(more @ 1..) = file.send(&sender, sent, 70_001) {
            sent += more;
        }
        assert!(sent > 0, "nothing was sent");
        assert_eq!(file.send(&sender, bytes.len(), 1).unwrap_or_default(), 0, "behind its end");
        drop((file, sender));
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == bytes[..sent], "{} of {sent} bytes, or others", received.len());
    }
}
