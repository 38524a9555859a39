//! Batches by their number, so that a state says after which of them it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use drey_core::store::WriteSet;

/// The batch of this number: a count, and two values of which one is large.
pub(super) fn batch(number: u64) -> WriteSet {
    let filler = |len: u64, salt: u64| -> Bytes {
        // Neither compressible nor ever the same.
        let mut state = (number << 8 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    let mut changes = BTreeMap::new();
    changes.insert("count".into(), Some(number.to_string().into()));
    changes.insert(format!("large/{}", number % 3).into(), Some(filler(30_000, 1)));
    changes
        .insert(format!("small/{}", number % 7).into(), (!number.is_multiple_of(5)).then(|| filler(number % 300, 2)));
    WriteSet { changes }
}

/// What there is after the batches `1..=last`.
pub(super) fn expected(last: u64) -> BTreeMap<Bytes, Bytes> {
    let mut pairs = BTreeMap::new();
    for (key, change) in (1..=last).flat_map(|number| batch(number).changes) {
        match change {
            Some(value) => pairs.insert(key, value),
            None => pairs.remove(&key),
        };
    }
    pairs
}
