//! Planted secrets are looked for in everything that a run writes: the log at its most talkative, metrics, the store's
//! files, answers with errors, the status page, and what the commands print.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use feedgate_simulator::{Listener, Scope, Simulator, Token, client};
use tokio::process::{Child, Command};

use crate::{
    scripted::{Service, answer},
    support::{NPM, NUGET, config, contoso, until},
};

/// What callers and the gate show; each is planted by itself and as Basic writes it.
const CALLER: &str = "planted-pat-of-a-caller";
const WRONG: &str = "planted-pat-of-nobody";
const GATE: &str = "planted-pat-of-the-gate";
/// More that the gate holds: for the origin of a mount, the changes of a feed, its operators, the way out and the
/// collector of spans, each by the variable that it is in.
const HELD: [(&str, &str); 6] = [
    ("PLANTED", GATE),
    ("PLANTED_MOUNT", "planted-pat-of-a-mount"),
    ("PLANTED_CHANGES", CHANGES),
    ("PLANTED_ADMIN", "planted-token-of-the-operators"),
    ("PLANTED_PROXY", "planted-user:planted-password-of-the-proxy"),
    ("PLANTED_COLLECTOR", "api-key=planted-key-of-the-collector"),
];
const CHANGES: &str = "planted-pat-of-the-changes";
/// What operators ask, whose answers are looked through too.
const COMMANDS: [&[&str]; 11] = [
    &["check"],
    &["config"],
    &["token", "list"],
    &["stats"],
    &["ls"],
    &["throttle"],
    &["breakers"],
    &["log"],
    &["mode"],
    &["explain", "left-pad@1.3.0", "--credential-env", "PLANTED_CALLER"],
    &["explain", "/fabrikam/_packaging/main/npm/registry/left-pad"],
];
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
        command.arg("--config").arg(self.path("feedgate.toml")).args(arguments).envs(HELD);
        command.env("PLANTED_CALLER", format!("any:{CALLER}")).env("FEEDGATE_ADMIN_TOKEN", HELD[3].1);
        if !["check", "token"].contains(&arguments[0]) {
            command.arg("--admin").arg(format!("http://{}", self.admin_address));
        }
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        [output.stdout, output.stderr].concat()
    }

    /// What the commands print, for people and for programs, and the status page.
    async fn printed(&self) -> Vec<u8> {
        let mut printed = Vec::new();
        for command in COMMANDS {
            printed.extend(self.command(command).await);
            printed.extend(self.command(&[command, &["--json"]].concat()).await);
        }
        let operator = [("Authorization", &*client::basic("any", HELD[3].1))];
        let page = client::get(&format!("http://{}/", self.admin_address), &operator).await.unwrap();
        assert_eq!(page.status, 200);
        [printed, page.body.to_vec()].concat()
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

/// A gate with all that it may hold; `other` is the proxy, the collector, and the origin of a mount.
async fn start(simulator: &Simulator, other: &Service) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, other) = (folder.path().join("tokens"), other.address);
    let extra = format!(
        r#"
        log = {{ format = "json", level = "trace" }}
        access.tokens = "{}"
        admin.token_env = "PLANTED_ADMIN"
        upstream.proxy = "http://{other}"
        upstream.proxy_credential_env = "PLANTED_PROXY"
        upstream.no_proxy = ["127.0.0.0/8", "localhost"]
        trace = {{ endpoint = "http://{other}/", headers_env = "PLANTED_COLLECTOR", requests_per_trace = 1 }}
        [[organisation]]
        name = "fabrikam"
        access = "gateway"
        credential_env = "PLANTED"
        [[mount]]
        path = "/vendor/"
        upstream = "http://{other}/"
        access = "gateway"
        credential_env = "PLANTED_MOUNT"
        [[mount]]
        path = "/outside/"
        upstream = "https://outside.invalid/"
        [[changes]]
        feed = "contoso/main"
        interval = "1s"
        credential_env = "PLANTED_CHANGES"
        "#,
        tokens.display()
    );
    let file = folder.path().join("feedgate.toml");
    std::fs::write(&file, config(simulator, &folder.path().join("store"), &extra)).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_feedgate"));
    command.arg("serve").arg("--config").arg(&file).envs(HELD);
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
    let contoso = contoso().token(pat(CALLER)).token(pat(CHANGES));
    let simulator = Simulator::builder().organisation(contoso).organisation(fabrikam).start().await.unwrap();
    let other = Service::start(|_| answer("407 Oops", "Set-Cookie: planted-cookie\r\n", "no")).await;
    let mut run = start(&simulator, &other).await;
    let arguments =
        ["token", "create", "--name", "ci", "--scope", "fabrikam", "--scope", "vendor", "--write"];
    let token = String::from_utf8(run.command(&arguments).await).unwrap().trim().to_owned();
    until(|| async {
        let url = format!("http://{}/fabrikam/_packaging/main/npm/registry/left-pad", run.address);
        let shown = client::basic("any", &token);
        client::get(&url, &[("Authorization", &shown)]).await.unwrap().status == 200
    })
    .await;
    exercise(&mut run, &token).await;
    until(|| async { shown_to(&simulator, &other).iter().all(|seen| *seen) }).await;
    let metrics = format!("http://{}/metrics", run.admin_address);
    let metrics = client::get(&metrics, &[]).await.unwrap().text();
    let printed = run.printed().await;
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
        for path in ["vendor/a", "outside/a"] {
            run.ask("GET", path, secret, None).await;
            run.ask("PUT", path, secret, None).await;
        }
    }
}

/// Whether what the gate holds was shown where it is for: to the service, a mount's origin, the proxy, the collector.
fn shown_to(simulator: &Simulator, other: &Service) -> [bool; 4] {
    let to_other = |path: &str, field: &str, value: String| {
        other.asked(path).iter().any(|seen| seen.header(field) == Some(value.as_str()))
    };
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let [_, (_, mount), _, _, (_, proxy), (_, collector)] = HELD;
    [
        simulator.count(|request| request.path.contains("/feedchanges/")) > 0,
        to_other("/a", "authorization", basic(&format!("feedgate:{mount}"))),
        to_other("outside.invalid:443", "proxy-authorization", basic(proxy)),
        to_other("/v1/traces", "api-key", collector.trim_start_matches("api-key=").to_owned()),
    ]
}

/// Every text that must not be found.
fn planted(token: &str, simulator: &Simulator) -> Vec<String> {
    let mut secrets: Vec<String> =
        [CALLER, WRONG, OWNER, "planted-cookie", token.rsplit('_').next().unwrap()]
            .map(ToOwned::to_owned)
            .into();
    for secret in [CALLER, WRONG, token] {
        secrets.push(STANDARD.encode(format!("any:{secret}")));
    }
    for (_, held) in HELD {
        secrets.push(held.rsplit([':', '=']).next().unwrap().to_owned());
        secrets.extend([STANDARD.encode(held), STANDARD.encode(format!("feedgate:{held}"))]);
    }
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
