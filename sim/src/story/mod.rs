//! What happened in a run, for people: who did what, when, and to whom, each in a few words. A run that nobody reads tells nothing,
//! and builds no event: what is told is a closure, called only when somebody listens.
//!
//! [`columns`] puts the last events before a failure side by side, [`page`] a whole run on a page for a browser.

pub mod columns;
pub mod page;
pub mod words;

use std::collections::{BTreeMap, VecDeque};

use drey_core::GroupId;

/// What an event is about: what readers choose by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A heartbeat or its answer.
    Heartbeat,
    /// A vote, or a question for one.
    Vote,
    /// Another message between replicas.
    Message,
    /// What a client asks, and what it is told.
    Client,
    /// Who leads.
    Leader,
    /// Entries are committed.
    Commit,
    /// They are applied.
    Apply,
    /// Log writes.
    Log,
    /// What else a storage thread does.
    Store,
    /// Who the members are.
    Members,
    /// Links between nodes.
    Link,
    /// Processes begin and end.
    Process,
    /// What goes wrong.
    Fault,
    /// A law is broken.
    Broken,
}

impl Topic {
    /// All of them.
    pub const ALL: &'static [Topic] = &[
        Topic::Heartbeat,
        Topic::Vote,
        Topic::Message,
        Topic::Client,
        Topic::Leader,
        Topic::Commit,
        Topic::Apply,
        Topic::Log,
        Topic::Store,
        Topic::Members,
        Topic::Link,
        Topic::Process,
        Topic::Fault,
        Topic::Broken,
    ];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Heartbeat => "heartbeats",
            Topic::Vote => "votes",
            Topic::Message => "messages",
            Topic::Client => "clients",
            Topic::Leader => "leaders",
            Topic::Commit => "commits",
            Topic::Apply => "applies",
            Topic::Log => "log writes",
            Topic::Store => "store",
            Topic::Members => "members",
            Topic::Link => "links",
            Topic::Process => "processes",
            Topic::Fault => "faults",
            Topic::Broken => "broken laws",
        }
    }
}

/// Names what is sent, so that its end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parcel {
    /// An envelope of a frame: sending and receiving host, link, shard and frame, and its place there.
    Envelope {
        /// Sending and receiving host.
        way: (usize, usize),
        /// The sender's number of the link.
        link: u64,
        /// The sender's shard.
        shard: u32,
        /// The frame.
        sequence: u64,
        /// The envelope's place in it.
        place: usize,
    },
    /// A request on its way to a node.
    Request(u64),
    /// An answer on its way to the clients.
    Answer(u64),
}

/// What an event did beside what its words say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing.
    Said,
    /// It sent this to a host.
    Sent(usize, Parcel),
    /// It got this from a host.
    Got(usize, Parcel),
    /// A process began, of a node with this name.
    Up(String),
    /// It ended.
    Down,
    /// The node leads the event's group from now on.
    Leads,
    /// It does not.
    Follows,
    /// These ways are cut.
    Cut(Vec<(usize, usize)>),
    /// They are open again.
    Healed(Vec<(usize, usize)>),
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Simulated time.
    pub at_ms: u64,
    /// The host; the clients have 0, and what is about the whole world has none.
    pub host: Option<usize>,
    /// The group, if it is about one.
    pub group: Option<GroupId>,
    /// What it is about.
    pub topic: Topic,
    /// What it did.
    pub what: What,
    /// In a few words.
    pub text: String,
}

impl Event {
    /// An event; the trace knows the time.
    pub fn new(host: impl Into<Option<usize>>, topic: Topic, text: impl Into<String>) -> Event {
        Event { at_ms: 0, host: host.into(), group: None, topic, what: What::Said, text: text.into() }
    }

    /// About this group.
    pub fn of(self, group: impl Into<Option<GroupId>>) -> Event {
        Event { group: group.into(), ..self }
    }

    /// That did this.
    pub fn did(self, what: What) -> Event {
        Event { what, ..self }
    }
}

/// Which events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The last so many.
    pub last: usize,
    /// None behind that time.
    pub until_ms: u64,
    /// None of other groups than this.
    pub group: Option<GroupId>,
    /// None about these.
    pub without: &'static [Topic],
}

impl Keep {
    /// Everything.
    pub const ALL: Keep = Keep { last: usize::MAX, until_ms: u64::MAX, group: None, without: &[] };
}

/// The events of a run.
#[derive(Debug)]
pub struct Story {
    keep: Keep,
    events: VecDeque<Event>,
    names: BTreeMap<usize, String>,
}

impl Story {
    /// Nothing yet.
    pub fn new(keep: Keep) -> Story {
        Story { keep, events: VecDeque::new(), names: BTreeMap::new() }
    }

    /// Takes down an event.
    pub fn add(&mut self, event: Event) {
        let Keep { last, until_ms, group, without } = self.keep;
        if event.at_ms > until_ms {
            return;
        }
        if let (Some(host), What::Up(name)) = (event.host, &event.what) {
            self.names.insert(host, name.clone());
        }
        let is_of_another = group.is_some() && event.group.is_some() && event.group != group;
        if without.contains(&event.topic) || is_of_another {
            return;
        }
        if self.events.len() == last {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// What was told.
    pub fn told(&self) -> Told {
        Told { events: self.events.iter().cloned().collect(), names: self.names.clone() }
    }
}

/// What a story told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The events that were kept, in order.
    pub events: Vec<Event>,
    /// The nodes by their hosts, as they were called last.
    pub names: BTreeMap<usize, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_of_a_group_until_a_time_are_kept() {
        let keep = Keep { last: 2, until_ms: 40, group: Some(GroupId(1)), without: &[Topic::Heartbeat] };
        let mut story = Story::new(keep);
        let mut add = |at_ms, group: Option<u32>, topic| {
            let text = format!("{at_ms}");
            story.add(Event { at_ms, ..Event::new(1, topic, text).of(group.map(GroupId)) });
        };
        add(10, Some(1), Topic::Commit);
        add(20, None, Topic::Fault);
        add(25, Some(2), Topic::Commit);
        add(30, Some(1), Topic::Heartbeat);
        add(40, Some(1), Topic::Apply);
        add(45, Some(1), Topic::Apply);
        let texts: Vec<_> = story.told().events.into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["20", "40"]);
    }
}
