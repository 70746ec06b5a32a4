//! Calls that block where they must not: on the threads that serve sockets, where each holds up all their connections.
//!
//! A thread of such a runtime says so when it starts ([`serve_sockets`]). Tokio starts the threads that may block in the
//! same way, so those say it too, and take it back for the time of their work ([`may_block`]). Every call of the database
//! and of the store's files is noted; those that are made where sockets are served are counted, and a test wants none.

use std::{cell::Cell, collections::BTreeMap};

use parking_lot::Mutex;

thread_local! {
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// What was done where it must not be, and how often.
static BLOCKED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// This thread serves sockets from now on.
pub fn serve_sockets() {
    SERVES.set(true);
}

/// Runs `call` as one that may block, on a thread that is there for that.
pub fn may_block<T>(call: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            SERVES.set(self.0);
        }
    }
    let _back = Back(SERVES.replace(false));
    call()
}

/// Notes a call that blocks.
pub fn blocks(action: &'static str) {
    if SERVES.get() {
        *BLOCKED.lock().entry(action).or_default() += 1;
    }
}

/// What blocked threads that serve sockets, and how often, since the process began.
pub fn blocked() -> BTreeMap<&'static str, u64> {
    BLOCKED.lock().clone()
}

#[cfg(test)]
mod tests {
    use super::{blocked, blocks, may_block, serve_sockets};

    #[test]
    fn only_where_sockets_are_served_is_a_blocking_call_counted() {
        let count = |action| blocked().get(action).copied();
        blocks("elsewhere");
        let served = std::thread::spawn(|| {
            serve_sockets();
            blocks("test");
            may_block(|| blocks("test"));
            blocks("test");
        });
        served.join().unwrap();
        assert_eq!((count("test"), count("elsewhere")), (Some(2), None));
    }
}
