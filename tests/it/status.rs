//! The figures at a glance, and the status page: what it shows, what it lets nobody do.

use feedgate_simulator::client::{self, Response};
use serde_json::Value;

use crate::support::{NPM, Scene, until};

fn admin(scene: &Scene, path: &str) -> String {
    format!("http://{}{path}", scene.gate().admin_address())
}

async fn page(scene: &Scene, path: &str) -> Response {
    client::get(&admin(scene, path), &[]).await.unwrap()
}

async fn purge(scene: &Scene, headers: &[(&str, &str)], form: &str) -> Response {
    client::send("POST", &admin(scene, "/purge"), headers, form.as_bytes()).await.unwrap()
}

/// A gate with hits, a package that is stored, and a refusal.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    for path in ["left-pad", "left-pad", "left-pad", "large/-/large-1.0.0.tgz"] {
        assert_eq!(scene.get(&format!("{NPM}/{path}")).await.status, 200, "{path}");
    }
    assert_eq!(scene.get_as(Some("no-such-pat"), &format!("{NPM}/left-pad"), &[]).await.status, 401);
    until(|| async {
        page(&scene, "/admin/v1/objects?package=large@1.0.0").await.text().contains("large-1.0.0.tgz")
    })
    .await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_tell_how_the_gate_does() {
    let scene = scene().await;
    let told = || async {
        let stats = page(&scene, "/admin/v1/stats").await.json();
        (stats["totals"]["hits"] == 2 && stats["refusals"][0]["status"] == 401).then_some(stats)
    };
    until(|| async { told().await.is_some() }).await;
    let stats: Value = told().await.unwrap();
    assert_eq!((&stats["ready"], &stats["mode"]), (&Value::from(true), &Value::from("fallback")));
    let requests = stats["totals"]["requests"].as_u64().unwrap();
    let ratio = 2.0 / f64::from(u32::try_from(requests).unwrap());
    assert_eq!(stats["hit_ratio"], ratio, "{stats}");
    assert!(
        stats["totals"]["saved_bytes"].as_u64() > Some(0) && stats["totals"]["saved_requests"] == 2,
        "{stats}"
    );
    let largest = &stats["largest_packages"][0];
    assert_eq!(
        (&largest["package"], &largest["version"]),
        (&Value::from("large"), &Value::from("1.0.0")),
        "{stats}"
    );
    assert_eq!(stats["slowest_feeds"].as_array().unwrap().len(), 1, "{stats}");
    assert!(stats["refusals"][0]["key"].as_str().unwrap().contains("left-pad"), "{stats}");
    let history = stats["history"].as_array().unwrap().iter().map(|one| one["requests"].as_u64().unwrap());
    assert_eq!(history.sum::<u64>(), requests, "{stats}");
    for arguments in ["stats", "top --once", "stats --json", "top --once --json"] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_feedgate"));
        command
            .args(arguments.split(' '))
            .args(["--admin", &admin(&scene, "")])
            .env_clear()
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.contains('\x1b'), "{arguments}: {text}");
        if arguments.contains("json") {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["totals"]["hits"], 2, "{text}");
        } else {
            assert!(text.contains(&format!(" % of {requests} requests")) && text.contains("large"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_from_elsewhere_and_no_script() {
    let scene = scene().await;
    for path in ["/", "/search?package=left-pad", "/purge?package=left-pad", "/search?package=%22"] {
        let answer = page(&scene, path).await;
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(
            policy.contains("form-action 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        let text = answer.text();
        for forbidden in ["<script", "http://", "https://", " style=", "javascript:", " onload"] {
            assert!(!text.contains(forbidden), "{path}: {forbidden} in {text}");
        }
    }
    let text = page(&scene, "/").await.text();
    for part in [
        "mode fallback",
        "Hit ratio over time",
        "Throttle",
        "Breakers",
        "Slowest feeds",
        "large 1.0.0",
        "Recent refusals",
        "<svg",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_text() {
    let scene = scene().await;
    let hostile = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E";
    for path in [
        format!("/search?package={hostile}"),
        format!("/search?package=a&feed=%22%3E{hostile}"),
        format!("/purge?package={hostile}"),
        format!("/purge?{hostile}=1"),
        format!("/search?package=a&storage_id='%22%3E{hostile}"),
    ] {
        let text = page(&scene, &path).await.text();
        assert!(!text.contains("<img") && text.contains("That did not work"), "{path}: {text}");
    }
    let unknown = page(&scene, &format!("/purge?{hostile}=1")).await.text();
    assert!(unknown.contains("&lt;img src=x"), "what is told again is escaped: {unknown}");
    // A refusal's key is what the client wrote.
    for path in ["contoso/_packaging/main/npm/registry/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "%3Cscript%3E/x"]
    {
        scene.get_as(Some("no-such-pat"), path, &[]).await;
    }
    assert!(!page(&scene, "/").await.text().contains("<script"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_asks_first_and_hears_its_own_origin_only() {
    let scene = scene().await;
    let text = page(&scene, "/purge?package=large").await.text();
    assert!(text.contains("1 packages and 0 documents") && text.contains("method=\"post\""), "{text}");
    let is_stored =
        || async { page(&scene, "/search?package=large").await.text().contains("large-1.0.0.tgz") };
    let form = "package=large";
    for headers in [[("Sec-Fetch-Site", "cross-site")], [("Origin", "https://evil.example")]] {
        assert_eq!(purge(&scene, &headers, form).await.status, 403, "{headers:?}");
    }
    for (form, status) in [("", 400), ("package=", 400), ("pack=large", 400)] {
        assert_eq!(purge(&scene, &[], form).await.status, status, "{form}");
    }
    assert!(is_stored().await, "nothing was dropped yet");
    let answer = purge(&scene, &[("Sec-Fetch-Site", "same-origin")], form).await;
    assert!(
        answer.status == 200 && answer.text().contains("1 packages and 0 documents"),
        "{}",
        answer.text()
    );
    assert!(!is_stored().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_behind_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-token").unwrap();
    let scene = Scene::with(
        feedgate_simulator::Simulator::builder()
            .organisation(crate::support::contoso())
            .start()
            .await
            .unwrap(),
        &format!("admin.token_file = \"{}\"\n", token.display()),
    );
    for path in ["/", "/search?package=a", "/purge?package=a", "/admin/v1/stats"] {
        assert_eq!(page(&scene, path).await.status, 401, "{path}");
    }
    assert_eq!(purge(&scene, &[], "package=a").await.status, 401);
    let basic = client::basic("operator", "the-token");
    let headers = [("Authorization", basic.as_str())];
    assert_eq!(client::get(&admin(&scene, "/"), &headers).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_leads_to_what_explain_says() {
    let scene = scene().await;
    let found = page(&scene, "/search?package=left-pad&feed=contoso%2Fmain").await.text();
    assert!(
        found.contains(
            "<form action=\"/explain\"><input type=\"hidden\" name=\"package\" value=\"left-pad\">"
        )
    );
    let told = page(&scene, "/explain?package=left-pad&feed=contoso%2Fmain").await;
    assert_eq!(told.status, 200, "{}", told.text());
    for part in ["GET /contoso/_packaging/main/npm/registry/left-pad", "  now ", "  caller ", "  stored "] {
        assert!(told.text().contains(part), "{part} not in {}", told.text());
    }
    let nowhere = page(&scene, "/explain?package=%3Cb%3E&feed=").await;
    assert!(nowhere.status >= 400 && !nowhere.text().contains("<b>"), "{}", nowhere.text());
}
