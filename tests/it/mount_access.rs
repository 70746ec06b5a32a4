//! Who may use a mount, and what of a caller its origin gets to see.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use feedgate::{
    access::{Token, TokenFile, Wanted},
    app::Gate,
    clock::Clock,
    config::{Config, access::Rights},
};

use crate::{
    scripted::{Client, Reply, Seen, Service, answer, ask, config, get, start, stop},
    support::until,
};

const PATH: &str = "/vendor/file.txt";

/// An origin, and a gate with a mount of it.
struct Scene {
    origin: Service,
    gate: Gate,
    /// Gate tokens: one that may read below the mount, one that may write there, one for elsewhere.
    tokens: [String; 3],
    config: Config,
    folder: tempfile::TempDir,
}

impl Scene {
    /// The mount has the keys `more`, in which `{folder}` stands for the scene's folder and `{origin}` for the origin's
    /// address; more mounts may follow in it.
    async fn new(more: &str) -> Self {
        let script = |seen: &Seen| match seen.path() {
            "/refused" => {
                answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"origin\"\r\n", "you are gate")
            }
            _ => answer("200 OK", "Cache-Control: max-age=60\r\nSet-Cookie: session=gates\r\n", "0123456789"),
        };
        let (origin, folder) = (Service::start(script).await, tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("credential"), "planted\n").unwrap();
        let more = more.replace("{folder}", &folder.path().display().to_string());
        let more = more.replace("{origin}", &origin.address.to_string());
        let mount =
            format!("[[mount]]\npath = \"/vendor/\"\nupstream = \"http://{}\"\n{more}", origin.address);
        let mut config = config(origin.address, &folder.path().join("store"));
        config.mounts = Config::parse(&mount, &BTreeMap::new()).unwrap().config.mounts;
        config.access.tokens = Some(folder.path().join("tokens"));
        let made = [("vendor", Rights::Read), ("vendor", Rights::Write), ("contoso", Rights::Write)];
        let tokens = made.map(|(scope, rights)| token(folder.path(), scope, rights));
        let gate = start(config.clone()).await;
        Self { origin, gate, tokens, config, folder }
    }

    async fn get(&self, headers: &str) -> Reply {
        get(self.gate.address(), PATH, headers).await
    }
}

fn token(folder: &Path, scope: &str, rights: Rights) -> String {
    let wanted = Wanted { name: "test".to_owned(), scopes: vec![scope.parse().unwrap()], rights, life: None };
    let (token, secret) = Token::new(wanted, Clock::system().now());
    TokenFile::new(&folder.join("tokens")).add(token).unwrap();
    secret.reveal().clone()
}

fn basic(token: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("any:{token}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_in_a_proxys_words_selects_nothing_for_others() {
    let scene = Scene::new("").await;
    scene.origin.play(|seen| {
        let told = [
            "x-forwarded-host",
            "x-forwarded-proto",
            "forwarded",
            "x-original-url",
            "x-http-method-override",
        ];
        let told: Vec<_> = told.iter().filter_map(|name| seen.header(name)).collect();
        answer("200 OK", "Cache-Control: max-age=60\r\n", format!("links to {}", told.join(" ")))
    });
    let planted = "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher\r\nForwarded: host=evil.example\r\n\
                   X-Original-URL: /evil\r\nX-HTTP-Method-Override: DELETE\r\n";
    assert_eq!(scene.get(planted).await.text(), "links to ");
    assert_eq!(scene.get("").await.text(), "links to ");
    assert_eq!(scene.origin.asked("/file.txt").len(), 1);
    stop(scene.gate).await;
}

const OWN: &str = "access = \"gateway\"\ncredential_file = \"{folder}/credential\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_token_never_goes_to_an_origin_and_a_credential_of_another_kind_does() {
    let scene = Scene::new("").await;
    let token = &scene.tokens[0];
    let forms = [
        basic(token),
        format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{token}:"))),
        format!("Authorization: Bearer {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("X-NuGet-ApiKey: {token}\r\n"),
        format!("X-Api-Key: {token}\r\n"),
    ];
    for form in forms {
        assert_eq!(scene.get(&format!("{form}Cache-Control: no-cache\r\n")).await.status, 200);
        let seen = scene.origin.asked(PATH.trim_start_matches("/vendor")).pop().unwrap();
        let (own, key) =
            (seen.header("authorization"), seen.header("x-nuget-apikey").or(seen.header("x-api-key")));
        assert_eq!((own, key), (None, None), "{form}");
    }
    assert_eq!(scene.get("Authorization: Basic YTph\r\nCache-Control: no-cache\r\n").await.status, 200);
    let seen = scene.origin.asked("/file.txt").pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Basic YTph"));
    stop(scene.gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_with_the_gates_credential_lets_in_holders_of_its_tokens_and_shows_nothing_of_them() {
    let scene = Scene::new(OWN).await;
    let [reader, writer, other] = &scene.tokens;
    let unknown = format!("fgt_{}", "A".repeat(reader.len() - 4));
    let write = |credential: &str| {
        format!("PUT {PATH} HTTP/1.1\r\nHost: g\r\n{credential}Content-Length: 1\r\n\r\nx")
    };
    // What is stored changes nothing.
    for _ in 0..2 {
        let rows = [
            (String::new(), 401, "token_missing"),
            ("Authorization: Basic YTph\r\n".to_owned(), 401, "token_missing"),
            (basic(&unknown), 401, "token_unknown"),
            (basic(other), 403, "token_scope"),
        ];
        for (credential, status, code) in rows {
            for reply in [scene.get(&credential).await, ask(scene.gate.address(), &write(&credential)).await]
            {
                assert_eq!(
                    (reply.status, reply.text().contains(code)),
                    (status, true),
                    "{credential} {}",
                    reply.text()
                );
                assert!(!reply.text().contains("0123456789"));
            }
        }
        let reply = ask(scene.gate.address(), &write(&basic(reader))).await;
        assert_eq!((reply.status, reply.text().contains("read_only")), (403, true), "{}", reply.text());
        for good in [reader, writer] {
            let reply = scene.get(&format!("{}Cookie: a=b\r\nX-NuGet-ApiKey: k\r\n", basic(good))).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "0123456789"));
            assert_eq!(reply.header("set-cookie"), None);
        }
    }
    let seen = scene.origin.asked("/file.txt");
    assert_eq!(seen.len(), 1, "one answer is stored for all who are let in");
    let gates = format!("Basic {}", STANDARD.encode("feedgate:planted"));
    assert_eq!(seen[0].header("authorization"), Some(gates.as_str()));
    assert_eq!((seen[0].header("cookie"), seen[0].header("x-nuget-apikey")), (None, None));
    assert_eq!(ask(scene.gate.address(), &write(&basic(writer))).await.status, 200);

    // The origin's refusal of the gate is not the caller's.
    let refused = get(scene.gate.address(), "/vendor/refused", &basic(reader)).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (502, None));
    assert!(
        refused.text().contains("gate_credential") && !refused.text().contains("you are"),
        "{}",
        refused.text()
    );

    // Another credential is taken up while the gate runs.
    std::fs::write(scene.folder.path().join("credential"), "another one\n").unwrap();
    let another = format!("Basic {}", STANDARD.encode("feedgate:another one"));
    until(async || {
        scene.get(&format!("{}Cache-Control: no-cache\r\n", basic(reader))).await;
        scene.origin.asked("/file.txt").pop().unwrap().header("authorization") == Some(another.as_str())
    })
    .await;
    stop(scene.gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_cannot_be_read_is_a_502_and_asks_the_origin_nothing() {
    let scene = Scene::new("credential_file = \"{folder}/none\"\n").await;
    let reply = scene.get("").await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(scene.origin.asked("/file.txt").is_empty());
    stop(scene.gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_mount_keeps_of_a_url_is_no_other_mounts_and_a_write_by_any_ends_it() {
    let two_more = "[[mount]]\npath = \"/open/\"\nupstream = \"http://{origin}\"\n\
                    [[mount]]\npath = \"/other/\"\nupstream = \"http://{origin}\"\naccess = \"gateway\"\n\
                    credential_file = \"{folder}/other\"\n";
    let mut scene = Scene::new(&format!("{OWN}{two_more}")).await;
    std::fs::write(scene.folder.path().join("other"), "elses\n").unwrap();
    scene.origin.play(|seen| {
        let shown = seen.header("authorization").unwrap_or("none").to_owned();
        answer("200 OK", "Cache-Control: max-age=60\r\n", shown)
    });
    let by = |secret: &str| format!("Basic {}", STANDARD.encode(format!("feedgate:{secret}")));
    let other = token(scene.folder.path(), "other", Rights::Write);
    let rows = [
        ("/vendor/file.txt", basic(&scene.tokens[0]), by("planted")),
        ("/open/file.txt", String::new(), "none".to_owned()),
        ("/other/file.txt", basic(&other), by("elses")),
    ];
    let read = async |gate: &Gate, (path, credential, expected): &(&str, String, String)| {
        until(async || get(gate.address(), path, credential).await.status == 200).await;
        assert_eq!(get(gate.address(), path, credential).await.text(), *expected, "{path}");
    };
    for row in &rows {
        read(&scene.gate, row).await;
    }
    assert_eq!(scene.origin.asked("/file.txt").len(), 3, "each asks once, with what is its own");

    // Each finds its own again, wherever it stands in the configuration.
    stop(scene.gate).await;
    scene.config.mounts.reverse();
    scene.gate = start(scene.config.clone()).await;
    for row in &rows {
        read(&scene.gate, row).await;
    }
    assert_eq!(scene.origin.asked("/file.txt").len(), 3);

    // It is one thing at the origin: a write by one mount makes what all keep of it invalid.
    let write = "PUT /open/file.txt HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(ask(scene.gate.address(), write).await.status, 200);
    for row in &rows {
        read(&scene.gate, row).await;
    }
    assert_eq!(scene.origin.asked("/file.txt").len(), 3 + 1 + 3);
    stop(scene.gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_before_a_body_is_read() {
    let scene = Scene::new(OWN).await;
    let mut client = Client::connect(scene.gate.address()).await;
    // The body never comes.
    client.send(format!("PUT {PATH} HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\nx")).await;
    let told = client.read("PUT").await.expect("an answer");
    assert_eq!((told.status, told.text().contains("token_missing")), (401, true), "{}", told.text());
    stop(scene.gate).await;
}
