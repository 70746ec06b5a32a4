//! Who is let in where.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::Registry;

use super::{Asking, Gateway};
use crate::{
    access::{CallerKey, Token, TokenFile, Wanted},
    clock::Clock,
    config::{
        Config,
        access::Rights::{self, Read, Write},
    },
    ident::{FeedRef, Name},
    upstream::{Credential, CredentialMetrics},
};

const GUID: &str = "0f1d6e4a-5b3c-4d2e-9a8b-7c6d5e4f3a2b";

struct Scene {
    gateway: Gateway,
    key: CallerKey,
    folder: tempfile::TempDir,
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

impl Scene {
    fn new(access: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = access.replace("FOLDER", &folder.path().display().to_string());
        let text = format!(
            "{access}\n[[organisation]]\nname = \"contoso\"\naccess = \"gateway\"\ncredential_env = \"PAT\"\n\
             [[feed]]\nname = \"contoso/open\"\naccess = \"passthrough\"\n"
        );
        let environment = BTreeMap::from([("PAT".to_owned(), "pat".to_owned())]);
        let config = Config::parse(&text, &environment).unwrap().config;
        let (key, registry) = (CallerKey::random(), Registry::new());
        let settings = config.organisations[0].credential.clone().unwrap();
        let metrics = CredentialMetrics::new(&registry).unwrap();
        let credential = Credential::new(settings, "contoso".to_owned(), Clock::system(), metrics);
        let credentials = HashMap::from([("contoso".to_owned(), credential)]);
        let rules = (&config.organisations[..], &config.feeds[..], config.listen.public_url.as_ref());
        let gateway = Gateway::new(&config.access, rules, &credentials, &key, &registry).unwrap();
        if let Some(keeping) = gateway.keep_tokens() {
            tokio::spawn(keeping);
        }
        Self { gateway, key, folder }
    }

    /// A token's text; the gate has not looked at the file again yet.
    fn token(&self, scope: &str, rights: Rights, life: Option<u64>) -> String {
        let scopes = vec![scope.parse().unwrap()];
        let wanted = Wanted { name: "ci".to_owned(), scopes, rights, life: life.map(Duration::from_secs) };
        let (token, text) = Token::new(wanted, now());
        TokenFile::new(&self.folder.path().join("tokens")).add(token).unwrap();
        text.reveal().clone()
    }

    /// Who the caller is for the service (`own`, `gate`), or the code of the refusal.
    async fn admit(&self, shown: Option<&str>, address: &str, place: &str, needs: Rights) -> String {
        self.admit_with(shown, address, (place, needs), &[]).await
    }

    async fn admit_with(
        &self,
        shown: Option<&str>,
        address: &str,
        (place, needs): (&str, Rights),
        headers: &[(&'static str, &'static str)],
    ) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: &HeaderMap = &headers.collect();
        let shown = shown.map(|text| format!("Basic {}", STANDARD.encode(format!("any:{text}"))));
        let caller = self.key.caller(shown.map(|text| HeaderValue::from_str(&text).unwrap()).as_ref());
        let name = |text: &str| Name::parse(text).unwrap();
        let (org, feed) = place.split_once('/').unwrap_or((place, ""));
        let org = name(org);
        let feed = (!feed.is_empty()).then(|| FeedRef::new(org.clone(), None, name(feed), None));
        let address = Some(address.parse().unwrap());
        let asking = Asking { caller: &caller, address, org: &org, feed: feed.as_ref(), needs, headers };
        match self.gateway.admit(asking, |_| None, now() + Duration::from_secs(100)).await {
            Ok(None) => "own".to_owned(),
            Ok(Some(gate)) => {
                assert_eq!(gate.authorization().unwrap(), "Basic ZmVlZGdhdGU6cGF0");
                assert_ne!(gate.id(), caller.id());
                "gate".to_owned()
            }
            Err(stranger) => stranger.code().to_owned(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_open_what_they_are_for_and_no_more() {
    let scene = Scene::new("access.tokens = \"FOLDER/tokens\"");
    let read = scene.token("contoso/main", Rights::Read, None);
    let write = scene.token("contoso", Rights::Write, Some(200));
    let old = scene.token("contoso", Rights::Write, Some(100));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let by_guid = format!("contoso/{GUID}");
    for (token, place, needs, expected) in [
        (None, "contoso/main", Read, "token_missing"),
        (Some("pat"), "contoso/main", Read, "token_missing"),
        (Some("fgt_000000000000_00"), "contoso/main", Read, "token_unknown"),
        (Some(&read), "contoso/main", Read, "gate"),
        (Some(&read), "contoso/main", Write, "read_only"),
        (Some(&read), "contoso/other", Read, "token_scope"),
        (Some(&read), "contoso", Read, "token_scope"),
        (Some(&write), "contoso/main", Write, "gate"),
        (Some(&write), "contoso", Read, "gate"),
        (Some(&old), "contoso/main", Read, "token_expired"),
        // The access of `open` is set by name, and this may be it.
        (Some(&write), &by_guid, Read, "feed_by_name"),
        (Some(&write), "contoso/open", Read, "token_misplaced"),
        (Some("pat"), "contoso/open", Write, "own"),
        (None, "contoso/open", Read, "own"),
        (Some(&write), "fabrikam/main", Read, "token_misplaced"),
        (Some("pat"), "fabrikam/main", Read, "own"),
    ] {
        let got = scene.admit(token, "10.0.0.1", place, needs).await;
        assert_eq!(got, expected, "{token:?} {place} {needs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_of_no_use_within_seconds() {
    let scene = Scene::new("access.tokens = \"FOLDER/tokens\"");
    let token = scene.token("contoso", Rights::Read, None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.admit(Some(&token), "10.0.0.1", "contoso/main", Rights::Read).await, "gate");
    let id = token.split('_').nth(1).unwrap();
    TokenFile::new(&scene.folder.path().join("tokens")).revoke(id).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.admit(Some(&token), "10.0.0.1", "contoso/main", Rights::Read).await, "token_unknown");
}

#[tokio::test(start_paused = true)]
async fn callers_from_listed_networks_need_no_token() {
    let scene = Scene::new("access.networks = [\"10.0.0.0/8\", \"fd00::/8\"]");
    for (address, needs, expected) in [
        ("10.1.2.3", Rights::Read, "gate"),
        ("::ffff:10.1.2.3", Rights::Read, "gate"),
        ("fd00::1", Rights::Read, "gate"),
        ("10.1.2.3", Rights::Write, "read_only"),
        ("11.1.2.3", Rights::Read, "token_missing"),
        ("127.0.0.1", Rights::Read, "token_missing"),
    ] {
        assert_eq!(scene.admit(Some("pat"), address, "contoso/main", needs).await, expected, "{address}");
    }
    let page = [("origin", "https://evil.example.com")];
    let scene = Scene::new("access.networks = [\"10.0.0.0/8\"]\naccess.network_rights = \"write\"");
    for (headers, expected) in [(&page[..], "foreign_page"), (&[][..], "gate")] {
        let place = ("contoso/main", Rights::Write);
        assert_eq!(scene.admit_with(None, "10.1.2.3", place, headers).await, expected, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_tokens_and_networks_only_the_gates_own_machine_is_let_in_and_no_strange_page_there() {
    let scene =
        Scene::new("access.network_rights = \"write\"\nlisten.public_url = \"http://gate.contoso.com\"");
    let rebound = [("host", "evil.example.com:4873")];
    let page = [("host", "127.0.0.1:4873"), ("origin", "https://evil.example.com")];
    let own = [("host", "127.0.0.1:4873"), ("origin", "http://127.0.0.1:4873")];
    for (address, needs, headers, expected) in [
        ("127.0.0.1", Rights::Write, &[][..], "gate"),
        ("::1", Rights::Read, &[("host", "localhost:4873")][..], "gate"),
        ("127.0.0.1", Rights::Read, &[("host", "gate.contoso.com")][..], "gate"),
        ("127.0.0.1", Rights::Read, &rebound[..], "foreign_host"),
        ("127.0.0.1", Rights::Write, &page[..], "foreign_page"),
        ("127.0.0.1", Rights::Read, &page[..], "gate"),
        ("127.0.0.1", Rights::Write, &own[..], "gate"),
        // Somebody for whom a proxy on this machine speaks.
        ("192.0.2.1", Rights::Read, &[][..], "token_missing"),
    ] {
        let got = scene.admit_with(None, address, ("contoso/main", needs), headers).await;
        assert_eq!(got, expected, "{address} {needs} {headers:?}");
    }
    assert_eq!(scene.admit_with(None, "127.0.0.1", ("contoso/open", Rights::Read), &rebound).await, "own");
}
