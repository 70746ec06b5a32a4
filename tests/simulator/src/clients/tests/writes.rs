//! The clients' writing commands and questions, against the simulator itself: what both make of one another without a
//! gate between them.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use super::SETUP;
use crate::clients::{Npm, Nuget, Outcome, Project, Registry, tree};
use crate::{
    Builder, Feed, Logged, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope,
    Simulator, Token,
};

/// A private feed with left-pad and Contoso.Utility; bob publishes.
fn contoso() -> Builder {
    let left_pad =
        NpmPackage::new("left-pad").version("1.2.0", NpmVersion::new()).version("1.3.0", NpmVersion::new());
    let utility = NugetPackage::new("Contoso.Utility")
        .version("1.0.0", NugetVersion::new())
        .version("1.10.0", NugetVersion::new().dependency("Contoso.Core", "2.0"));
    let core = NugetPackage::new("Contoso.Core").version("2.0.0", NugetVersion::new());
    let feed = Feed::new("main").npm(left_pad).nuget(utility).nuget(core);
    let bob = Token::pat("bob-pat").label("bob").scope(Scope::ReadWrite);
    Simulator::builder().organisation(Organisation::new("contoso").feed(feed).token(bob))
}

fn npm_gate(simulator: &Simulator) -> Registry {
    Registry::with_token(simulator.npm_url("contoso/main"), "any", "bob-pat")
}

fn done(outcome: &Outcome) {
    assert!(outcome.success && outcome.exit_code == Some(0), "{outcome:?}");
}

/// `PUT 201` and so on for every request that did not only read.
fn writes(simulator: &Simulator) -> Vec<String> {
    let requests = simulator.requests();
    let writes = requests.iter().filter(|logged| logged.method != "GET");
    writes.map(|logged: &Logged| format!("{} {}", logged.method, logged.status)).collect()
}

/// A nupkg on disk, made by another simulator.
async fn nupkg(id: &str, version: &str) -> (TempDir, PathBuf) {
    let feed = Feed::new("f").nuget(NugetPackage::new(id).version(version, NugetVersion::new()));
    let source = Simulator::builder().organisation(Organisation::new("a").feed(feed)).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{id}.{version}.nupkg"));
    std::fs::write(&path, source.nuget_file("a/f", id, version).0).unwrap();
    (folder, path)
}

#[tokio::test]
async fn npm_publishes_views_deprecates_tags_and_unpublishes() {
    let npm = Npm::find().expect(SETUP);
    let simulator = contoso().npm_extensions(true).start().await.unwrap();
    let gate = npm_gate(&simulator);

    let manifest = |version: &str| format!(r#"{{ "name": "@contoso/fresh", "version": "{version}" }}"#);
    // Whom a second publication is refused by: npm looks for released versions itself.
    let npm_itself = "cannot publish over";
    let service = "already contains file";
    for (version, tag, refuser) in
        [("1.0.0", None, npm_itself), ("1.1.0", None, npm_itself), ("2.0.0-rc.1", Some("next"), service)]
    {
        let project = Project::npm(&manifest(version)).unwrap().with_file("index.js", "// fresh\n").unwrap();
        done(&npm.publish(&project, &gate, tag).await.unwrap());
        let again = npm.publish(&project, &gate, tag).await.unwrap();
        assert!(!again.success && again.output().contains(refuser), "{again:?}");
    }
    let versions = npm.view(&gate, "@contoso/fresh", &["versions"]).await.unwrap();
    assert_eq!(versions.json(), json!(["1.0.0", "1.1.0", "2.0.0-rc.1"]), "{versions:?}");

    done(&npm.deprecate(&gate, "@contoso/fresh@<1.1.0", "old").await.unwrap());
    let viewed = npm.view(&gate, "@contoso/fresh@1.0.0", &[]).await.unwrap();
    assert_eq!(viewed.json()["deprecated"], "old", "{viewed:?}");

    done(&npm.add_tag(&gate, "@contoso/fresh@1.0.0", "old").await.unwrap());
    done(&npm.remove_tag(&gate, "@contoso/fresh", "next").await.unwrap());
    let tags = npm.list_tags(&gate, "@contoso/fresh").await.unwrap();
    assert_eq!(tags.stdout.trim(), "latest: 1.1.0\nold: 1.0.0", "{tags:?}");

    done(&npm.unpublish(&gate, "@contoso/fresh@1.1.0").await.unwrap());
    let versions = npm.view(&gate, "@contoso/fresh", &["versions", "dist-tags.latest"]).await.unwrap();
    assert_eq!(versions.json()["versions"], json!(["1.0.0", "2.0.0-rc.1"]), "{versions:?}");
    done(&npm.unpublish(&gate, "@contoso/fresh").await.unwrap());
    let gone = npm.view(&gate, "@contoso/fresh", &[]).await.unwrap();
    assert!(!gone.success && gone.output().contains("E404"), "{gone:?}");
}

#[tokio::test]
async fn npm_is_refused_what_the_service_lacks() {
    let npm = Npm::find().expect(SETUP);
    let simulator = contoso().start().await.unwrap();
    let gate = npm_gate(&simulator);
    let rows = [
        ("deprecate", npm.deprecate(&gate, "left-pad@1.2.0", "old").await.unwrap(), "E400"),
        ("dist-tag add", npm.add_tag(&gate, "left-pad@1.2.0", "old").await.unwrap(), "E404"),
        ("dist-tag ls", npm.list_tags(&gate, "left-pad").await.unwrap(), "E404"),
        ("ping", npm.ping(&gate).await.unwrap(), "E404"),
    ];
    for (command, outcome, expected) in rows {
        assert!(!outcome.success && outcome.output().contains(expected), "{command}: {outcome:?}");
    }
    // npm takes the 404 of an unpublication for success.
    done(&npm.unpublish(&gate, "left-pad").await.unwrap());
    assert_eq!(writes(&simulator), ["PUT 400", "DELETE 404"]);
    let viewed = npm.view(&gate, "left-pad@1.2.0", &["version"]).await.unwrap();
    assert_eq!(viewed.json(), "1.2.0", "{viewed:?}");
    assert_eq!(npm.whoami(&gate).await.unwrap().stdout.trim(), "any");
}

#[tokio::test]
async fn npm_audits_a_project() {
    let npm = Npm::find().expect(SETUP);
    let simulator = contoso().audit(true).start().await.unwrap();
    simulator.advise("left-pad", "<1.3.0", "pads the wrong side");
    let gate = npm_gate(&simulator);
    let manifest = r#"{ "name": "app", "version": "1.0.0", "dependencies": { "left-pad": "1.2.0" } }"#;
    let project = Project::npm(manifest).unwrap();
    done(&npm.install(&project, &gate).await.unwrap());
    let report = npm.audit(&project, &gate).await.unwrap();
    assert_eq!(report.exit_code, Some(1), "{report:?}");
    let left_pad = &report.json()["vulnerabilities"]["left-pad"];
    assert_eq!(left_pad["via"][0]["title"], "pads the wrong side", "{report:?}");
    let posted = simulator.requests().into_iter().find(|logged| logged.method == "POST").unwrap();
    assert_eq!(posted.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn nuget_pushes_lists_installs_and_deletes_over_version_2() {
    let simulator = contoso().start().await.unwrap();
    let gate = Registry::with_token(simulator.nuget_v2_url("contoso/main"), "any", "bob-pat");
    nuget_does_everything(&simulator, &gate).await;
    let asked = |part: &str| simulator.count(|logged| logged.path.contains(part)) > 0;
    assert!(asked("/v2/FindPackagesById()") && asked("/v2/Packages(") && asked("/v2/Search()"));
    assert!(!asked("/v3/"));
}

#[tokio::test]
async fn nuget_pushes_lists_installs_and_deletes_over_version_3() {
    let simulator = contoso().start().await.unwrap();
    let gate = Registry::with_token(simulator.nuget_url("contoso/main"), "any", "bob-pat");
    nuget_does_everything(&simulator, &gate).await;
    // There is no search for `list` in version 3: the service index names version 2 for it.
    let asked = |part: &str| simulator.count(|logged| logged.path.contains(part)) > 0;
    assert!(asked("/v3/registrations2") && asked("/v2/Search()"));
}

async fn nuget_does_everything(simulator: &Simulator, gate: &Registry) {
    let nuget = Nuget::find().expect(SETUP);
    let (_folder, path) = nupkg("Contoso.Fresh", "1.0.0").await;

    done(&nuget.push(gate, &path).await.unwrap());
    let again = nuget.push(gate, &path).await.unwrap();
    assert!(!again.success && again.output().contains("already contains"), "{again:?}");

    let listed = nuget.list(gate, "contoso", &[]).await.unwrap();
    let expected = "Contoso.Core 2.0.0\nContoso.Fresh 1.0.0\nContoso.Utility 1.10.0\n";
    assert!(listed.success && listed.stdout.ends_with(expected), "{listed:?}");
    let all = nuget.list(gate, "utility", &["-AllVersions"]).await.unwrap();
    assert!(all.stdout.contains("Contoso.Utility 1.0.0\n"), "{all:?}");

    let found = nuget.search(gate, "utility").await.unwrap();
    assert!(found.success && found.stdout.contains("Contoso.Utility | 1.10.0"), "{found:?}");

    // With a dependency to find, and the newest version to work out.
    for (id, version, file) in [
        ("Contoso.Utility", Some("1.10.0"), "Contoso.Core.2.0.0/Contoso.Core.2.0.0.nupkg"),
        ("Contoso.Fresh", None, "Contoso.Fresh.1.0.0/Contoso.Fresh.1.0.0.nupkg"),
    ] {
        let project = Project::nuget([]).unwrap();
        done(&nuget.add(&project, gate, id, version).await.unwrap());
        let installed = tree(&project.installed()).unwrap();
        assert!(installed.contains_key(&PathBuf::from(file)), "{installed:?}");
    }
    let restored = Project::nuget([("Contoso.Utility", "1.0.0")]).unwrap();
    done(&nuget.install(&restored, gate).await.unwrap());

    done(&nuget.delete(gate, "Contoso.Fresh", "1.0.0").await.unwrap());
    let listed = nuget.list(gate, "fresh", &[]).await.unwrap();
    assert!(!listed.stdout.contains("Contoso.Fresh 1.0.0"), "{listed:?}");
    assert_eq!(writes(simulator).last().map(String::as_str), Some("DELETE 204"));
}
