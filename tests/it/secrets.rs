//! Planted secrets are looked for in everything that a run writes: the log at its most talkative, metrics, the store's
//! files, answers with errors, and what `feedgate check` prints.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use feedgate_simulator::{Listener, Scope, Simulator, Token, client};
use tokio::process::{Child, Command};

use crate::support::{NPM, NUGET, config, contoso, until};

/// What callers and the gate show; each is planted by itself and as Basic writes it.
const CALLER: &str = "planted-pat-of-a-caller";
const WRONG: &str = "planted-pat-of-nobody";
const GATE: &str = "planted-pat-of-the-gate";
/// The label of a credential is what the service tells of its owner (`X-VSS-UserData`).
const OWNER: &str = "planted-owner";

struct Run {
    child: Child,
    folder: tempfile::TempDir,
    told: Vec<u8>,
    address: String,
    admin_address: String,
}

impl Run {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn command(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
        command.arg("--config").arg(self.path("feedgate.toml")).env("PLANTED", GATE).args(arguments);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    async fn ask(&mut self, method: &str, path: &str, secret: Option<&str>, key: Option<&str>) -> u16 {
        let url = format!("http://{}/{path}", self.address);
        let shown = secret.map(|secret| client::basic("any", secret));
        let mut headers = vec![("X-NuGet-ApiKey", key.unwrap_or("any"))];
        headers.extend(shown.as_deref().map(|shown| ("Authorization", shown)));
        let response = client::send(method, &url, &headers, b"{}").await.unwrap();
        if response.status >= 400 {
            self.told.extend_from_slice(format!("{:?}", response.headers).as_bytes());
            self.told.extend_from_slice(&response.body);
        }
        response.status
    }
}

async fn start(simulator: &Simulator) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let extra = format!(
        "log.format = \"json\"\nlog.level = \"trace\"\naccess.tokens = \"{}\"\n\
         [[organisation]]\nname = \"fabrikam\"\naccess = \"gateway\"\ncredential_env = \"PLANTED\"\n",
        folder.path().join("tokens").display()
    );
    let file = folder.path().join("feedgate.toml");
    std::fs::write(&file, config(simulator, &folder.path().join("store"), &extra)).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
    command.arg("serve").arg("--config").arg(&file).env("PLANTED", GATE);
    let child = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap();
    let log = folder.path().join("log");
    until(|| async { listening(&log).is_some() }).await;
    let (address, admin_address) = listening(&log).unwrap();
    Run { child, folder, told: Vec::new(), address, admin_address }
}

/// The addresses in the log's line that says where the gate listens.
fn listening(log: &Path) -> Option<(String, String)> {
    let log = std::fs::read_to_string(log).unwrap();
    let mut lines = log.lines().filter(|line| line.contains("\"listening\""));
    let line: serde_json::Value = serde_json::from_str(lines.next()?).ok()?;
    let field = |name: &str| line[name].as_str().map(ToOwned::to_owned);
    Some((field("address")?, field("admin_address")?))
}

/// Every file below `folder`, with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

fn contains(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_run_writes_has_a_secret_in_it() {
    let pat = |text: &str| Token::pat(text).label(OWNER).scope(Scope::ReadWrite);
    let fabrikam = contoso_named("fabrikam").token(pat(GATE));
    let simulator = Simulator::builder().organisation(contoso().token(pat(CALLER))).organisation(fabrikam);
    let simulator = simulator.start().await.unwrap();
    let mut run = start(&simulator).await;
    let arguments = ["token", "create", "--name", "ci", "--scope", "fabrikam", "--write"];
    let token = String::from_utf8(run.command(&arguments).await).unwrap().trim().to_owned();
    until(|| async {
        let url = format!("http://{}/fabrikam/_packaging/main/npm/registry/left-pad", run.address);
        let shown = client::basic("any", &token);
        client::get(&url, &[("Authorization", &shown)]).await.unwrap().status == 200
    })
    .await;
    exercise(&mut run, &token).await;
    let metrics = format!("http://{}/metrics", run.admin_address);
    let metrics = client::get(&metrics, &[]).await.unwrap().text();
    let printed = [run.command(&["check"]).await, run.command(&["token", "list"]).await].concat();
    let id = run.child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(&id).status().await.unwrap().success());
    assert_eq!(run.child.wait().await.unwrap().code(), Some(0));

    let secrets = planted(&token, &simulator);
    let mut written = files(run.folder.path());
    assert!(written.iter().any(|(path, _)| path.ends_with("caller-key")) && written.len() > 5);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = run.path("store");
    assert_eq!((mode(&store), mode(&store.join("sled")), mode(&run.path("tokens"))), (0o700, 0o700, 0o600));
    // sled makes new files of its own with the usual mode, in a folder that is closed.
    for (path, _) in written.iter().filter(|(path, _)| path.starts_with(&store)) {
        let closed = mode(path) == 0o600 || path.starts_with(store.join("sled"));
        assert!(closed, "{} is {:o}", path.display(), mode(path));
    }
    written.push(("metrics".into(), metrics.into_bytes()));
    written.push(("errors".into(), run.told.clone()));
    written.push(("printed".into(), printed));
    for (path, bytes) in &written {
        for secret in &secrets {
            assert!(!contains(bytes, secret), "{secret} in {}", path.display());
        }
    }
}

/// Requests of every kind, with every credential, at both organisations.
async fn exercise(run: &mut Run, token: &str) {
    let tarball = "left-pad/-/left-pad-1.3.0.tgz";
    for (secret, allowed) in [(Some(CALLER), true), (Some(WRONG), false), (Some(token), false), (None, false)]
    {
        for path in
            [format!("{NPM}/left-pad"), format!("{NPM}/{tarball}"), format!("{NPM}/large/-/large-1.0.0.tgz")]
        {
            assert_eq!(run.ask("GET", &path, secret, None).await == 200, allowed, "{path}");
        }
        run.ask("GET", &format!("{NUGET}/index.json"), secret, None).await;
        run.ask("GET", &format!("{NPM}/-/whoami"), secret, None).await;
        run.ask("GET", &format!("{NPM}/absent"), secret, None).await;
        run.ask("PUT", "contoso/_packaging/main/nuget/v2/", secret, Some(WRONG)).await;
    }
    for secret in [Some(token), Some(WRONG), None] {
        let paths = [tarball, "left-pad", "absent", "%2e%2e/x"];
        for path in paths.map(|path| format!("fabrikam/_packaging/main/npm/registry/{path}")) {
            run.ask("GET", &path, secret, None).await;
        }
        run.ask("PUT", "fabrikam/_packaging/main/nuget/v2/", secret, Some(token)).await;
    }
}

/// Every text that must not be found.
fn planted(token: &str, simulator: &Simulator) -> Vec<String> {
    let mut secrets: Vec<String> =
        [CALLER, WRONG, GATE, OWNER, token.rsplit('_').next().unwrap()].map(ToOwned::to_owned).into();
    for secret in [CALLER, WRONG, token] {
        secrets.push(STANDARD.encode(format!("any:{secret}")));
    }
    secrets.push(STANDARD.encode(format!("feedgate:{GATE}")));
    let signed: Vec<_> =
        simulator.requests().into_iter().filter(|request| request.listener == Listener::Blob).collect();
    assert!(!signed.is_empty());
    for request in &signed {
        let signature = request.query.split('&').find_map(|part| part.strip_prefix("sig=")).unwrap();
        assert!(signature.len() > 20, "{signature}");
        secrets.push(signature.to_owned());
    }
    secrets
}

/// The same feeds in an organisation of another name.
fn contoso_named(name: &str) -> feedgate_simulator::Organisation {
    use feedgate_simulator::{Feed, NpmPackage, NpmVersion, Organisation};

    let package = NpmPackage::new("left-pad").version("1.3.0", NpmVersion::new().size(4_000));
    Organisation::new(name).feed(Feed::new("main").npm(package))
}
