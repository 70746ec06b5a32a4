//! Bytes that flip on disk: found by `verify`, repaired from the service, and never sent to a client.

use std::{os::unix::fs::FileExt as _, path::Path};

use feedgate::cli::{
    client::{AdminAddress, Client},
    output::Output,
};
use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator};
use serde_json::{Value, json};

use crate::support::{NPM, PAT, Scene, readers};

/// Packages whose bytes are in the database, and in a file each.
const SMALL: usize = 60;
const LARGE: usize = 40;

fn path(number: usize) -> String {
    format!("{NPM}/p{number}/-/p{number}-1.0.0.tgz")
}

async fn scene() -> Scene {
    let mut feed = Feed::new("main");
    for number in 0..SMALL + LARGE {
        let size = if number < SMALL { 20_000 } else { 200_000 };
        let version = NpmVersion::new().size(size);
        feed = feed.npm(NpmPackage::new(&format!("p{number}")).version("1.0.0", version));
    }
    let organisation = readers(Organisation::new("contoso").feed(feed));
    let simulator = Simulator::builder().organisation(organisation).start().await.unwrap();
    // Everything is read from disk.
    Scene::with(simulator, "store.hot_capacity = \"0B\"\n")
}

async fn packages(scene: &Scene) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for number in 0..SMALL + LARGE {
        let answer = scene.get(&path(number)).await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        all.push(answer.body.to_vec());
    }
    all
}

/// Flips a byte of each file; how many there were.
fn flip_files(folder: &Path) -> usize {
    let mut flipped = 0;
    for part in std::fs::read_dir(folder.join("blobs")).unwrap() {
        for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(file.unwrap().path()).unwrap();
            let at = rand::random_range(0..file.metadata().unwrap().len());
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << rand::random_range(0..8))], at).unwrap();
            flipped += 1;
        }
    }
    flipped
}

/// The database under the gate's own checks; it is closed a moment after its gate has stopped.
async fn database(folder: &Path) -> sled::Db {
    loop {
        let config = sled::Config::new()
            .path(folder.join("sled"))
            .mode(sled::Mode::LowSpace)
            .segment_size(2 << 20)
            .use_compression(false);
        match config.open() {
            Ok(sled) => return sled,
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Flips a byte of up to `most` values of a tree, one for each blob that `takes` says yes to; the ids of those blobs.
fn flip_values(
    sled: &sled::Db,
    tree: &str,
    most: usize,
    takes: impl Fn(&[u8], &[u8]) -> bool,
) -> Vec<Vec<u8>> {
    let tree = sled.open_tree(tree).unwrap();
    let mut ids = Vec::new();
    for entry in &tree {
        let (key, value) = entry.unwrap();
        let id = id_of(&key);
        if ids.len() == most || ids.contains(&id) || !takes(&id, &value) {
            continue;
        }
        let mut value = value.to_vec();
        let at = rand::random_range(0..value.len());
        value[at] ^= 1 << rand::random_range(0..8);
        tree.insert(key, value).unwrap();
        ids.push(id);
    }
    sled.flush().unwrap();
    ids
}

/// The storage id in a key of chunks; any other key is its own.
fn id_of(key: &[u8]) -> Vec<u8> {
    if key.len() == 45 { key[8..41].to_vec() } else { key.to_vec() }
}

async fn verify(scene: &Scene, order: Value) -> Value {
    let address = AdminAddress::Tcp(scene.gate().admin_address().to_string());
    let client = Client::new(address, None);
    client.job("/admin/v1/verify", &order, Output::new(true)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_is_found_and_repaired() {
    let mut scene = scene().await;
    let before = packages(&scene).await;
    let found = verify(&scene, json!({})).await;
    assert_eq!((&found["lost"], &found["damaged_values"]), (&json!([]), &json!(0)), "{found:#}");
    scene.stop();
    let folder = scene.store();
    let files = flip_files(&folder);
    let sled = database(&folder).await;
    // The third byte of a record tells that its bytes are in chunks. Each blob is damaged once.
    let records = flip_values(&sled, "blob", 10, |_, record| record[2] == 0);
    let chunks = flip_values(&sled, "chunk", 30, |id, _| !records.iter().any(|record| record == id));
    let entries = flip_values(&sled, "package", 20, |_, _| true);
    drop(sled);
    let values = records.len() + chunks.len() + entries.len();
    assert_eq!((files, values), (LARGE, 60), "a hundred in all");
    scene.restart();
    let found = verify(&scene, json!({ "repair": true, "credential": PAT, "bytes_per_second": 0 })).await;
    assert_eq!(found["damaged_values"].as_u64().unwrap(), 60, "{found:#}");
    assert_eq!(found["damaged_blobs"].as_array().unwrap().len(), files + chunks.len(), "{found:#}");
    let address = AdminAddress::Tcp(scene.gate().admin_address().to_string());
    let aside = Client::new(address, None).get("/admin/v1/quarantine").await.unwrap();
    let mut kept: Vec<_> = aside["values"].as_array().unwrap().iter().map(|one| &one["tree"]).collect();
    kept.sort_by_key(ToString::to_string);
    assert_eq!(kept.len(), values, "{aside:#}");
    assert!(
        kept[..10].iter().all(|tree| *tree == "blob") && kept[40..].iter().all(|tree| *tree == "package")
    );
    let aside = aside["files"].as_array().unwrap();
    // A hundredth of the budget has room for all.
    assert_eq!(aside.len(), files, "{aside:?}");
    assert!(
        aside.iter().all(|file| found["damaged_blobs"].as_array().unwrap().contains(&file["storage_id"]))
    );
    let (lost, repaired) = (found["lost"].as_array().unwrap(), found["repaired"].as_array().unwrap());
    let least = files + chunks.len() + records.len();
    assert!(lost.len() >= least, "a package for each blob, and those whose entry was flipped: {found:#}");
    assert_eq!(lost, repaired, "{found:#}");
    scene.simulator.refuse_connections().await.unwrap();
    assert!(packages(&scene).await == before, "without the service, from the repaired store");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_sees_a_flipped_byte() {
    let mut scene = scene().await;
    let before = packages(&scene).await;
    scene.stop();
    let folder = scene.store();
    let sled = database(&folder).await;
    assert_eq!(flip_files(&folder) + flip_values(&sled, "chunk", 60, |_, _| true).len(), 100);
    drop(sled);
    scene.restart();
    let mut broken = 0;
    for _ in 0..2 {
        for (number, expected) in before.iter().enumerate() {
            // An answer that had begun breaks off, and the next one is whole.
            let url = scene.url(&path(number));
            let credential = feedgate_simulator::client::basic("any", PAT);
            match feedgate_simulator::client::get(&url, &[("Authorization", &credential)]).await {
                Ok(answer) if answer.complete => {
                    assert!(answer.status == 200 && answer.body == expected[..], "{number}");
                }
                Ok(answer) => {
                    assert!(expected.starts_with(&answer.body), "{number}: a wrong byte before the end");
                    broken += 1;
                }
                Err(_) => broken += 1,
            }
        }
    }
    eprintln!("{broken} answers broke off");
    assert!(broken <= 100, "each flipped byte costs one answer at most");
}
