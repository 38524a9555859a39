//! One executor's part of a node: the turn, for ever, and the tasks that feed it.

use std::rc::Rc;
use std::time::Duration;

use drey_core::{Inbox, Input, Shard, Tick, turn};

use crate::config::ConnectionHandler;
use crate::effects::ShardEffects;
use crate::listener::Connection;
use crate::mail::Mail;
use crate::mailbox::Mailbox;
use crate::node::EndError;
use crate::peer_link;
use crate::runtime;
use crate::shard_handle::ShardHandle;
use crate::shared::Ending;

/// How long a node that stops waits until others lead what it led, and what came in is answered.
const HAND_OVER_MS_MAX: u64 = 1_000;
/// How long a connection may stay silent before it says what it is.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs turns until the node stops. None: as asked. Otherwise why it cannot go on.
pub(crate) async fn run(mut shard: Shard, mut effects: ShardEffects, tick_ms: u64) -> Option<EndError> {
    let handle = Rc::clone(&effects.handle);
    let ticker = {
        let handle = Rc::clone(&handle);
        runtime::spawn(async move {
            loop {
                runtime::sleep(Duration::from_millis(tick_ms)).await;
                handle.push(Input::Tick);
            }
        })
    };
    let mut out = Vec::new();
    let mut inbox = Inbox::default();
    // When the node stops, whatever others may still need of it.
    let mut stop_by_ms = None;
    loop {
        let now = now();
        // Effects may push into the inbox, so that it must not be borrowed while they are performed.
        std::mem::swap(&mut inbox, &mut handle.inbox.borrow_mut());
        turn(&mut shard, now, &mut inbox, &mut out, &mut effects);
        effects.flush();
        if let Some(ending) = handle.node.shared.ending.get() {
            handle.node.begin_stop();
            ticker.cancel();
            return match ending {
                Ending::Left => None,
                Ending::Failed(why) => Some(EndError::Failed(why.clone())),
                Ending::Damaged(why) => Some(EndError::Damaged(why.clone())),
            };
        }
        if handle.stopping.get() {
            if stop_by_ms.is_none() {
                stop_by_ms = Some(now.mono_ms + HAND_OVER_MS_MAX);
                handle.push(Input::HandOver);
            } else if !shard.is_needed() || stop_by_ms.is_some_and(|by_ms| now.mono_ms >= by_ms) {
                ticker.cancel();
                return None;
            }
        }
        handle.arrived.notified().await;
    }
}

/// The time of this turn.
pub(crate) fn now() -> Tick {
    let now = runtime::now();
    Tick { mono_ms: now.mono_ms, wall_ms: now.wall_ms }
}

/// Takes mail into the inbox, until the node stops.
pub(crate) async fn take_mail(
    handle: Rc<ShardHandle>,
    mut mailbox: Mailbox<Mail>,
    on_connection: Option<ConnectionHandler>,
) {
    while let Some(mail) = mailbox.receive().await {
        match mail {
            Mail::Connection(connection) => {
                runtime::spawn(serve(Rc::clone(&handle), connection, on_connection.clone()));
            }
            Mail::Call(operation, timeout_ms, sender) => handle.accept(operation, timeout_ms, sender),
            Mail::Peer(from, envelopes) => {
                envelopes.into_iter().for_each(|envelope| handle.push(Input::Message(from, envelope)));
            }
            Mail::Members(members) => handle.push(Input::Members(members)),
            Mail::Stored(finished) => finished.into_iter().for_each(|done| handle.push(Input::Storage(done))),
            Mail::Room(room) => handle.push(Input::Room(room)),
            Mail::Stop => {
                handle.stopping.set(true);
                handle.arrived.notify();
            }
        }
    }
}

/// Tells by its first bytes what a connection is.
async fn serve(handle: Rc<ShardHandle>, connection: Connection, on_connection: Option<ConnectionHandler>) {
    let Ok(mut stream) = connection.into_stream() else { return };
    let magic = drey_core::wire::handshake::MAGIC;
    let first = async { stream.sniff(magic.len()).await.map(|first| first == magic).ok() };
    let timeout = async {
        runtime::sleep(FIRST_BYTES_TIMEOUT).await;
        None
    };
    match (futures_lite::future::or(first, timeout).await, on_connection) {
        (Some(true), _) => peer_link::receive(handle, stream).await,
        (Some(false), Some(serve)) => serve(handle, stream).await,
        _ => {}
    }
}
