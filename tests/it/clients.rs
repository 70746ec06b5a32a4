//! The real clients' writes and questions through the gate, and their questions again without the service.

use std::path::PathBuf;

use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
    clients::{Npm, Nuget, Outcome, Project, Registry, tree},
};
use serde_json::json;

use crate::{
    support::{Scene, readers},
    writes::WRITER,
};

const SETUP: &str = "deploy/setup --clients has been run";

async fn scene() -> Scene {
    let left_pad = NpmPackage::new("left-pad")
        .version("1.2.0", NpmVersion::new().size(700))
        .version("1.3.0", NpmVersion::new().size(800));
    let utility = NugetPackage::new("Contoso.Utility")
        .version("1.0.0", NugetVersion::new())
        .version("1.10.0", NugetVersion::new().dependency("Contoso.Core", "2.0"));
    let core = NugetPackage::new("Contoso.Core").version("2.0.0", NugetVersion::new());
    let feed = Feed::new("main").npm(left_pad).nuget(utility).nuget(core);
    let organisation = readers(Organisation::new("contoso").feed(feed))
        .token(Token::pat(WRITER).label("writer").scope(Scope::ReadWrite));
    let simulator = Simulator::builder().organisation(organisation).npm_extensions(true).audit(true);
    Scene::with(simulator.start().await.unwrap(), "")
}

fn registry(scene: &Scene, route: &str) -> Registry {
    Registry::with_token(scene.url(&format!("contoso/_packaging/main/{route}")), "any", WRITER)
}

fn done(outcome: &Outcome) {
    assert!(outcome.success && outcome.exit_code == Some(0), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_publishes_deprecates_tags_and_unpublishes_and_sees_it_at_once() {
    let npm = Npm::find().expect(SETUP);
    let scene = scene().await;
    let gate = registry(&scene, "npm/registry/");
    let name = "@contoso/fresh";
    for version in ["1.0.0", "1.1.0"] {
        let manifest = format!(r#"{{ "name": "{name}", "version": "{version}" }}"#);
        let project = Project::npm(&manifest).unwrap().with_file("index.js", "// fresh\n").unwrap();
        done(&npm.publish(&project, &gate, None).await.unwrap());
        let seen = npm.view(&gate, name, &["dist-tags.latest"]).await.unwrap();
        assert_eq!(seen.json(), version, "{seen:?}");
    }
    done(&npm.deprecate(&gate, &format!("{name}@<1.1.0"), "old").await.unwrap());
    let viewed = npm.view(&gate, &format!("{name}@1.0.0"), &[]).await.unwrap();
    assert_eq!(viewed.json()["deprecated"], "old", "{viewed:?}");
    done(&npm.add_tag(&gate, &format!("{name}@1.0.0"), "old").await.unwrap());
    let tags = npm.list_tags(&gate, name).await.unwrap();
    assert_eq!(tags.stdout.trim(), "latest: 1.1.0\nold: 1.0.0", "{tags:?}");
    done(&npm.remove_tag(&gate, name, "old").await.unwrap());
    let tags = npm.list_tags(&gate, name).await.unwrap();
    assert_eq!(tags.stdout.trim(), "latest: 1.1.0", "{tags:?}");
    done(&npm.unpublish(&gate, &format!("{name}@1.1.0")).await.unwrap());
    let versions = npm.view(&gate, name, &["versions"]).await.unwrap();
    assert_eq!(versions.json(), json!(["1.0.0"]), "{versions:?}");
    done(&npm.ping(&gate).await.unwrap());
    assert_eq!(npm.whoami(&gate).await.unwrap().stdout.trim(), "any");
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_reads_one_version_and_audits_and_reads_on_without_the_service() {
    let npm = Npm::find().expect(SETUP);
    let scene = scene().await;
    let gate = registry(&scene, "npm/registry/");
    scene.simulator.advise("left-pad", "<1.3.0", "pads the wrong side");
    let manifest = r#"{ "name": "app", "version": "1.0.0", "dependencies": { "left-pad": "1.2.0" } }"#;
    let project = Project::npm(manifest).unwrap();
    done(&npm.install(&project, &gate).await.unwrap());
    let report = npm.audit(&project, &gate).await.unwrap();
    assert_eq!(report.json()["vulnerabilities"]["left-pad"]["via"][0]["title"], "pads the wrong side");
    let view = async || npm.view(&gate, "left-pad@1.2.0", &["version"]).await.unwrap();
    assert_eq!(view().await.json(), "1.2.0");
    scene.simulator.refuse_connections().await.unwrap();
    assert_eq!(view().await.json(), "1.2.0");
    let again = Project::npm(manifest).unwrap();
    done(&npm.install(&again, &gate).await.unwrap());
    let report = npm.audit(&again, &gate).await.unwrap();
    assert!(!report.success && !report.output().contains("found 0 vulnerabilities"), "{report:?}");
}

async fn nuget_works(route: &str) {
    let nuget = Nuget::find().expect(SETUP);
    let scene = scene().await;
    let gate = registry(&scene, route);
    let fresh = NugetPackage::new("Contoso.Fresh").version("1.0.0", NugetVersion::new());
    let organisation = Organisation::new("a").feed(Feed::new("f").nuget(fresh));
    let source = Simulator::builder().organisation(organisation).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Contoso.Fresh.1.0.0.nupkg");
    std::fs::write(&path, source.nuget_file("a/f", "Contoso.Fresh", "1.0.0").0).unwrap();

    let listed = async || nuget.list(&gate, "contoso", &[]).await.unwrap().stdout;
    assert!(!listed().await.contains("Contoso.Fresh"));
    done(&nuget.push(&gate, &path).await.unwrap());
    assert!(listed().await.contains("Contoso.Fresh 1.0.0"));
    let again = nuget.push(&gate, &path).await.unwrap();
    assert!(!again.success && again.output().contains("already contains"), "{again:?}");

    let install = async |id: &str, version: Option<&str>, file: &str| {
        let project = Project::nuget([]).unwrap();
        done(&nuget.add(&project, &gate, id, version).await.unwrap());
        let installed = tree(&project.installed()).unwrap();
        assert!(installed.contains_key(&PathBuf::from(file)), "{installed:?}");
    };
    let core = "Contoso.Core.2.0.0/Contoso.Core.2.0.0.nupkg";
    install("Contoso.Utility", Some("1.10.0"), core).await;
    install("Contoso.Fresh", None, "Contoso.Fresh.1.0.0/Contoso.Fresh.1.0.0.nupkg").await;
    done(&nuget.delete(&gate, "Contoso.Fresh", "1.0.0").await.unwrap());
    assert!(!listed().await.contains("Contoso.Fresh"));
    // Read once more since the deletion, so that it is stored.
    install("Contoso.Utility", Some("1.10.0"), core).await;

    scene.simulator.refuse_connections().await.unwrap();
    install("Contoso.Utility", Some("1.10.0"), core).await;
    assert!(listed().await.contains("Contoso.Utility 1.10.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_pushes_lists_installs_and_deletes_over_version_2() {
    nuget_works("nuget/v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_pushes_lists_installs_and_deletes_over_version_3() {
    nuget_works("nuget/v3/index.json").await;
}
