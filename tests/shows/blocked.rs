//! Real, cold installs that begin while the service blocks the gate's address.

use std::time::Duration;

use feedgate_simulator::{
    Fault, FaultKind, Feed, Listener, Matcher, NpmPackage, NpmVersion, NugetPackage, NugetVersion,
    Organisation, Simulator, Strain, Times,
    clients::{Client, Outcome, Project, Registry},
};
use tokio::time::Instant;

use crate::support::{PAT, Scene, readers};

/// Packages of each project.
const PACKAGES: usize = 40;
/// What the service says (facts §7.2).
const BLOCKED: &str =
    "Request was blocked due to exceeding usage of resource 'Concurrency' in namespace 'IPAddress'.";

/// What came of it.
pub struct Blocked {
    /// How each client's run ended.
    pub outcomes: Vec<(&'static str, Outcome)>,
    /// What the service saw.
    pub strain: Strain,
    /// API requests while the service was blocked.
    pub meanwhile: usize,
    /// From the end of the block to the first answer that was none of it.
    pub recovery: Duration,
}

/// npm, pnpm and nuget.exe, those that are here, all at once; the service answers 500 for so long.
pub async fn blocked(block: Duration) -> Blocked {
    let simulator = Simulator::builder().organisation(organisation()).start().await.unwrap();
    let scene = Scene::with(simulator, "");
    let until = Instant::now() + block;
    let body = serde_json::json!({ "message": BLOCKED, "typeKey": "RequestBlockedException" }).to_string();
    let headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    let kind = FaultKind::Status { status: 500, reason: String::new(), body, headers };
    let struck = Matcher::custom(move |request| request.listener != Listener::Blob && request.at < until);
    scene.simulator.fault(Fault::new(struck, kind, Times::Always));
    let base = scene.url("contoso/_packaging/main");
    let wanted = |client: &Client| matches!(client, Client::Npm(_) | Client::Pnpm(_) | Client::Nuget(_));
    let runs = Client::found().into_iter().filter(wanted).map(|client| install(client, base.clone()));
    let outcomes = futures::future::join_all(runs).await;
    let requests = scene.simulator.requests();
    let api = requests.iter().filter(|request| request.listener != Listener::Blob);
    let meanwhile = api.clone().filter(|request| request.at < until).count();
    let first = api.map(|request| request.at).filter(|at| *at >= until).min();
    Blocked {
        outcomes,
        strain: Strain::of(&requests),
        meanwhile,
        recovery: first.map_or(Duration::MAX, |first| first - until),
    }
}

fn organisation() -> Organisation {
    let feed = (0..PACKAGES).fold(Feed::new("main"), |feed, number| {
        let next = [number * 2 + 1, number * 2 + 2].into_iter().filter(|next| *next < PACKAGES);
        let version = next.fold(NpmVersion::new().size(5_000), |version, next| {
            version.dependency(&super::name(next), "^1.0.0")
        });
        let nuget = NugetPackage::new(&format!("Contoso.Part{number}")).version("1.0.0", NugetVersion::new());
        feed.npm(NpmPackage::new(&super::name(number)).version("1.0.0", version)).nuget(nuget)
    });
    readers(Organisation::new("contoso").feed(feed))
}

async fn install(client: Client, base: String) -> (&'static str, Outcome) {
    let (route, project) = if client.is_nuget() {
        let ids: Vec<_> = (0..PACKAGES).map(|number| format!("Contoso.Part{number}")).collect();
        ("nuget/v3/index.json", Project::nuget(ids.iter().map(|id| (id.as_str(), "1.0.0"))))
    } else {
        let manifest = r#"{"name":"app","version":"1.0.0","private":true,"dependencies":{"p0":"^1.0.0"}}"#;
        ("npm/registry/", Project::npm(manifest))
    };
    let registry = Registry::with_token(format!("{base}/{route}"), "any", PAT);
    (client.name(), client.install(&project.unwrap(), &registry).await.unwrap())
}
