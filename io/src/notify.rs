//! A flag that wakes the task waiting for it: how the producers of one executor tell a shard's loop that there is
//! something to do.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A flag with one waiter, within one executor. Clones are the same flag. Raising it many times before the waiter's
/// turn wakes it once.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// A lowered flag.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether both are the same flag.
    pub fn is(&self, other: &Notify) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }

    /// Raises the flag, and wakes the waiter if there is one.
    pub fn notify(&self) {
        if !self.inner.raised.replace(true) {
            // The borrow ends before the wake.
            let waiter = self.inner.waiter.borrow_mut().take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Waits until the flag is raised, and lowers it. A second waiter would take the first one's place.
    pub async fn notified(&self) {
        poll_fn(|context| self.poll_notified(context)).await;
    }

    /// As [`Self::notified`], for a task that waits for several things.
    pub fn poll_notified(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.raised.replace(false) {
            return Poll::Ready(());
        }
        let mut waiter = self.inner.waiter.borrow_mut();
        match waiter.as_ref() {
            Some(known) if known.will_wake(context.waker()) => {}
            _ => *waiter = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_raises_wake_once_and_none_is_lost() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = &mut Context::from_waker(&waker);
        let notify = Notify::new();
        let producer = notify.clone();
        producer.notify();
        assert!(notify.poll_notified(context).is_ready(), "raised before anybody waited");
        assert!(notify.poll_notified(context).is_pending());
        assert!(notify.poll_notified(context).is_pending());
        producer.notify();
        producer.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(notify.poll_notified(context).is_ready());
        assert!(notify.poll_notified(context).is_pending());
    }
}
