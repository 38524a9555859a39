//! Batches and transactions: operations in order, each of which sees those before it, all or nothing, under one version.

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::machine::ValueRecord;
use crate::machine::apply::{Answer, Batch, Before, Target};
use crate::mutation::{Mutation, is_on};
use crate::name::Key;
use crate::request::{BatchOp, Condition, Entry, OpResult, Reply};
use crate::store::StoreError;
use crate::types::Version;

/// What operations come to: their results, and the group's version behind them.
type Done = Result<Result<(Version, Vec<OpResult>), Error>, StoreError>;

/// One list of operations on its way.
struct Run<'a> {
    target: &'a Target,
    version: Version,
    changed: bool,
    reply_bytes: usize,
}

impl Batch<'_> {
    pub(super) fn batch(&mut self, target: &Target, ops: &[BatchOp]) -> Answer {
        Ok(self.run(target, ops)?.map(|(version, results)| Reply::Batch { version, results }))
    }

    pub(super) fn txn(
        &mut self,
        target: &Target,
        compare: &[(Key, Condition)],
        success: &[BatchOp],
        failure: &[BatchOp],
    ) -> Answer {
        let mut succeeded = true;
        for (key, condition) in compare {
            succeeded &= condition.holds(self.before(target, key)?.record.as_ref());
        }
        let done = self.run(target, if succeeded { success } else { failure })?;
        Ok(done.map(|(version, results)| Reply::Txn { succeeded, version, results }))
    }

    /// What can be refused on the way (an answer that grows too large, a value that is no number) is undone.
    fn run(&mut self, target: &Target, ops: &[BatchOp]) -> Done {
        let refusable = |op: &BatchOp| !matches!(op, BatchOp::Put { .. } | BatchOp::Delete { .. });
        self.undo = ops.iter().any(refusable).then(Vec::new);
        let mut run = Run { target, version: self.next_version(), changed: false, reply_bytes: 0 };
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            match self.op(&mut run, op)? {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.undo();
                    return Ok(Err(error));
                }
            }
        }
        self.undo = None;
        if run.changed {
            self.machine.meta.version = run.version;
        }
        Ok(Ok((self.machine.meta.version, results)))
    }

    fn op(&mut self, run: &mut Run, op: &BatchOp) -> Result<Result<OpResult, Error>, StoreError> {
        let affected = |affected: u64| Ok(Ok(OpResult { affected, entry: None }));
        match op {
            BatchOp::Put { key, value, ttl_ms } => {
                let expiry_ms = self.expiry_ms(run.target, *ttl_ms);
                let before = if expiry_ms.is_some() { self.before(run.target, key)? } else { Before::default() };
                self.put_op(run, key, before.expiry_ms, expiry_ms, value.clone());
                affected(1)
            }
            BatchOp::Delete { key } => {
                let before = self.before(run.target, key)?;
                if before.record.is_some() {
                    run.changed = true;
                    self.replace(run.target, key, before.expiry_ms, None);
                }
                affected(u64::from(before.record.is_some()))
            }
            BatchOp::Get { key } => {
                let entry = self.before(run.target, key)?.record.map(|record| self.entry_of(key, record));
                Ok(run.answer(0, entry))
            }
            BatchOp::Increment { key, by } => {
                let before = self.before(run.target, key)?;
                let sum =
                    number(before.record.as_ref()).and_then(|number| number.checked_add(*by).ok_or("is too large"));
                let sum = match sum {
                    Ok(sum) => Bytes::from(sum.to_string()),
                    Err(why) => return Ok(Err(cannot("increment", key, why))),
                };
                let expiry_ms = self.kept_expiry_ms(run.target, &before);
                let made = self.put_op(run, key, before.expiry_ms, expiry_ms, sum);
                Ok(run.answer(1, Some(self.entry_of(key, made))))
            }
            BatchOp::Append { key, value } => {
                let before = self.before(run.target, key)?;
                let bytes = before.record.as_ref().map(|record| record.value.clone()).unwrap_or_default();
                if bytes.len() + value.len() > VALUE_BYTES_MAX {
                    return Ok(Err(cannot("append to", key, "would have more bytes than a value may have")));
                }
                let joined = Bytes::from([&bytes[..], &value[..]].concat());
                let expiry_ms = self.kept_expiry_ms(run.target, &before);
                self.put_op(run, key, before.expiry_ms, expiry_ms, joined);
                affected(1)
            }
        }
    }

    /// A key that is there keeps its time to live; one that is made gets the bucket's.
    fn kept_expiry_ms(&self, target: &Target, before: &Before) -> Option<u64> {
        match &before.record {
            Some(record) => record.expiry_ms,
            None => self.expiry_ms(target, None),
        }
    }

    fn put_op(
        &mut self,
        run: &mut Run,
        key: &Key,
        before_ms: Option<u64>,
        expiry_ms: Option<u64>,
        value: Bytes,
    ) -> ValueRecord {
        run.changed = true;
        let record = ValueRecord { version: run.version, expiry_ms, value };
        self.replace(run.target, key, before_ms, Some(&record));
        record
    }

    fn undo(&mut self) {
        let done = self.undo.take().unwrap_or_default();
        let stay = usize::from(is_on(Mutation::FirstOfBatchStays));
        for (key, before) in done.into_iter().skip(stay).rev() {
            match before {
                Some(change) => self.writes.changes.insert(key, change),
                None => self.writes.changes.remove(&key),
            };
        }
    }
}

impl Run<'_> {
    /// A result with an entry in it, unless that is too much.
    fn answer(&mut self, affected: u64, entry: Option<Entry>) -> Result<OpResult, Error> {
        self.reply_bytes += entry.as_ref().map_or(0, |entry| entry.key.len() + entry.value.len());
        if self.reply_bytes > REPLY_BYTES_MAX {
            return Err(Error::invalid(format!("the batch reads more than {REPLY_BYTES_MAX} bytes: split it")));
        }
        Ok(OpResult { affected, entry })
    }
}

/// A value as a decimal number, in the one form that [`BatchOp::Increment`] writes.
fn number(found: Option<&ValueRecord>) -> Result<i64, &'static str> {
    let Some(record) = found else { return Ok(0) };
    let text = std::str::from_utf8(&record.value).map_err(|_| "is no number")?;
    let number: i64 = text.parse().map_err(|_| "is no number of 64 bits")?;
    if number.to_string() == text { Ok(number) } else { Err("is no number in its plain form") }
}

fn cannot(what: &str, key: &Key, why: &str) -> Error {
    Error::invalid(format!("cannot {what} key {:?}: its value {why}", String::from_utf8_lossy(key.as_bytes())))
}
