//! Hashes of parts of a group's state, the same on all replicas that applied the same entries.

use std::ops::ControlFlow;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::machine::keys::{KIND_BUCKET, KIND_MEMBERS, KIND_SESSION, StoreRange};
use crate::machine::{Machine, Meta};
use crate::mutation::{Mutation, is_on};
use crate::name::KeyRange;
use crate::store::{Read, StoreError};

/// A part has at most so many records that each of them is counted as this many bytes more than it has, and as many ranges.
const RECORD_COST: u64 = 64;
const RANGE_COST: u64 = 512;

/// A part of a state, read and hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Of the part's records, of where it ends, and of where the group stands.
    pub hash: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// Where the next part begins. None: this was the last.
    pub next: Option<Bytes>,
}

impl Machine {
    /// Where lies what replicas agree on, beside their meta records, in the order of keys: the buckets' records, each bucket's values, each
    /// one's expiry index, the members, the sessions. Not the marks of dropped buckets, which each replica purges in its own time.
    pub(crate) fn agreed_ranges(&self) -> Vec<StoreRange> {
        let generation = self.generation();
        let mut created: Vec<_> = self.buckets().values().map(|bucket| bucket.created_version).collect();
        created.sort_unstable();
        let data = created.iter().map(|&created| generation.data(created).range(&KeyRange::default()));
        let expiries = created.iter().map(|&created| generation.expiries(created).range());
        let small = [KIND_MEMBERS, KIND_SESSION].map(|kind| generation.kind_range(kind));
        [generation.kind_range(KIND_BUCKET)].into_iter().chain(data).chain(expiries).chain(small).collect()
    }

    /// Reads the part of the state that begins at `position` (a key without its generation; empty at first) and has about
    /// `bytes_max` bytes: at least one record, if there are any.
    pub fn digest(&self, reader: &dyn Read, position: &[u8], bytes_max: u64) -> Result<Digest, StoreError> {
        let mut hash = Xxh3::new();
        hash.update(&Meta { generation: 0, ..self.meta().clone() }.encode());
        let generation = self.generation();
        let first = generation.key(position);
        let (mut bytes, mut cost, mut next) = (0, 0, None);
        for (start, end) in self.agreed_ranges() {
            if next.is_some() || end[..] <= first[..] {
                continue;
            }
            let start = start.as_slice().max(&first);
            if cost >= bytes_max && cost > 0 {
                next = Some(Bytes::copy_from_slice(generation.suffix(start)));
                break;
            }
            cost += RANGE_COST;
            reader.scan(start, &end, false, &mut |key, value| {
                let suffix = generation.suffix(&key);
                let record_bytes = (suffix.len() + value.len()) as u64;
                if bytes > 0 && cost + record_bytes > bytes_max {
                    next = Some(Bytes::copy_from_slice(suffix));
                    return ControlFlow::Break(());
                }
                bytes += record_bytes;
                cost += RECORD_COST + record_bytes;
                add(&mut hash, suffix);
                if !is_on(Mutation::ScrubSkipsValues) {
                    add(&mut hash, &value);
                }
                ControlFlow::Continue(())
            })?;
        }
        add(&mut hash, next.as_deref().unwrap_or_default());
        Ok(Digest { hash: hash.digest(), bytes, next })
    }
}

/// With its length, so that no two rows of fields look alike.
fn add(hash: &mut Xxh3, field: &[u8]) {
    hash.update(&(field.len() as u64).to_le_bytes());
    hash.update(field);
}
