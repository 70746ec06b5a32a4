//! The bytes below HTTP: a socket, or TLS on one.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd as _, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pingora::protocols::tls::SslDigest;
use rustix::net::{SendFlags, send};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    memory_file::MemoryFile,
    tls::{Certificates, H2},
};

/// A connection's bytes.
pub enum Transport {
    /// As they are.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Transport ===

impl Transport {
    /// With the handshake, if there is a certificate.
    pub async fn open(stream: TcpStream, certificates: Option<&Certificates>) -> io::Result<Self> {
        let Some(certificates) = certificates else { return Ok(Self::Plain(stream)) };
        let stream = TlsAcceptor::from(certificates.current()).accept(stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether client and listener agreed on HTTP/2.
    pub fn is_h2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(H2))
    }

    /// What Pingora wants to know of TLS; none without it.
    pub fn digest(&self) -> Option<Arc<SslDigest>> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let cipher = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let version = session.protocol_version().map(|version| format!("{version:?}"));
        let (cipher, version) = (cipher.unwrap_or_default(), version.unwrap_or_default());
        Some(Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())))
    }

    /// Writes what a plain socket takes without waiting.
    pub fn write_now(&self, bytes: &[u8]) {
        if let Self::Plain(stream) = self
            && !bytes.is_empty()
        {
            // A client that has left, or takes nothing, is not waited for.
            let _ = stream.try_write(bytes);
        }
    }

    /// Sends the rest of a head, which waits for what follows it, or else at most `most` bytes of `file` from `offset`.
    pub fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        head: &[u8],
        file: &MemoryFile,
        offset: usize,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let Self::Plain(stream) = self else {
            return Poll::Ready(Err(io::Error::other("a file of the kernel's cannot be sent within TLS")));
        };
        loop {
            ready!(stream.poll_write_ready(context))?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                if head.is_empty() {
                    return file.send(&*stream, offset, most);
                }
                Ok(send(&*stream, head, SendFlags::MORE | SendFlags::NOSIGNAL)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// The socket's number.
    pub fn fd(&self) -> RawFd {
        match self {
            Self::Plain(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
