//! Bodies in much use, as files that the kernel sends from ([`MemoryFile`]).

use std::{ops::RangeInclusive, sync::Arc};

use ahash::RandomState;
use bytes::Bytes;
use moka::sync::Cache;
use rustix::process::{Resource, getrlimit};

use crate::{
    handler::Edition,
    listener::{Body, MemoryFile},
};

/// Lengths in bytes at which it pays.
const LENGTHS: RangeInclusive<usize> = 24 << 10..=512 << 10;
/// Memory for them, in bytes. It is the system's: it does not count among what is resident of the process, but it does in
/// the limit of its control group.
const MEMORY: u64 = 64 << 20;
/// How many there may be: each takes a descriptor.
const MOST: u64 = 2048;
/// Of the descriptors that the process may have, at most one in so many.
const SHARE: u64 = 8;

/// The files.
pub(super) struct Filed {
    /// None where the system gave none.
    files: Cache<Edition, Option<Arc<MemoryFile>>, RandomState>,
}

// === impl Filed ===

impl Filed {
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (descriptors / SHARE).min(MOST);
        let least = MEMORY / most.max(1);
        let weight = move |_: &Edition, file: &Option<Arc<MemoryFile>>| {
            let length = file.as_ref().map_or(0, |file| file.length() as u64);
            u32::try_from(length.max(least)).unwrap_or(u32::MAX)
        };
        let files = Cache::builder().weigher(weight).max_capacity(MEMORY);
        Self { files: files.build_with_hasher(RandomState::new()) }
    }

    /// `bytes`, which are those of `edition`, in the form in which they are sent best. Where there is no file yet, `is_worth_one`
    /// tells whether to make one.
    pub(super) fn body(&self, edition: &Edition, bytes: Bytes, is_worth_one: impl FnOnce() -> bool) -> Body {
        if !LENGTHS.contains(&bytes.len()) {
            return Body::Bytes(bytes);
        }
        let known = self.files.get(edition);
        if known.is_none() && !is_worth_one() {
            return Body::Bytes(bytes);
        }
        let file = known.unwrap_or_else(|| {
            let file = MemoryFile::new(&bytes);
            if let Err(error) = &file {
                tracing::debug!(%error, "no file in memory for a body in much use");
            }
            let file = file.ok().map(Arc::new);
            self.files.insert(edition.clone(), file.clone());
            file
        });
        file.map_or(Body::Bytes(bytes), Body::File)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Filed, LENGTHS, MEMORY, MOST};
    use crate::{handler::Edition, ident::StorageId, listener::Body};

    fn edition(number: usize) -> Edition {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Edition::Package(StorageId::of_file(hash))
    }

    #[test]
    fn one_file_for_an_edition_and_none_for_small_and_large_bodies() {
        let filed = Filed::new();
        let body = |number, length| filed.body(&edition(number), Bytes::from(vec![7; length]), || true);
        assert!(matches!(
            filed.body(&edition(1), Bytes::from(vec![7; *LENGTHS.start()]), || false),
            Body::Bytes(_)
        ));
        let (Body::File(one), Body::File(again), Body::File(other)) =
            (body(1, *LENGTHS.start()), body(1, *LENGTHS.start()), body(2, *LENGTHS.end()))
        else {
            panic!("no file");
        };
        assert!(std::sync::Arc::ptr_eq(&one, &again) && other.length() == *LENGTHS.end());
        for length in [0, LENGTHS.start() - 1, LENGTHS.end() + 1] {
            assert!(matches!(body(3, length), Body::Bytes(bytes) if bytes.len() == length));
        }
    }

    #[test]
    fn memory_and_descriptors_are_bounded() {
        let filed = Filed::new();
        for number in 0..4_000 {
            filed.body(&edition(number), Bytes::from(vec![7; *LENGTHS.start()]), || true);
        }
        filed.files.run_pending_tasks();
        assert!(filed.files.entry_count() <= MOST && filed.files.weighted_size() <= MEMORY);
    }
}
