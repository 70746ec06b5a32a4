//! Which URLs are being asked for, so that what is removed meanwhile does not come back with an answer from before.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

/// The URLs that are being asked for.
#[derive(Clone, Default)]
pub(super) struct Asking {
    urls: Arc<Mutex<HashMap<String, Url>>>,
}

/// One of them.
#[derive(Default)]
struct Url {
    /// Who asks.
    askers: usize,
    /// How often its responses were removed meanwhile.
    removals: u64,
}

/// A URL that is being asked for, until this is dropped.
pub struct Asked {
    asking: Asking,
    url: String,
    removals: u64,
}

// === impl Asking ===

impl Asking {
    /// `url` is asked for from now on.
    pub(super) fn begin(&self, url: &str) -> Asked {
        let mut urls = self.urls.lock();
        let entry = urls.entry(url.to_owned()).or_default();
        entry.askers += 1;
        Asked { asking: self.clone(), url: url.to_owned(), removals: entry.removals }
    }

    /// Responses of `url` were removed: what is on its way is from before.
    pub(super) fn removed(&self, url: &str) {
        if let Some(entry) = self.urls.lock().get_mut(url) {
            entry.removals += 1;
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Whether nothing was removed since this began.
    pub fn is_current(&self) -> bool {
        self.removals == self.now()
    }

    /// The answer is from after whatever was removed: it is that of the request which removed it.
    pub fn renew(&mut self) {
        self.removals = self.now();
    }

    fn now(&self) -> u64 {
        self.asking.urls.lock().get(&self.url).map_or(0, |entry| entry.removals)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut urls = self.asking.urls.lock();
        if let Some(entry) = urls.get_mut(&self.url) {
            entry.askers -= 1;
            if entry.askers == 0 {
                urls.remove(&self.url);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Asking;

    #[test]
    fn what_is_removed_while_it_is_asked_for_is_known() {
        let asking = Asking::default();
        let mut first = asking.begin("a");
        let other = asking.begin("b");
        asking.removed("a");
        let second = asking.begin("a");
        assert_eq!((first.is_current(), second.is_current(), other.is_current()), (false, true, true));
        first.renew();
        assert!(first.is_current());
        drop((first, second, other));
        assert!(asking.urls.lock().is_empty());
    }
}
