//! What the clients saw: every operation with the times of its call and its return and what was answered. The checkers
//! read nothing else about the clients.
//!
//! The keys are divided into objects, small sets of keys that only operations within the set touch together, so that a
//! batch over several keys is checked as a whole and yet each object by itself. Some objects have a bucket of their own, which
//! comes and goes: it belongs to the object as its keys do. A value is named by the write that made it: no two writes write the
//! same value, and no two creations make the same bucket.

use drey_core::GroupId;

/// The most keys of one object.
pub const OBJECT_KEYS_MAX: usize = 3;

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
    /// A read of these slots from the copy of the node that was asked.
    ReadLocal(Vec<Slot>),
    /// A scan of it.
    ScanLocal,
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
    /// One of two lists of steps.
    Txn {
        /// All must hold for `success`.
        compare: Vec<(Slot, Guard)>,
        /// Done if they do.
        success: Vec<Step>,
        /// Done if not.
        failure: Vec<Step>,
    },
    /// Makes the object's bucket.
    Create {
        /// Names what is made.
        value: ValueId,
        /// One that is there is an answer, not an error.
        if_not_exists: bool,
    },
    /// Removes the object's bucket with all in it.
    Drop {
        /// Only the one that was made by this version.
        version: Option<u64>,
    },
    /// A linearizable look at the object's bucket.
    Describe,
    /// The same, among the buckets whose names begin with its name.
    List,
}

impl Call {
    /// The slots of a read, if it is one that found this much.
    pub fn slots_read(&self, found: usize) -> Vec<Slot> {
        match self {
            Call::Read(slots) | Call::ReadLocal(slots) => slots.clone(),
            Call::Scan | Call::ScanLocal => (0..found).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it can change anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Call::Read(_) | Call::Scan | Call::Describe | Call::List) && !self.is_local()
    }

    /// Whether it reads what may be stale: no order of the others has a place for it.
    pub fn is_local(&self) -> bool {
        matches!(self, Call::ReadLocal(_) | Call::ScanLocal)
    }

    /// The slots that it may leave without a value, if it is applied.
    pub fn may_delete(&self) -> Vec<Slot> {
        let deleted = |step: &Step| match step {
            Step::Delete(slot) => Some(*slot),
            Step::Put(..) | Step::Get(_) => None,
        };
        match self {
            Call::Delete { slot, .. } => vec![*slot],
            Call::Batch(steps) => steps.iter().filter_map(deleted).collect(),
            Call::Txn { success, failure, .. } => success.iter().chain(failure).filter_map(deleted).collect(),
            Call::Drop { .. } => (0..OBJECT_KEYS_MAX).collect(),
            _ => Vec::new(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a read: one for each slot that was asked for.
    Read(Vec<Found>),
    /// Of a scan.
    Scanned {
        /// One for each slot.
        found: Vec<Found>,
        /// The group's version in that view.
        version: u64,
    },
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
    /// Of a transaction.
    Txn {
        /// Whether all that was compared held.
        succeeded: bool,
        /// Of all its writes.
        version: u64,
        /// As of a batch, for the steps that were done.
        results: Vec<(u64, Found)>,
    },
    /// Of a bucket's creation.
    Created {
        /// The bucket that is there, and the version that made it.
        bucket: (ValueId, u64),
        /// It is new.
        created: bool,
    },
    /// There was one already.
    BucketExists,
    /// Of its removal.
    Dropped {
        /// There was one.
        existed: bool,
    },
    /// Of a look at it.
    Described {
        /// Which, and the version that made it.
        bucket: (ValueId, u64),
        /// How many keys it has.
        keys: u64,
    },
    /// The object's bucket is not there.
    NoBucket,
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
    /// Which start of that node's process it was, if it did not end meanwhile.
    pub process: Option<u64>,
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

    /// What a read found, one for each of [`Call::slots_read`].
    pub fn found(&self) -> &[Found] {
        match &self.outcome {
            Outcome::Read(found) | Outcome::Scanned { found, .. } => found,
            _ => &[],
        }
    }

    /// The steps of a batch or a transaction that are known to have been done, and their results.
    pub fn steps_done(&self) -> impl Iterator<Item = (Step, (u64, Found))> {
        let (steps, results): (&[Step], &[(u64, Found)]) = match (&self.call, &self.outcome) {
            (Call::Batch(steps), Outcome::Batch { results, .. }) => (steps, results),
            (Call::Txn { success, .. }, Outcome::Txn { succeeded: true, results, .. }) => (success, results),
            (Call::Txn { failure, .. }, Outcome::Txn { succeeded: false, results, .. }) => (failure, results),
            _ => (&[], &[]),
        };
        steps.iter().copied().zip(results.iter().copied())
    }

    /// The slots that are known to have got a value, or to have lost theirs (false), by a write of its own version.
    pub fn slots_changed(&self) -> Vec<(Slot, bool)> {
        match (&self.call, &self.outcome) {
            (Call::Put { slot, .. }, Outcome::Put { applied: true, .. }) => vec![(*slot, true)],
            (Call::Delete { slot, .. }, Outcome::Delete { applied: true, existed: true, .. }) => vec![(*slot, false)],
            _ => {
                let changed = |(step, (affected, _)): (Step, (u64, Found))| match step {
                    Step::Put(slot, _) => Some((slot, true)),
                    Step::Delete(slot) if affected > 0 => Some((slot, false)),
                    Step::Delete(_) | Step::Get(_) => None,
                };
                self.steps_done().filter_map(changed).collect()
            }
        }
    }

    /// The version of a write that is known to have been applied and to have changed something.
    pub fn written_version(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Created { bucket: (_, version), created: true } => Some(*version),
            Outcome::Put { version, .. }
            | Outcome::Delete { version, .. }
            | Outcome::Batch { version, .. }
            | Outcome::Txn { version, .. } => (!self.slots_changed().is_empty()).then_some(*version),
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
    /// Whether each object's bucket is its own, and not there at first.
    pub own_buckets: Vec<bool>,
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
