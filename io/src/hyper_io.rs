//! What hyper needs to serve HTTP/1 and HTTP/2 on an executor: a stream, a way to spawn, and timers.
//!
//! Spawning queues. A spawner that ran each task at once would have every answer leave in a `send` of its own, where
//! the queue lets a connection's task write the answers of a whole turn together.

use std::{
    cell::Cell,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_lite::{AsyncRead, AsyncWrite};
use hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Timer, Write};
use send_wrapper::SendWrapper;

use crate::runtime;

/// The most that one read takes from a socket.
const READ_MAX: usize = 64 << 10;

thread_local! {
    /// Where a read lands before it is copied to hyper's memory, which is not initialised. Used within a call only.
    static LANDING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Adapts a stream of this crate, plain or encrypted, for hyper.
#[derive(Debug)]
pub struct HyperIo<S> {
    stream: S,
}

impl<S> HyperIo<S> {
    /// Adapts `stream`.
    pub fn new(stream: S) -> Self {
        HyperIo { stream }
    }

    /// The stream again, as after an upgrade.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> Read for HyperIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut landing = LANDING.take();
        if landing.is_empty() {
            landing = vec![0; READ_MAX];
        }
        let length = cursor.remaining().min(landing.len());
        let read = Pin::new(&mut self.stream).poll_read(context, &mut landing[..length]);
        if let Poll::Ready(Ok(read)) = read {
            cursor.put_slice(&landing[..read]);
        }
        LANDING.set(landing);
        ready!(read)?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Write for HyperIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }

    /// The stream gathers, which saves hyper from copying small frames, and the kernel from many calls.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

/// Spawns hyper's tasks on the executor that runs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperExecutor;

impl<F> Executor<F> for HyperExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        runtime::spawn(async move {
            future.await;
        });
    }
}

/// hyper's timers, on the executor that runs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HyperSleep { sleep: SendWrapper::new(runtime::sleep(duration)) })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<HyperSleep>() {
            Some(known) => known.get_mut().sleep.reset(deadline.saturating_duration_since(Instant::now())),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// hyper wants its timers to be `Send`, although it polls them where they were made.
struct HyperSleep {
    sleep: SendWrapper<runtime::Sleep>,
}

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.sleep).poll(context)
    }
}

impl Sleep for HyperSleep {}
