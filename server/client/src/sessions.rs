//! The sessions in which a client's writes have their ids: one for each bucket that it writes to.

use crate::proto::{
    BatchRequest, CreateBucketRequest, DeleteRequest, DropBucketRequest, ExpireRequest, PutRequest, RequestId,
    TxnRequest,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most buckets whose sessions a client remembers. A forgotten one is opened anew.
const SESSIONS_MAX: usize = 1024;

/// A request that may have an id.
pub(crate) trait Identified {
    /// Its id.
    fn id(&mut self) -> &mut Option<RequestId>;
}

macro_rules! identified {
    ($($request:ty),*) => {
        $(impl Identified for $request {
            fn id(&mut self) -> &mut Option<RequestId> {
                &mut self.id
            }
        })*
    };
}

identified!(PutRequest, DeleteRequest, ExpireRequest, BatchRequest, CreateBucketRequest, DropBucketRequest, TxnRequest);

/// By bucket.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// The bucket's session, if it is open.
    pub(crate) fn of(&self, bucket: &str) -> Option<Arc<Session>> {
        lock(&self.0).get(bucket).cloned()
    }

    /// Keeps a session that was opened. If another was meanwhile, that one is used.
    pub(crate) fn opened(&self, bucket: &str, id: u64) -> Arc<Session> {
        let mut sessions = lock(&self.0);
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(bucket) {
            sessions.clear();
        }
        let new = || Arc::new(Session { id, progress: Mutex::new(Progress { next: 1, under_way: BTreeSet::new() }) });
        Arc::clone(sessions.entry(bucket.to_owned()).or_insert_with(new))
    }

    /// The session has expired.
    pub(crate) fn forget(&self, bucket: &str, session: &Arc<Session>) {
        let mut sessions = lock(&self.0);
        if sessions.get(bucket).is_some_and(|kept| Arc::ptr_eq(kept, session)) {
            sessions.remove(bucket);
        }
    }
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Session {
    /// The next write's turn.
    pub(crate) fn begin(self: &Arc<Session>) -> SessionTurn {
        let mut progress = lock(&self.progress);
        let sequence = progress.next;
        progress.next += 1;
        progress.under_way.insert(sequence);
        SessionTurn { session: Arc::clone(self), sequence }
    }
}

/// A write's turn in its session. While it lasts, the answer to the write is kept by the cluster.
#[derive(Debug)]
pub(crate) struct SessionTurn {
    session: Arc<Session>,
    sequence: u64,
}

impl SessionTurn {
    /// The write's id.
    pub(crate) fn id(&self) -> RequestId {
        let first_unacked = lock(&self.session.progress).under_way.first().copied().unwrap_or(self.sequence);
        RequestId { session: self.session.id, sequence: self.sequence, first_unacked }
    }
}

impl Drop for SessionTurn {
    fn drop(&mut self) {
        lock(&self.session.progress).under_way.remove(&self.sequence);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_acknowledged() {
        let sessions = Sessions::default();
        assert!(sessions.of("b").is_none());
        let session = sessions.opened("b", 7);
        assert!(Arc::ptr_eq(&session, &sessions.opened("b", 8)), "the first one stays");
        let (one, two) = (session.begin(), session.begin());
        let three = session.begin();
        let id = |turn: &SessionTurn| (turn.id().session, turn.id().sequence, turn.id().first_unacked);
        assert_eq!([id(&one), id(&two), id(&three)], [(7, 1, 1), (7, 2, 1), (7, 3, 1)]);
        drop(two);
        assert_eq!(id(&three), (7, 3, 1));
        drop(one);
        assert_eq!(id(&three), (7, 3, 3));
        drop(three);
        assert_eq!(id(&session.begin()), (7, 4, 4));
        sessions.forget("b", &session);
        assert!(sessions.of("b").is_none());
    }
}
