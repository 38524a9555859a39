//! Writes in a few words, for people who look at a log. Keys are shown escaped, of values only how many bytes they have.

use std::fmt::{self, Display};

use crate::name::Key;
use crate::request::{BatchOp, Command, Condition, Write};
use crate::system::SystemWrite;

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = &self.bucket;
        match &self.write {
            Write::CreateBucket { .. } => write!(f, "create bucket {bucket}"),
            Write::DropBucket { .. } => write!(f, "drop bucket {bucket}"),
            Write::Put { key, value, ttl_ms, condition, .. } => {
                write!(f, "put {bucket}/{}: {} bytes", Escaped(key), value.len())?;
                time_to_live(f, *ttl_ms)?;
                only_if(f, condition.as_ref())
            }
            Write::Delete { key, condition, .. } => {
                write!(f, "delete {bucket}/{}", Escaped(key))?;
                only_if(f, condition.as_ref())
            }
            Write::Expire { key, ttl_ms } => {
                write!(f, "expire {bucket}/{}", Escaped(key))?;
                time_to_live(f, *ttl_ms)
            }
            Write::OpenSession => f.write_str("open a session"),
            Write::Batch { ops } => {
                write!(f, "batch in {bucket}: ")?;
                list(f, ops)
            }
            Write::Txn { compare, success, failure } => {
                write!(f, "transaction in {bucket}: if")?;
                for (place, (key, condition)) in compare.iter().enumerate() {
                    write!(f, "{} {}", if place > 0 { " and" } else { "" }, Escaped(key))?;
                    test(f, condition)?;
                }
                f.write_str(" then ")?;
                list(f, success)?;
                f.write_str(" else ")?;
                list(f, failure)
            }
            Write::System(SystemWrite::Join { name, address, .. }) => {
                write!(f, "{} at {} joins", name.escape_debug(), address.escape_debug())
            }
            Write::System(SystemWrite::Leave { member }) => write!(f, "member {member} is to leave"),
            Write::System(SystemWrite::Left { member, group }) => write!(f, "group {group} has let member {member} go"),
        }?;
        match self.id {
            Some(id) => write!(f, " (session {}, write {})", id.session, id.sequence),
            None => Ok(()),
        }
    }
}

impl Display for BatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchOp::Put { key, value, ttl_ms } => {
                write!(f, "put {}: {} bytes", Escaped(key), value.len())?;
                time_to_live(f, *ttl_ms)
            }
            BatchOp::Delete { key } => write!(f, "delete {}", Escaped(key)),
            BatchOp::Get { key } => write!(f, "get {}", Escaped(key)),
            BatchOp::Increment { key, by } => write!(f, "add {by} to {}", Escaped(key)),
            BatchOp::Append { key, value } => write!(f, "append {} bytes to {}", value.len(), Escaped(key)),
        }
    }
}

/// A key, with what is not printable as `\x..`.
struct Escaped<'a>(&'a Key);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().escape_ascii().fmt(f)
    }
}

fn list(f: &mut fmt::Formatter<'_>, ops: &[BatchOp]) -> fmt::Result {
    if ops.is_empty() {
        return f.write_str("nothing");
    }
    for (place, op) in ops.iter().enumerate() {
        write!(f, "{}{op}", if place > 0 { ", " } else { "" })?;
    }
    Ok(())
}

fn time_to_live(f: &mut fmt::Formatter<'_>, ttl_ms: Option<u64>) -> fmt::Result {
    ttl_ms.map_or(Ok(()), |ttl_ms| write!(f, ", for {ttl_ms} ms"))
}

fn only_if(f: &mut fmt::Formatter<'_>, condition: Option<&Condition>) -> fmt::Result {
    let Some(condition) = condition else { return Ok(()) };
    f.write_str(", if it")?;
    test(f, condition)
}

fn test(f: &mut fmt::Formatter<'_>, condition: &Condition) -> fmt::Result {
    match condition {
        Condition::VersionIs(version) => write!(f, " has version {version}"),
        Condition::ValueIs(value) => write!(f, " is certain {} bytes", value.len()),
        Condition::Exists(true) => f.write_str(" exists"),
        Condition::Exists(false) => f.write_str(" does not exist"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::name::BucketName;
    use crate::request::WriteId;

    #[test]
    fn a_write_is_told_with_all_that_matters_but_its_values() {
        let key = |key: &'static [u8]| Key::new(Bytes::from_static(key)).unwrap();
        let told = |write| Command { bucket: BucketName::DEFAULT, id: None, write }.to_string();
        let put = Write::Put {
            key: key(b"a\x00b"),
            value: "secret".into(),
            ttl_ms: Some(5),
            condition: Some(Condition::Exists(false)),
            return_previous: false,
        };
        assert_eq!(told(put), r"put default/a\x00b: 6 bytes, for 5 ms, if it does not exist");
        let ops = vec![BatchOp::Increment { key: key(b"n"), by: -2 }, BatchOp::Delete { key: key(b"d") }];
        assert_eq!(told(Write::Batch { ops: ops.clone() }), "batch in default: add -2 to n, delete d");
        let compare = vec![(key(b"x"), Condition::Exists(true)), (key(b"y"), Condition::ValueIs("v".into()))];
        let txn = Write::Txn { compare, success: ops, failure: Vec::new() };
        assert_eq!(
            told(txn),
            "transaction in default: if x exists and y is certain 1 bytes then add -2 to n, delete d else nothing"
        );
        let id = Some(WriteId { session: 7, sequence: 9, first_unacked: 1 });
        let delete = Write::Delete { key: key(b"k"), condition: None, return_previous: false };
        let command = Command { bucket: BucketName::DEFAULT, id, write: delete };
        assert_eq!(command.to_string(), "delete default/k (session 7, write 9)");
    }
}
