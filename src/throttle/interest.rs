//! Who still wants a fetch that several may wait for, and how much.
//!
//! The clients that wait for a coalesced fetch come and go while it queues. Each holds an [`Interested`]; the
//! queue sees the highest priority of those left, and nothing when all have gone.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Priority;

/// The interest in one fetch. Clones share it.
#[derive(Debug, Clone)]
pub struct Interest {
    shared: Arc<Shared>,
}

/// One who is interested; dropping it is losing interest.
#[derive(Debug)]
pub struct Interested {
    shared: Arc<Shared>,
    priority: Priority,
}

#[derive(Debug)]
struct Shared {
    counts: Mutex<[usize; Priority::ALL.len()]>,
    highest: watch::Sender<Option<Priority>>,
}

// === impl Interest ===

impl Default for Interest {
    fn default() -> Self {
        let highest = watch::Sender::new(None);
        Self { shared: Arc::new(Shared { counts: Mutex::default(), highest }) }
    }
}

impl Interest {
    /// An interest of fixed priority that lasts as long as the request itself.
    pub fn always(priority: Priority) -> Self {
        let interest = Self::default();
        interest.shared.count(priority, |count| *count += 1);
        interest
    }

    /// Somebody more is interested.
    #[must_use]
    pub fn join(&self, priority: Priority) -> Interested {
        self.shared.count(priority, |count| *count += 1);
        Interested { shared: Arc::clone(&self.shared), priority }
    }

    /// The highest priority of those interested; `None` when nobody is.
    pub fn priority(&self) -> Option<Priority> {
        *self.shared.highest.borrow()
    }

    /// Tells of changes of [`Interest::priority`].
    pub fn watch(&self) -> watch::Receiver<Option<Priority>> {
        self.shared.highest.subscribe()
    }
}

// === impl Interested ===

impl Drop for Interested {
    fn drop(&mut self) {
        self.shared.count(self.priority, |count| *count -= 1);
    }
}

// === impl Shared ===

impl Shared {
    fn count(&self, priority: Priority, change: impl FnOnce(&mut usize)) {
        let mut counts = self.counts.lock();
        change(&mut counts[priority as usize]);
        let highest = Priority::ALL.into_iter().find(|priority| counts[*priority as usize] > 0);
        // Under the lock, so that the last to change it is the last to tell.
        self.highest.send_if_modified(|told| std::mem::replace(told, highest) != highest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_those_who_stay_counts() {
        let interest = Interest::default();
        assert_eq!(interest.priority(), None);
        let warm_up = interest.join(Priority::WarmUp);
        let document = interest.join(Priority::Document);
        let again = interest.join(Priority::Document);
        assert_eq!(interest.priority(), Some(Priority::Document));
        drop(document);
        assert_eq!(interest.priority(), Some(Priority::Document));
        drop(again);
        assert_eq!(interest.priority(), Some(Priority::WarmUp));
        drop(warm_up);
        assert_eq!(interest.priority(), None);
        assert_eq!(Interest::always(Priority::Package).priority(), Some(Priority::Package));
    }

    #[tokio::test]
    async fn a_watcher_hears_of_changes_only() {
        let interest = Interest::default();
        let first = interest.join(Priority::Refresh);
        let mut watch = interest.watch();
        let _second = interest.join(Priority::Refresh);
        drop(first);
        assert!(!watch.has_changed().unwrap());
        let _third = interest.join(Priority::Package);
        watch.changed().await.unwrap();
        assert_eq!(*watch.borrow_and_update(), Some(Priority::Package));
    }
}
