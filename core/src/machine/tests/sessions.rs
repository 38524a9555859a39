//! Sessions and their bounds. What ids mean otherwise, the model says.

use super::*;
use crate::limits::{ANSWERS_BYTES_PER_GROUP_MAX, SESSION_ANSWERS_MAX, SESSIONS_PER_GROUP_MAX, VALUE_BYTES_MAX};
use crate::request::WriteId;

fn open(replica: &mut Replica) -> u64 {
    match replica.run_one(command("default", Write::OpenSession)) {
        Ok(Reply::SessionOpened { session }) => session,
        other => panic!("{other:?}"),
    }
}

fn within(session: u64, sequence: u64, command: Command) -> Command {
    Command { id: Some(WriteId { session, sequence, first_unacked: 1 }), ..command }
}

#[test]
fn the_session_that_was_used_longest_ago_expires() {
    let mut replica = Replica::new();
    let sessions: Vec<u64> = (0..SESSIONS_PER_GROUP_MAX).map(|_| open(&mut replica)).collect();
    let (first, second) = (sessions[0], sessions[1]);
    assert!(replica.run_one(within(first, 1, put("default", "k", "v"))).is_ok());
    let keys = replica.store.len();
    open(&mut replica);
    assert_eq!(replica.store.len(), keys, "one came, one went");
    assert!(replica.run_one(within(first, 2, put("default", "k", "v"))).is_ok(), "it was used meanwhile");
    let expired = replica.run_one(within(second, 1, put("default", "k", "w")));
    assert_eq!(expired, Err(Error::SessionExpired));
}

#[test]
fn answers_are_bounded_in_number() {
    let mut replica = Replica::new();
    let session = open(&mut replica);
    for sequence in 1..=SESSION_ANSWERS_MAX {
        assert!(replica.run_one(within(session, sequence, put("default", "k", "v"))).is_ok());
    }
    let version = replica.machine.version();
    let refused = replica.run_one(within(session, SESSION_ANSWERS_MAX + 1, put("default", "k", "v")));
    assert!(matches!(refused, Err(Error::Overloaded(_))), "{refused:?}");
    assert_eq!(replica.machine.version(), version, "it was not applied");
    let id = WriteId { session, sequence: SESSION_ANSWERS_MAX + 1, first_unacked: 2 };
    assert!(replica.run_one(Command { id: Some(id), ..put("default", "k", "v") }).is_ok(), "one is acknowledged");
}

#[test]
fn answers_are_bounded_in_bytes_and_the_oldest_session_goes_for_them() {
    let mut replica = Replica::new();
    let (small, large) = (open(&mut replica), open(&mut replica));
    assert!(replica.run_one(within(small, 1, put("default", "k", "v"))).is_ok());
    let value = vec![7; VALUE_BYTES_MAX];
    let write =
        Write::Put { key: key("large"), value: value.into(), ttl_ms: None, condition: None, return_previous: true };
    for sequence in 1..=(ANSWERS_BYTES_PER_GROUP_MAX / VALUE_BYTES_MAX) as u64 {
        assert!(replica.run_one(within(large, sequence, command("default", write.clone()))).is_ok());
    }
    assert!(replica.run_one(within(small, 1, put("default", "k", "w"))).is_ok(), "as long as there is room");
    assert!(replica.run_one(within(large, 100, command("default", write.clone()))).is_ok());
    let gone = replica.run_one(within(small, 1, put("default", "k", "w")));
    assert_eq!(gone, Err(Error::SessionExpired));
    let full = replica.run_one(within(large, 101, command("default", write.clone())));
    assert!(matches!(full, Err(Error::Overloaded(_))), "{full:?}");
    let id = WriteId { session: large, sequence: 101, first_unacked: 101 };
    assert!(replica.run_one(Command { id: Some(id), ..command("default", write) }).is_ok());
    let kept: usize = replica.store.pairs().iter().map(|(_, value)| value.len()).sum();
    assert!(kept < 3 * VALUE_BYTES_MAX, "what is acknowledged is gone: {kept}");
}

#[test]
fn sessions_are_found_again_in_the_store() {
    let mut replica = Replica::new();
    let session = open(&mut replica);
    let first = replica.run_one(within(session, 1, put("default", "k", "v")));
    replica.machine = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
    assert_eq!(replica.run_one(within(session, 1, put("default", "k", "w"))), first);
}
