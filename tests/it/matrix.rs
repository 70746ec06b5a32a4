//! The access matrix: who gets what, in every state of what is stored. The table is data; each cell is a request.

use std::time::Duration;

use feedgate::{
    access::{Token as GateToken, TokenFile, Wanted},
    clock::Clock,
    config::access::Rights,
};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, Organisation, Scope, Simulator, Token,
    client::{self, Response},
};

use crate::support::Scene;

/// What a caller shows.
const CREDENTIALS: [&str; 7] =
    ["no", "wrong", "expired", "read-only", "other feed's", "other organisation's", "good"];
/// States of what is asked for.
const STATES: [&str; 4] = ["miss", "fresh", "stale", "offline"];
/// What is read.
const READS: [&str; 3] = ["document", "blob", "REST"];

/// Statuses of reads and of writes, by access mode and credential, in each of the states. 200 is any success.
///
/// Offline, with the caller's own credential: what was never let in cannot be asked about (424), and NuGet, which asks
/// without a credential first, is told to show one (401).
const MATRIX: [(&str, &str, [u16; 4], [u16; 4]); 14] = [
    ("passthrough", "no", [401, 401, 401, 401], [401, 401, 401, 424]),
    ("passthrough", "wrong", [401, 401, 401, 424], [401, 401, 401, 424]),
    ("passthrough", "expired", [401, 401, 401, 424], [401, 401, 401, 424]),
    ("passthrough", "read-only", [200, 200, 200, 200], [403, 403, 403, 424]),
    ("passthrough", "other feed's", [403, 403, 403, 424], [403, 403, 403, 424]),
    ("passthrough", "other organisation's", [401, 401, 401, 424], [401, 401, 401, 424]),
    ("passthrough", "good", [200, 200, 200, 200], [200, 200, 200, 424]),
    ("gateway", "no", [401, 401, 401, 401], [401, 401, 401, 401]),
    ("gateway", "wrong", [401, 401, 401, 401], [401, 401, 401, 401]),
    ("gateway", "expired", [401, 401, 401, 401], [401, 401, 401, 401]),
    ("gateway", "read-only", [200, 200, 200, 200], [403, 403, 403, 403]),
    ("gateway", "other feed's", [403, 403, 403, 403], [403, 403, 403, 403]),
    ("gateway", "other organisation's", [403, 403, 403, 403], [403, 403, 403, 403]),
    ("gateway", "good", [200, 200, 200, 200], [200, 200, 200, 424]),
];

const STALE: &str = "access.verdict_ttl = \"0ms\"\n\
    metadata.packument = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n\
    metadata.rest = { fresh = \"0ms\", stale_while_revalidate = \"0ms\", stale_if_error = \"1h\" }\n";

/// A gate for an organisation of each access mode, and what callers show there.
struct Matrix {
    scene: Scene,
    tokens: Vec<(&'static str, String)>,
    _folder: tempfile::TempDir,
}

/// The organisation of an access mode; `service` tells what the service's credentials are.
fn organisation(name: &str) -> Organisation {
    let version = || NpmVersion::new().size(4_000);
    let mut feed = Feed::new("main")
        .npm(NpmPackage::new("stored-secret").version("1.0.0", version()))
        .npm(NpmPackage::new("written").version("1.0.0", version()));
    for number in 0..CREDENTIALS.len() {
        feed = feed.npm(NpmPackage::new(&format!("stored-secret{number}")).version("1.0.0", version()));
    }
    Organisation::new(name).feed(feed).feed(Feed::new("other"))
}

async fn simulator() -> Simulator {
    let pat = |text: &str, scope| Token::pat(text).label(text).scope(scope);
    let passthrough = organisation("passthrough")
        .token(pat("pat-expired", Scope::Expired))
        .token(pat("pat-read-only", Scope::Read))
        .token(pat("pat-other feed's", Scope::ReadWrite).only("other"))
        .token(pat("pat-good", Scope::ReadWrite));
    let gateway = organisation("gateway").token(pat("gate", Scope::ReadWrite));
    let other = organisation("fabrikam").token(pat("pat-other organisation's", Scope::ReadWrite));
    let builder = Simulator::builder()
        .npm_extensions(true)
        .organisation(passthrough)
        .organisation(gateway)
        .organisation(other);
    builder.start().await.unwrap()
}

impl Matrix {
    async fn new(state: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("pat"), "gate\n").unwrap();
        let file = TokenFile::new(&path("tokens"));
        let mut tokens = Vec::new();
        for (name, scope, rights, age) in [
            ("expired", "gateway", Rights::Write, 7200),
            ("read-only", "gateway/main", Rights::Read, 0),
            ("other feed's", "gateway/other", Rights::Write, 0),
            ("other organisation's", "fabrikam", Rights::Write, 0),
            ("good", "gateway/main", Rights::Write, 0),
        ] {
            let scopes = vec![scope.parse().unwrap()];
            let life = Some(Duration::from_secs(3600));
            let made = Clock::system().now() - Duration::from_secs(age);
            let (token, text) = GateToken::new(Wanted { name: name.to_owned(), scopes, rights, life }, made);
            file.add(token).unwrap();
            tokens.push((name, text.reveal().clone()));
        }
        let extra = format!(
            "{}access.tokens = \"{}\"\n[[organisation]]\nname = \"gateway\"\naccess = \"gateway\"\n\
             credential_file = \"{}\"\n",
            if state == "stale" { STALE } else { "" },
            path("tokens").display(),
            path("pat").display()
        );
        let matrix = Self { scene: Scene::with(simulator().await, &extra), tokens, _folder: folder };
        if state != "miss" {
            matrix.store().await;
        }
        if state == "offline" {
            let url = format!("http://{}/admin/v1/mode", matrix.scene.gate().admin_address());
            let switched = client::send("PUT", &url, &[], br#"{"mode":"offline"}"#).await.unwrap();
            assert_eq!(switched.status, 200, "{}", switched.text());
        }
        matrix
    }

    /// Everything was read before, by those who may.
    async fn store(&self) {
        for mode in ["passthrough", "gateway"] {
            for credential in ["good", "read-only"] {
                for read in READS {
                    let response = self.read(mode, credential, read, "stored-secret").await;
                    assert_eq!(response.status, 200, "{mode} {credential} {read}: {}", response.text());
                }
            }
        }
    }

    fn shown(&self, mode: &str, credential: &str) -> Option<String> {
        let secret = match (mode, credential) {
            (_, "no") => return None,
            ("gateway", "wrong") => format!("fgt_0123456789ab_{}", "0".repeat(64)),
            ("gateway", _) => self.tokens.iter().find(|(name, _)| *name == credential).unwrap().1.clone(),
            (_, "wrong") => "nobody's".to_owned(),
            _ => format!("pat-{credential}"),
        };
        Some(client::basic("any", &secret))
    }

    async fn send(&self, method: &str, path: &str, shown: Option<&str>, body: &[u8]) -> Response {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(shown.map(|shown| ("Authorization", shown)));
        client::send(method, &self.scene.url(path), &headers, body).await.unwrap()
    }

    async fn read(&self, mode: &str, credential: &str, read: &str, package: &str) -> Response {
        let path = match read {
            "document" => format!("{mode}/_packaging/main/npm/registry/{package}"),
            "blob" => format!("{mode}/_packaging/main/npm/registry/{package}/-/{package}-1.0.0.tgz"),
            _ => format!("{mode}/_apis/packaging/feeds/main/npm/{package}/versions/1.0.0"),
        };
        self.send("GET", &path, self.shown(mode, credential).as_deref(), b"").await
    }

    async fn write(&self, mode: &str, credential: &str) -> Response {
        let path = format!("{mode}/_packaging/main/npm/registry/-/package/written/dist-tags/next");
        self.send("PUT", &path, self.shown(mode, credential).as_deref(), b"\"1.0.0\"").await
    }

    /// The requests of the service that a row's reads took.
    async fn check(&self, row: usize, state: usize) -> Vec<(String, String)> {
        let (mode, credential, reads, writes) = MATRIX[row];
        self.scene.simulator.clear_log();
        let number = row % CREDENTIALS.len();
        let package = if state == 0 { format!("stored-secret{number}") } else { "stored-secret".to_owned() };
        for read in READS {
            let response = self.read(mode, credential, read, &package).await;
            let cell = format!("{mode}, {credential}, {}, {read}", STATES[state]);
            judge(&response, reads[state], &cell);
        }
        let asked = self.scene.simulator.requests();
        let response = self.write(mode, credential).await;
        judge(&response, writes[state], &format!("{mode}, {credential}, {}, write", STATES[state]));
        self.check_credentials();
        asked.iter().map(|one| (one.method.clone(), one.path.clone())).collect()
    }

    /// With the gate's credential and no other at the one organisation, never at the other, and with none at the blobs.
    fn check_credentials(&self) {
        for request in self.scene.simulator.requests() {
            let own = request.header("authorization").is_some_and(|shown| shown == "Basic gate");
            let gateway = request.path.starts_with("/gateway/");
            assert_eq!(own, gateway, "{request:?}");
        }
        assert_eq!(self.scene.simulator.violations(), []);
    }
}

fn judge(response: &Response, expected: u16, cell: &str) {
    let status = if response.status / 100 == 2 { 200 } else { response.status };
    assert_eq!(status, expected, "{cell}: {}", response.text());
    if expected == 200 {
        return;
    }
    assert_eq!((response.header("etag"), response.header("x-cache-hits")), (None, None), "{cell}");
    assert!(!response.text().contains("stored-secret"), "{cell}: {}", response.text());
    if expected == 401 {
        let challenges = response.header_all("www-authenticate");
        assert!(challenges.iter().any(|challenge| challenge.starts_with("Basic ")), "{cell}: {challenges:?}");
    }
}

async fn check(state: usize) -> Vec<Vec<(String, String)>> {
    let matrix = Matrix::new(STATES[state]).await;
    let mut asked = Vec::new();
    for row in 0..MATRIX.len() {
        asked.push(matrix.check(row, state).await);
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_costs_the_same_whether_or_not_a_thing_is_stored() {
    let (miss, fresh) = (check(0).await, check(1).await);
    for (row, (miss, fresh)) in miss.iter().zip(&fresh).enumerate() {
        let (mode, credential, reads, _) = MATRIX[row];
        if reads[0] == 200 {
            continue;
        }
        assert_eq!(miss, fresh, "{mode} {credential}");
        // One question for all three, or none at all.
        assert_eq!(miss.len(), usize::from(mode == "passthrough"), "{mode} {credential}: {miss:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_things_go_to_those_only_who_may_read_now() {
    check(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_things_go_to_those_only_who_were_let_in_before() {
    let asked = check(3).await;
    assert!(asked.iter().all(Vec::is_empty), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wrong_credentials_from_one_address_are_no_burst() {
    let scene = Scene::with(simulator().await, "access.denied_per_minute = 20\n");
    let path = "passthrough/_packaging/main/npm/registry/written";
    assert_eq!(scene.get_as(Some("pat-good"), path, &[]).await.status, 200);
    scene.simulator.clear_log();
    let (mut refused, mut told_to_wait) = (0, 0);
    for number in 0..200 {
        let response = scene.get_as(Some(&format!("guess-{number}")), path, &[]).await;
        match response.status {
            401 => refused += 1,
            429 => {
                assert!(response.header("retry-after").is_some());
                told_to_wait += 1;
            }
            other => panic!("{other}: {}", response.text()),
        }
    }
    let asked = scene.simulator.requests().len();
    // As many as the limit, and what leaks while the test runs.
    assert!((20..60).contains(&refused) && asked == refused, "{refused} {told_to_wait} {asked}");
    // Who is known is not held up.
    assert_eq!(scene.get_as(Some("pat-good"), path, &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_gate_is_the_gates_own_trouble() {
    let matrix = Matrix::new("miss").await;
    matrix.scene.simulator.set_scope("gate", Scope::Expired);
    let response = matrix.read("gateway", "good", "document", "stored-secret").await;
    assert_eq!((response.status, response.json()["code"].as_str()), (502, Some("gate_credential")));
    assert!(
        response.header("www-authenticate").is_none() && response.header("x-vss-resourcetenant").is_none()
    );
    let response = matrix.write("gateway", "good").await;
    assert_eq!((response.status, response.json()["code"].as_str()), (502, Some("gate_credential")));
}
