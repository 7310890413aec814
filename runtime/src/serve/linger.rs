//! The end of a connection whose request was answered before all of it had come.
//!
//! A socket that is closed while its caller still sends makes the system reset the connection, and the caller loses
//! the answer that says why. So ours says that it is done, and reads on, for nobody, until the caller is done too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that are read for nobody at once.
const PIECE: usize = 16 << 10;

/// A stream that is shut down in that way where `unread` says so.
pub struct Lingering<S> {
    stream: S,
    unread: Arc<AtomicBool>,
    longest: Duration,
    /// Since we are done; the caller has until then.
    ends: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    /// Waits for a caller's end for `longest` at most.
    pub fn new(stream: S, unread: Arc<AtomicBool>, longest: Duration) -> Self {
        Lingering { stream, unread, longest, ends: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Lingering { stream, unread, longest, ends } = &mut *self;
        let ends = match ends {
            Some(ends) => ends,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                if !unread.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                ends.insert(Box::pin(sleep(*longest)))
            }
        };
        let mut piece = [0; PIECE];
        while ends.as_mut().poll(context).is_pending() {
            let mut piece = ReadBuf::new(&mut piece);
            // Whatever ends it, it is the end.
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
