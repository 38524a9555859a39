//! What a node does beside its shards, every now and then: it looks how much room its disks have, and writes down who the members are.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::Config;
use crate::handle::Handle;
use crate::identity;
use crate::mail::Mail;
use crate::room;

/// How often: within that nobody writes so much that a reserve of some hundred MiB would be gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Works on a thread of its own, since a hanging disk may not even say how full it is. Ends when it is dropped.
pub(crate) struct Keeper {
    // Its end is what the thread waits for.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Looks at once, and again and again.
    pub fn start(config: Config, node: Handle) -> std::io::Result<Keeper> {
        let mut written = None;
        keep(&config, &node, &mut written);
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
                keep(&config, &node, &mut written);
            }
        };
        let thread = thread::Builder::new().name("drey-keeper".into()).spawn(work)?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        // A thread that a hanging disk holds must not hold up the node's end.
        self.thread.take_if(|thread| thread.is_finished()).map(JoinHandle::join);
    }
}

fn keep(config: &Config, node: &Handle, written: &mut Option<u64>) {
    let room = room::look(config);
    // A mailbox that is full gets the next one.
    node.mailboxes.iter().for_each(|mailbox| drop(mailbox.send(Mail::Room(room))));
    let members = node.shared.roster.members();
    if *written != Some(members.changes()) {
        match identity::save_members(&config.data_dir, &members) {
            Ok(()) => *written = Some(members.changes()),
            // It is tried again.
            Err(error) => tracing::debug!(%error, "cannot write down who the members are"),
        }
    }
}
