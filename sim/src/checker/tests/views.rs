//! Scans, and reads of a node's own copy.

use super::*;
use crate::checker::{local, scans};

impl Made {
    fn view(self, at: (u64, u64), call: Call, found: [Found; 2], version: u64) -> Made {
        self.operation(at, call, Outcome::Scanned { found: found.to_vec(), version })
    }

    fn scan(self, at: (u64, u64), found: [Found; 2], version: u64) -> Made {
        self.view(at, Call::Scan, found, version)
    }

    fn scan_local(self, at: (u64, u64), found: [Found; 2], version: u64) -> Made {
        self.view(at, Call::ScanLocal, found, version)
    }

    fn local(self, at: (u64, u64), found: Found) -> Made {
        self.operation(at, Call::ReadLocal(vec![0]), Outcome::Read(vec![found]))
    }

    /// The last call was answered by another process.
    fn of(mut self, process: Option<u64>) -> Made {
        self.history.operations.last_mut().expect("there is one").process = process;
        self
    }

    fn law(&self) -> Option<&'static str> {
        let judged = scans::check(&self.history).and_then(|()| local::check(&self.history));
        judged.err().map(|violation| violation.law)
    }
}

/// Both keys by version 1, then key 0 by version 2.
fn written() -> Made {
    let steps = vec![Step::Put(0, 10), Step::Put(1, 11)];
    batch((1, 2), Made::new(), steps, 1, vec![(1, None), (1, None)]).put((3, 4), 12, 2)
}

const OLD: [Found; 2] = [Some((10, 1)), Some((11, 1))];
const NEW: [Found; 2] = [Some((12, 2)), Some((11, 1))];

#[test]
fn a_scan_is_the_state_that_it_names() {
    assert_eq!(written().scan((5, 6), NEW, 2).law(), None);
    assert_eq!(written().scan((5, 6), OLD, 2).law(), Some(scans::LAW), "a write is missing");
    assert_eq!(written().scan((5, 6), OLD, 1).law(), Some(scans::LAW), "too old");
    assert_eq!(written().scan((5, 6), NEW, 1).law(), Some(scans::LAW), "newer than it says");
    assert_eq!(written().scan((5, 6), [NEW[0], None], 2).law(), Some(scans::LAW), "a key is missing");
    assert_eq!(written().scan((3, 6), OLD, 1).law(), None, "beside the write");
    assert_eq!(written().scan((5, 6), NEW, 3).put((7, 8), 13, 3).law(), Some(scans::LAW), "from behind its return");
    assert_eq!(written().delete((5, 6), true, 3).scan((7, 8), [None, NEW[1]], 3).law(), None);
    assert_eq!(written().delete((5, 6), true, 3).scan((7, 8), NEW, 3).law(), Some(scans::LAW), "it was deleted");
    let delete = Call::Delete { slot: 0, guard: None };
    let maybe = written().operation((5, 6), delete, Outcome::Unknown);
    assert_eq!(maybe.scan((7, 8), [None, NEW[1]], 3).law(), None);
}

#[test]
fn a_local_scan_is_an_old_state_but_a_state() {
    assert_eq!(written().scan_local((5, 6), OLD, 1).law(), None);
    assert_eq!(written().scan_local((5, 6), [None, None], 0).law(), None);
    assert_eq!(written().scan_local((5, 6), [OLD[0], None], 1).law(), Some(scans::LAW), "half of a batch");
    assert_eq!(written().scan_local((5, 6), OLD, 2).law(), Some(scans::LAW));
    assert_eq!(written().scan_local((5, 6), NEW, 1).law(), Some(scans::LAW));
}

#[test]
fn a_local_read_shows_only_what_was_written() {
    assert_eq!(written().local((5, 6), Some((10, 1))).law(), None);
    assert_eq!(written().local((5, 6), Some((99, 3))).law(), Some(local::NOWHERE));
    assert_eq!(written().local((5, 6), Some((13, 3))).put((7, 8), 13, 3).law(), Some(local::NOWHERE), "not yet");
    let refused = written().operation((5, 6), Call::Put { slot: 0, value: 13, guard: None }, Outcome::Refused);
    assert_eq!(refused.local((7, 8), Some((13, 3))).law(), Some(local::NOWHERE));
    assert_eq!(written().put_unknown((5, 6), 13).local((7, 8), Some((13, 3))).law(), None);
    // To the others it is no contradiction.
    written()
        .local((5, 6), None)
        .get((7, 8), Some((12, 2)))
        .operation((9, 10), Call::Read(vec![1]), Outcome::Read(vec![NEW[1]]))
        .passes();
}

#[test]
fn a_copy_goes_back_with_its_process_only() {
    let (old, new) = (Some((10, 1)), Some((12, 2)));
    let newer = || written().local((5, 6), new);
    assert_eq!(newer().local((7, 8), new).law(), None);
    assert_eq!(newer().local((7, 8), old).law(), Some(local::BACK));
    assert_eq!(newer().local((6, 8), old).law(), None, "beside it");
    assert_eq!(newer().local((7, 8), old).of(Some(2)).law(), None, "another process");
    assert_eq!(newer().local((7, 8), old).of(None).law(), None, "nobody knows which");
    let gone = || newer().local((7, 8), None);
    assert_eq!(gone().law(), None, "a delete of which nobody knows");
    assert_eq!(gone().local((9, 10), new).law(), Some(local::BACK), "it was gone");
    assert_eq!(gone().put((9, 10), 13, 3).local((11, 12), Some((13, 3))).law(), None);
    let scanned = || written().scan_local((5, 6), NEW, 2);
    assert_eq!(scanned().scan_local((7, 8), OLD, 1).law(), Some(local::BACK));
    assert_eq!(scanned().scan_local((7, 8), OLD, 1).of(Some(2)).law(), None);
}
