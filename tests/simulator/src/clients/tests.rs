//! Every driver against a feed of one package that insists on a credential: small enough to be read at a glance,
//! and independent of the simulator, so that a failure here is the driver's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha512};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::run::{Program, Run};
use super::{Npm, Nuget, Outcome, Pnpm, Project, Registry, YarnBerry, YarnClassic, tree};

mod writes;

const MANIFEST: &str = r#"{ "name": "app", "version": "1.0.0", "dependencies": { "left": "^1.0.0" } }"#;
const MORE: &str =
    r#"{ "name": "app", "version": "1.0.0", "dependencies": { "left": "^1.0.0", "right": "1.0.0" } }"#;
const SETUP: &str = "the client is there once deploy/setup --clients has run";

/// The same calls for every npm-like driver: a fresh install, one from its lockfile, one that is turned away.
macro_rules! installs {
    ($test:ident, $client:ident) => {
        #[tokio::test]
        async fn $test() {
            let client = $client::find().expect(SETUP);
            assert!(client.version().await.unwrap().starts_with(|first: char| first.is_ascii_digit()));
            let url = feed().await + "npm/registry/";
            let gate = Registry::with_token(&url, "any", "secret");

            let first = Project::npm(MANIFEST).unwrap();
            let outcome = client.install(&first, &gate).await.unwrap();
            assert!(outcome.success, "{outcome:?}");
            assert!(has_left(&first.installed()), "{:?}", tree(&first.installed()));

            let second = first.checkout().unwrap().frozen();
            let outcome = client.install(&second, &gate).await.unwrap();
            assert!(outcome.success, "{outcome:?}");
            assert_eq!(tree(&first.installed()).unwrap(), tree(&second.installed()).unwrap());

            let stranger = Project::npm(MANIFEST).unwrap();
            refused(&client.install(&stranger, &Registry::anonymous(&url)).await.unwrap());

            let changed = first.checkout().unwrap().frozen().with_file("package.json", MORE).unwrap();
            let outcome = client.install(&changed, &gate).await.unwrap();
            assert!(!outcome.success, "the lockfile lacks a dependency: {outcome:?}");
        }
    };
}

installs!(npm_installs_with_a_credential_and_from_its_lockfile, Npm);
installs!(pnpm_installs_with_a_credential_and_from_its_lockfile, Pnpm);
installs!(yarn_classic_installs_with_a_credential_and_from_its_lockfile, YarnClassic);
installs!(yarn_berry_installs_with_a_credential_and_from_its_lockfile, YarnBerry);

#[tokio::test]
async fn nuget_restores_with_a_credential_and_is_refused_without() {
    let client = Nuget::find().expect(SETUP);
    assert!(client.version().await.unwrap().starts_with("5.8"));
    let url = feed().await + "nuget/v3/index.json";
    let project = || Project::nuget([("Left", "1.0.0")]).unwrap();

    let member = project();
    let outcome = client.install(&member, &Registry::with_token(&url, "any", "secret")).await.unwrap();
    assert!(outcome.success, "{outcome:?}");
    assert!(has_left(&member.installed()), "{:?}", tree(&member.installed()));

    refused(&client.install(&project(), &Registry::anonymous(&url)).await.unwrap());
}

#[tokio::test]
async fn a_client_is_ended_at_the_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(&Program::find("sh").unwrap(), folder.path()).unwrap();
    run.arguments(["-c", "echo started; exec sleep 60"]);
    let outcome = run.finish_within(Duration::from_millis(500)).await.unwrap();
    assert!(!outcome.success && outcome.seconds < 30.0, "{outcome:?}");
    assert_eq!(outcome.stdout, "started\n");
    assert!(outcome.stderr.contains("ended by the driver"), "{outcome:?}");
}

#[tokio::test]
async fn a_client_sees_nothing_of_the_environment_but_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(&Program::find("env").unwrap(), folder.path()).unwrap();
    let outcome = run.finish().await.unwrap();
    let mut names: Vec<_> = outcome.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["HOME", "PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
    );
}

#[test]
fn a_tree_holds_files_and_links_and_leaves_out_the_clients_notes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("left")).unwrap();
    std::fs::write(at("left/index.js"), "").unwrap();
    std::fs::write(at("left/.package-lock.json"), "").unwrap();
    std::fs::write(at(".package-lock.json"), "{}").unwrap();
    std::os::unix::fs::symlink("left", at("link")).unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = [("left/.package-lock.json", empty), ("left/index.js", empty), ("link", "-> left")];
    let expected = expected.map(|(name, content)| (PathBuf::from(name), content.to_owned()));
    assert_eq!(tree(folder.path()).unwrap(), expected.into());
}

fn has_left(installed: &Path) -> bool {
    tree(installed).unwrap().keys().any(|path| path.ends_with("left.js"))
}

fn refused(outcome: &Outcome) {
    assert!(!outcome.success && outcome.seconds < 60.0, "{outcome:?}");
    let said = format!("{}{}", outcome.stdout, outcome.stderr).to_lowercase();
    // Yarn 1 takes a 401 for "no such package".
    assert!(
        ["401", "unauthorized", "auth", "couldn't find package"].iter().any(|word| said.contains(word)),
        "{outcome:?}"
    );
}

// === the feed ===

/// A feed with the npm packages `left` and `right` (one tarball) and the NuGet package `Left`, all 1.0.0; answers 401 to strangers.
async fn feed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/contoso/_packaging/main/", listener.local_addr().unwrap());
    let feed = base.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, feed.clone()));
        }
    });
    base
}

/// One request to a connection: `Connection: close` spares us keeping count.
async fn serve(socket: TcpStream, base: String) {
    let mut socket = BufReader::new(socket);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.is_err() || line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let expected = format!("authorization: basic {}", STANDARD.encode("any:secret")).to_lowercase();
    let (status, body) = match lines.iter().any(|line| line.trim().to_lowercase() == expected) {
        false => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"feed\"", b"{}".to_vec()),
        true => content(path, &base).map_or(("404 Not Found", b"{}".to_vec()), |body| ("200 OK", body)),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = socket.write_all(&[head.as_bytes(), &body].concat()).await;
    let _ = socket.shutdown().await;
}

fn content(path: &str, base: &str) -> Option<Vec<u8>> {
    match path.split_once("/_packaging/main/")?.1 {
        "npm/registry/left" => Some(packument("left", base).into_bytes()),
        "npm/registry/right" => Some(packument("right", base).into_bytes()),
        "npm/registry/left/-/left-1.0.0.tgz" => Some(tarball()),
        "nuget/v3/index.json" => Some(service_index(base).into_bytes()),
        "nuget/v3/flat2/left/1.0.0/left.1.0.0.nupkg" => Some(nupkg()),
        _ => None,
    }
}

fn packument(name: &str, base: &str) -> String {
    let integrity = STANDARD.encode(Sha512::digest(tarball()));
    let tarball = format!("{base}npm/registry/left/-/left-1.0.0.tgz");
    serde_json::json!({
        "name": name,
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": {
            "name": name,
            "version": "1.0.0",
            "dist": { "tarball": tarball, "integrity": format!("sha512-{integrity}") },
        } },
    })
    .to_string()
}

fn tarball() -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in
        [("package.json", r#"{ "name": "left", "version": "1.0.0" }"#), ("left.js", "// left\n")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("package/{name}"), text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn service_index(base: &str) -> String {
    let flat = format!("{base}nuget/v3/flat2/");
    let resource = serde_json::json!({ "@id": flat, "@type": "PackageBaseAddress/3.0.0" });
    serde_json::json!({ "version": "3.0.0", "resources": [resource] }).to_string()
}

fn nupkg() -> Vec<u8> {
    let nuspec = r#"<package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd"><metadata><id>Left</id>
        <version>1.0.0</version><authors>a</authors><description>d</description></metadata></package>"#;
    let types = r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
        <Default Extension="nuspec" ContentType="application/octet" /></Types>"#;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in
        [("Left.nuspec", nuspec), ("[Content_Types].xml", types), ("content/left.js", "// left\n")]
    {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
