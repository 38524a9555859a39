//! What is under way between nodes: one queue of frames for each direction, which a test delivers, loses or holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use drey_core::wire::{Envelope, frame};

/// From a node, to a node.
pub type Pair = (u64, u64);

/// The bytes of a turn of one shard.
#[derive(Clone)]
pub struct Frame {
    pub shard: u32,
    pub bytes: Bytes,
}

/// All queues.
#[derive(Default)]
pub struct Network {
    queues: BTreeMap<Pair, VecDeque<Frame>>,
    /// Frames that were sent of each direction and shard, on the present link.
    sequences: BTreeMap<(Pair, u32), u64>,
    links: BTreeMap<Pair, u64>,
    /// What is sent there is lost, and nobody notices.
    blocked: BTreeSet<Pair>,
    held: BTreeSet<Pair>,
    cut: BTreeSet<Pair>,
}

impl Network {
    /// A link in one direction stands anew.
    pub fn connect(&mut self, pair: Pair) {
        *self.links.entry(pair).or_default() += 1;
        self.sequences.retain(|(of, _), _| *of != pair);
        self.cut.remove(&pair);
    }

    /// A link broke: what is under way is lost.
    pub fn disconnect(&mut self, pair: Pair) {
        self.queues.remove(&pair);
        self.cut.insert(pair);
    }

    pub fn connected(&self, pair: Pair) -> bool {
        !self.cut.contains(&pair)
    }

    pub fn send(&mut self, pair: Pair, shard: u32, envelopes: &[Envelope]) {
        if self.blocked.contains(&pair) || self.cut.contains(&pair) {
            return;
        }
        let sequence = self.sequences.entry((pair, shard)).or_default();
        *sequence += 1;
        let link = self.links.get(&pair).copied().unwrap_or_default();
        let mut bytes = Vec::new();
        frame::encode(link, *sequence, envelopes, &mut bytes);
        self.queues.entry(pair).or_default().push_back(Frame { shard, bytes: bytes.into() });
    }

    /// Takes what is under way now, in the order of nodes; or of one direction only, even if that is held.
    pub fn take(&mut self, only: Option<Pair>) -> Vec<(Pair, Frame)> {
        let mut taken = Vec::new();
        for (&pair, queue) in &mut self.queues {
            if only.map_or(!self.held.contains(&pair), |only| only == pair) {
                taken.extend(queue.drain(..).map(|frame| (pair, frame)));
            }
        }
        taken
    }

    /// Loses what is under way in a direction, and says how many frames that was.
    pub fn lose(&mut self, pair: Pair) -> usize {
        self.queues.remove(&pair).map_or(0, |queue| queue.len())
    }

    /// Each frame under way in a direction comes twice.
    pub fn duplicate(&mut self, pair: Pair) -> usize {
        let queue = self.queues.entry(pair).or_default();
        let frames: Vec<Frame> = queue.iter().cloned().collect();
        let count = frames.len();
        queue.extend(frames);
        count
    }

    pub fn hold(&mut self, pair: Pair, held: bool) {
        if held {
            self.held.insert(pair)
        } else {
            self.held.remove(&pair)
        };
    }

    pub fn block(&mut self, pair: Pair) {
        self.blocked.insert(pair);
        self.queues.remove(&pair);
    }

    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    /// How many frames are under way in each direction.
    pub fn under_way(&self) -> impl Iterator<Item = (Pair, usize)> {
        self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(&pair, queue)| (pair, queue.len()))
    }
}
