//! The disk budget and the order in which blobs leave: arithmetic and keys, no I/O.
//!
//! Real disk use cannot steer eviction by itself: the database takes a multiple of what is stored in it and
//! gives space back late. Each blob therefore has a *charge*, what it is expected to take, and the charges are
//! kept within a limit that gives way by what the database takes beyond them:
//!
//! ```text
//! charge(file)   = length rounded up to 4 KiB + 1 KiB
//! charge(chunks) = length × 3                 + 1 KiB
//! target         = 19/20 of the capacity
//! limit          = target − (size of the database − charges of chunks), at least three quarters of the target
//! database share = 1/8 of the capacity; while it takes more, new small blobs become files
//! ```
//!
//! So files and database together stay within the target, whatever the database does, as long as it keeps near
//! its share. It needs the share: under churn of small blobs only it grew to 3 times a budget that it had for
//! itself, and removing more made it grow faster. (Once half of its segments are free it moves its last pages
//! to the front, over and over, and what they leave is free late.) A file takes what it is charged and gives
//! it back at once.
//!
//! The order is the tree `recency`: be64(last use, ms) ‖ id → be64(time of storing), oldest first. It is also
//! the list of everything that may take space, for a blob's entry is written before its bytes and removed
//! after them.

use std::{
    array,
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::record::Place;
use crate::ident::StorageId;

/// The database's page cache aside, what a blob costs beyond its bytes: record, keys, directory entry.
const OVERHEAD: u64 = 1024;
/// Unit in which the file system gives out space.
const BLOCK: u64 = 4096;
/// Bytes that the database takes per byte in chunks, as measured while it is in good shape.
const CHUNK_FACTOR: u64 = 3;
/// Version of the totals as written down.
const TOTALS_VERSION: u8 = 1;
/// Uses remembered until they are written down; more are forgotten, which only blurs the order.
const MOST_TOUCHES: usize = 65_536;

/// Bytes of disk that a blob is expected to take.
pub(super) fn charge(place: Place, length: u64) -> u64 {
    let bytes = match place {
        Place::File => length.div_ceil(BLOCK).saturating_mul(BLOCK),
        Place::Chunks => length.saturating_mul(CHUNK_FACTOR),
    };
    bytes.saturating_add(OVERHEAD)
}

/// A point in time as records and keys hold it.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A key of the eviction order.
pub(super) fn recency_key(used: u64, id: &StorageId) -> [u8; 41] {
    let mut key = [0; 41];
    key[..8].copy_from_slice(&used.to_be_bytes());
    key[8..].copy_from_slice(id.as_bytes());
    key
}

/// Reads what [`recency_key`] wrote.
pub(super) fn parse_recency_key(key: &[u8]) -> Option<(u64, StorageId)> {
    let (used, id) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*used), StorageId::from_bytes(id)?))
}

/// The value of an entry of the eviction order: the time of storing, by which the blob's chunks are found. An
/// entry that was not touched since has it in its key too.
pub(super) fn parse_created(value: &[u8], used: u64) -> u64 {
    value.try_into().map_or(used, u64::from_be_bytes)
}

/// What is stored, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) blobs: u64,
    pub(super) payload: u64,
    /// Charges of what is stored.
    pub(super) charge: u64,
    /// Charges of what is being written.
    pub(super) reserved: u64,
    /// Charges of the stored blobs that are files, which is what they really take.
    pub(super) files: u64,
    /// Stored blobs that are files.
    pub(super) file_blobs: u64,
    /// Their lengths.
    pub(super) file_payload: u64,
}

/// The disk budget.
#[derive(Debug)]
pub(super) struct Budget {
    capacity: u64,
    books: Mutex<Books>,
}

/// What is stored as far as known, and the count that will tell it exactly.
#[derive(Debug, Default)]
struct Books {
    totals: Totals,
    count: Option<Count>,
}

/// A count of what is stored, in the order of ids.
#[derive(Debug, Default)]
struct Count {
    /// All ids below this are counted. What changes in them since is in the totals too.
    below: Vec<u8>,
    totals: Totals,
}

/// Room for a blob that is being written; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    charge: u64,
}

/// Uses that have not been written down.
#[derive(Debug, Default)]
pub(super) struct Touches(Mutex<HashMap<StorageId, u64>>);

// === impl Totals ===

impl Totals {
    /// Counts a blob.
    pub(super) fn add(&mut self, place: Place, length: u64) {
        self.add_all(&Self::of(place, length));
    }

    /// As written down: version, then each number as be64. What is being written is not.
    pub(super) fn encode(&self) -> Vec<u8> {
        [&[TOTALS_VERSION][..], self.stored().map(u64::to_be_bytes).as_flattened()].concat()
    }

    /// Reads what [`Totals::encode`] wrote; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version], numbers) = bytes.split_first_chunk()?;
        let (numbers, rest) = numbers.as_chunks();
        let is_whole = version == TOTALS_VERSION && rest.is_empty();
        let numbers: [[u8; 8]; 6] = numbers.try_into().ok().filter(|_| is_whole)?;
        Some(Self::of_stored(numbers.map(u64::from_be_bytes), 0))
    }

    fn of(place: Place, length: u64) -> Self {
        let charge = charge(place, length);
        let stored = match place {
            Place::File => [1, length, charge, charge, 1, length],
            Place::Chunks => [1, length, charge, 0, 0, 0],
        };
        Self::of_stored(stored, 0)
    }

    /// Totals that were only recalled may be too low, so they stop at nothing.
    fn subtract_all(&mut self, less: &Self) {
        let (all, less) = (self.stored(), less.stored());
        *self = Self::of_stored(array::from_fn(|at| all[at].saturating_sub(less[at])), self.reserved);
    }

    fn add_all(&mut self, more: &Self) {
        let (all, more) = (self.stored(), more.stored());
        *self = Self::of_stored(array::from_fn(|at| all[at] + more[at]), self.reserved);
    }

    /// What is stored, as numbers.
    fn stored(&self) -> [u64; 6] {
        [self.blobs, self.payload, self.charge, self.files, self.file_blobs, self.file_payload]
    }

    fn of_stored(numbers: [u64; 6], reserved: u64) -> Self {
        let [blobs, payload, charge, files, file_blobs, file_payload] = numbers;
        Self { blobs, payload, charge, reserved, files, file_blobs, file_payload }
    }

    fn with(&self, more: u64) -> u64 {
        self.charge.saturating_add(self.reserved).saturating_add(more)
    }
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, books: Mutex::default() }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn totals(&self) -> Totals {
        self.books.lock().totals
    }

    /// How much may be charged while the database takes `database` bytes.
    pub(super) fn limit(&self, database: u64) -> u64 {
        let totals = self.totals();
        let target = self.capacity - self.capacity / 20;
        let beyond = database.saturating_sub(totals.charge.saturating_sub(totals.files));
        target - beyond.min(target / 4)
    }

    /// How much the database may take before new blobs stay out of it.
    pub(super) fn database_share(&self) -> u64 {
        self.capacity / 8
    }

    /// By how much the charges, with `more` on top, are over `limit`.
    pub(super) fn excess(&self, more: u64, limit: u64) -> u64 {
        self.totals().with(more).saturating_sub(limit)
    }

    /// Takes room for `more` if that keeps the charges within `limit`.
    pub(super) fn reserve(self: &Arc<Self>, more: u64, limit: u64) -> Option<Reservation> {
        let totals = &mut self.books.lock().totals;
        if totals.with(more) > limit {
            return None;
        }
        totals.reserved += more;
        Some(Reservation { budget: Arc::clone(self), charge: more })
    }

    /// Counts a blob that is stored.
    pub(super) fn add(&self, id: &StorageId, place: Place, length: u64) {
        self.books.lock().change(id, |totals| totals.add_all(&Totals::of(place, length)));
    }

    /// Counts a blob that is stored no more.
    pub(super) fn subtract(&self, id: &StorageId, place: Place, length: u64) {
        self.books.lock().change(id, |totals| totals.subtract_all(&Totals::of(place, length)));
    }

    /// Takes `recalled` for what is stored until a count, which begins with the lowest id, is over.
    pub(super) fn begin_count(&self, recalled: Totals) {
        *self.books.lock() = Books { totals: recalled, count: Some(Count::default()) };
    }

    /// Takes what the ids hold that are `below` a bound and were not counted yet. Nothing of it may change meanwhile.
    pub(super) fn count(&self, below: Vec<u8>, more: Totals) {
        if let Some(count) = &mut self.books.lock().count {
            count.below = below;
            count.totals.add_all(&more);
        }
    }

    /// Takes what was counted for what is stored.
    pub(super) fn end_count(&self) {
        let books = &mut *self.books.lock();
        if let Some(count) = books.count.take() {
            books.totals = Totals { reserved: books.totals.reserved, ..count.totals };
        }
    }
}

// === impl Books ===

impl Books {
    fn change(&mut self, id: &StorageId, change: impl Fn(&mut Totals)) {
        change(&mut self.totals);
        if let Some(count) = &mut self.count
            && id.as_bytes()[..] < count.below[..]
        {
            change(&mut count.totals);
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// Room for nothing, to be joined by more.
    pub(super) fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), charge: 0 }
    }

    pub(super) fn charge(&self) -> u64 {
        self.charge
    }

    /// Takes over the room of another reservation.
    pub(super) fn join(&mut self, mut more: Self) {
        self.charge += std::mem::take(&mut more.charge);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.books.lock().totals.reserved -= self.charge;
    }
}

// === impl Touches ===

impl Touches {
    /// Notes a use at `now`.
    pub(super) fn note(&self, id: StorageId, now: u64) {
        let mut touches = self.0.lock();
        if touches.len() < MOST_TOUCHES || touches.contains_key(&id) {
            touches.insert(id, now);
        }
    }

    /// Hands out what was noted since the last call.
    pub(super) fn take(&self) -> HashMap<StorageId, u64> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, Place, Reservation, Totals, Touches, charge, parse_recency_key, recency_key};
    use crate::ident::StorageId;

    const KIB: u64 = 1024;

    fn id(first: u8) -> StorageId {
        let mut hash = [7; 32];
        hash[0] = first;
        StorageId::of_file(hash)
    }

    #[test]
    fn charges_follow_the_place() {
        let rows = [
            (Place::File, 0, 1_024),
            (Place::File, 1, 5_120),
            (Place::File, 4_096, 5_120),
            (Place::File, 4_097, 9_216),
            (Place::Chunks, 0, 1_024),
            (Place::Chunks, 1_000, 4_024),
        ];
        for (place, length, expected) in rows {
            assert_eq!(charge(place, length), expected, "{place:?} {length}");
        }
        assert_eq!(charge(Place::File, u64::MAX), u64::MAX, "no overflow");
    }

    #[test]
    fn the_limit_gives_way_to_the_database_but_only_so_far() {
        let budget = Budget::new(20_000);
        budget.add(&id(1), Place::Chunks, 100);
        let charged = budget.totals().charge;
        for (beyond, limit) in [(0, 19_000), (1, 18_999), (4_750, 14_250), (4_751, 14_250), (1 << 60, 14_250)]
        {
            assert_eq!(budget.limit(charged + beyond), limit, "{beyond}");
        }
        assert_eq!(budget.limit(0), 19_000);
    }

    #[test]
    fn files_and_database_together_stay_within_the_target_whatever_is_in_which() {
        let capacity = 1_000 * KIB;
        for (in_chunks, database) in [(0, 120), (10, 120), (40, 200), (0, 0)] {
            let budget = Arc::new(Budget::new(capacity));
            let database = database * KIB;
            (0..in_chunks).for_each(|_| budget.add(&id(1), Place::Chunks, KIB));
            while let Some(_room) = budget.reserve(charge(Place::File, 3 * KIB), budget.limit(database)) {
                budget.add(&id(1), Place::File, 3 * KIB);
            }
            let real = budget.totals().files + database;
            assert!((capacity / 2..=capacity * 19 / 20).contains(&real), "{in_chunks} {database} {real}");
        }
    }

    #[test]
    fn room_is_taken_once_and_given_back() {
        let budget = Arc::new(Budget::new(1_000));
        let mut first = budget.reserve(600, 1_000).unwrap();
        assert!(budget.reserve(401, 1_000).is_none());
        assert_eq!(budget.excess(401, 1_000), 1);
        first.join(budget.reserve(400, 1_000).unwrap());
        assert_eq!((first.charge(), budget.totals().reserved), (1_000, 1_000));
        drop(first);
        drop(Reservation::none(&budget));
        assert_eq!(budget.totals(), Totals::default());
    }

    #[test]
    fn totals_return_to_nothing() {
        let budget = Budget::new(1_000);
        budget.add(&id(1), Place::File, 5_000);
        budget.add(&id(2), Place::Chunks, 100);
        let expected = Totals {
            blobs: 2,
            payload: 5_100,
            charge: 9_216 + 1_324,
            reserved: 0,
            files: 9_216,
            file_blobs: 1,
            file_payload: 5_000,
        };
        assert_eq!(budget.totals(), expected);
        budget.subtract(&id(1), Place::File, 5_000);
        budget.subtract(&id(2), Place::Chunks, 100);
        assert_eq!(budget.totals(), Totals::default());
    }

    #[test]
    fn what_changes_while_stock_is_taken_is_counted_once() {
        let budget = Budget::new(1 << 40);
        let (first, last) = (id(0), id(255));
        // Recalled: one blob too few, and other lengths.
        budget.begin_count(Totals { blobs: 1, payload: 1, charge: 1, ..Totals::default() });
        let mut part = Totals::default();
        part.add(Place::File, 1_000);
        part.add(Place::Chunks, 10);
        budget.count(vec![1], part);
        budget.subtract(&first, Place::Chunks, 10);
        budget.add(&first, Place::File, 5_000);
        budget.add(&last, Place::File, 70);
        budget.count(vec![255], Totals::default());
        budget.subtract(&last, Place::File, 70);
        budget.add(&last, Place::Chunks, 30);
        let mut part = Totals::default();
        part.add(Place::Chunks, 30);
        budget.count([last.as_bytes(), &[0][..]].concat(), part);
        budget.add(&last, Place::File, 1);
        budget.end_count();
        let mut expected = Totals::default();
        for (place, length) in
            [(Place::File, 1_000), (Place::File, 5_000), (Place::Chunks, 30), (Place::File, 1)]
        {
            expected.add(place, length);
        }
        assert_eq!(budget.totals(), expected);
    }

    #[test]
    fn totals_read_back_and_nothing_else_does() {
        let totals = Totals::of_stored([1, 2, 3, 4, 5, 6], 0);
        let bytes = totals.encode();
        assert_eq!(Totals::decode(&bytes), Some(totals));
        assert_eq!(Totals::decode(&Totals { reserved: 9, ..totals }.encode()), Some(totals));
        let longer = [&bytes[..], &[0]].concat();
        for bad in [&bytes[..48], &longer, &[], &[&[2], &bytes[1..]].concat()] {
            assert_eq!(Totals::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_sort_by_time_and_read_back() {
        let (low, high) = (StorageId::of_file([0; 32]), StorageId::of_file([255; 32]));
        assert!(recency_key(255, &high) < recency_key(256, &low));
        assert_eq!(parse_recency_key(&recency_key(7, &high)), Some((7, high)));
        assert_eq!(parse_recency_key(&[0; 40]), None);
        assert_eq!(parse_recency_key(&[0; 7]), None);
    }

    #[test]
    fn the_last_use_counts_and_each_is_handed_out_once() {
        let (touches, id) = (Touches::default(), StorageId::of_file([1; 32]));
        touches.note(id, 1);
        touches.note(id, 2);
        assert_eq!(touches.take().into_iter().collect::<Vec<_>>(), [(id, 2)]);
        assert!(touches.take().is_empty());
    }
}
