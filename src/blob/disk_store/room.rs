//! Making room: the oldest blobs leave until what is to come fits the budget.

use std::sync::Arc;

use super::{BlobError, EvictionReason, chunks::Run, vault::Vault};
use crate::{
    blob::{
        eviction::{Reservation, parse_created, parse_recency_key, recency_key},
        record::Record,
    },
    disk::DiskError,
    ident::StorageId,
};

/// Blobs that leave in one step.
const STEP: usize = 64;

// === impl Vault ===

impl Vault {
    /// Bytes on disk: the database's, and those of the blob files.
    pub(super) fn real_use(&self) -> Result<u64, DiskError> {
        Ok(self.database.size_on_disk()? + self.budget.totals().files)
    }

    /// Blobs up to this length go to the database: none while it takes more than its share of the disk.
    pub(super) fn spill(&self) -> Result<u64, DiskError> {
        let has_room = self.database.size_on_disk()? < self.budget.database_share();
        Ok(if has_room { self.settings.spill } else { 0 })
    }

    /// Takes room for `more` charged bytes, evicting as needed. `length` is the blob's, for the error.
    pub(super) fn make_room(self: &Arc<Self>, more: u64, length: u64) -> Result<Reservation, BlobError> {
        let capacity = self.budget.capacity();
        let too_large = BlobError::TooLarge { length, capacity };
        if more > capacity {
            return Err(too_large);
        }
        // Fixed for this call. A blob that leaves the database does not make it smaller, so the next call finds
        // a lower limit; were it looked at after every blob, one call could remove them all and gain nothing.
        let limit = self.limit()?;
        loop {
            if let Some(reservation) = self.budget.reserve(more, limit) {
                return Ok(reservation);
            }
            if self.evict_step(more, limit)? == 0 {
                // Nothing is left to remove, so a limit below the capacity has lost its point.
                return self.budget.reserve(more, capacity).ok_or(too_large);
            }
        }
    }

    /// How much may be charged now.
    pub(super) fn limit(&self) -> Result<u64, DiskError> {
        Ok(self.budget.limit(self.database.size_on_disk()?))
    }

    /// Removes some of the oldest blobs that are not pinned if the charges, with `more` on top, are over `limit`; how
    /// many entries of the eviction order are gone.
    pub(super) fn evict_step(&self, more: u64, limit: u64) -> Result<usize, BlobError> {
        let mut passed = self.evicting.lock();
        // Somebody else may have made room while this waited for its turn; that is progress too.
        if self.budget.excess(more, limit) == 0 {
            return Ok(1);
        }
        // Uses that can't be written down only blur the order.
        let _ = self.write_touches();
        let reason = if more == 0 { EvictionReason::Budget } else { EvictionReason::Room };
        let mut gone = 0;
        while gone == 0 {
            let start = passed.key.as_ref().map_or_else(Vec::new, |key| [&key[..], &[0]].concat());
            let entries = self.recency.range(start..).take(STEP).collect::<Result<Vec<_>, _>>()?;
            if entries.is_empty() {
                // What is in the order again is found then.
                passed.exhausted();
                break;
            }
            for (key, value) in entries {
                if self.budget.excess(more, limit) == 0 {
                    // Also when it was somebody else who made the room.
                    return Ok(gone.max(1));
                }
                let has_gone = match parse_recency_key(&key) {
                    Some((used, id)) => {
                        self.evict(used, Run { created: parse_created(&value, used), id }, reason)?
                    }
                    None => self.recency.remove(&key)?,
                };
                if has_gone {
                    gone += 1;
                } else {
                    passed.key = Some(key);
                }
            }
        }
        Ok(gone)
    }

    /// Writes down the uses noted so far.
    pub(super) fn write_touches(&self) -> Result<(), BlobError> {
        self.touches.take().iter().try_for_each(|(id, now)| self.touch(id, *now))
    }

    /// Counts an error of writing a blob.
    pub(super) fn count_write_error(&self, error: &BlobError) {
        if let BlobError::Io { .. } = error {
            self.counters.write_error();
        }
    }

    /// Removes what an entry of the eviction order stands for: a blob, the remains of one, or nothing (it
    /// was used later, and a crash came before this entry went). Whether the entry is gone: not that of a pinned blob.
    fn evict(&self, used: u64, run: Run, reason: EvictionReason) -> Result<bool, BlobError> {
        let id = &run.id;
        let _stripe = self.stripe(id);
        if let Some(record) = self.clear_stale(used, run)? {
            if self.pins.contains(id) {
                return Ok(false);
            }
            self.remove_held(id, &record)?;
            self.counters.evicted(record.place.tier(), reason, record.stat.length);
            self.departed.left(id, self.now());
        }
        Ok(true)
    }

    /// The blob that an entry of the eviction order stands for. If there is none, removes the entry and what takes
    /// space in its name. For a caller who holds the stripe.
    pub(super) fn clear_stale(&self, used: u64, run: Run) -> Result<Option<Record>, BlobError> {
        match self.find_held(&run.id)? {
            Some(record) if record.used == used => return Ok(Some(record)),
            None if self.clear_held(run)? => self.counters.orphan(),
            _ => {}
        }
        self.recency.remove(&recency_key(used, &run.id))?;
        Ok(None)
    }

    fn touch(&self, id: &StorageId, now: u64) -> Result<(), BlobError> {
        let _stripe = self.stripe(id);
        let Some(mut record) = self.find_held(id)? else { return Ok(()) };
        let before = recency_key(record.used, id);
        if record.used >= now {
            return Ok(());
        }
        record.used = now;
        self.recency.insert(&recency_key(now, id), &record.created.to_be_bytes())?;
        self.records.insert(id.as_bytes(), &record.encode())?;
        self.recency.remove(&before)?;
        Ok(())
    }
}
