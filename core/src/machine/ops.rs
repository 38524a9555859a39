//! Batches and transactions: operations in order, each of which sees those before it, all or nothing, under one version.

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::machine::ValueRecord;
use crate::machine::apply::{Answer, Batch};
use crate::machine::keys::DataPrefix;
use crate::name::{BucketName, Key};
use crate::request::{BatchOp, Condition, OpResult, Reply};
use crate::store::StoreError;
use crate::types::Version;

/// What operations come to: their results, and the group's version behind them.
type Done = Result<Result<(Version, Vec<OpResult>), Error>, StoreError>;

/// One list of operations on its way.
struct Run {
    data: DataPrefix,
    version: Version,
    changed: bool,
    reply_bytes: usize,
    /// What the changes replaced, if an operation can still be refused.
    undo: Option<Vec<(Bytes, Option<Option<Bytes>>)>>,
}

impl Batch<'_> {
    pub(super) fn batch(&mut self, name: &BucketName, ops: &[BatchOp]) -> Answer {
        let data = match self.data(name) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.run(data, ops)?.map(|(version, results)| Reply::Batch { version, results }))
    }

    pub(super) fn txn(
        &mut self,
        name: &BucketName,
        compare: &[(Key, Condition)],
        success: &[BatchOp],
        failure: &[BatchOp],
    ) -> Answer {
        let data = match self.data(name) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        let mut succeeded = true;
        for (key, condition) in compare {
            succeeded &= condition.holds(self.find(&data.key(key.as_bytes()))?.as_ref());
        }
        let done = self.run(data, if succeeded { success } else { failure })?;
        Ok(done.map(|(version, results)| Reply::Txn { succeeded, version, results }))
    }

    /// What can be refused on the way (an answer that grows too large, a value that is no number) is undone.
    fn run(&mut self, data: DataPrefix, ops: &[BatchOp]) -> Done {
        let refusable = |op: &BatchOp| !matches!(op, BatchOp::Put { .. } | BatchOp::Delete { .. });
        let undo = ops.iter().any(refusable).then(Vec::new);
        let mut run = Run { data, version: self.next_version(), changed: false, reply_bytes: 0, undo };
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            match self.op(&mut run, op)? {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.undo(run.undo.unwrap_or_default());
                    return Ok(Err(error));
                }
            }
        }
        if run.changed {
            self.machine.meta.version = run.version;
        }
        Ok(Ok((self.machine.meta.version, results)))
    }

    fn op(&mut self, run: &mut Run, op: &BatchOp) -> Result<Result<OpResult, Error>, StoreError> {
        match op {
            BatchOp::Put { key, value, ttl_ms: _ } => {
                self.change(run, key, Some(value));
                Ok(Ok(OpResult { affected: 1, entry: None }))
            }
            BatchOp::Delete { key } => {
                let existed = self.find(&run.data.key(key.as_bytes()))?.is_some();
                if existed {
                    self.change(run, key, None);
                }
                Ok(Ok(OpResult { affected: u64::from(existed), entry: None }))
            }
            BatchOp::Get { key } => {
                let found = self.find(&run.data.key(key.as_bytes()))?;
                Ok(run.answer(0, key, found))
            }
            BatchOp::Increment { key, by } => {
                let found = self.find(&run.data.key(key.as_bytes()))?;
                let sum = match number(found.as_ref()).and_then(|number| number.checked_add(*by).ok_or("is too large"))
                {
                    Ok(sum) => Bytes::from(sum.to_string()),
                    Err(why) => return Ok(Err(cannot("increment", key, why))),
                };
                self.change(run, key, Some(&sum));
                let made = ValueRecord { version: run.version, expiry_ms: None, value: sum };
                Ok(run.answer(1, key, Some(made)))
            }
            BatchOp::Append { key, value } => {
                let before = self.find(&run.data.key(key.as_bytes()))?.map(|record| record.value).unwrap_or_default();
                if before.len() + value.len() > VALUE_BYTES_MAX {
                    return Ok(Err(cannot("append to", key, "would have more bytes than a value may have")));
                }
                let joined = Bytes::from([&before[..], &value[..]].concat());
                self.change(run, key, Some(&joined));
                Ok(Ok(OpResult { affected: 1, entry: None }))
            }
        }
    }

    fn change(&mut self, run: &mut Run, key: &Key, value: Option<&Bytes>) {
        run.changed = true;
        let store_key = run.data.key(key.as_bytes());
        let change = value.map(|value| ValueRecord::encode_plain(run.version, value));
        match &mut run.undo {
            Some(undo) => {
                let before = self.writes.changes.insert(store_key.clone(), change);
                undo.push((store_key, before));
            }
            None => {
                self.writes.changes.insert(store_key, change);
            }
        }
    }

    fn undo(&mut self, changes: Vec<(Bytes, Option<Option<Bytes>>)>) {
        for (key, before) in changes.into_iter().rev() {
            match before {
                Some(change) => self.writes.changes.insert(key, change),
                None => self.writes.changes.remove(&key),
            };
        }
    }
}

impl Run {
    /// A result with an entry in it, unless that is too much.
    fn answer(&mut self, affected: u64, key: &Key, found: Option<ValueRecord>) -> Result<OpResult, Error> {
        let entry = found.map(|record| record.entry(key.as_bytes()));
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
