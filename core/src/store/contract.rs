//! What every engine must do, as one suite that each of them runs. It panics where an engine does not.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::limits::VALUE_BYTES_MAX;
use crate::machine::keys::STORE_KEY_BYTES_MAX;
use crate::store::{Read, Store, WriteSet};

type Model = BTreeMap<Bytes, Bytes>;

/// Runs the suite; `make` gives an empty store each time.
pub fn check<S: Store>(mut make: impl FnMut() -> S) {
    an_empty_store_has_nothing(make());
    pairs_come_in_order_both_ways(make());
    a_visitor_can_stop(make());
    a_batch_puts_and_removes(make());
    a_view_does_not_change(make());
    sizes_at_the_limits(make());
    persisting_changes_nothing_that_is_read(make());
    for seed in 0..8 {
        random_batches_agree_with_a_map(make(), seed);
    }
}

fn an_empty_store_has_nothing(mut store: impl Store) {
    assert_eq!(store.get(b"a").expect("get"), None);
    assert_eq!(pairs(&store, b"", &[0xff; 32], false), []);
    store.write(WriteSet::default()).expect("an empty batch is written");
    assert_eq!(pairs(&store.view(), b"", &[0xff; 32], true), []);
}

fn pairs_come_in_order_both_ways(mut store: impl Store) {
    // In the order of bytes, a prefix before what it is a prefix of, numbers above 0x7f behind the others.
    let keys: [&[u8]; 6] = [b"\x00", b"a", b"a\x00", b"aa", b"b", b"\xff\xff"];
    for key in [4, 0, 5, 2, 1, 3].map(|at: usize| keys[at]) {
        put(&mut store, key, key);
    }
    let all = keys.map(|key| (Bytes::from_static(key), Bytes::from_static(key)));
    assert_eq!(pairs(&store, b"", b"\xff\xff\xff", false), all);
    assert_eq!(pairs(&store, b"a", b"b", false), all[1..4], "the start belongs to a range, the end does not");
    assert_eq!(pairs(&store, b"a\x01", b"\xff\xff", false), all[3..5], "bounds need not be keys");
    let mut reversed = all.to_vec();
    reversed.reverse();
    assert_eq!(pairs(&store, b"", b"\xff\xff\xff", true), reversed);
    assert_eq!(pairs(&store, b"a", b"b", true), reversed[2..5]);
    for reverse in [false, true] {
        assert_eq!(pairs(&store, b"a", b"a", reverse), [], "an empty range");
        assert_eq!(pairs(&store, b"b", b"a", reverse), [], "a range that ends before it starts");
    }
}

fn a_visitor_can_stop(mut store: impl Store) {
    for key in [b"a", b"b", b"c"] {
        put(&mut store, key, b"");
    }
    for (reverse, first) in [(false, "a"), (true, "c")] {
        let mut seen = Vec::new();
        store
            .scan(b"a", b"z", reverse, &mut |key, _| {
                seen.push(key);
                ControlFlow::Break(())
            })
            .expect("scan");
        assert_eq!(seen, [first]);
    }
}

fn a_batch_puts_and_removes(mut store: impl Store) {
    put(&mut store, b"old", b"1");
    put(&mut store, b"both", b"1");
    let mut batch = WriteSet::default();
    batch.changes.insert(Bytes::from_static(b"old"), None);
    batch.changes.insert(Bytes::from_static(b"never"), None);
    batch.changes.insert(Bytes::from_static(b"both"), Some(Bytes::from_static(b"2")));
    batch.changes.insert(Bytes::from_static(b"new"), Some(Bytes::from_static(b"2")));
    store.write(batch).expect("write");
    let expected = [("both", "2"), ("new", "2")].map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    assert_eq!(pairs(&store, b"a", b"z", false), expected);
    assert_eq!(store.get(b"old").expect("get"), None);
    put(&mut store, b"old", b"3");
    assert_eq!(store.get(b"old").expect("get").as_deref(), Some(&b"3"[..]), "a removed key can be put again");
}

fn a_view_does_not_change(mut store: impl Store) {
    put(&mut store, b"a", b"1");
    put(&mut store, b"b", b"1");
    let view = store.view();
    put(&mut store, b"a", b"2");
    put(&mut store, b"c", b"2");
    let mut batch = WriteSet::default();
    batch.changes.insert(Bytes::from_static(b"b"), None);
    store.write(batch).expect("write");
    store.persist().expect("persist");
    let before = [("a", "1"), ("b", "1")].map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    let after = [("a", "2"), ("c", "2")].map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    assert_eq!(pairs(&view, b"", b"z", false), before);
    assert_eq!(view.get(b"a").expect("get").as_deref(), Some(&b"1"[..]));
    assert_eq!(view.get(b"c").expect("get"), None);
    assert_eq!(pairs(&store, b"", b"z", false), after);
    assert_eq!(pairs(&store.view(), b"", b"z", false), after);
}

fn sizes_at_the_limits(mut store: impl Store) {
    let mut longest = vec![0xff; STORE_KEY_BYTES_MAX];
    longest[0] = 1;
    // A value of the largest size, with what its record has beside it.
    let largest: Vec<u8> = (0..VALUE_BYTES_MAX + 17).map(|at| (at % 251) as u8).collect();
    put(&mut store, b"\x00", b"");
    put(&mut store, &longest, &largest);
    store.persist().expect("persist");
    assert_eq!(store.get(b"\x00").expect("get").as_deref(), Some(&b""[..]), "an empty value is a value");
    assert!(store.get(&longest).expect("get").as_deref() == Some(&largest[..]));
    let all = pairs(&store, b"", b"\x02", true);
    assert_eq!(all.len(), 2);
    assert!(all[0].0 == longest && all[0].1 == largest);
}

fn persisting_changes_nothing_that_is_read(mut store: impl Store) {
    store.persist().expect("persist of an empty store");
    put(&mut store, b"a", b"1");
    let before = pairs(&store, b"", b"z", false);
    store.persist().expect("persist");
    store.persist().expect("persist twice");
    assert_eq!(pairs(&store, b"", b"z", false), before);
}

fn random_batches_agree_with_a_map(mut store: impl Store, seed: u64) {
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut views = Vec::new();
    for round in 0..120 {
        let batch = random_batch(&mut random);
        for (key, change) in &batch.changes {
            match change {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        store.write(batch).expect("write");
        match random.below(8) {
            0 => store.persist().expect("persist"),
            1 if views.len() < 4 => views.push((store.view(), model.clone())),
            2 => views.truncate(2),
            _ => {}
        }
        same(&store, &model, &mut random, seed, round);
        for (view, model) in &views {
            same(view, model, &mut random, seed, round);
        }
    }
    assert_eq!(pairs(&store, b"", &[0xff; 8], false), model.into_iter().collect::<Vec<_>>(), "seed {seed}");
}

/// Compares a random range and a random key.
fn same(store: &impl Read, model: &Model, random: &mut Random, seed: u64, round: u32) {
    let (one, other) = (random_key(random), random_key(random));
    let (start, end) = if one <= other { (one, other) } else { (other, one) };
    let reverse = random.below(2) == 0;
    let mut expected: Vec<_> =
        model.range(start.clone()..end.clone()).map(|(key, value)| (key.clone(), value.clone())).collect();
    if reverse {
        expected.reverse();
    }
    assert_eq!(pairs(store, &start, &end, reverse), expected, "seed {seed}, round {round}");
    assert_eq!(store.get(&start).expect("get").as_ref(), model.get(&start), "seed {seed}, round {round}");
}

fn random_batch(random: &mut Random) -> WriteSet {
    let mut batch = WriteSet::default();
    for _ in 0..random.below(12) {
        let value = match random.below(4) {
            0 => None,
            1 => Some(Bytes::new()),
            _ => Some(Bytes::from(vec![random.below(256) as u8; random.below(300) as usize])),
        };
        batch.changes.insert(random_key(random), value);
    }
    batch
}

/// Few enough keys that they meet again, some of them prefixes of others.
fn random_key(random: &mut Random) -> Bytes {
    let len = 1 + random.below(3) as usize;
    (0..len).map(|_| [0, 1, b'a', 0xfe, 0xff][random.below(5) as usize]).collect()
}

fn put(store: &mut impl Store, key: &[u8], value: &[u8]) {
    let mut batch = WriteSet::default();
    batch.changes.insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
    store.write(batch).expect("write");
}

fn pairs(store: &impl Read, start: &[u8], end: &[u8], reverse: bool) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    store
        .scan(start, end, reverse, &mut |key, value| {
            pairs.push((key, value));
            ControlFlow::Continue(())
        })
        .expect("scan");
    pairs
}

/// SplitMix64: enough for tests, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
