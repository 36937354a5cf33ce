//! A stream that can be made to write one byte at a time. Loses nothing and changes nothing.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::lock;

/// How long a stream waits before each byte that it writes; none: it does not wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<Option<Duration>>>);

impl Pace {
    pub(super) fn set(&self, pause: Option<Duration>) {
        *lock(&self.0) = pause;
    }
}

/// A stream that keeps to a pace.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Pace) -> Self {
        Self {
            stream,
            pace,
            pause: None,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(pause) = *lock(&this.pace.0) else {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        };
        let waiting = this.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
        ready!(waiting.as_mut().poll(context));
        let first = &bytes[..bytes.len().min(1)];
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, first));
        this.pause = None;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
