//! Transactions, and objects with a bucket of their own.

use super::*;

impl Made {
    fn with_own_bucket() -> Made {
        let mut made = Made::new();
        made.history.own_buckets = vec![true];
        made
    }

    fn txn(self, at: (u64, u64), compare: &[(usize, Guard)], succeeded: bool, version: u64) -> Made {
        let steps = [vec![Step::Put(0, 20), Step::Delete(1)], vec![Step::Put(2, 30), Step::Get(0)]];
        let [success, failure] = steps;
        let results = if succeeded { vec![(1, None), (1, None)] } else { vec![(1, None), (0, Some((10, 1)))] };
        let call = Call::Txn { compare: compare.to_vec(), success, failure };
        self.operation(at, call, Outcome::Txn { succeeded, version, results })
    }

    fn txn_unknown(self, at: (u64, u64), compare: &[(usize, Guard)]) -> Made {
        let (success, failure) = (vec![Step::Put(0, 20), Step::Delete(1)], vec![Step::Put(2, 30)]);
        self.operation(at, Call::Txn { compare: compare.to_vec(), success, failure }, Outcome::Unknown)
    }

    fn all(self, at: (u64, u64), found: [Found; 3]) -> Made {
        self.operation(at, Call::Read(vec![0, 1, 2]), Outcome::Read(found.to_vec()))
    }

    fn create(self, at: (u64, u64), value: u32, version: u64) -> Made {
        let call = Call::Create { value, if_not_exists: false };
        self.operation(at, call, Outcome::Created { bucket: (value, version), created: true })
    }

    fn drop_it(self, at: (u64, u64), version: Option<u64>, existed: bool) -> Made {
        self.operation(at, Call::Drop { version }, Outcome::Dropped { existed })
    }

    fn no_bucket(self, at: (u64, u64), call: Call) -> Made {
        self.operation(at, call, Outcome::NoBucket)
    }

    fn breaks(&self, law: &str) {
        let violation = check_history(&self.history).expect_err("the history is broken");
        assert_eq!(violation.law, law, "{violation}");
    }
}

/// Keys 0 and 1 with values 10 and 11 of version 1.
fn two_keys() -> Made {
    batch((1, 2), Made::new(), vec![Step::Put(0, 10), Step::Put(1, 11)], 1, vec![(1, None), (1, None)])
}

const HOLDS: &[(usize, Guard)] = &[(0, Guard::VersionIs(1)), (1, Guard::ValueIs(11)), (2, Guard::Exists(false))];
const HOLDS_NOT: &[(usize, Guard)] = &[(0, Guard::VersionIs(1)), (1, Guard::ValueIs(12))];

#[test]
fn a_transaction_does_the_one_or_the_other() {
    let (success, failure) = ([Some((20, 2)), None, None], [Some((10, 1)), Some((11, 1)), Some((30, 2))]);
    two_keys().txn((3, 4), HOLDS, true, 2).all((5, 6), success).passes();
    two_keys().txn((3, 4), HOLDS_NOT, false, 2).all((5, 6), failure).passes();
    two_keys().txn((3, 4), HOLDS, true, 2).all((5, 6), failure).breaks_linearizability();
    two_keys().txn((3, 4), HOLDS, true, 2).all((5, 6), [Some((20, 2)), Some((11, 1)), None]).breaks_linearizability();
    two_keys().txn((3, 4), HOLDS, false, 2).breaks_linearizability();
    two_keys().txn((3, 4), HOLDS_NOT, true, 2).breaks_linearizability();
    // It says that it removed what was not there.
    two_keys().delete_slot((3, 4), 1, 2).txn((5, 6), &[(0, Guard::VersionIs(1))], true, 3).breaks_linearizability();
}

impl Made {
    fn delete_slot(self, at: (u64, u64), slot: usize, version: u64) -> Made {
        let call = Call::Delete { slot, guard: None };
        self.operation(at, call, Outcome::Delete { applied: true, existed: true, version, previous: None })
    }
}

#[test]
fn a_transaction_of_unknown_outcome_does_one_of_them_or_nothing() {
    let (before, behind) = ([Some((10, 1)), Some((11, 1)), None], [Some((20, 2)), None, None]);
    let failure = [Some((10, 1)), Some((11, 1)), Some((30, 2))];
    two_keys().txn_unknown((3, 4), HOLDS).all((5, 6), before).all((7, 8), behind).passes();
    two_keys().txn_unknown((3, 4), HOLDS).all((5, 6), behind).passes();
    two_keys().txn_unknown((3, 4), HOLDS_NOT).all((5, 6), failure).passes();
    two_keys().txn_unknown((3, 4), HOLDS_NOT).all((5, 6), behind).breaks_linearizability();
    two_keys().txn_unknown((3, 4), HOLDS).all((5, 6), failure).breaks_linearizability();
    two_keys().txn_unknown((3, 4), HOLDS).all((5, 6), behind).all((7, 8), before).breaks_linearizability();
    // A version that another value of the key has is not that of one whose version nobody saw.
    let unseen = || two_keys().put_unknown((3, 4), 40).txn_unknown((5, 6), HOLDS);
    let blind = |made: Made| made.put_if((7, 8), 41, Some(Guard::ValueIs(40)), true, 9);
    blind(unseen()).all((9, 10), [Some((41, 9)), Some((11, 1)), Some((30, 5))]).passes_linearizability();
}

#[test]
fn a_lost_transaction_is_found() {
    let lost = [Some((10, 1)), Some((11, 1)), None];
    two_keys().txn((3, 4), HOLDS, true, 2).all((5, 6), lost).breaks("acknowledged implies durable");
    two_keys().txn((3, 4), HOLDS, true, 1).all((5, 6), lost).breaks("versions never fall");
}

fn put_0() -> Call {
    Call::Put { slot: 0, value: 10, guard: None }
}

#[test]
fn a_bucket_takes_all_in_it_with_it() {
    let made = || Made::with_own_bucket().no_bucket((1, 2), put_0()).create((3, 4), 5, 1).put((5, 6), 10, 2);
    let dropped = || made().get((7, 8), Some((10, 2))).drop_it((9, 10), None, true);
    dropped().no_bucket((11, 12), Call::Read(vec![0])).passes();
    dropped().create((11, 12), 6, 4).get((13, 14), None).passes();
    dropped().create((11, 12), 6, 4).put((13, 14), 11, 5).get((15, 16), Some((11, 5))).passes();
    made().no_bucket((7, 8), Call::Read(vec![0])).breaks("acknowledged implies durable");
    made().get((7, 8), None).breaks("acknowledged implies durable");
    dropped().get((11, 12), Some((10, 2))).breaks_linearizability();
    dropped().create((11, 12), 6, 4).get((13, 14), Some((10, 2))).breaks_linearizability();
    dropped().create((11, 12), 6, 4).no_bucket((13, 14), put_0()).breaks_linearizability();
    dropped().create((11, 12), 6, 2).get((13, 14), None).breaks("versions never fall");
    Made::with_own_bucket().put((1, 2), 10, 1).breaks_linearizability();
    Made::new().no_bucket((1, 2), Call::Read(vec![0])).breaks_linearizability();
}

#[test]
fn a_bucket_is_made_once_and_dropped_once() {
    let made = || Made::with_own_bucket().create((1, 2), 5, 1);
    let again = |made: Made, bucket| {
        let call = Call::Create { value: 6, if_not_exists: true };
        made.operation((3, 4), call, Outcome::Created { bucket, created: false })
    };
    let exists =
        |made: Made| made.operation((3, 4), Call::Create { value: 6, if_not_exists: false }, Outcome::BucketExists);
    let described =
        |made: Made, bucket, keys| made.operation((3, 4), Call::Describe, Outcome::Described { bucket, keys });
    again(made(), (5, 1)).passes();
    again(made(), (7, 2)).breaks_linearizability();
    again(made(), (5, 2)).breaks(ONE_VERSION);
    exists(made()).passes();
    exists(Made::with_own_bucket()).breaks_linearizability();
    made().create((3, 4), 6, 2).breaks_linearizability();
    described(made(), (5, 1), 0).passes();
    described(made(), (5, 1), 1).breaks_linearizability();
    made().drop_it((3, 4), Some(1), true).passes();
    made().drop_it((3, 4), Some(7), false).passes();
    made().drop_it((3, 4), Some(1), false).breaks_linearizability();
    made().drop_it((3, 4), None, true).drop_it((5, 6), None, true).breaks_linearizability();
    let maybe = |made: Made| made.operation((3, 4), Call::Drop { version: None }, Outcome::Unknown);
    maybe(made()).no_bucket((5, 6), Call::Describe).passes();
    described(maybe(made()), (5, 1), 0).passes();
    maybe(made()).no_bucket((5, 6), Call::Describe).drop_it((7, 8), None, true).breaks_linearizability();
}
