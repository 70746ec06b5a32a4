//! Taking stock beside requests, and after a crash.

use std::fs;

use super::{
    super::{
        DiskStore,
        tests::{LARGE, MIB, Place, SMALL, names, read},
    },
    Part,
};
use crate::{
    blob::{
        BlobStore,
        conformance::{id_of, pattern, store_blob},
        eviction::recency_key,
    },
    disk::TreeName,
    ident::StorageId,
};

fn count_on(store: &DiskStore, mut part: Option<Part>) {
    while let Some(counted) = part {
        part = store.vault.count_step(counted).unwrap();
    }
}

fn count(store: &DiskStore, part: u8) {
    count_on(store, Some(store.vault.begin_part(part).unwrap()));
}

#[tokio::test]
async fn a_store_serves_before_its_stock_is_taken() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    for name in 1..=4 {
        place.store(&store, name, &pattern(LARGE)).await;
    }
    store.maintain().await.unwrap();
    let before = store.vault.budget.totals();
    drop(store);

    let store = place.open_uncounted().await;
    assert_eq!(store.vault.budget.totals(), before, "those written down last");
    assert_eq!(read(&store, 1).await.unwrap(), pattern(LARGE));
    // Parts 0 to 2 are counted; what changes then is on both sides of the border.
    (0..=2).for_each(|part| count(&store, part));
    for name in [0, 5] {
        place.store(&store, name, &pattern(SMALL)).await;
    }
    for name in [2, 4] {
        assert!(store.remove(&id_of(name)).await.unwrap());
    }
    (3..=255).for_each(|part| count(&store, part));
    let recalled = store.vault.budget.totals();
    store.vault.budget.end_count();
    assert_eq!(store.vault.budget.totals(), recalled);
    assert_eq!((recalled.blobs, recalled.payload), (4, 2 * (LARGE + SMALL) as u64));
    assert_eq!(names(&store).await, [0, 1, 3, 5]);
}

#[tokio::test]
async fn a_store_that_was_killed_is_counted_behind_the_requests() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    for name in 1..=4 {
        place.store(&store, name, &pattern(LARGE)).await;
    }
    let before = store.vault.budget.totals();
    drop(store);

    let store = place.open_uncounted().await;
    assert_eq!(store.usage().blobs, 0, "nothing was written down");
    // More is taken away than is known of.
    assert!(store.remove(&id_of(1)).await.unwrap());
    place.store(&store, 1, &pattern(LARGE)).await;
    store.take_stock().await.unwrap();
    assert_eq!(store.vault.budget.totals(), before);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_cleared() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    for (name, length) in [(1, SMALL), (2, LARGE), (3, LARGE), (4, SMALL)] {
        place.store(&store, name, &pattern(length)).await;
    }
    let vault = &store.vault;
    // 2: the file is gone. 5: a file without a record. 4: chunks without a record. 1: an entry too many.
    fs::rename(place.file(2), place.file(2).with_file_name(id_of(5).to_string())).unwrap();
    vault.records.remove(id_of(4).as_bytes()).unwrap();
    vault.recency.insert(&recency_key(7, &id_of(1)), &[]).unwrap();
    vault.recency.insert(b"no key", &[]).unwrap();
    drop(store);
    fs::write(place.root.path().join("partial/9"), "half a blob").unwrap();

    let store = place.open().await;
    assert_eq!(names(&store).await, [1, 3]);
    assert_eq!((store.usage().blobs, store.usage().payload), (2, (SMALL + LARGE) as u64));
    assert_eq!(store.counts().orphans, 3);
    assert_eq!(place.count_files("blobs") + place.count_files("partial"), 1);
    let vault = &store.vault;
    assert_eq!(vault.recency.entries().count(), 2);
    assert_eq!(vault.database.tree(TreeName::Chunk).entries().count(), 3, "those of blob 1");
    assert_eq!(read(&store, 1).await.unwrap(), pattern(SMALL));
}

#[tokio::test]
async fn an_unreadable_database_costs_the_blobs_but_not_the_start() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    place.store(&store, 1, &pattern(LARGE)).await;
    drop(store);
    fs::write(place.root.path().join("sled/conf"), "not what sled wrote").unwrap();

    let store = place.open().await;
    assert_eq!(names(&store).await, [0; 0]);
    assert_eq!(place.count_files("blobs"), 0);
    place.store(&store, 1, &pattern(LARGE)).await;
    assert_eq!(read(&store, 1).await.unwrap(), pattern(LARGE));
}

#[tokio::test]
async fn what_changes_between_two_steps_of_a_part_is_counted_once() {
    let place = Place::new(256 * MIB);
    let store = place.open().await;
    let id = |name: u8| {
        let mut hash = [name; 32];
        hash[0] = 7;
        StorageId::of_file(hash)
    };
    let put = async |name: u8, length: usize| store_blob(&store, id(name), &pattern(length)).await;
    for name in (10..100).step_by(10) {
        put(name, LARGE).await;
    }
    store.vault.recall_totals().unwrap();
    (0..7).for_each(|part| count(&store, part));
    let part = store.vault.begin_part(7).unwrap();
    // Gone since its file was listed, and back by the end; the one of 90 is not.
    for name in [10, 60, 90] {
        assert!(store.remove(&id(name)).await.unwrap());
    }
    let part = store.vault.count_step(part).unwrap();
    // On both sides of where the count is, which has passed four of them.
    for name in [10, 15, 55, 60] {
        put(name, LARGE).await;
    }
    for name in [20, 70] {
        assert!(store.remove(&id(name)).await.unwrap());
    }
    put(70, SMALL).await;
    count_on(&store, part);
    put(99, LARGE).await;
    (8..=255).for_each(|part| count(&store, part));
    store.vault.budget.end_count();

    let names: Vec<u8> =
        store.list(None, usize::MAX).await.unwrap().iter().map(|(id, _)| id.as_bytes()[1]).collect();
    assert_eq!(names, [10, 15, 30, 40, 50, 55, 60, 70, 80, 99]);
    let totals = store.vault.budget.totals();
    assert_eq!((totals.blobs, totals.payload), (10, (9 * LARGE + SMALL) as u64));
    assert_eq!((totals.file_blobs, store.counts().orphans), (9, 0));
    assert_eq!(place.count_files("blobs"), 9);
    for name in names {
        assert!(store.open(&id(name)).await.unwrap().is_some(), "{name}");
    }
    store.take_stock().await.unwrap();
    assert_eq!(store.vault.budget.totals(), totals);
}
