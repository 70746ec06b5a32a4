//! Walks the table of operations in the README: each row, each spelling, from the service and from the store, and
//! each read again after each write. The simulator's own answer is the measure.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use feedgate::{app::Gate, config::Config};
use feedgate_simulator::{
    Feed, NpmPackage, NpmVersion, NugetPackage, NugetVersion, Organisation, Scope, Simulator, Token,
    client::{self, Response, Url},
};

use futures::{StreamExt as _, stream};

use crate::{
    support::{PAT, config, readers},
    writes::{WRITER, publication},
};

const README: &str = include_str!("../../README.md");
/// Freshness of nothing: every document comes from the service.
const NEVER_FRESH: &str = "fresh = \"0ms\"\nstale_while_revalidate = \"0ms\"\nstale_if_error = \"0ms\"\n";

/// Rows that are walked at a time.
const AT_ONCE: usize = 8;

/// A row of the table.
#[derive(Debug, Clone)]
struct Row {
    operation: String,
    methods: Vec<String>,
    paths: Vec<String>,
    kept: String,
}

/// How a request is spelled.
#[expect(clippy::struct_excessive_bools, reason = "the dimensions of the walk")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spelling {
    host: HostForm,
    collection: bool,
    guids: bool,
    scoped: bool,
    slash: bool,
    version: ApiVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HostForm {
    /// The gate's own name, the organisation in the path.
    Gate,
    /// `{org}.pkgs.visualstudio.com` and its feeds twin.
    Old,
    /// `pkgs.dev.azure.com` and its feeds twin.
    New,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ApiVersion {
    None,
    Query,
    Accept,
}

/// Which feed a walk speaks of.
#[derive(Debug, Clone, Copy)]
struct Where {
    project: Option<&'static str>,
    feed: &'static str,
    view: Option<&'static str>,
}

const PLACES: [Where; 3] = [
    Where { project: None, feed: "main", view: None },
    Where { project: Some("web"), feed: "parts", view: None },
    Where { project: None, feed: "main", view: Some("release") },
];

/// A service and two gates in front of it: one that asks it for everything, one that keeps what it may.
struct Walk {
    simulator: Simulator,
    gates: Vec<Gate>,
    folders: Vec<tempfile::TempDir>,
}

/// A request line and headers.
#[derive(Debug, Clone)]
struct Ask {
    /// `Host`, where it is not the address.
    host: Option<&'static str>,
    path: String,
    accept: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let table = README.split("| operation | method | path |").nth(1).unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.split('|').map(str::trim).skip(1).collect::<Vec<_>>());
    let codes = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    cells
        .filter(|cells| !cells[2].is_empty())
        .map(|cells| Row {
            operation: cells[0].to_owned(),
            methods: cells[1].split(',').map(|method| method.trim().to_owned()).collect(),
            paths: codes(cells[2]),
            kept: cells[3].to_owned(),
        })
        .collect()
}

fn feed(name: &str) -> Feed {
    let left_pad = NpmPackage::new("left-pad")
        .version("1.2.0", NpmVersion::new().size(900))
        .version("1.3.0", NpmVersion::new().size(1_000));
    let wide = NpmPackage::new("@scope/wide").version("1.3.0", NpmVersion::new().size(2_000));
    let utility = NugetPackage::new("Contoso.Utility")
        .version("0.9.0", NugetVersion::new().size(2_000))
        .version("1.0.0", NugetVersion::new().size(3_000));
    Feed::new(name).npm(left_pad).npm(wide).nuget(utility)
}

fn contoso() -> Organisation {
    readers(Organisation::new("contoso").feed(feed("main")).feed(feed("parts").project("web")))
        .token(Token::pat(WRITER).label("writer").scope(Scope::ReadWrite))
}

fn promote(simulator: &Simulator) {
    simulator.promote_npm("contoso/main", "left-pad", "1.3.0", "release");
    simulator.promote_npm("contoso/main", "@scope/wide", "1.3.0", "release");
    simulator.promote_nuget("contoso/main", "Contoso.Utility", "1.0.0", "release");
}

async fn simulator() -> Simulator {
    let simulator = Simulator::builder().organisation(contoso()).npm_extensions(true).audit(true);
    let simulator = simulator.start().await.unwrap();
    promote(&simulator);
    simulator
}

// === impl Walk ===

impl Walk {
    async fn start() -> Self {
        let simulator = simulator().await;
        let classes = [
            "service_index",
            "packument",
            "version_list",
            "registration",
            "nuspec",
            "search",
            "vulnerabilities",
            "odata",
            "rest",
            "feeds",
        ];
        let tables: Vec<_> = classes.map(|class| format!("[metadata.{class}]\n{NEVER_FRESH}")).into();
        let never = tables.concat();
        let mut walk = Self { simulator, gates: Vec::new(), folders: Vec::new() };
        for extra in [never.as_str(), ""] {
            let folder = tempfile::tempdir().unwrap();
            let text = config(&walk.simulator, &folder.path().join("store"), extra);
            let config = Config::parse(&text, &BTreeMap::new()).unwrap().config;
            walk.gates.push(Gate::start(config).unwrap());
            walk.folders.push(folder);
        }
        walk
    }

    /// The values of a path's placeholders.
    fn values(&self, at: Where, spelling: Spelling) -> Vec<(&'static str, String)> {
        let address = address(at);
        let simulator = &self.simulator;
        let (name, rest, seed, file, npm) = if spelling.scoped {
            ("@scope%2fwide", "@scope/wide", "@scope/packages/wide", "wide-1.3.0.tgz", "@scope/wide")
        } else {
            ("left-pad", "left-pad", "packages/left-pad", "left-pad-1.3.0.tgz", "left-pad")
        };
        let view = if spelling.guids {
            simulator.view_guid(&address, "release").to_string()
        } else {
            "release".to_owned()
        };
        vec![
            ("{npm}", name.to_owned()),
            ("{npm-rest}", rest.to_owned()),
            ("{npm-seed}", seed.to_owned()),
            ("{npm-file}", file.to_owned()),
            ("{npm-version}", "1.3.0".to_owned()),
            ("{id}", "contoso.utility".to_owned()),
            ("{version}", "1.0.0".to_owned()),
            ("{package-guid}", simulator.npm_guid(&address, npm).to_string()),
            ("{version-guid}", simulator.npm_version_guid(&address, npm, "1.3.0").to_string()),
            ("{view}", view),
            ("{feed}", self.feed(at, spelling.guids)),
        ]
    }

    fn feed(&self, at: Where, guids: bool) -> String {
        if guids { self.simulator.feed_guid(&address(at)).to_string() } else { at.feed.to_owned() }
    }

    /// Path below the organisation, from a template of the table.
    fn below(&self, template: &str, at: Where, spelling: Spelling) -> String {
        let (letter, rest) = template.split_at(1);
        let project = match at.project {
            None => String::new(),
            Some(_) if spelling.guids => format!("/{}", self.simulator.project_guid(&address(at)).unwrap()),
            Some(name) => format!("/{name}"),
        };
        let view = match at.view {
            None => String::new(),
            Some(view) if spelling.guids => format!("@{}", self.simulator.view_guid(&address(at), view)),
            Some(view) => format!("@{view}"),
        };
        let feed = self.feed(at, spelling.guids);
        let path = match letter {
            "P" => format!("{project}/_packaging/{feed}{view}{rest}"),
            "R" | "F" => format!("{project}/_apis/packaging/feeds/{feed}{view}{rest}"),
            _ => format!("{project}{rest}"),
        };
        let values = self.values(at, spelling);
        let mut path = values.iter().fold(path, |path, (name, value)| path.replace(name, value));
        if spelling.slash {
            let at = path.find('?').unwrap_or(path.len());
            path.insert(at, '/');
        }
        if spelling.version == ApiVersion::Query {
            path.push_str(if path.contains('?') { "&" } else { "?" });
            path.push_str("api-version=5.0-preview.1");
        }
        path
    }

    /// What the gate is asked.
    fn ask(&self, template: &str, at: Where, spelling: Spelling) -> Ask {
        let below = self.below(template, at, spelling);
        let collection = if spelling.collection { "/DefaultCollection" } else { "" };
        let feeds = on_feeds_host(template);
        let (host, org) = match spelling.host {
            HostForm::Gate => (None, "/contoso"),
            HostForm::Old if feeds => (Some("contoso.feeds.visualstudio.com"), ""),
            HostForm::Old => (Some("contoso.pkgs.visualstudio.com"), ""),
            HostForm::New if feeds => (Some("feeds.dev.azure.com"), "/contoso"),
            HostForm::New => (Some("pkgs.dev.azure.com"), "/contoso"),
        };
        Ask { host, path: format!("{org}{collection}{below}"), accept: accept(spelling) }
    }

    /// What the service itself answers to the plainest spelling with the same names.
    async fn direct(
        &self,
        method: &str,
        template: &str,
        at: Where,
        spelling: Spelling,
        body: &[u8],
    ) -> Response {
        let plain = Spelling { slash: false, ..spelling };
        let base =
            if on_feeds_host(template) { self.simulator.feeds_url() } else { self.simulator.pkgs_url() };
        let path = format!("/contoso{}", self.below(template, at, plain));
        let ask = Ask { host: None, path, accept: accept(spelling) };
        let response = send(&base, method, &ask, body).await;
        self.followed(response).await
    }

    async fn followed(&self, mut response: Response) -> Response {
        while response.status == 303 {
            let location = response.header("location").unwrap().to_owned();
            let credential = client::basic("any", WRITER);
            let headers = [("Authorization", credential.as_str())];
            let own = location.starts_with(&self.simulator.pkgs_url());
            response = client::get(&location, if own { &headers } else { &[] }).await.unwrap();
        }
        response
    }

    /// The body with every base URL as `BASE`, so that answers can be compared.
    fn plain(&self, response: &Response) -> String {
        let mut text = String::from_utf8_lossy(&response.decoded().unwrap()).into_owned();
        let gates = self.gates.iter().map(|gate| format!("http://{}", gate.address()));
        let bases = gates.chain([self.simulator.pkgs_url(), self.simulator.feeds_url()]);
        for base in
            bases.chain(["http://pkgs.dev.azure.com".to_owned(), "http://feeds.dev.azure.com".to_owned()])
        {
            text = text.replace(&base, "BASE");
        }
        for host in ["pkgs", "feeds"] {
            text = text.replace(&format!("http://contoso.{host}.visualstudio.com"), "BASE/contoso");
        }
        text
    }

    /// What differs between an answer of a gate and the service's.
    fn difference(&self, row: &Row, got: &Response, expected: &Response) -> Option<String> {
        if got.status != expected.status {
            let (ours, theirs) = (self.plain(got), self.plain(expected));
            return Some(format!("status {} {ours}, not {} {theirs}", got.status, expected.status));
        }
        if row.kept == "bytes" && got.status == 200 {
            return (got.body != expected.body).then(|| "other bytes".to_owned());
        }
        let (ours, theirs) = (self.plain(got), self.plain(expected));
        if ours != theirs {
            return Some(parting(&ours, &theirs));
        }
        let (ours, theirs) = (kind(got), kind(expected));
        let same = ours == theirs || ours.starts_with(&theirs) || theirs.starts_with(&ours);
        (got.status == 200 && !same).then(|| format!("{ours}, not {theirs}"))
    }
}

fn accept(spelling: Spelling) -> Option<&'static str> {
    (spelling.version == ApiVersion::Accept).then_some("application/json;api-version=5.0-preview.1")
}

fn kind(response: &Response) -> String {
    response.header("content-type").unwrap_or_default().to_ascii_lowercase().replace(' ', "")
}

fn address(at: Where) -> String {
    at.project.map_or(format!("contoso/{}", at.feed), |project| format!("contoso/{project}/{}", at.feed))
}

fn on_feeds_host(template: &str) -> bool {
    template.starts_with('F')
        || ["packaging/Feeds", "feedchanges"]
            .iter()
            .any(|part| template.starts_with('O') && template.contains(part))
}

fn is_rest(template: &str) -> bool {
    !template.starts_with('P')
}

async fn send(base: &str, method: &str, ask: &Ask, body: &[u8]) -> Response {
    let credential = client::basic("any", if method == "GET" { PAT } else { WRITER });
    let mut headers = vec![("Authorization", credential.as_str())];
    headers.extend(ask.host.map(|host| ("Host", host)));
    headers.extend(ask.accept.map(|accept| ("Accept", accept)));
    if !body.is_empty() {
        headers.push(("Content-Type", content_type(body)));
    }
    let url = format!("{base}{}", ask.path);
    assert!(Url::parse(&url).is_ok(), "{url}");
    client::send(method, &url, &headers, body).await.unwrap()
}

fn content_type(body: &[u8]) -> &'static str {
    if body.starts_with(b"--") { "multipart/form-data; boundary=b" } else { "application/json" }
}

/// Every spelling that makes a difference for a template.
fn spellings(template: &str) -> Vec<Spelling> {
    let mut all = BTreeSet::new();
    for number in 0..96_u32 {
        let bit = |at: u32| number >> at & 1 == 1;
        let host = [HostForm::Gate, HostForm::Old, HostForm::New][(number / 32) as usize];
        let npm = template.contains("{npm") || template.contains("-guid}");
        for version in [ApiVersion::None, ApiVersion::Query, ApiVersion::Accept] {
            all.insert(Spelling {
                host,
                collection: bit(0),
                guids: bit(1),
                scoped: bit(2) && npm,
                slash: bit(3) && is_rest(template),
                version: if is_rest(template) { version } else { ApiVersion::None },
            });
        }
    }
    all.into_iter().collect()
}

const PLAINEST: Spelling = Spelling {
    host: HostForm::Gate,
    collection: false,
    guids: false,
    scoped: false,
    slash: false,
    version: ApiVersion::None,
};

fn reads() -> Vec<(Row, String)> {
    let rows = rows().into_iter().filter(|row| row.methods.iter().any(|method| method == "GET"));
    rows.flat_map(|row| row.paths.clone().into_iter().map(move |path| (row.clone(), path))).collect()
}

/// What a row that the gate makes itself should be, from the packument.
async fn made(walk: &Walk, template: &str, at: Where, spelling: Spelling) -> Option<String> {
    if template.ends_with("ping") {
        return Some("{}".to_owned());
    }
    if template.ends_with("whoami") {
        return None;
    }
    let plain = Spelling { version: ApiVersion::None, ..spelling };
    let packument = walk.direct("GET", "P/npm/registry/{npm}", at, plain, b"").await;
    let packument: serde_json::Value = serde_json::from_str(&walk.plain(&packument)).unwrap();
    let tags = &packument["dist-tags"];
    Some(match template.rsplit('/').next().unwrap() {
        "dist-tags" => tags.to_string(),
        "latest" => packument["versions"][tags["latest"].as_str().unwrap()].to_string(),
        _ => packument["versions"]["1.3.0"].to_string(),
    })
}

/// What differs between an answer that the gate makes itself and what it should be.
fn unlike(walk: &Walk, got: &Response, expected: Option<&str>) -> Option<String> {
    if got.status != 200 {
        return Some(format!("status {} {}", got.status, walk.plain(got)));
    }
    let expected: serde_json::Value = serde_json::from_str(expected?).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&walk.plain(got)).unwrap_or_default();
    (ours != expected).then(|| parting(&ours.to_string(), &expected.to_string()))
}

/// Where two texts part.
fn parting(ours: &str, theirs: &str) -> String {
    let same = ours.bytes().zip(theirs.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| {
        let part = &text.as_bytes()[same.saturating_sub(60).min(text.len())..(same + 80).min(text.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!("…{}…\n    not …{}…", around(ours), around(theirs))
}

/// Says what is wrong: of each operation (what stands before the first colon) how often, and the first of it.
fn assert_none(wrong: &[String]) {
    let mut operations: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in wrong {
        operations.entry(text.split(':').next().unwrap()).or_default().push(text);
    }
    let texts = operations.values().map(|all| format!("{} × {}", all.len(), all[0])).collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), texts.join("\n"));
}

#[test]
fn the_table_has_the_operations_of_the_seeds() {
    let rows = rows();
    assert!(rows.len() >= 60, "{}", rows.len());
    let kept: BTreeSet<&str> = rows.iter().map(|row| row.kept.as_str()).collect();
    let classes = feedgate::route::DocumentClass::ALL.map(feedgate::route::DocumentClass::as_str);
    let known: BTreeSet<&str> = classes.into_iter().chain(["bytes", "made", "no"]).collect();
    assert_eq!(kept, known);
}

/// Walks one row at one place in every spelling, against a gate that asks for everything and one that keeps; how many
/// answers were compared, and what was wrong.
async fn walk_row(walk: &Walk, row: &Row, template: &str, at: Where) -> (usize, Vec<String>) {
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut direct: BTreeMap<(bool, bool, ApiVersion), Response> = BTreeMap::new();
    for spelling in spellings(template) {
        let ask = walk.ask(template, at, spelling);
        let key = (spelling.guids, spelling.scoped, spelling.version);
        if let Entry::Vacant(entry) = direct.entry(key) {
            entry.insert(walk.direct("GET", template, at, spelling, b"").await);
        }
        for (gate, round) in [(0, "asked"), (1, "first"), (1, "again")] {
            let got = send(&format!("http://{}", walk.gates[gate].address()), "GET", &ask, b"").await;
            let difference = if row.kept == "made" {
                unlike(walk, &got, made(walk, template, at, spelling).await.as_deref())
            } else if template.contains("v2/package/") {
                // The service lacks this form: it is the download.
                let (bytes, _) = walk.simulator.nuget_file(&address(at), "Contoso.Utility", "1.0.0");
                ((got.status, &got.body) != (200, &bytes)).then(|| got.status.to_string())
            } else {
                walk.difference(row, &got, &direct[&key])
            };
            let what = || format!("{}: {round}, GET {ask:?} {spelling:?}", row.operation);
            wrong.extend(difference.map(|difference| format!("{}: {difference}", what())));
            compared += 1;
        }
    }
    (compared, wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_in_each_spelling_is_the_services_own_answer_on_a_miss_and_on_a_hit() {
    let walk = Walk::start().await;
    let reads = reads();
    let pairs = reads.iter().flat_map(|read| PLACES.map(|at| (read, at)));
    // A view is part of the protocols' paths only.
    let pairs = pairs.filter(|((_, template), at)| at.view.is_none() || template.starts_with('P'));
    let walks = pairs.map(|((row, template), at)| walk_row(&walk, row, template, at));
    let walked: Vec<_> = stream::iter(walks).buffer_unordered(AT_ONCE).collect().await;
    let compared: usize = walked.iter().map(|(compared, _)| compared).sum();
    let wrong: Vec<String> = walked.into_iter().flat_map(|(_, wrong)| wrong).collect();
    assert_none(&wrong);
    eprintln!("{compared} answers compared");
    assert_eq!(walk.simulator.violations(), []);
}

/// A write, told by its row, and the bodies that it is sent with, in order.
fn bodies(operation: &str, method: &str, nupkg: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let json = |text: &str| text.as_bytes().to_vec();
    match (operation, method) {
        ("publish, deprecate", "PUT") => {
            vec![("P/npm/registry/{npm}", publication("left-pad", "1.4.0"))]
        }
        ("dist-tag", "PUT") => vec![("P/npm/registry/-/package/{npm}/dist-tags/next", json("\"1.2.0\""))],
        ("dist-tag", "DELETE") => vec![("P/npm/registry/-/package/{npm}/dist-tags/next", vec![])],
        ("deprecate, release to a view", "PATCH") => vec![
            ("R/npm/{npm-rest}/versions/1.2.0", json(r#"{"deprecateMessage":"old"}"#)),
            ("R/npm/{npm-rest}/versions/1.2.0/content", json(r#"{"deprecateMessage":"older"}"#)),
            ("R/npm/{npm-rest}/versions/1.2.0", json(r#"{"deprecateMessage":""}"#)),
            (
                "R/npm/{npm-rest}/versions/1.2.0",
                json(r#"{"views":{"op":"add","path":"/views/-","value":"release"}}"#),
            ),
        ],
        ("upstreaming", "PATCH") => vec![
            (
                "R/npm/packages/{npm-rest}/upstreaming",
                json(r#"{"versionsFromExternalUpstreams":"AllowExternalVersions"}"#),
            ),
            (
                "R/nuget/packages/{id}/upstreaming",
                json(r#"{"versionsFromExternalUpstreams":"AllowExternalVersions"}"#),
            ),
        ],
        ("batch", "POST") => vec![
            (
                "R/npm/packagesbatch",
                json(
                    r#"{"operation":"deprecate","data":{"message":"batch"},"packages":[{"id":"left-pad","version":"1.3.0"}]}"#,
                ),
            ),
            (
                "R/nuget/packagesbatch",
                json(
                    r#"{"operation":"list","data":{"listed":false},"packages":[{"id":"Contoso.Utility","version":"0.9.0"}]}"#,
                ),
            ),
        ],
        ("unlist, relist, release to a view", "PATCH") => vec![
            ("R/nuget/packages/{id}/versions/{version}", json(r#"{"listed":false}"#)),
            ("R/nuget/packages/{id}/versions/{version}", json(r#"{"listed":true}"#)),
            (
                "R/nuget/packages/{id}/versions/0.9.0",
                json(r#"{"views":{"op":"add","path":"/views/-","value":"release"}}"#),
            ),
        ],
        ("push", "PUT") => vec![("P/nuget/v2/", multipart(nupkg))],
        ("delete (unlist)", "DELETE") => vec![("P/nuget/v2/{id}/0.9.0", vec![])],
        ("unpublish", "DELETE") => vec![("R/npm/{npm-rest}/versions/1.3.0", vec![])],
        ("delete", "DELETE") => vec![("R/nuget/packages/{id}/versions/{version}", vec![])],
        ("recycle bin", "PATCH") => vec![
            ("R/npm/RecycleBin/packages/{npm-rest}/versions/1.3.0", json(r#"{"deleted":false}"#)),
            ("R/nuget/RecycleBin/packages/{id}/versions/{version}", json(r#"{"deleted":false}"#)),
        ],
        _ => Vec::new(),
    }
}

/// A package that the feeds do not have, made by a service of its own.
async fn new_nupkg() -> Vec<u8> {
    let package = NugetPackage::new("Contoso.New").version("1.0.0", NugetVersion::new().size(1_500));
    let organisation = Organisation::new("other").feed(Feed::new("main").nuget(package));
    let source = Simulator::builder().organisation(organisation).start().await.unwrap();
    source.nuget_file("other/main", "Contoso.New", "1.0.0").0.to_vec()
}

fn multipart(nupkg: &[u8]) -> Vec<u8> {
    let head = b"--b\r\nContent-Disposition: form-data; name=package; filename=package.nupkg\r\n\r\n";
    [&head[..], nupkg, b"\r\n--b--\r\n"].concat()
}

/// The writes in an order in which each has something to do.
const WRITES: [(&str, &str); 13] = [
    ("publish, deprecate", "PUT"),
    ("dist-tag", "PUT"),
    ("dist-tag", "DELETE"),
    ("deprecate, release to a view", "PATCH"),
    ("upstreaming", "PATCH"),
    ("batch", "POST"),
    ("unlist, relist, release to a view", "PATCH"),
    ("push", "PUT"),
    ("delete (unlist)", "DELETE"),
    ("unpublish", "DELETE"),
    ("delete", "DELETE"),
    ("recycle bin", "PATCH"),
    ("delete", "DELETE"),
];

#[tokio::test(flavor = "multi_thread")]
async fn after_each_write_each_read_is_the_services_own_and_so_was_the_writes_answer() {
    let (walk, twin) = (Walk::start().await, Walk::start().await);
    let (reads, nupkg) = (reads(), new_nupkg().await);
    let by_guid = Spelling { guids: true, ..PLAINEST };
    let (mut writes, mut compared, mut wrong) = (0, 0, Vec::new());
    for (operation, method) in WRITES {
        let row = rows()
            .into_iter()
            .find(|row| row.operation == operation && row.methods.iter().any(|own| own == method));
        assert!(row.is_some(), "no row {operation} {method}");
        let bodies = bodies(operation, method, &nupkg);
        assert!(!bodies.is_empty(), "{operation}");
        for (template, body) in bodies {
            let at = PLACES[0];
            // Written by GUID, read by name and by GUID.
            let with_version = Spelling { version: ApiVersion::Query, guids: true, ..PLAINEST };
            let spelling = if is_rest(template) { with_version } else { by_guid };
            let ask = walk.ask(template, at, spelling);
            let base = format!("http://{}", walk.gates[1].address());
            let got = send(&base, method, &ask, &body).await;
            let expected = twin.direct(method, template, at, spelling, &body).await;
            let what = format!("{operation}: {method} {ask:?}");
            assert!((200..300).contains(&expected.status), "{what}: {} {}", expected.status, expected.text());
            compare_writes(&walk, &twin, &got, &expected, &what);
            writes += 1;
            for (read, template) in reads.iter().filter(|(read, _)| read.kept != "made") {
                for spelling in [PLAINEST, by_guid] {
                    for at in [PLACES[0], PLACES[2]] {
                        if (at.view.is_some() && !template.starts_with('P'))
                            || template.contains("v2/package/")
                        {
                            continue;
                        }
                        let ask = walk.ask(template, at, spelling);
                        let got = send(&base, "GET", &ask, b"").await;
                        let expected = walk.direct("GET", template, at, spelling, b"").await;
                        let difference = walk.difference(read, &got, &expected);
                        wrong.extend(difference.map(|it| format!("after {what}: GET {ask:?}: {it}")));
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_none(&wrong);
    eprintln!("{writes} writes, {compared} reads compared");
}

/// Times of the write differ between the two services.
fn compare_writes(walk: &Walk, twin: &Walk, got: &Response, expected: &Response, what: &str) {
    assert_eq!(got.status, expected.status, "{what}: {}", got.text());
    let value = |walk: &Walk, response: &Response| -> serde_json::Value {
        let mut value = serde_json::from_str(&walk.plain(response)).unwrap_or_default();
        strip_times(&mut value);
        value
    };
    assert_eq!(value(walk, got), value(twin, expected), "{what}");
}

fn strip_times(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        for (name, value) in object.iter_mut() {
            if name.ends_with("Date") && value.is_string() {
                *value = serde_json::Value::Null;
            } else {
                strip_times(value);
            }
        }
    }
    if let Some(array) = value.as_array_mut() {
        array.iter_mut().for_each(strip_times);
    }
}
