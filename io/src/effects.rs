//! What a shard wants done, done: the log through io_uring, the store through its thread, peers through their links.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use drey_core::log::{BLOCK_BYTES, LogConfig, LogWrite, SegmentId};
use drey_core::request::{Command, Operation};
use drey_core::storage::StorageJob;
use drey_core::system::Members;
use drey_core::{Effects, Event, Input, NodeId, Output, Room, RoomLevel, Ticket};

use crate::log_files::{LogDirectory, Segment};
use crate::mail::Mail;
use crate::peer_link::PeerLink;
use crate::runtime;
use crate::shard_handle::ShardHandle;
use crate::shared::Ending;

/// How long to wait before a segment that could not be made (a full disk) is tried again.
const PREPARE_RETRY: Duration = Duration::from_millis(500);

const SUBMIT_TIMEOUT_MS: u64 = 2_000;

/// Performs one shard's outputs.
pub(crate) struct ShardEffects {
    pub handle: Rc<ShardHandle>,
    pub links: BTreeMap<NodeId, Rc<PeerLink>>,
    pub storage: mpsc::Sender<StorageJob>,
    pub log_directory: LogDirectory,
    pub log_config: LogConfig,
    pub segments: Rc<RefCell<HashMap<SegmentId, Segment>>>,
    /// Segments of earlier epochs, for whichever shard is the last to need them.
    pub earlier_segments: Vec<SegmentId>,
}

impl Effects for ShardEffects {
    fn perform(&mut self, output: Output) {
        match output {
            Output::WriteLog(ticket, write) => self.write_log(ticket, &write),
            Output::PrepareSegment(segment) => self.prepare(segment),
            Output::ReleaseSegment(segment) => self.release(vec![segment]),
            Output::ReleaseEarlierEpochs => {
                if self.handle.node.shared.need_earlier_epochs.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.release(self.earlier_segments.clone());
                }
            }
            Output::Send(peer, envelope) => {
                if let Some(link) = self.links.get(&peer) {
                    link.send(&envelope, &self.handle.node.shared);
                }
            }
            Output::Storage(job) => {
                // The thread ends before the executor only when the node stops.
                let _ = self.storage.send(job);
            }
            Output::Members(members) => self.tell_members(members),
            Output::Link(members) => self.link(&members),
            Output::Submit(command) => self.submit(command),
            Output::Wake(after_ms) => {
                let handle = Rc::clone(&self.handle);
                runtime::spawn(async move {
                    runtime::sleep(Duration::from_millis(after_ms)).await;
                    handle.push(Input::Tick);
                });
            }
            Output::Reply(id, answer) => self.handle.answer(id, answer),
            Output::Report(event) => self.report(&event),
        }
    }
}

impl ShardEffects {
    /// The turn has ended.
    pub fn flush(&self) {
        self.links.values().for_each(|link| link.flush(&self.handle.node.shared));
    }

    /// Tells all shards who the members are.
    fn tell_members(&self, members: Arc<Members>) {
        self.handle.node.shared.roster.learn(Arc::clone(&members));
        for (shard, mailbox) in self.handle.node.mailboxes.iter().enumerate() {
            if shard == self.handle.shard.0 as usize {
                self.handle.push(Input::Members(Arc::clone(&members)));
                continue;
            }
            let (mailbox, members) = (mailbox.clone(), Arc::clone(&members));
            runtime::spawn(async move {
                // A closed mailbox means that the node is stopping.
                let _ = mailbox.send_when_free(Mail::Members(members)).await;
            });
        }
    }

    /// Links to all members but this one, and to nobody else; those that are gone are not listened to any more.
    pub fn link(&mut self, members: &Members) {
        let own = NodeId(self.handle.node.shared.identity.node);
        let wanted =
            |id: NodeId, link: &PeerLink| members.get(id).is_some_and(|member| member.address == link.address());
        let gone: Vec<NodeId> = self.links.iter().filter(|(id, link)| !wanted(**id, link)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(link) = self.links.remove(&id) {
                link.end(&self.handle);
            }
        }
        for member in members.iter().filter(|member| member.id != own) {
            let link = || PeerLink::start(Rc::clone(&self.handle), member.clone());
            self.links.entry(member.id).or_insert_with(link);
        }
        self.handle
            .listeners
            .borrow()
            .iter()
            .filter(|(from, _)| members.is_gone(*from))
            .for_each(|(_, stop)| stop.notify());
    }

    /// A write that nobody waits for.
    fn submit(&self, command: Command) {
        let handle = Rc::clone(&self.handle);
        runtime::spawn(async move {
            if let Err(error) = handle.call(Operation::Write(command), SUBMIT_TIMEOUT_MS).await {
                tracing::debug!(%error, "a write of this node's own failed, and will be made again");
            }
        });
    }

    fn write_log(&self, ticket: Ticket, write: &LogWrite) {
        let handle = Rc::clone(&self.handle);
        let Some(segment) = self.segments.borrow().get(&write.segment).cloned() else {
            return handle.push(Input::LogFailed(ticket, format!("segment {:?} is not open", write.segment)));
        };
        let written = segment.write(write.offset, write.len(), |buffer| write.encode_into(buffer));
        runtime::spawn(async move {
            handle.push(match written.await {
                Ok(()) => Input::LogSynced(ticket),
                Err(error) => Input::LogFailed(ticket, error.to_string()),
            });
        });
    }

    fn prepare(&self, id: SegmentId) {
        let (handle, directory) = (Rc::clone(&self.handle), self.log_directory.clone());
        let segments = Rc::clone(&self.segments);
        let mut header = vec![0; BLOCK_BYTES];
        self.log_config.header(id).encode_into(&mut header);
        runtime::spawn(async move {
            let segment = loop {
                match directory.create(&id.to_string(), header.clone()).await {
                    Ok(segment) => break segment,
                    Err(error) => tracing::error!(%error, "cannot make a log segment"),
                }
                runtime::sleep(PREPARE_RETRY).await;
            };
            segments.borrow_mut().insert(id, segment);
            handle.push(Input::SegmentReady(id));
        });
    }

    fn release(&self, ids: Vec<SegmentId>) {
        let directory = self.log_directory.clone();
        ids.iter().for_each(|id| drop(self.segments.borrow_mut().remove(id)));
        runtime::spawn(async move {
            for id in ids {
                if let Err(error) = directory.release(&id.to_string()).await {
                    tracing::warn!(%error, "cannot release a log segment");
                }
            }
        });
    }

    fn report(&self, event: &Event) {
        let shard = self.handle.shard.0;
        match event {
            Event::Failed(why) => {
                tracing::error!(shard, why, "the shard serves no more");
                self.handle.node.shared.end(Ending::Failed(why.clone()));
                self.handle.arrived.notify();
            }
            Event::Damaged(why) => {
                tracing::error!(shard, why, "what is on disk is not what was written");
                self.handle.node.shared.end(Ending::Damaged(why.clone()));
                self.handle.arrived.notify();
            }
            Event::FetchesAnew(group) => {
                tracing::error!(
                    shard,
                    group = group.0,
                    "the group's state here is not what a majority has: it is fetched anew from the leader"
                );
            }
            Event::ReplicasDiffer { group, index, replicas, majority } => {
                let consequence = match majority {
                    true => "a majority agrees on another one",
                    false => {
                        "no majority agrees, so that nobody knows which is right: compare them with a backup, and remove what is wrong"
                    }
                };
                tracing::error!(
                    shard,
                    group = group.0,
                    index = index.0,
                    ?replicas,
                    "replicas hold different states: {consequence}"
                );
            }
            Event::DiskHangs => {
                tracing::warn!(
                    shard,
                    "the log's disk hangs: nothing was synced for an election timeout. Others lead meanwhile, where they can"
                );
            }
            Event::RoomChanged(room, level) => room_changed(shard, *room, *level),
            Event::DiskBack(waited_ms) => tracing::warn!(shard, waited_ms, "the log's disk goes on"),
            Event::Configured(group, voters, learners) => {
                tracing::info!(shard, group = group.0, ?voters, ?learners, "has a new configuration");
            }
            Event::RefusedMessage(from, group, why) => {
                tracing::warn!(shard, from = from.0, group = group.0, why, "refused a peer's message");
            }
            Event::BecameLeader(group, term) => tracing::info!(shard, group = group.0, term = term.0, "leads"),
            Event::Follows(group, term, leader) => {
                tracing::debug!(
                    shard,
                    group = group.0,
                    term = term.0,
                    leader = leader.map(|leader| leader.0),
                    "follows"
                );
            }
            Event::SnapshotSending(group, peer, index) => {
                tracing::info!(shard, group = group.0, peer = peer.0, index = index.0, "sends a snapshot");
            }
            Event::SnapshotGoesOn(group, peer, index) => {
                tracing::info!(shard, group = group.0, peer = peer.0, index = index.0, "goes on sending a snapshot");
            }
            Event::SnapshotSent(group, peer, index, bytes, took_ms) => {
                tracing::info!(
                    shard,
                    group = group.0,
                    peer = peer.0,
                    index = index.0,
                    bytes,
                    took_ms,
                    "sent a snapshot"
                );
            }
            Event::SnapshotInstalled(group, index) => {
                tracing::info!(shard, group = group.0, index = index.0, "installed a snapshot");
            }
            Event::ClockJumped { group, from_ms, to_ms } => {
                let hours = (to_ms - from_ms) / 3_600_000;
                tracing::warn!(
                    shard,
                    group = group.0,
                    from_ms,
                    to_ms,
                    "the group's clock moved forward by more than {hours} h: nobody had counted the time since it was stamped \
                     last, and most of the wall clocks say so. Keys whose time to live ended meanwhile are gone"
                );
            }
            Event::Truncated(group, index) => {
                tracing::debug!(shard, group = group.0, index = index.0, "truncated the log");
            }
        }
    }
}

fn room_changed(shard: u32, Room { free_bytes, reserve_bytes }: Room, level: RoomLevel) {
    if shard > 0 {
        // All shards hear of it, and one line is enough.
        return;
    }
    match level {
        RoomLevel::Enough => {
            tracing::warn!(free_bytes, reserve_bytes, "the disk has room again: all is written as before")
        }
        RoomLevel::Low => tracing::error!(
            free_bytes,
            reserve_bytes,
            "the disk is nearly full: what is led here others should lead, and writes that need room are refused where no majority has \
             any. Make room, or remove what is not needed"
        ),
        RoomLevel::Exhausted => tracing::error!(
            free_bytes,
            reserve_bytes,
            "the disk is full: nothing is taken from the others until there is room, and nothing that is led here is written"
        ),
    }
}
