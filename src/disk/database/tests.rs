//! Opening, damage, and durability of the database.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::atomic::Ordering, time::Duration};

use super::{Database, DatabaseSettings, GroupedFlush, OpenError, Opened, Refusal, StoreDirectory, TreeName};

const SETTINGS: DatabaseSettings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };

fn open(root: &Path) -> Opened {
    Database::open(StoreDirectory::open(root).unwrap(), &SETTINGS).unwrap()
}

#[test]
fn keeps_what_was_written_in_key_order() {
    let root = tempfile::tempdir().unwrap();
    let tree = open(root.path()).database.tree(TreeName::Name);
    for key in ["b", "a", "c"] {
        tree.insert(key.as_bytes(), &[7; 100]).unwrap();
    }
    drop(tree);

    let opened = open(root.path());
    assert_eq!(opened.moved_aside, None);
    let tree = opened.database.tree(TreeName::Name);
    assert_eq!(tree.get(b"b").unwrap().unwrap(), &[7; 100][..]);
    assert!(tree.remove(b"b").unwrap());
    assert!(!tree.remove(b"b").unwrap());
    let keys: Vec<_> = tree.entries().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys, ["a", "c"]);
    assert_eq!(tree.range("b".."d").count(), 1);
    assert_eq!(tree.scan_prefix(b"a").count(), 1);
    assert_eq!(opened.database.tree(TreeName::Blob).entries().count(), 0);
}

#[test]
fn a_value_with_a_flipped_byte_is_missing_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let database = open(root.path()).database;
    let tree = database.tree(TreeName::Name);
    for key in ["a", "b", "c", "d"] {
        tree.insert(key.as_bytes(), b"value").unwrap();
    }
    let raw = database.inner.sled.open_tree(TreeName::Name.as_str()).unwrap();
    let value = raw.get("a").unwrap().unwrap().to_vec();
    // In the value, in its seal, and a value under another's key.
    for (key, at) in [("a", 2), ("b", 6)] {
        let mut flipped = value.clone();
        flipped[at] ^= 0x10;
        raw.insert(key, flipped).unwrap();
    }
    raw.insert("c", value).unwrap();
    assert_eq!((tree.get(b"a").unwrap(), database.damaged()), (None, 1));
    let left: Vec<_> = tree.entries().map(|entry| entry.unwrap().0).collect();
    assert_eq!((left.as_slice(), database.damaged()), (&["d".into()][..], 3));
    assert_eq!((raw.len(), tree.get(b"d").unwrap().unwrap()), (1, "value".into()));
    // Kept aside as it was stored: the value, then its seal.
    let kept = database.damaged_values().unwrap();
    assert!(kept.iter().all(|value| (value.tree.as_str(), value.bytes) == ("name", 9)), "{kept:?}");
    let contents = kept.iter().map(|value| {
        let file = format!("name-{}.value", value.key_hash);
        std::fs::read(database.directory().quarantine().join(file)).unwrap()
    });
    let contents: Vec<_> = contents.collect();
    assert_eq!(contents.len(), 3);
    assert!(contents.iter().any(|stored| stored.starts_with(b"va|ue")), "{contents:?}");
}

#[test]
fn a_database_of_before_the_seals_is_sealed_once() {
    let root = tempfile::tempdir().unwrap();
    {
        let database = open(root.path()).database;
        let raw = database.inner.sled.open_tree(TreeName::Package.as_str()).unwrap();
        raw.insert("old", "value").unwrap();
        // The call that was to seal it was cut off after the first.
        database.tree(TreeName::Package).insert(b"new", b"sealed").unwrap();
        database.inner.sled.remove(super::FORM.0).unwrap();
    }
    for _ in 0..2 {
        let database = open(root.path()).database;
        let tree = database.tree(TreeName::Package);
        let values = [b"old", b"new"].map(|key| tree.get(key).unwrap().unwrap());
        assert_eq!((values, database.damaged()), (["value".into(), "sealed".into()], 0));
    }
}

#[test]
fn a_database_that_is_still_being_closed_is_waited_for_and_not_moved_aside() {
    let root = tempfile::tempdir().unwrap();
    let tree = open(root.path()).database.tree(TreeName::Name);
    tree.insert(b"key", b"value").unwrap();
    // The directory is free; sled itself is open as long as the tree is.
    let (report, opened) = std::sync::mpsc::channel();
    let path = root.path().to_owned();
    std::thread::spawn(move || report.send(open(&path)));
    assert!(opened.recv_timeout(Duration::from_millis(200)).is_err(), "it was opened twice");
    drop(tree);
    let opened = opened.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(opened.moved_aside, None);
    assert_eq!(opened.database.tree(TreeName::Name).get(b"key").unwrap().unwrap(), &b"value"[..]);
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path());
    let error = StoreDirectory::open(root.path()).unwrap_err();
    assert!(matches!(&error, OpenError::InUse { path } if path == root.path()), "{error}");
    drop(first);
    StoreDirectory::open(root.path()).unwrap();
}

#[test]
fn an_unreadable_database_is_moved_aside_and_only_the_newest_is_kept() {
    let root = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        open(root.path()).database.tree(TreeName::Name).insert(b"key", b"value").unwrap();
        fs::write(root.path().join("sled/conf"), "nonsense: to be sure\n____").unwrap();
        let opened = open(root.path());
        let expected = root.path().join(format!("sled.unreadable-{number}"));
        assert_eq!(opened.moved_aside.as_deref(), Some(&*expected));
        assert!(expected.join("db").exists());
        assert_eq!(opened.database.tree(TreeName::Name).get(b"key").unwrap(), None);
    }
    assert!(!root.path().join("sled.unreadable-1").exists());
}

#[test]
fn damage_anywhere_in_the_log_leaves_a_database_that_works() {
    let root = tempfile::tempdir().unwrap();
    for offset in [0, 40, 4_000, 300_000, 2_100_000] {
        let tree = open(root.path()).database.tree(TreeName::Chunk);
        for index in 0..300_u32 {
            tree.insert(&index.to_be_bytes(), &[9; 16 << 10]).unwrap();
        }
        drop(tree);
        let log = root.path().join("sled/db");
        let mut bytes = fs::read(&log).unwrap();
        bytes[offset..offset + 2_000].fill(0xA5);
        fs::write(&log, bytes).unwrap();

        let tree = open(root.path()).database.tree(TreeName::Chunk);
        let readable = (0..300_u32).filter_map(|index| tree.get(&index.to_be_bytes()).ok().flatten());
        assert!(readable.into_iter().all(|value| value == [9; 16 << 10][..]), "wrong bytes at {offset}");
        drop(tree);
        fs::remove_dir_all(root.path().join("sled")).unwrap();
    }
}

#[test]
fn a_refusal_by_the_system_does_not_cost_the_store() {
    let rows = [
        (io::Error::from_raw_os_error(24), true, "too many open files"),
        (io::Error::from_raw_os_error(13), true, "no permission"),
        (io::Error::new(io::ErrorKind::StorageFull, "as sled copies its errors"), true, "disk full"),
        (io::Error::from_raw_os_error(2), false, "a file of the database is missing"),
        (io::Error::new(io::ErrorKind::UnexpectedEof, "short"), false, "a file is cut short"),
    ];
    for (error, is_system, name) in rows {
        let refusal = Refusal::of(sled::Error::Io(error));
        assert_eq!(matches!(refusal, Refusal::System(_)), is_system, "{name}");
    }
    let unsupported = Refusal::of(sled::Error::Unsupported("segment size".into()));
    assert!(matches!(unsupported, Refusal::Unreadable));
}

#[test]
fn nothing_is_open_to_other_users() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("new/store");
    let opened = open(&store);
    let mut pending = vec![store];
    while let Some(path) = pending.pop() {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    drop(opened);
}

#[test]
fn a_flush_is_shared_by_those_who_asked_before_it_began() {
    let flushes = GroupedFlush::default();
    let mut count = 0;
    flushes
        .run(|| {
            count += 1;
            Ok(())
        })
        .unwrap();
    // Two more ask while somebody else flushes: the ticket of the first is covered by the second's flush.
    let early = flushes.asked.fetch_add(1, Ordering::SeqCst) + 1;
    flushes
        .run(|| {
            count += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(count, 2);
    assert!(*flushes.flushed.lock() >= early);
}
