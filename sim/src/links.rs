//! A node's side of its links to its peers: real handshakes and real frames, one datagram a peer and tick.
//!
//! A link stands while something is heard: every peer says hello every now and then, with a number that grows when its
//! process starts or when it thinks that the link broke. That plays the part of connections; and as a connection ends with the
//! process at its other end, each datagram says for which process of its receiver its frames are, before anything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use drey_core::system::Members;
use drey_core::wire::format::FORMAT;
use drey_core::wire::handshake::{Acquaintances, FIXED_BYTES, HandshakeError, Hello, Standing};
use drey_core::wire::outbox::{Lost, Outbox};
use drey_core::wire::redial::Redial;
use drey_core::wire::{Envelope, frame};
use drey_core::{ClusterId, Incarnation, NodeId};

use crate::operator::hosts_of;
use crate::story::Parcel;

/// Nothing is left unsaid for longer.
const HELLO_EVERY_MS: u64 = 200;
/// A peer that is not heard for so long has no link.
const SILENCE_MS_MAX: u64 = 900;
/// Who is dialed and says nothing is waited for so long.
const CONNECT_MS_MAX: u64 = 2_000;
/// About what handshakes and frames take in a datagram, beside envelopes.
const HEADERS_BYTES: usize = 256;
/// Links of one process are numbered from its start's number times this.
const LINKS_PER_START: u64 = 1 << 20;

/// What a datagram of a peer says.
#[derive(Debug, Default)]
pub struct Heard {
    /// The link to the peer broke, or there is a new one in its place.
    pub down: bool,
    /// A link to the peer stands that did not before.
    pub up: bool,
    /// It is of an older format than one of its ends.
    pub is_of_older: bool,
    /// What came in good order.
    pub frames: Vec<HeardFrame>,
    /// Frames that came too late or twice.
    pub late: u64,
    /// It was not listened to.
    pub refused: u64,
}

/// A frame that came in good order.
#[derive(Debug)]
pub struct HeardFrame {
    /// Its sender's shard.
    pub shard: u32,
    /// All of it.
    pub bytes: Bytes,
    /// What it holds.
    pub envelopes: Vec<Envelope>,
}

/// The links of a process.
pub struct Links {
    own: Hello,
    start: u64,
    /// The members, once the system group's state has told them.
    members: Option<Arc<Members>>,
    peers: BTreeMap<NodeId, Peer>,
    /// The last envelope that was lost.
    lost: Vec<u8>,
    /// The last frames that went out.
    frames: Vec<u8>,
    outbox_bytes_max: usize,
    /// Envelopes that found too much waiting.
    pub crowded_out: u64,
}

struct Peer {
    host: usize,
    up: bool,
    /// While it is: since when.
    up_ms: u64,
    /// While it is not: the next attempt to dial it, and when that is due.
    redial: Redial,
    dial_ms: u64,
    heard_ms: u64,
    said_ms: Option<u64>,
    /// Our number of the link to it.
    link: u64,
    /// The start of the peer's process that its links are numbered from.
    start: u64,
    readers: BTreeMap<u32, frame::FrameReader>,
    /// By our shard.
    out: Vec<Outbox>,
    /// By our shard: the frame that the last envelope went into and its place there; none: it was lost.
    last: Vec<Option<(u64, usize)>>,
}

impl Links {
    /// Links of a process that has just started, the `start`th of its node, with so many shards, of a program that speaks this format.
    pub fn new(
        (cluster, node, incarnation): (ClusterId, NodeId, Incarnation),
        members: &[(NodeId, usize)],
        (shards, format): (u32, u16),
        start: u64,
        outbox_bytes_max: usize,
    ) -> Links {
        let own = Hello {
            format,
            cluster,
            epoch: 0,
            from: node,
            incarnation,
            to: node,
            shard: 0,
            shards,
            link: 0,
            members: 0,
            refused: None,
        };
        let mut links = Links {
            own,
            start,
            members: None,
            peers: BTreeMap::new(),
            lost: Vec::new(),
            frames: Vec::new(),
            outbox_bytes_max,
            crowded_out: 0,
        };
        links.link_to(members);
        links
    }

    /// Links to these and to no others. Answers those whose links were up and are not any more.
    fn link_to(&mut self, members: &[(NodeId, usize)]) -> Vec<NodeId> {
        let mut down = Vec::new();
        self.peers.retain(|&id, peer| {
            let stays = members.contains(&(id, peer.host));
            if !stays && peer.up {
                down.push(id);
            }
            stays
        });
        let own = self.own.from;
        for &(id, host) in members.iter().filter(|(id, _)| *id != own) {
            self.add_peer(id, host);
        }
        down
    }

    fn add_peer(&mut self, id: NodeId, host: usize) {
        let (start, shards, bytes_max) = (self.start, self.own.shards, self.outbox_bytes_max);
        self.peers.entry(id).or_insert_with(|| Peer {
            host,
            up: false,
            up_ms: 0,
            redial: Redial::default(),
            dial_ms: 0,
            heard_ms: 0,
            said_ms: None,
            link: start * LINKS_PER_START,
            start: 0,
            readers: BTreeMap::new(),
            out: (0..shards).map(|_| Outbox::bounded(bytes_max)).collect(),
            last: vec![None; shards as usize],
        });
    }

    /// Learns who the members are. Answers the peers whose links are down for it.
    pub fn meet(&mut self, members: &Arc<Members>) -> Vec<NodeId> {
        self.own.members = members.changes();
        self.members = Some(Arc::clone(members));
        self.link_to(&hosts_of(members))
    }

    fn standing(&self, id: NodeId) -> Standing {
        match &self.members {
            Some(members) => members.standing(id),
            None if self.peers.contains_key(&id) => Standing::Member(None),
            None => Standing::Stranger,
        }
    }

    /// All but this node.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        self.peers.keys().copied()
    }

    /// What the last envelope of a shard to a peer is called, and the peer's host; none: it is lost.
    pub fn last(&self, host: usize, to: NodeId, shard: usize) -> Option<(usize, Parcel)> {
        let peer = self.peers.get(&to)?;
        let (sequence, place) = peer.last[shard]?;
        let (way, shard) = ((host, peer.host), shard as u32);
        Some((peer.host, Parcel::Envelope { way, link: peer.link, shard, sequence, place }))
    }

    /// Takes what a shard sends. It is lost when there is no link, or too much waits for it. Answers its bytes.
    pub fn send(&mut self, to: NodeId, shard: usize, envelope: &Envelope) -> &[u8] {
        let Some(peer) = self.peers.get_mut(&to) else { return encoded(envelope, &mut self.lost) };
        match peer.out[shard].push(envelope) {
            Ok((sequence, bytes)) => {
                let place = match peer.last[shard] {
                    Some((last, place)) if last == sequence => place + 1,
                    _ => 0,
                };
                peer.last[shard] = Some((sequence, place));
                bytes
            }
            Err(lost) => {
                self.crowded_out += u64::from(lost == Lost::Full);
                peer.last[shard] = None;
                encoded(envelope, &mut self.lost)
            }
        }
    }

    /// Reads a peer's datagram. An error means that the peer is not who it should be or speaks nonsense.
    pub fn hear(
        &mut self,
        now_ms: u64,
        (host, datagram): (usize, &Bytes),
        known: &mut Acquaintances,
    ) -> Result<(NodeId, Heard), String> {
        let mut heard = Heard::default();
        let mut from = None;
        let mut rest = datagram.clone();
        let meant_for = u64::from_le_bytes(*rest.first_chunk().ok_or("a datagram is cut short")?);
        rest.advance(size_of_val(&meant_for));
        while !rest.is_empty() {
            let fixed = rest.first_chunk::<FIXED_BYTES>().ok_or("a handshake is cut short")?;
            let length = Hello::length(fixed).map_err(|error| error.to_string())?;
            let hello = rest.split_to(length.min(rest.len()));
            let hello = Hello::decode(&hello).map_err(|error| error.to_string())?;
            let standing = self.standing(hello.from);
            let is_newer = hello.members > self.own.members && standing == Standing::Stranger;
            if is_newer && hello.to == self.own.from {
                self.add_peer(hello.from, host);
            }
            let is_member = is_newer || matches!(standing, Standing::Member(_));
            let is_peer = self.peers.contains_key(&hello.from) && is_member;
            if hello.to != self.own.from || !is_peer {
                // Meant for whoever was on this host before, or from somebody who is no member: not yet, or not any more.
                heard.refused += 1;
                return Ok((hello.from, heard));
            }
            match known.judge(&self.own, standing, &hello) {
                Ok(_) => {}
                Err(HandshakeError::Outcast(_)) => {
                    heard.refused += 1;
                    return Ok((hello.from, heard));
                }
                Err(error) => return Err(error.to_string()),
            }
            from = Some(hello.from);
            let peer = self.peers.get_mut(&hello.from).ok_or("a stranger")?;
            let mut frames = Vec::new();
            while let Some(header) = rest.first_chunk::<{ frame::HEADER_BYTES }>()
                && rest.starts_with(frame::MAGIC)
            {
                let length = frame::length(header).map_err(|error| error.to_string())?;
                frames.push(rest.split_to((frame::HEADER_BYTES + length).min(rest.len())));
            }
            if meant_for != self.start {
                heard.late += frames.len() as u64;
                frames.clear();
            }
            peer.hear(now_ms, (&hello, self.own.common_format(&hello)), frames, &mut heard)?;
        }
        Ok((from.ok_or("an empty datagram")?, heard))
    }

    /// Breaks the link to a peer. False: there is none.
    pub fn break_off(&mut self, now_ms: u64, peer: NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.up) else { return false };
        peer.break_off(now_ms);
        true
    }

    /// Peers that were not heard for too long: their links are down now.
    pub fn silent(&mut self, now_ms: u64) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (&node, peer) in &mut self.peers {
            if peer.up && now_ms > peer.heard_ms + SILENCE_MS_MAX {
                peer.break_off(now_ms);
                silent.push(node);
            }
        }
        silent
    }

    /// Links end with the processes that they lead to, where `refuses` says that nobody listens on a host any more. Answers whose.
    pub fn closed(&mut self, now_ms: u64, refuses: impl Fn(usize) -> Option<bool>) -> Vec<NodeId> {
        let mut closed = Vec::new();
        for (&node, peer) in &mut self.peers {
            if peer.up && refuses(peer.host) == Some(true) {
                peer.break_off(now_ms);
                closed.push(node);
            }
        }
        closed
    }

    /// Dials the peers that are due, of those that no link leads to: `refuses` says whether nobody listens on a host, if that can be
    /// known at all. Answers who is gone.
    pub fn dial(&mut self, now_ms: u64, refuses: impl Fn(usize) -> Option<bool>) -> Vec<NodeId> {
        let mut gone = Vec::new();
        for (&node, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.up) {
            if now_ms < peer.dial_ms {
                continue;
            }
            let (refused, takes_ms) = match refuses(peer.host) {
                Some(refused) => (refused, 0),
                None => (false, CONNECT_MS_MAX),
            };
            let failed = peer.redial.failed(refused);
            peer.dial_ms = now_ms + takes_ms + failed.wait_ms;
            if failed.is_gone {
                gone.push(node);
            }
        }
        gone
    }

    /// The datagrams that are to be sent now.
    pub fn flush(&mut self, now_ms: u64, mut send: impl FnMut(NodeId, usize, Bytes)) {
        for (&to, peer) in &mut self.peers {
            let waiting_bytes: usize = peer.out.iter().map(Outbox::waiting_bytes).sum();
            let mut datagram = Vec::with_capacity(HEADERS_BYTES + waiting_bytes);
            datagram.extend_from_slice(&peer.start.to_le_bytes());
            for (shard, outbox) in peer.out.iter_mut().enumerate() {
                if outbox.waiting_bytes() == 0 {
                    continue;
                }
                let hello = Hello { to, shard: shard as u32, link: peer.link, ..self.own.clone() };
                datagram.extend_from_slice(&hello.encode());
                outbox.take(&mut self.frames);
                datagram.extend_from_slice(&self.frames);
            }
            let says_nothing = datagram.len() == size_of_val(&peer.start);
            if says_nothing && peer.said_ms.is_none_or(|said_ms| now_ms >= said_ms + HELLO_EVERY_MS) {
                datagram.extend_from_slice(&Hello { to, link: peer.link, ..self.own.clone() }.encode());
            }
            if datagram.len() > size_of_val(&peer.start) {
                peer.said_ms = Some(now_ms);
                send(to, peer.host, datagram.into());
            }
        }
    }
}

fn encoded<'a>(envelope: &Envelope, out: &'a mut Vec<u8>) -> &'a [u8] {
    out.clear();
    frame::encode_envelope(envelope, out);
    out
}

impl HeardFrame {
    /// What its envelope at a place was called when it was sent.
    pub fn parcel(&self, way: (usize, usize), place: usize) -> Option<Parcel> {
        let (link, sequence) = frame::link_and_sequence(self.bytes.first_chunk()?);
        Some(Parcel::Envelope { way, link, shard: self.shard, sequence, place })
    }
}

impl Peer {
    fn hear(
        &mut self,
        now_ms: u64,
        (hello, format): (&Hello, u16),
        frames: Vec<Bytes>,
        heard: &mut Heard,
    ) -> Result<(), String> {
        let start = hello.link / LINKS_PER_START;
        if start < self.start {
            // Of a process that is gone.
            heard.late += frames.len() as u64;
            return Ok(());
        }
        if start > self.start {
            if self.up {
                self.break_off(now_ms);
                heard.down = true;
            }
            self.readers.clear();
            self.start = start;
        }
        self.heard_ms = now_ms;
        if !self.up {
            (self.up, self.up_ms) = (true, now_ms);
            self.out.iter_mut().for_each(|outbox| outbox.up(self.link, format));
            heard.up = true;
            heard.is_of_older = format != FORMAT;
        }
        let reader = self.readers.entry(hello.shard).or_insert_with(|| frame::FrameReader::of(format));
        for frame in frames {
            match reader.read(frame.clone()).map_err(|error| error.to_string())? {
                Some(envelopes) => heard.frames.push(HeardFrame { shard: hello.shard, bytes: frame, envelopes }),
                None => heard.late += 1,
            }
        }
        Ok(())
    }

    fn break_off(&mut self, now_ms: u64) {
        self.up = false;
        self.dial_ms = now_ms + self.redial.broke(now_ms - self.up_ms);
        self.link += 1;
        self.out.iter_mut().for_each(Outbox::down);
        self.last.fill(None);
    }
}
