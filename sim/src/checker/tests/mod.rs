//! Histories made by hand: what must pass, and one for each way in which a law can be broken.

mod agreement;
mod objects;
mod views;

use drey_core::{GroupId, NodeId};

use super::*;
use crate::history::{Call, Found, Guard, Outcome, Step};

/// A history under construction. Operations are written as they are read: who, when, what, and what came of it.
#[derive(Default)]
struct Made {
    history: History,
}

impl Made {
    fn new() -> Made {
        let mut made = Made::default();
        made.history.groups = vec![GroupId(1)];
        made.history.names = vec![vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]];
        made.history.own_buckets = vec![false];
        made
    }

    fn operation(mut self, (called, returned): (u64, u64), call: Call, outcome: Outcome) -> Made {
        // Distinct times for calls and returns that are written with the same number: calls first.
        let (called, returned) = (called * 2, returned * 2 + 1);
        self.history.operations.push(Operation {
            object: ObjectId(0),
            client: self.history.operations.len(),
            node: 1,
            process: Some(1),
            call,
            called,
            returned,
            outcome,
            called_ms: called,
            returned_ms: returned,
        });
        self
    }

    fn put(self, at: (u64, u64), value: u32, version: u64) -> Made {
        self.put_if(at, value, None, true, version)
    }

    fn put_if(self, at: (u64, u64), value: u32, guard: Option<Guard>, applied: bool, version: u64) -> Made {
        let call = Call::Put { slot: 0, value, guard };
        self.operation(at, call, Outcome::Put { applied, version, previous: None })
    }

    fn put_unknown(self, at: (u64, u64), value: u32) -> Made {
        self.operation(at, Call::Put { slot: 0, value, guard: None }, Outcome::Unknown)
    }

    fn delete(self, at: (u64, u64), existed: bool, version: u64) -> Made {
        let call = Call::Delete { slot: 0, guard: None };
        self.operation(at, call, Outcome::Delete { applied: true, existed, version, previous: None })
    }

    fn get(self, at: (u64, u64), found: Found) -> Made {
        self.operation(at, Call::Read(vec![0]), Outcome::Read(vec![found]))
    }

    fn linearizable(&self) -> Result<(), Violation> {
        check_object(&self.history, ObjectId(0), &self.history.by_object()[0])
    }

    fn passes(&self) {
        assert_eq!(check_history(&self.history), Ok(()));
    }

    fn breaks_linearizability(&self) {
        let violation = self.linearizable().expect_err("the history is broken");
        assert_eq!(violation.law, "linearizability", "{violation}");
    }
}

#[test]
fn a_sequence_passes() {
    Made::new()
        .get((1, 2), None)
        .put((3, 4), 10, 1)
        .get((5, 6), Some((10, 1)))
        .put((7, 8), 11, 2)
        .get((9, 10), Some((11, 2)))
        .delete((11, 12), true, 3)
        .get((13, 14), None)
        .passes();
}

#[test]
fn overlapping_operations_take_either_order() {
    Made::new().put((1, 5), 10, 1).put((1, 5), 11, 2).get((6, 7), Some((11, 2))).passes();
    Made::new().put((1, 5), 10, 2).put((1, 5), 11, 1).get((6, 7), Some((10, 2))).passes();
    Made::new().put((1, 9), 10, 1).get((2, 3), None).get((4, 5), Some((10, 1))).get((10, 11), Some((10, 1))).passes();
}

#[test]
fn a_stale_read_is_found() {
    Made::new().put((1, 2), 10, 1).put((3, 4), 11, 2).get((5, 6), Some((10, 1))).breaks_linearizability();
    Made::new().put((1, 2), 10, 1).get((3, 4), None).breaks_linearizability();
    // Two reads in a row, both beside the write: the value may appear once, but not disappear again.
    Made::new().put((1, 9), 10, 1).get((2, 3), Some((10, 1))).get((4, 5), None).breaks_linearizability();
}

#[test]
fn a_lost_update_is_found() {
    let lost = Made::new().put((1, 2), 10, 1).get((3, 4), None).get((5, 6), None);
    lost.breaks_linearizability();
    assert_eq!(durable::check(&lost.history).expect_err("a lost put").law, "acknowledged implies durable");
    // Two writers that both replaced version 1.
    Made::new()
        .put((1, 2), 10, 1)
        .put_if((3, 5), 11, Some(Guard::VersionIs(1)), true, 2)
        .put_if((3, 5), 12, Some(Guard::VersionIs(1)), true, 3)
        .breaks_linearizability();
}

#[test]
fn a_value_from_nowhere_is_found() {
    Made::new().put((1, 2), 10, 1).get((3, 4), Some((99, 1))).breaks_linearizability();
    // A refused write must not appear.
    Made::new()
        .operation((1, 2), Call::Put { slot: 0, value: 10, guard: None }, Outcome::Refused)
        .get((3, 4), Some((10, 1)))
        .breaks_linearizability();
    // A write cannot be seen before its call.
    Made::new().get((1, 2), Some((10, 1))).put((3, 4), 10, 1).breaks_linearizability();
}

#[test]
fn an_unknown_write_may_appear_or_not_but_only_once() {
    Made::new().put_unknown((1, 2), 10).get((3, 4), None).get((5, 6), None).passes();
    Made::new().put_unknown((1, 2), 10).get((3, 4), None).get((5, 6), Some((10, 4))).passes();
    Made::new().put_unknown((1, 2), 10).get((3, 4), Some((10, 1))).get((5, 6), None).breaks_linearizability();
    Made::new()
        .put_unknown((1, 2), 10)
        .put((3, 4), 11, 2)
        .get((5, 6), Some((10, 1)))
        .get((7, 8), Some((11, 2)))
        .breaks_linearizability();
    let many = || (0..40u32).fold(Made::new(), |made, number| made.put_unknown((1, 2), 100 + number));
    many().get((3, 4), Some((120, 9))).get((5, 6), Some((110, 12))).get((7, 8), Some((139, 20))).passes();
    many()
        .get((3, 4), Some((120, 9)))
        .get((5, 6), Some((110, 12)))
        .get((7, 8), Some((120, 9)))
        .breaks_linearizability();
}

#[test]
fn guards_are_understood() {
    let base = || Made::new().put((1, 2), 10, 1);
    base().put_if((3, 4), 11, Some(Guard::VersionIs(1)), true, 2).get((5, 6), Some((11, 2))).passes();
    base().put_if((3, 4), 11, Some(Guard::VersionIs(0)), false, 1).get((5, 6), Some((10, 1))).passes();
    base().put_if((3, 4), 11, Some(Guard::Exists(true)), true, 2).get((5, 6), Some((11, 2))).passes();
    base().put_if((3, 4), 11, Some(Guard::ValueIs(10)), true, 2).get((5, 6), Some((11, 2))).passes();
    base().put_if((3, 4), 11, Some(Guard::VersionIs(1)), false, 1).breaks_linearizability();
    base().put_if((3, 4), 11, Some(Guard::VersionIs(7)), true, 2).breaks_linearizability();
    base().put_if((3, 4), 11, Some(Guard::Exists(false)), true, 2).breaks_linearizability();
    base().put_if((3, 4), 11, Some(Guard::ValueIs(12)), true, 2).breaks_linearizability();
    // Not applied, yet there; and a wrong version in the refusal.
    base().put_if((3, 4), 11, Some(Guard::Exists(false)), false, 1).get((5, 6), Some((11, 2))).breaks_linearizability();
    base().put_if((3, 4), 11, Some(Guard::Exists(false)), false, 5).breaks_linearizability();
}

#[test]
fn deletes_tell_whether_the_key_was_there() {
    Made::new()
        .delete((1, 2), false, 0)
        .put((3, 4), 10, 1)
        .delete((5, 6), true, 2)
        .delete((7, 8), false, 2)
        .get((9, 10), None)
        .passes();
    Made::new().delete((1, 2), true, 1).breaks_linearizability();
    Made::new().put((1, 2), 10, 1).delete((3, 4), false, 1).breaks_linearizability();
}

fn batch(at: (u64, u64), made: Made, steps: Vec<Step>, version: u64, results: Vec<(u64, Found)>) -> Made {
    made.operation(at, Call::Batch(steps), Outcome::Batch { version, results })
}

fn read_both(at: (u64, u64), made: Made, found: [Found; 2]) -> Made {
    made.operation(at, Call::Read(vec![0, 1]), Outcome::Read(found.to_vec()))
}

#[test]
fn a_batch_happens_as_a_whole() {
    let steps = || vec![Step::Put(0, 10), Step::Put(1, 11), Step::Get(0)];
    let results = || vec![(1, None), (1, None), (0, Some((10, 1)))];
    let whole = batch((1, 9), Made::new(), steps(), 1, results());
    read_both((2, 3), whole, [Some((10, 1)), Some((11, 1))]).passes_linearizability();
    let none = batch((1, 9), Made::new(), steps(), 1, results());
    read_both((2, 3), none, [None, None]).passes_linearizability();
    let half = batch((1, 9), Made::new(), steps(), 1, results());
    read_both((2, 3), half, [Some((10, 1)), None]).breaks_linearizability();
    // A step that does not see the step before it.
    let blind = vec![(1, None), (1, None), (0, None)];
    batch((1, 9), Made::new(), steps(), 1, blind).breaks_linearizability();
}

impl Made {
    fn passes_linearizability(&self) {
        assert_eq!(self.linearizable(), Ok(()));
    }
}

#[test]
fn one_value_has_one_version() {
    let made = Made::new().put((1, 2), 10, 1).get((3, 4), Some((10, 2)));
    assert_eq!(made.linearizable().expect_err("two versions").law, "one version for each value");
}

#[test]
fn falling_and_shared_versions_are_found() {
    let falls = |made: Made| {
        let violation = versions::check(&made.history).expect_err("the history is broken");
        assert_eq!(violation.law, "versions never fall");
    };
    falls(Made::new().put((1, 2), 10, 5).put((3, 4), 11, 4));
    falls(Made::new().put((1, 2), 10, 5).put((3, 4), 11, 5));
    falls(Made::new().put((1, 9), 10, 5).put((1, 9), 11, 5));
    falls(Made::new().put((1, 2), 10, 5).delete((3, 4), true, 4));
    falls(Made::new().get((1, 2), Some((10, 5))).get((3, 4), Some((11, 4))));
    assert_eq!(versions::check(&Made::new().put((1, 9), 10, 5).put((1, 9), 11, 4).history), Ok(()));
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let law = |made: Made| durable::check(&made.history).map_err(|violation| violation.law);
    let lost = Err("acknowledged implies durable");
    assert_eq!(law(Made::new().put((1, 2), 10, 1).put((3, 4), 11, 2).get((5, 6), Some((10, 1)))), lost);
    assert_eq!(law(Made::new().put((1, 2), 10, 1)), lost, "nobody looked");
    assert_eq!(law(Made::new().get((1, 2), None).put((3, 4), 10, 1)), lost, "nobody looked afterwards");
    assert_eq!(law(Made::new().delete((1, 2), false, 0).put((3, 4), 10, 1).get((5, 6), None)), lost);
    assert_eq!(law(Made::new().put((1, 2), 10, 1).delete((3, 4), true, 2).get((5, 6), None)), Ok(()));
    let delete = Call::Delete { slot: 0, guard: None };
    let maybe = Made::new().operation((1, 2), delete, Outcome::Unknown).put((3, 4), 10, 1).get((5, 6), None);
    assert_eq!(law(maybe), Ok(()));
}

#[test]
fn two_leaders_are_found() {
    let mut watch = Watch::default();
    assert_eq!(watch.leads(GroupId(1), 5, NodeId(1)), Ok(()));
    assert_eq!(watch.leads(GroupId(2), 5, NodeId(2)), Ok(()));
    assert_eq!(watch.leads(GroupId(1), 6, NodeId(2)), Ok(()));
    assert_eq!(watch.leads(GroupId(1), 5, NodeId(2)).expect_err("two leaders").law, "one leader per term");
    assert!(watch.leads(GroupId(2), 5, NodeId(2)).is_err(), "a leader that restarted needs a new term");
    assert_eq!(watch.elections(), 3);
}

#[test]
fn different_states_are_found() {
    let mut watch = Watch::default();
    assert_eq!(watch.state(GroupId(1), 7, NodeId(1), 0xa), Ok(()));
    assert_eq!(watch.state(GroupId(1), 8, NodeId(2), 0xb), Ok(()));
    assert_eq!(watch.state(GroupId(1), 7, NodeId(2), 0xa), Ok(()));
    assert_eq!(watch.states_compared(), 1);
    assert!(watch.state(GroupId(1), 7, NodeId(3), 0xb).is_err());
    assert!(watch.state(GroupId(1), 8, NodeId(2), 0xa).is_err(), "also on the same node, after a restart");
}
