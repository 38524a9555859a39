//! A snapshot's way into the log and the store: the intent is written, the store takes it, the end is written. A crash at any
//! point leaves the old state or the new.

use crate::log::{HardState, Record};
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::raft::Message;
use crate::replica::{Replica, Turn};
use crate::storage::{AppliedClock, SnapshotMeta, StorageJob};

/// A snapshot on its way into the store.
pub(crate) struct Install {
    number: u64,
    meta: SnapshotMeta,
    hard_state: Option<HardState>,
    messages: Vec<Message>,
    step: InstallStep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InstallStep {
    /// Until the intent is on disk.
    Intent(u64),
    /// Until the store has it.
    Storing,
    /// Until the end is on disk.
    Done(u64),
}

impl Replica {
    /// Whether Raft holds a snapshot that the store does not have yet.
    pub(crate) fn is_installing(&self) -> bool {
        self.install.is_some() || self.raft.has_new_snapshot()
    }

    /// Raft took a snapshot in: its ready is done when the store has it too.
    pub(crate) fn install(
        &mut self,
        number: u64,
        meta: SnapshotMeta,
        hard_state: Option<HardState>,
        messages: Vec<Message>,
        turn: &mut Turn,
    ) {
        turn.log.push(Record::SnapshotIntent(self.group, meta.clone()));
        if is_on(Mutation::InstallationDoneEarly) {
            turn.log.push(Record::SnapshotDone(self.group, meta.clone()));
        }
        let step = InstallStep::Intent(turn.log.mark());
        self.install = Some(Install { number, meta, hard_state, messages, step });
    }

    /// What is on disk, up to `durable`, lets the next step begin.
    pub(crate) fn go_on_installing(&mut self, durable: u64, turn: &mut Turn) {
        let Some(install) = &mut self.install else { return };
        match install.step {
            InstallStep::Intent(mark) if mark <= durable => {
                install.step = InstallStep::Storing;
                let (group, meta) = (self.group, install.meta.clone());
                turn.out.push(Output::Storage(StorageJob::SnapshotInstall { group, meta }));
            }
            InstallStep::Done(mark) if mark <= durable => {
                let install = self.install.take().expect("looked at just now");
                self.durable_term = self.logged_hard_state.term;
                self.applied = install.meta.index;
                self.receiving.clear();
                self.scrub.replaced();
                self.raft.persisted(install.number);
                self.raft.applied(install.meta.index);
                for message in install.messages {
                    self.send(message, turn);
                }
                turn.out.push(Output::Report(Event::SnapshotInstalled(self.group, install.meta.index)));
            }
            _ => {}
        }
    }

    /// The store has the snapshot, durably.
    pub(crate) fn installed(&mut self, clock: AppliedClock, turn: &mut Turn) {
        let install = self.install.as_mut().expect("asked for by this replica");
        self.clock.saw(install.meta.term, clock.stamp, turn.now);
        self.applied_clock = clock;
        turn.log.push(Record::SnapshotDone(self.group, install.meta.clone()));
        let hard_state = install.hard_state.take().unwrap_or(self.logged_hard_state);
        turn.log.push(Record::HardState(self.group, hard_state));
        install.step = InstallStep::Done(turn.log.mark());
        self.logged_hard_state = hard_state;
        self.logged_mark = turn.log.mark();
        self.purge = true;
    }
}
