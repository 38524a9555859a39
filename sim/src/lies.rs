//! Who watches the checkers: a world that lies. Between the nodes and the clients some answers are changed, each lie in its own way, and
//! the law that it breaks must be the one that is said to be broken. No seed decides to lie; `tests/lies.rs` does.

use std::collections::BTreeMap;

use bytes::Bytes;
use drey_core::name::{BucketName, Key};
use drey_core::request::{BatchOp, Command, Entry, Operation, ReadMode, ReadOp, Reply, Write};
use drey_core::{Error, Version};

use crate::checker::{ONE_VERSION, counters, expiry, local, locks, scans};
use crate::rng::Rng;
use crate::scripts::{hoard, misuse};

/// Of the answers that fit, in per mille.
const LIES: u32 = 100;

macro_rules! lies {
    ($($(#[$doc:meta])* $name:ident breaks $law:expr,)*) => {
        /// What is lied about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Lie { $($(#[$doc])* $name,)* }

        impl Lie {
            /// All of them.
            pub const ALL: &'static [Lie] = &[$(Lie::$name,)*];

            /// The law that it breaks.
            pub fn law(self) -> &'static str {
                match self { $(Lie::$name => $law,)* }
            }
        }
    };
}

lies! {
    /// A key that is there is said to be absent.
    Absent breaks "linearizability",
    /// So it is, when everything is read a last time.
    LostAtTheEnd breaks "acknowledged implies durable",
    /// A write is said to have an old version.
    OldVersion breaks "versions never fall",
    /// At the end a value has another version.
    OtherVersion breaks ONE_VERSION,
    /// A transaction is said not to have found what it read.
    BlindTxn breaks "linearizability",
    /// What was in a bucket is there after its end.
    DroppedComesBack breaks "linearizability",
    /// A bucket that is not there is said to be made by somebody else.
    MadeBefore breaks "linearizability",
    /// A scan leaves out a key.
    ScanSkips breaks scans::LAW,
    /// A page of a scan is of another state.
    PagesDiffer breaks scans::LAW,
    /// A local read shows what was there before.
    LocalGoesBack breaks local::BACK,
    /// A local read shows what was refused.
    LocalShowsRefused breaks local::NOWHERE,
    /// A sum of which another was told is told again.
    UpdateLost breaks counters::LOST,
    /// A sum is larger than all that was added.
    AddedTwice breaks counters::TWICE,
    /// A read finds less than there was.
    OldSum breaks counters::STALE,
    /// A lock that somebody holds is given to another.
    TwoHolders breaks locks::TWO,
    /// A lock is gone while it is held.
    LockGone breaks locks::TAKEN_AWAY,
    /// What cannot be done is said to be done.
    Misuse breaks misuse::LAW,
    /// A bucket is larger than it may be.
    BucketTooLarge breaks hoard::LAW,
    /// A key is gone before its time.
    ExpiredEarly breaks expiry::EARLY,
    /// A key that is gone is there again.
    ExpiredComesBack breaks expiry::BACK,
    /// A key is never gone.
    ExpiredStays breaks expiry::LATE,
}

type Name = (BucketName, Key);

/// The one who tells it.
pub struct Liar {
    lie: Lie,
    rng: Rng,
    /// Of each key, what it was seen to be, and what it was before.
    seen: BTreeMap<Name, [Option<Entry>; 2]>,
    refused: BTreeMap<Name, Bytes>,
}

impl Liar {
    /// One who has seen nothing yet.
    pub fn new(lie: Lie, rng: Rng) -> Liar {
        Liar { lie, rng, seen: BTreeMap::new(), refused: BTreeMap::new() }
    }

    /// Changes an answer, or not. `at_the_end`: all is read a last time.
    pub fn tell(&mut self, asked: &Operation, answer: &mut Result<Reply, Error>, at_the_end: bool) {
        let lies_now = self.rng.chance(LIES);
        match asked {
            Operation::Read(_, mode, ReadOp::Get { bucket, key }) => {
                let name = (bucket.clone(), key.clone());
                // What was said is what is remembered: of a lie nothing.
                match self.get(&name, *mode, answer, at_the_end, lies_now) {
                    Some(told) => *answer = told,
                    None => self.remember(name, answer),
                }
            }
            Operation::Read(_, mode, ReadOp::GetMany { bucket, keys }) => {
                if self.lie == Lie::DroppedComesBack
                    && *mode == ReadMode::Linearizable
                    && !at_the_end
                    && matches!(answer, Err(Error::BucketNotFound(_)))
                {
                    self.bring_back(bucket, keys, answer);
                }
                let Ok(Reply::Entries(entries)) = answer else { return };
                for (key, entry) in keys.iter().zip(entries) {
                    let (name, answer) = ((bucket.clone(), key.clone()), Ok(Reply::Entry(entry.clone())));
                    match self.get(&name, *mode, &answer, at_the_end, lies_now) {
                        Some(Ok(Reply::Entry(told))) => *entry = told,
                        _ => self.remember(name, &answer),
                    }
                }
            }
            Operation::Read(_, _, op) => self.page(op, answer, lies_now),
            Operation::Write(command) => self.write(command, answer, lies_now),
            _ => {}
        }
    }

    /// What was last seen of these keys, if anything was.
    fn bring_back(&self, bucket: &BucketName, keys: &[Key], answer: &mut Result<Reply, Error>) {
        let latest = |key: &Key| self.seen.get(&(bucket.clone(), key.clone())).and_then(|[latest, _]| latest.clone());
        let seen: Vec<Option<Entry>> = keys.iter().map(latest).collect();
        if seen.iter().any(Option::is_some) {
            *answer = Ok(Reply::Entries(seen));
        }
    }

    fn remember(&mut self, name: Name, answer: &Result<Reply, Error>) {
        if let Ok(Reply::Entry(Some(entry))) = answer {
            let [latest, before] = self.seen.entry(name).or_default();
            if latest.as_ref().is_none_or(|latest| latest.version < entry.version) {
                *before = latest.replace(entry.clone());
            }
        }
    }

    /// What is told of one key, if it is a lie.
    fn get(
        &mut self,
        name: &Name,
        mode: ReadMode,
        answer: &Result<Reply, Error>,
        at_the_end: bool,
        lies_now: bool,
    ) -> Option<Result<Reply, Error>> {
        let starts = |prefix: &str| name.1.as_bytes().starts_with(prefix.as_bytes());
        let (is_local, is_timed) = (mode == ReadMode::Local, starts("timed-"));
        let [latest, before] = self.seen.get(name).cloned().unwrap_or_default();
        let told = match (self.lie, answer) {
            (Lie::Absent, Ok(Reply::Entry(Some(_)))) if starts("key-") && !is_local && !at_the_end && lies_now => None,
            (Lie::LostAtTheEnd, Ok(Reply::Entry(Some(_)))) if starts("key-") && at_the_end => None,
            (Lie::OtherVersion, Ok(Reply::Entry(Some(entry)))) if starts("key-") && at_the_end => {
                Some(Entry { version: Version(entry.version.0 + 1), ..entry.clone() })
            }
            (Lie::DroppedComesBack, Err(Error::BucketNotFound(_))) if !is_local && !at_the_end => Some(latest?),
            (Lie::LocalGoesBack, Ok(Reply::Entry(Some(_)))) if is_local && lies_now => Some(before?),
            (Lie::LocalShowsRefused, Ok(Reply::Entry(Some(entry)))) if is_local => {
                Some(Entry { value: self.refused.get(name)?.clone(), ..entry.clone() })
            }
            (Lie::OldSum, Ok(Reply::Entry(Some(_)))) if starts("counter-") && lies_now && !at_the_end => Some(before?),
            (Lie::AddedTwice, Ok(Reply::Entry(Some(entry)))) if starts("counter-") && at_the_end => {
                let sum: u64 = std::str::from_utf8(&entry.value).ok()?.parse().ok()?;
                // More than can be unknown.
                Some(Entry { value: (sum + 1_000_000).to_string().into(), ..entry.clone() })
            }
            // Who is told so must not find out.
            (Lie::TwoHolders, Ok(_)) if starts("lock-") && !at_the_end => return Some(Err(Error::DeadlineExceeded)),
            (Lie::LockGone, Ok(Reply::Entry(Some(_)))) if starts("lock-") && lies_now && !at_the_end => None,
            (Lie::ExpiredEarly, Ok(Reply::Entry(Some(_)))) if is_timed && lies_now => None,
            (Lie::ExpiredComesBack, Ok(Reply::Entry(None))) if is_timed && lies_now => Some(latest?),
            (Lie::ExpiredStays, Ok(Reply::Entry(None))) if is_timed => Some(latest?),
            _ => return None,
        };
        Some(Ok(Reply::Entry(told)))
    }

    fn page(&self, op: &ReadOp, answer: &mut Result<Reply, Error>, lies_now: bool) {
        match (self.lie, op, answer) {
            (Lie::ScanSkips, ReadOp::Scan { .. }, Ok(Reply::Page(page))) if lies_now => {
                page.entries.pop();
            }
            (Lie::PagesDiffer, ReadOp::ScanNext { .. }, Ok(Reply::Page(page))) if lies_now => {
                page.version = Version(page.version.0 + 1);
            }
            (Lie::BucketTooLarge, ReadOp::DescribeBucket { .. }, Ok(Reply::Buckets(found))) => {
                found.iter_mut().for_each(|bucket| bucket.bytes_estimate += 1_000_000);
            }
            _ => {}
        }
    }

    fn write(&mut self, command: &Command, answer: &mut Result<Reply, Error>, lies_now: bool) {
        if let Write::Put { key, value, .. } = &command.write
            && command.id.is_none()
            && matches!(
                answer,
                Err(Error::NoLeader | Error::NotReady(_) | Error::Overloaded(_) | Error::QuotaExceeded(_))
            )
        {
            self.refused.insert((command.bucket.clone(), key.clone()), value.clone());
        }
        let key_starts = |key: &Key, prefix: &str| key.as_bytes().starts_with(prefix.as_bytes());
        match (self.lie, &command.write, answer) {
            (Lie::OldVersion, Write::Put { key, .. }, Ok(Reply::Put { applied: true, version, .. }))
                if key_starts(key, "key-") && lies_now =>
            {
                *version = Version(1);
            }
            (Lie::BlindTxn, Write::Txn { compare, .. }, Ok(Reply::Txn { results, .. }))
                if compare.iter().all(|(key, _)| key_starts(key, "key-")) =>
            {
                results.iter_mut().for_each(|result| result.entry = None);
            }
            (Lie::MadeBefore, Write::CreateBucket { .. }, Ok(Reply::Created { created, .. })) if lies_now => {
                *created = false;
            }
            (Lie::UpdateLost, Write::Put { key, .. }, Ok(Reply::Put { applied, .. }))
                if key_starts(key, "counter-") =>
            {
                *applied = true;
            }
            (Lie::UpdateLost, Write::Batch { ops }, Ok(Reply::Batch { results, .. })) if lies_now => {
                if let ([BatchOp::Increment { by, .. }], [result]) = (&ops[..], &mut results[..])
                    && let Some(entry) = &mut result.entry
                    && let Some(sum) = std::str::from_utf8(&entry.value).ok().and_then(|sum| sum.parse::<i64>().ok())
                {
                    entry.value = (sum - by).max(*by).to_string().into();
                }
            }
            (Lie::TwoHolders, Write::Put { key, .. }, Ok(Reply::Put { applied, .. }))
                if key_starts(key, "lock-") && lies_now =>
            {
                *applied = true;
            }
            (Lie::TwoHolders, Write::Delete { key, .. }, answer @ Ok(_)) if key_starts(key, "lock-") => {
                *answer = Err(Error::DeadlineExceeded);
            }
            (Lie::Misuse, _, answer @ Err(Error::InvalidArgument(_))) => *answer = Ok(Reply::Done),
            _ => {}
        }
    }
}
