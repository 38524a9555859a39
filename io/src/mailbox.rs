//! The way into an executor from any other thread: a bounded queue of mail, and a reply that can be awaited on any
//! runtime.
//!
//! A full mailbox refuses; it does not grow. Whoever must not be refused (completions) reserves room elsewhere.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_channel::oneshot;
use futures_lite::Stream;

/// A mailbox for at most `capacity` pieces of mail. The receiver belongs on one executor; senders may be anywhere.
pub fn mailbox<T: 'static>(capacity: usize) -> (Sender<T>, Mailbox<T>) {
    let (sender, receiver) = flume::bounded(capacity);
    (Sender { sender }, Mailbox { arrivals: receiver.clone().into_stream(), receiver })
}

/// Why mail was not taken, with the mail.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// The mailbox is full: try later, or tell the caller that the node is overloaded.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone: its executor has ended.
    #[error("the mailbox is closed")]
    Closed(T),
}

/// Puts mail into a mailbox, from any thread and any runtime.
pub struct Sender<T> {
    sender: flume::Sender<T>,
}

impl<T> Sender<T> {
    /// Sends now or not at all.
    pub fn send(&self, mail: T) -> Result<(), SendError<T>> {
        self.sender.try_send(mail).map_err(|error| match error {
            flume::TrySendError::Full(mail) => SendError::Full(mail),
            flume::TrySendError::Disconnected(mail) => SendError::Closed(mail),
        })
    }

    /// Waits for room, on any runtime. Fails only when the mailbox is closed.
    pub async fn send_when_free(&self, mail: T) -> Result<(), SendError<T>> {
        self.sender.send_async(mail).await.map_err(|flume::SendError(mail)| SendError::Closed(mail))
    }

    /// Waits for room, blocking the thread: never on an executor. Fails only when the mailbox is closed.
    pub fn send_blocking(&self, mail: T) -> Result<(), SendError<T>> {
        self.sender.send(mail).map_err(|flume::SendError(mail)| SendError::Closed(mail))
    }

    /// How much mail waits.
    pub fn len(&self) -> usize {
        self.sender.len()
    }

    /// Whether no mail waits.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { sender: self.sender.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sender").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The receiving end of a mailbox.
pub struct Mailbox<T: 'static> {
    receiver: flume::Receiver<T>,
    arrivals: flume::r#async::RecvStream<'static, T>,
}

impl<T> Mailbox<T> {
    /// The next mail if there is any. For emptying the mailbox at the start of a turn, up to the caller's limit.
    pub fn try_receive(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// The next mail, or none once all senders are gone and the mailbox is empty.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`Self::receive`], for a task that waits for several things.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.arrivals).poll_next(context)
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mailbox").field("len", &self.receiver.len()).finish_non_exhaustive()
    }
}

/// A place for one answer, and the future that waits for it. Both may be on any thread and any runtime.
pub fn reply<T>() -> (ReplySender<T>, Reply<T>) {
    let (sender, receiver) = oneshot::channel();
    (ReplySender { sender }, Reply { receiver })
}

/// Gives the answer.
#[derive(Debug)]
pub struct ReplySender<T> {
    sender: oneshot::Sender<T>,
}

impl<T> ReplySender<T> {
    /// Answers. The answer comes back if nobody waits any more.
    pub fn send(self, answer: T) -> Result<(), T> {
        self.sender.send(answer)
    }

    /// Whether nobody waits any more, so that the work can be left.
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_canceled()
    }
}

/// The answer was never given: its sender was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side is gone")]
pub struct NoReply;

/// Waits for the answer.
#[derive(Debug)]
pub struct Reply<T> {
    receiver: oneshot::Receiver<T>,
}

impl<T> Reply<T> {
    /// Waits, blocking the thread: never on an executor.
    pub fn wait(self) -> Result<T, NoReply> {
        futures_lite::future::block_on(self)
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, NoReply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map_err(|oneshot::Canceled| NoReply)
    }
}
