//! Where callers stand as time goes by, and after a restart.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Access, Caller, CallerId, CallerKey, Standing};
use crate::{
    config,
    disk::{Database, DatabaseSettings, StoreDirectory},
    ident::{FeedRef, Name},
    upstream::Refusal,
};

fn database(folder: &std::path::Path) -> Database {
    let settings = DatabaseSettings { page_cache: 8 << 20, free_reserve: 0 };
    Database::open(StoreDirectory::open(folder).unwrap(), &settings).unwrap().database
}

fn feed(view: Option<&str>) -> FeedRef {
    let name = |text| Name::parse(text).unwrap();
    FeedRef::new(name("contoso"), None, name("main"), view.map(name))
}

fn caller(key: &CallerKey, authorization: &str) -> Caller {
    key.caller(Some(&HeaderValue::from_str(authorization).unwrap()))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Allowed => "allowed",
        Standing::Grace => "grace",
        Standing::Denied(_) => "denied",
        Standing::Unknown => "unknown",
    }
}

fn refusal() -> Arc<Refusal> {
    Arc::new(Refusal {
        status: StatusCode::UNAUTHORIZED,
        reason: None,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    })
}

#[test]
fn a_permission_ages_into_grace_and_then_into_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Access::default();
    let access = Access::new(&database(folder.path()), settings.clone());
    let (key, feed) = (CallerKey::random(), feed(None));
    let caller = caller(&key, "Basic YTpi");
    access.allow(&caller, &feed, now());
    for (age, expected) in [
        (Duration::ZERO, "allowed"),
        (settings.verdict_ttl, "allowed"),
        (settings.verdict_ttl + Duration::from_secs(1), "grace"),
        (settings.grace, "grace"),
        (settings.grace + Duration::from_secs(1), "unknown"),
    ] {
        assert_eq!(word(&access.standing(&caller, &feed, now() + age)), expected, "{age:?}");
    }
}

#[test]
fn a_verdict_is_for_one_caller_one_feed_and_one_view() {
    let folder = tempfile::tempdir().unwrap();
    let access = Access::new(&database(folder.path()), config::Access::default());
    let key = CallerKey::random();
    let (one, other) = (caller(&key, "Basic YTpi"), caller(&key, "Basic YTpj"));
    access.allow(&one, &feed(None), now());
    assert_eq!(word(&access.standing(&one, &feed(None), now())), "allowed");
    assert_eq!(word(&access.standing(&other, &feed(None), now())), "unknown");
    assert_eq!(word(&access.standing(&key.caller(None), &feed(None), now())), "unknown");
    assert_eq!(word(&access.standing(&one, &feed(Some("release")), now())), "unknown");
}

#[test]
fn a_refusal_voids_a_permission_and_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Access::default();
    let access = Access::new(&database(folder.path()), settings.clone());
    let (key, feed) = (CallerKey::random(), feed(None));
    let (known, anonymous) = (caller(&key, "Bearer x"), key.caller(None));
    access.allow(&known, &feed, now());
    for caller in [&known, &anonymous] {
        access.deny(caller, &feed, refusal(), now());
        assert_eq!(word(&access.standing(caller, &feed, now())), "denied");
    }
    let later = now() + settings.denied_ttl + Duration::from_secs(1);
    assert_eq!(word(&access.standing(&known, &feed, later)), "unknown");
    assert_eq!(word(&access.standing(&anonymous, &feed, later)), "denied");
}

#[test]
fn permissions_survive_a_restart_with_the_same_key_and_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Access::default();
    let feed = feed(None);
    {
        let database = database(folder.path());
        let key = CallerKey::load_or_create(folder.path()).unwrap();
        Access::new(&database, settings.clone()).allow(&caller(&key, "Basic YTpi"), &feed, now());
        database.flush().unwrap();
    }
    let access = Access::new(&database(folder.path()), settings.clone());
    let caller = caller(&CallerKey::load_or_create(folder.path()).unwrap(), "Basic YTpi");
    assert_eq!(word(&access.standing(&caller, &feed, now())), "allowed");
    assert_eq!(access.prune(now()).unwrap(), 0);
    assert_eq!(access.prune(now() + settings.grace + Duration::from_secs(1)).unwrap(), 1);
}

#[test]
fn a_caller_prints_as_a_short_hash_and_never_as_its_credential() {
    let key = CallerKey::random();
    let caller = caller(&key, "Basic c2VjcmV0");
    let shown = format!("{caller:?} {}", caller.id());
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    assert_eq!(CallerId::ANONYMOUS.to_string(), "anonymous");
    assert_eq!(caller.id().to_string().len(), 8);
}
