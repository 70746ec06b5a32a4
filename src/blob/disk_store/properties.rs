//! A disk store that evicts, is closed and is opened again, against a list in the order of use.
//!
//! The shared suite has the histories without eviction and restart; budget and damage are in `tests.rs`.

use proptest::{
    prelude::{Just, Strategy, prop_oneof},
    sample::select,
    test_runner::{Config, TestRunner},
};

use super::tests::{LARGE, MIB, Place, SMALL, names, read};
use crate::blob::{
    BlobStore, DiskStore,
    conformance::{id_of, pattern},
};

/// Cases; each opens several databases.
const CASES: u32 = 16;

#[derive(Debug, Clone)]
enum Step {
    Store(u8, usize),
    Read(u8),
    Remove(u8),
    Evict,
    Restart,
}

/// Names and lengths, the least recently used first.
type Model = Vec<(u8, usize)>;

fn step() -> impl Strategy<Value = Step> {
    let name = 1..6_u8;
    // Whatever is read from memory, from the database and from files.
    let length = select(vec![0, 1, 16_384, SMALL, LARGE]);
    prop_oneof![
        4 => (name.clone(), length).prop_map(|(name, length)| Step::Store(name, length)),
        4 => name.clone().prop_map(Step::Read),
        1 => name.prop_map(Step::Remove),
        2 => Just(Step::Evict),
        1 => Just(Step::Restart),
    ]
}

#[test]
fn what_is_evicted_is_the_least_recently_used_over_restarts() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let histories = proptest::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&histories, |steps| {
        runtime.block_on(run(&steps));
        Ok(())
    });
    outcome.unwrap();
}

async fn run(steps: &[Step]) {
    let mut place = Place::new(256 * MIB);
    (place.settings.hot_capacity, place.settings.hot_largest) = (MIB, MIB);
    let (mut store, mut model) = (place.open().await, Model::new());
    for step in steps {
        if matches!(step, Step::Restart) {
            store.close().await.unwrap();
            drop(store);
            store = place.open().await;
        } else {
            take(&place, &store, &mut model, step).await;
        }
        let mut expected: Vec<_> = model.iter().map(|(name, _)| *name).collect();
        expected.sort_unstable();
        assert_eq!(names(&store).await, expected, "after {step:?}");
        let payload: usize = model.iter().map(|(_, length)| length).sum();
        assert_eq!(store.usage().payload, payload as u64, "after {step:?}");
    }
}

async fn take(place: &Place, store: &DiskStore, model: &mut Model, step: &Step) {
    let at = |name: u8| model.iter().position(|(other, _)| *other == name);
    match *step {
        Step::Store(name, length) => {
            // An older copy is kept, and has not been used.
            if at(name).is_none() {
                place.store(store, name, &pattern(length)).await;
                model.push((name, length));
            }
        }
        Step::Read(name) => {
            let known = at(name);
            assert_eq!(place.touch(store, name).await, known.is_some());
            if let Some(known) = known {
                let blob = model.remove(known);
                assert!(read(store, name).await.unwrap() == pattern(blob.1), "blob {name}");
                model.push(blob);
            }
        }
        Step::Remove(name) => {
            let known = at(name);
            assert_eq!(store.remove(&id_of(name)).await.unwrap(), known.is_some());
            known.map(|known| model.remove(known));
        }
        Step::Evict => {
            store.vault.evict_one().unwrap();
            drop(model.drain(..model.len().min(1)));
        }
        Step::Restart => {}
    }
}
