//! What the clients saw: every operation with the times of its call and its return and what was answered. The checkers
//! read nothing else about the clients.
//!
//! The keys are divided into objects, small sets of keys that only operations within the set touch together, so that a
//! batch over two keys is checked as a whole and yet each object by itself. A value is named by the write that made it:
//! no two writes write the same value.

use drey_core::GroupId;

/// The most keys of one object.
pub const OBJECT_KEYS_MAX: usize = 2;

/// Names a value; 0 is the absence of a key.
pub type ValueId = u32;

/// The absence of a key.
pub const ABSENT: ValueId = 0;

/// A key within its object.
pub type Slot = usize;

/// A set of keys that are checked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub usize);

/// What a read found in a slot: the value and its version, or nothing.
pub type Found = Option<(ValueId, u64)>;

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The version, 0 for an absent key.
    VersionIs(u64),
    /// The value.
    ValueIs(ValueId),
    /// Presence or absence.
    Exists(bool),
}

/// One step of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets.
    Put(Slot, ValueId),
    /// Removes.
    Delete(Slot),
    /// Reads.
    Get(Slot),
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A linearizable read of these slots in one view.
    Read(Vec<Slot>),
    /// The same of all slots, by their keys' common prefix.
    Scan,
    /// A put of one slot.
    Put {
        /// Where.
        slot: Slot,
        /// What.
        value: ValueId,
        /// Only if.
        guard: Option<Guard>,
    },
    /// A delete of one slot.
    Delete {
        /// Where.
        slot: Slot,
        /// Only if.
        guard: Option<Guard>,
    },
    /// Steps in order, all or nothing.
    Batch(Vec<Step>),
}

impl Call {
    /// The slots of a read, if it is one that found this much.
    pub fn slots_read(&self, found: usize) -> Vec<Slot> {
        match self {
            Call::Read(slots) => slots.clone(),
            Call::Scan => (0..found).collect(),
            Call::Put { .. } | Call::Delete { .. } | Call::Batch(_) => Vec::new(),
        }
    }

    /// Whether it can change anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Call::Read(_) | Call::Scan)
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a read: one for each slot that was asked for.
    Read(Vec<Found>),
    /// Of a put.
    Put {
        /// Whether the guard held.
        applied: bool,
        /// Of the write, or of what stood in its way.
        version: u64,
        /// What was there before, if asked.
        previous: Option<Found>,
    },
    /// Of a delete.
    Delete {
        /// Whether the guard held.
        applied: bool,
        /// Whether the key was there.
        existed: bool,
        /// The group's version afterwards.
        version: u64,
        /// What was there before, if asked.
        previous: Option<Found>,
    },
    /// Of a batch.
    Batch {
        /// Of all its writes.
        version: u64,
        /// For each step, how many keys it changed and what it found.
        results: Vec<(u64, Found)>,
    },
    /// Refused before it was proposed: it never happens.
    Refused,
    /// It happened, or will, or never does.
    Unknown,
}

/// One operation. Times are positions in the one sequence of all calls and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which keys.
    pub object: ObjectId,
    /// Who.
    pub client: usize,
    /// Through which node, for people.
    pub node: u64,
    /// What.
    pub call: Call,
    /// When it was sent off.
    pub called: u64,
    /// When the answer came; for an unknown outcome, when the client gave up.
    pub returned: u64,
    /// The answer.
    pub outcome: Outcome,
    /// Simulated time of the call, for people.
    pub called_ms: u64,
    /// Simulated time of the return, for people.
    pub returned_ms: u64,
}

impl Operation {
    /// Whether it was answered with something definite other than a refusal.
    pub fn is_completed(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused | Outcome::Unknown)
    }

    /// The version of a write that is known to have been applied and to have changed something.
    pub fn written_version(&self) -> Option<u64> {
        match (&self.call, &self.outcome) {
            (_, Outcome::Put { applied: true, version, .. }) => Some(*version),
            (_, Outcome::Delete { applied: true, existed: true, version, .. }) => Some(*version),
            (Call::Batch(steps), Outcome::Batch { version, .. })
                if steps.iter().any(|step| matches!(step, Step::Put(..))) =>
            {
                Some(*version)
            }
            _ => None,
        }
    }
}

/// All operations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of their calls.
    pub operations: Vec<Operation>,
    /// The group of each object.
    pub groups: Vec<GroupId>,
    /// The keys of each object, for people.
    pub names: Vec<Vec<String>>,
}

impl History {
    /// The operations of each object, in the order of their calls.
    pub fn by_object(&self) -> Vec<Vec<&Operation>> {
        let mut objects = vec![Vec::new(); self.groups.len()];
        for operation in &self.operations {
            objects[operation.object.0].push(operation);
        }
        objects
    }
}
