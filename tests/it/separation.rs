//! The same name in two places is two things; the same bytes in two places are one.

use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation, Simulator};

use crate::support::{Scene, readers};

fn feed(name: &str, salt: &str) -> Feed {
    let version = NpmVersion::new().size(40_000).salt(salt);
    let same = NpmVersion::new().size(50_000).salt("same");
    Feed::new(name)
        .npm(NpmPackage::new("twin").version("1.0.0", version))
        .npm(NpmPackage::new("same").version("1.0.0", same))
}

fn path(place: &str, name: &str) -> String {
    let (org, feed) = place.split_once('/').unwrap();
    format!("{org}/_packaging/{feed}/npm/registry/{name}/-/{name}-1.0.0.tgz")
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_never_mix_and_equal_bytes_are_stored_once() {
    let organisations = [("contoso", "a", "b"), ("fabrikam", "c", "d")];
    let mut builder = Simulator::builder();
    for (name, one, two) in organisations {
        let organisation = Organisation::new(name).feed(feed("main", one)).feed(feed("other", two));
        builder = builder.organisation(readers(organisation));
    }
    let scene = Scene::with(builder.start().await.unwrap(), "");
    let places = ["contoso/main", "contoso/other", "fabrikam/main", "fabrikam/other"];
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        for place in places {
            let response = scene.get(&path(place, "twin")).await;
            assert_eq!(response.body, scene.simulator.npm_file(place, "twin", "1.0.0").0, "{place}");
            seen.insert(response.body);
            let same = scene.get(&path(place, "same")).await;
            assert_eq!(same.body, scene.simulator.npm_file(place, "same", "1.0.0").0, "{place}");
        }
    }
    assert_eq!(seen.len(), 4);
    // Four twins and one that is the same everywhere.
    let downloads = scene.simulator.blob_downloads();
    assert_eq!((downloads.len(), downloads.values().max()), (5, Some(&1)), "{downloads:?}");
}
