//! Writes gathered into few: the head of an answer waits for what follows it, and both go to the system in one call.
//!
//! Unlike `tokio::io::BufWriter`, which writes out what waits before it passes a larger piece on, this hands both over
//! together, without copying the piece.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// A stream whose small writes wait for the next larger one, or for a flush.
pub struct Gather<S> {
    stream: S,
    /// What waits.
    held: Vec<u8>,
    /// How much of it, from its front, was written already.
    written: usize,
    most: usize,
}

// === impl Gather ===

impl<S> Gather<S> {
    /// Lets at most `most` bytes wait.
    pub fn new(stream: S, most: usize) -> Self {
        Self { stream, held: Vec::new(), written: 0, most }
    }

    /// The stream, for what does not concern writing.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The same.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What waits.
    pub fn waiting(&self) -> &[u8] {
        &self.held[self.written..]
    }

    /// Takes note that so many bytes were written, first of what waits; how many of them were behind that.
    fn advance(&mut self, length: usize) -> usize {
        let waiting = self.held.len() - self.written;
        if length < waiting {
            self.written += length;
            return 0;
        }
        self.held.clear();
        self.written = 0;
        length - waiting
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting().is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write(context, &self.held[self.written..]))?;
            self.advance(some(written)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.waiting().len() + bytes.len() <= this.most {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let stream = Pin::new(&mut this.stream);
            if this.held.is_empty() {
                return stream.poll_write(context, bytes);
            }
            let both = [IoSlice::new(&this.held[this.written..]), IoSlice::new(bytes)];
            let written = some(ready!(stream.poll_write_vectored(context, &both))?)?;
            let behind = this.advance(written);
            if behind > 0 {
                return Poll::Ready(Ok(behind));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that takes nothing never will.
fn some(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, IoSlice},
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncWrite, AsyncWriteExt as _};

    use super::Gather;

    /// Notes each call, and takes at most so many bytes of it.
    struct Sink {
        calls: Vec<Vec<u8>>,
        most: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let most = self.most;
            let call: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(most).collect();
            let length = call.len();
            self.calls.push(call);
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn calls(most: usize, writes: &[&str]) -> Vec<String> {
        let mut gather = Gather::new(Sink { calls: Vec::new(), most }, 8);
        for write in writes {
            gather.write_all(write.as_bytes()).await.unwrap();
        }
        gather.flush().await.unwrap();
        let calls = std::mem::take(&mut gather.get_mut().calls);
        calls.into_iter().map(|call| String::from_utf8(call).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_head_goes_out_with_what_follows_it() {
        assert_eq!(calls(99, &["head", "body-of-some-length"]).await, ["headbody-of-some-length"]);
        assert_eq!(calls(99, &["head", "body"]).await, ["headbody"]);
        assert_eq!(calls(99, &["larger-than-all"]).await, ["larger-than-all"]);
        assert_eq!(calls(99, &["head", "", "body-of-some", "more"]).await, ["headbody-of-some", "more"]);
    }

    #[tokio::test]
    async fn what_the_stream_takes_in_parts_comes_whole_and_in_order() {
        let writes = ["head", "body-of-some-length", "x", "another-body"];
        for most in 1..40 {
            let calls = calls(most, &writes).await;
            assert_eq!(calls.concat(), writes.concat(), "{most}");
            assert!(calls.iter().all(|call| !call.is_empty() && call.len() <= most), "{most}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_takes_nothing_is_an_error() {
        let mut gather = Gather::new(Sink { calls: Vec::new(), most: 0 }, 8);
        gather.write_all(b"head").await.unwrap();
        assert_eq!(gather.waiting(), b"head");
        assert_eq!(gather.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
