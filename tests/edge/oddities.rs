//! A service that answers in every way that it may, or that something on the way makes of its answers.

use std::{sync::Arc, time::Duration};

use super::{
    A, INDEX, NPM, NUPKG, PACKUMENT, Scene, TARBALL, package_scene,
    support::{Act, Seen, answer, json, vso},
    to,
};

const BODY: &[u8] = b"PK small package";

/// A location made of a URL.
type Form = fn(&str) -> String;
/// What the service does with everything.
type Play = Arc<dyn Fn() -> Act + Send + Sync>;

/// Bytes as they are, and the end of the connection.
fn closing(head: &str, body: &[u8]) -> Act {
    Act::Close([head.as_bytes(), b"\r\n\r\n", body].concat())
}

fn kept(head: &str, body: &[u8]) -> Act {
    Act::Answer([head.as_bytes(), b"\r\n\r\n", body].concat())
}

/// A service with one package, which is where `located` says; `blob` is what its place answers.
async fn packages(
    located: impl Fn(&str) -> Act + Send + 'static,
    blob: impl Fn(&Seen) -> Act + Send + 'static,
) -> Scene {
    let scene = Scene::new(|_| json(INDEX)).await;
    let url = scene.service.blob_url(BODY);
    scene.service.play(move |seen| match seen.path() {
        path if path.starts_with("/b-") => blob(seen),
        path if path.ends_with(".nupkg") || path.ends_with(".tgz") => located(&url),
        _ => json(INDEX),
    });
    scene
}

fn plain(_: &Seen) -> Act {
    answer("200 OK", "Content-Type: application/octet-stream\r\n", BODY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_host_that_refuses_for_load_holds_up_no_other() {
    let scene = Scene::with(
        |_| json(INDEX),
        |config| {
            let other = config.upstream.pkgs.to_string().replace("/{org}", "");
            config.upstream.blob_hosts.push(other.parse().unwrap());
        },
    )
    .await;
    // Of other bytes: one download serves all who want the same.
    let (url, refusing) = (scene.service.blob_url(BODY), scene.service.blob_url(b"PK another package"));
    scene.service.play(move |seen| match (seen.path(), seen.header("host")) {
        (path, Some(host)) if path.starts_with("/b-") && host.starts_with("localhost") => {
            answer("503 Server Busy", "Retry-After: 60\r\n", "")
        }
        (path, _) if path.starts_with("/b-") => plain(seen),
        (path, _) if path.ends_with(".tgz") => to(&refusing),
        (path, _) if path.ends_with(".nupkg") => to(&url.replace("localhost", "127.0.0.1")),
        _ => json(INDEX),
    });
    // It waits until the host may be asked again.
    let waiting = tokio::spawn(super::get(scene.gate.address(), TARBALL, A));
    scene.service.until_asked("/b-").await;
    let reply = scene.get(NUPKG, A).await;
    assert_eq!((reply.status, &reply.body[..]), (200, BODY));
    assert_eq!(scene.service.asked("/b-").len(), 2);
    waiting.abort();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_any_kind_and_form_leads_to_the_bytes() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let located = move |url: &str| answer(status, &format!("Location: {url}\r\n"), "moved");
        let scene = packages(located, plain).await;
        let reply = scene.get(NUPKG, A).await;
        assert_eq!((reply.status, &reply.body[..]), (200, BODY), "{status}");
        scene.end().await;
    }
    let forms: [(&str, Form); 6] = [
        ("fragment", |url| format!("{url}#here")),
        ("upper case", |url| url.replace("http://localhost", "HTTP://LOCALHOST")),
        ("lower-case id", |url| url.replace(&vso(BODY), &vso(BODY).to_lowercase())),
        ("of its scheme", |url| url.replace("http:", "")),
        ("early hints", |url| format!("{url}\r\nX-Other: 1")),
        ("spaces around", |url| format!("  {url}  ")),
    ];
    for (name, form) in forms {
        let scene = packages(
            move |url| {
                let hints =
                    if name == "early hints" { "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" } else { "" };
                kept(
                    &format!("{hints}HTTP/1.1 303 See Other\r\nContent-Length: 0\r\nLocation: {}", form(url)),
                    b"",
                )
            },
            plain,
        )
        .await;
        let reply = scene.get(NUPKG, A).await;
        assert_eq!((reply.status, &reply.body[..]), (200, BODY), "{name}: {}", reply.text());
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_redirect_is_resolved_below_its_organisation_and_leads_nowhere_else() {
    let rows = [
        ("/contoso/_packaging/main/nuget/v3/flat2/a/1.0.0/other.nupkg", 200),
        ("other.nupkg", 200),
        ("./other.nupkg", 200),
        ("../1.0.0/other.nupkg", 200),
        ("?other.nupkg", 200),
        ("//127.0.0.1:1/contoso/x", 502),
        ("../../../../../../../../fabrikam/x", 502),
        ("../../../../../../../../contoso/../fabrikam/x", 502),
        ("/fabrikam/x", 502),
        ("", 502),
    ];
    for (location, status) in rows {
        let scene = Scene::new(|_| json(INDEX)).await;
        let url = scene.service.blob_url(BODY);
        scene.service.play(move |seen| match seen.path() {
            path if path.starts_with("/b-") => plain(seen),
            path if path.ends_with("other.nupkg") => to(&url),
            path if path.ends_with(".nupkg") => to(location),
            path if path.contains("fabrikam") => panic!("left its organisation"),
            _ => json(INDEX),
        });
        let reply = scene.get(NUPKG, A).await;
        assert_eq!(reply.status, status, "{location}: {}", reply.text());
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_taken_in_every_framing_that_tells_their_end() {
    let chunks = b"6\r\nPK sma\r\nA;name=value\r\nll package\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let acts = [
        kept("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", chunks),
        kept("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 3", chunks),
        kept("HTTP/1.1 200 OK\r\nContent-Length: 16\r\nContent-Encoding: identity", BODY),
        kept("HTTP/1.1 200 OK\r\nContent-Length: 16\r\nContent-Length: 16", BODY),
        closing("HTTP/1.1 200 OK", BODY),
        closing("HTTP/1.0 200 OK\r\nContent-Length: 16", BODY),
        closing("HTTP/1.0 200 OK", BODY),
        kept("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 16", BODY),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let scene = packages(to, move |_| act.clone()).await;
        for _ in 0..2 {
            let reply = scene.get(NUPKG, A).await;
            assert_eq!((reply.status, &reply.body[..]), (200, BODY), "{number}: {}", reply.text());
        }
        assert_eq!(scene.service.asked("/b-").len(), 1, "{number}: stored");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_at_all_is_no_package() {
    let acts = [
        answer("200 OK", "Content-Type: application/octet-stream\r\n", ""),
        kept("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    ];
    for act in acts {
        for path in [NUPKG, TARBALL] {
            let empty = act.clone();
            let scene = packages(move |_| empty.clone(), plain).await;
            let reply = scene.get(path, A).await;
            assert!(reply.status >= 400 || !reply.whole, "{path}: {reply:?}");
            let url = scene.service.blob_url(BODY);
            scene.service.play(move |seen| match seen.path() {
                path if path.starts_with("/b-") => plain(seen),
                path if path.ends_with(".nupkg") || path.ends_with(".tgz") => to(&url),
                _ => json(INDEX),
            });
            assert_eq!(&scene.get(path, A).await.body[..], BODY, "{path}: nothing was stored");
            scene.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packument_of_any_shape_is_given_as_it_is() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let shapes = [
        r#"{"name":"left-pad","versions":{"1.3.0":{"name":"left-pad"}}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":{"dist":null}}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":{"dist":{"tarball":5,"shasum":7}}}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":{"dist":{"tarball":"x/-/left-pad-1.3.0.tgz","shasum":"zz"}}}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":null}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":"gone"}}"#.to_owned(),
        r#"{"name":"left-pad","versions":null,"time":null,"dist-tags":null}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":{"size":1e999,"n":123456789012345678901234567890}}}"#.to_owned(),
        r#"{"name":"left-pad","time":{"modified":5,"1.3.0":1e400},"versions":{}}"#.to_owned(),
        r#"{"name":"left-pad","name":"left-pad","versions":{"1.3.0":{},"1.3.0":{}},"versions":{}}"#.to_owned(),
        r#"{"name":"left-pad","readme":"\ud800 alone","versions":{"1.3.0":{"description":"\udfff"}}}"#.to_owned(),
        r#"{"name":"left-pad","versions":{"1.3.0":{"scripts":[1],"dependencies":"none","bin":7}}}"#.to_owned(),
        format!(r#"{{"name":"left-pad","versions":{{"1.3.0":{{"x":{deep},"dependencies":{deep}}}}}}}"#),
        " \r\n\t{\"name\" : \"left-pad\" , \"versions\" : { } } \n\n".to_owned(),
        "{}".to_owned(),
    ];
    for shape in shapes {
        for mark in ["", "\u{feff}"] {
            let body = format!("{mark}{shape}");
            let scene = Scene::new(move |seen| match seen.path() {
                path if path.ends_with("index.json") => json(INDEX),
                _ => json(&body),
            })
            .await;
            let full = scene.get(PACKUMENT, A).await;
            assert_eq!(
                (full.status, full.text() == shape),
                (200, true),
                "{shape:.100}: {:.200}",
                full.text()
            );
            let short = format!("{A}Accept: application/vnd.npm.install-v1+json\r\n");
            let short = scene.get(PACKUMENT, &short).await;
            assert_eq!((short.status, short.whole), (200, true), "{shape:.100}: {:.200}", short.text());
            assert_eq!(scene.service.asked("left-pad").len(), 1, "{shape:.100}");
            scene.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_load_tells_the_client_a_time_that_makes_sense() {
    let rows = [
        ("Retry-After: 7\r\n", 7..=8),
        ("Retry-After: 1.5\r\n", 1..=2),
        ("Retry-After: 0\r\n", 1..=5),
        ("Retry-After: -5\r\n", 1..=5),
        ("Retry-After: soon\r\n", 1..=5),
        ("Retry-After: 999999999999999999999999\r\n", 30..=30),
        ("Retry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n", 30..=30),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 1..=5),
        // The service's clock is half an hour ahead of the gate's, then behind it.
        ("Date: Tue, 14 Nov 2023 22:43:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 22:43:28 GMT\r\n", 7..=8),
        ("Date: Tue, 14 Nov 2023 21:43:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 21:43:28 GMT\r\n", 7..=8),
        ("X-RateLimit-Remaining: x\r\nX-RateLimit-Reset: -1\r\nX-RateLimit-Delay: NaN\r\n", 1..=5),
        ("", 1..=5),
    ];
    for (headers, expected) in rows {
        let scene = Scene::new(move |_| answer("429 Too Many Requests", headers, "busy")).await;
        let reply = scene.get(PACKUMENT, A).await;
        let told = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        assert!(
            matches!(reply.status, 429 | 503) && told.is_some_and(|told| expected.contains(&told)),
            "{headers}: {} {told:?}",
            reply.status
        );
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_words_on_the_budget_hold_nothing_up() {
    let rows = [
        "X-RateLimit-Remaining: 0\r\n",
        "X-RateLimit-Remaining: 0\r\nX-RateLimit-Limit: 0\r\nX-RateLimit-Reset: 0\r\n",
        "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 99999999999999999999\r\n",
        "X-RateLimit-Remaining: NaN\r\nX-RateLimit-Limit: inf\r\nX-RateLimit-Delay: inf\r\n",
        "X-RateLimit-Delay: -1\r\nRetry-After: 0\r\nX-RateLimit-Resource: \u{e9}\r\n",
        "X-RateLimit-Delay: 0.000\r\nX-RateLimit-Reset: soon\r\nX-RateLimit-Limit: 1e309\r\n",
        "Retry-After: 0.2\r\nX-RateLimit-Remaining: 5, 6\r\n",
    ];
    for headers in rows {
        let scene = Scene::new(move |seen| {
            let name = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
            let headers = format!("Content-Type: application/json\r\n{headers}");
            answer("200 OK", &headers, format!(r#"{{"name":"{name}"}}"#))
        })
        .await;
        let asking = async {
            for number in 0..20 {
                assert_eq!(scene.get(&format!("{NPM}/p{number}"), A).await.status, 200, "{headers}");
            }
        };
        tokio::time::timeout(Duration::from_secs(15), asking).await.unwrap_or_else(|_| panic!("{headers}"));
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_the_root_of_a_nuspec_is_no_damage() {
    let commented = b"<?xml version=\"1.0\"?><package></package><!-- packed -->\r\n".to_vec();
    let instructed = b"<package></package>\n<?end?>".to_vec();
    for body in [commented, instructed] {
        let sent = body.clone();
        let scene = Scene::new(move |seen| match seen.path() {
            path if path.ends_with(".nuspec") => answer("200 OK", "Content-Type: application/xml\r\n", &sent),
            _ => json(INDEX),
        })
        .await;
        let path = "/contoso/_packaging/main/nuget/v3/flat2/a/1.0.0/a.nuspec";
        let reply = scene.get(path, A).await;
        assert_eq!(
            (reply.status, reply.body == body),
            (200, true),
            "{}: {}",
            body.escape_ascii(),
            reply.text()
        );
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_index_of_any_form_tells_which_feed_it_is() {
    const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";
    let forms = [
        format!(r#"{{"resources":[{{"@id":"urn:uuid:{GUID}","@type":"VssFeedId"}}]}}"#),
        format!("\u{feff}{{\"resources\":[{{\"@id\":\"URN:UUID:{GUID}\",\"@type\":\"VssFeedId\"}}]}}"),
        format!(r#"{{"resources":[{{"@type":"Other"}},{{"@id":"urn:uuid:{GUID}","@type":"VssFeedId"}}]}}"#),
        format!(r#"{{"resources":[{{"@id":"urn:uuid:{GUID}","@type":["VssFeedId","X/1.0"]}}]}}"#),
        format!(r#"{{"resources":[null,5,{{"@id":"urn:uuid:{GUID}","@type":"VssFeedId","label":7}}]}}"#),
    ];
    for form in forms {
        let index = form.clone();
        let scene = Scene::new(move |seen| match seen.path() {
            path if path.ends_with("index.json") => json(&index),
            _ => json(super::DOCUMENT),
        })
        .await;
        for spelling in ["main", "MAIN", GUID] {
            let path = format!("/contoso/_packaging/{spelling}/npm/registry/left-pad");
            assert_eq!(scene.get(&path, A).await.status, 200);
        }
        assert_eq!(scene.service.asked("/left-pad").len(), 1, "{form}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_a_package_is_one_stored_copy() {
    let scene = package_scene(BODY).await;
    let feeds = [
        "/contoso/_packaging/main",
        "/CONTOSO/_Packaging/MAIN",
        "/contoso/DefaultCollection/_packaging/main",
    ];
    let names = ["@scope/name", "@scope%2fname", "@scope%2Fname", "%40scope%2fname", "%40scope/name"];
    for feed in feeds {
        for name in names {
            let path = format!("{feed}/npm/registry/{name}/-/name-1.0.0.tgz");
            assert_eq!(&scene.get(&path, A).await.body[..], BODY, "{path}");
            let path = format!("{feed}/npm/registry/{name}");
            assert_eq!(scene.get(&path, A).await.status, 200, "{path}");
        }
        for version in ["1.0.0", "1.0", "1.0.0.0", "01.00.0", "1.0.0+build.5"] {
            let path = format!("{feed}/nuget/v3/flat2/My.Id/{version}/My.Id.{version}.nupkg");
            assert_eq!(&scene.get(&path, A).await.body[..], BODY, "{path}");
        }
    }
    assert_eq!(scene.service.asked("/b-").len(), 1);
    for part in ["name-1.0.0.tgz", "scope%2fname", ".nupkg"] {
        let asked: Vec<_> = scene.service.asked(part).into_iter().map(|seen| seen.line).collect();
        assert!(asked.len() <= 2, "{asked:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_appears_after_the_first_question_is_found() {
    let scene = Scene::with(
        |seen| {
            if seen.path().ends_with("index.json") {
                json(INDEX)
            } else {
                answer("404 Not Found", "", "none")
            }
        },
        |config| config.metadata.negative_ttl = Duration::from_millis(200),
    )
    .await;
    for path in [PACKUMENT, TARBALL, NUPKG] {
        assert_eq!(scene.get(path, A).await.status, 404, "{path}");
    }
    let url = scene.service.blob_url(BODY);
    scene.service.play(move |seen| match seen.path() {
        path if path.starts_with("/b-") => plain(seen),
        path if path.ends_with("gz") || path.ends_with(".nupkg") => to(&url),
        _ => json(super::DOCUMENT),
    });
    scene.later(1);
    for path in [PACKUMENT, TARBALL, NUPKG] {
        assert_eq!(scene.get(path, A).await.status, 200, "{path}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_an_upstreams_version_is_not_kept() {
    // Not saved yet: 400 to some clients, 401 and 403 to those without the right to save it (facts §3.3).
    for status in ["400 Bad Request", "401 No local versions", "403 Forbidden"] {
        let scene = Scene::new(move |seen| match seen.path() {
            path if path.ends_with(".tgz") => answer(status, "", "no"),
            _ => json(super::DOCUMENT),
        })
        .await;
        let refused = scene.get(TARBALL, A).await;
        assert_eq!(refused.status.to_string(), status[..3]);
        let url = scene.service.blob_url(BODY);
        scene.service.play(move |seen| match seen.path() {
            path if path.starts_with("/b-") => plain(seen),
            path if path.ends_with(".tgz") => to(&url),
            _ => json(super::DOCUMENT),
        });
        assert_eq!(scene.get(TARBALL, A).await.status, 200, "{status}");
        assert_eq!(scene.get(PACKUMENT, A).await.status, 200, "{status}");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_page_in_any_disguise_is_a_401_with_challenges_and_never_kept() {
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    let acts: [(&str, Play); 6] = [
        ("203", Arc::new(move || answer("203 Non-Authoritative Information", html, "<html>"))),
        ("203 JSON", Arc::new(|| answer("203 OK", "Content-Type: application/json\r\n", "{}"))),
        (
            "302",
            Arc::new(|| {
                answer(
                    "302 Found",
                    "Location: https://spsprodweu1.vssps.visualstudio.com/_signin?realm=x\r\n",
                    "Object moved",
                )
            }),
        ),
        ("302 own", Arc::new(|| answer("302 Found", "Location: /contoso/_signin?reply_to=x\r\n", ""))),
        ("200", Arc::new(|| answer("200 OK", "Content-Type: Text/HTML\r\n", "<!doctype html>"))),
        (
            "401 in one line",
            Arc::new(|| {
                answer(
                    "401 Unauthorized",
                    "WWW-Authenticate: Bearer authorization_uri=https://login.windows.net/x, Basic realm=\"https://x/\", TFS-Federated\r\n",
                    "",
                )
            }),
        ),
    ];
    for (name, act) in acts {
        for path in [PACKUMENT, TARBALL, NUPKG, "/contoso/_packaging/main/nuget/v2/FindPackagesById()?id='a'"]
        {
            let act = act.clone();
            let scene = Scene::new(move |_| act()).await;
            let reply = scene.get(path, A).await;
            assert_eq!(reply.status, 401, "{name} {path}: {}", reply.text());
            assert!(!reply.all("www-authenticate").is_empty(), "{name} {path}");
            let text = reply.text();
            assert!(!text.contains("<html") && !text.contains("spsprod"), "{name} {path}: {text}");
            scene.end().await;
        }
    }
}
