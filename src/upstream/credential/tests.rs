//! Credentials from files and programs, over time.

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use prometheus::Registry;

use super::{Credential, CredentialMetrics, Printed};
use crate::{
    clock::Clock,
    config::{
        self,
        organisation::{GateCredential, Scheme, Source},
    },
    redact::Secret,
};

const START: u64 = 1_700_000_000;

fn clock() -> Clock {
    Clock::manual(UNIX_EPOCH + Duration::from_secs(START))
}

fn credential(source: Source, scheme: Scheme, clock: &Clock) -> Credential {
    let metrics = CredentialMetrics::new(&Registry::new()).unwrap();
    Credential::new(GateCredential { source, scheme }, "contoso".to_owned(), clock.clone(), metrics)
}

/// A program that counts its runs in a file, and prints a token of that number that is good for a hundred seconds
/// more than the one before.
fn counting(folder: &Path) -> Source {
    let script = format!(
        "echo x >> {0}/runs; n=$(wc -l < {0}/runs); echo token-$n; echo $(({START} + 1000 * n))",
        folder.display()
    );
    Source::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), script])
}

async fn shown(credential: &Credential) -> String {
    credential.header().await.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_program_is_run_once_for_all_who_wait_and_again_before_the_token_ends() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let credential = credential(counting(folder.path()), Scheme::Bearer, &clock);
    let all = futures::future::join_all((0..20).map(|_| shown(&credential))).await;
    assert!(all.iter().all(|one| one == "Bearer token-1"), "{all:?}");
    assert!(!credential.is_due().await);
    clock.advance(Duration::from_secs(801));
    assert!(credential.is_due().await);
    // Still good for a while: nobody waits for the next one.
    assert_eq!(shown(&credential).await, "Bearer token-1");
    clock.advance(Duration::from_secs(200));
    assert_eq!(shown(&credential).await, "Bearer token-2");
}

#[tokio::test]
async fn keeping_reads_ahead_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let credential = credential(counting(folder.path()), Scheme::Bearer, &clock);
    shown(&credential).await;
    clock.advance(Duration::from_secs(900));
    let keeping = tokio::spawn(credential.clone().keep());
    while shown(&credential).await != "Bearer token-2" {
        tokio::task::yield_now().await;
    }
    keeping.abort();
    assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_kept_when_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let source = Source::Kept(config::Credential::File(path.clone()));
    let credential = credential(source, Scheme::Basic, &clock());
    // feedgate:one
    assert_eq!(shown(&credential).await, "Basic ZmVlZGdhdGU6b25l");
    assert!(!credential.is_due().await);
    std::fs::write(folder.path().join("next"), "two").unwrap();
    std::fs::rename(folder.path().join("next"), &path).unwrap();
    assert!(credential.is_due().await);
    credential.read().await.unwrap();
    assert_eq!(shown(&credential).await, "Basic ZmVlZGdhdGU6dHdv");
    std::fs::remove_file(&path).unwrap();
    credential.read().await.unwrap_err();
    assert_eq!(shown(&credential).await, "Basic ZmVlZGdhdGU6dHdv");
}

#[tokio::test]
async fn what_fails_is_not_tried_by_each_request_and_shows_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        format!("echo x >> {}/runs; echo planted; echo planted >&2; exit 3", folder.path().display());
    let source = Source::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let credential = credential(source, Scheme::Bearer, &clock());
    for _ in 0..3 {
        let error = credential.header().await.unwrap_err().to_string();
        assert!(
            error.contains("`/bin/sh` ended with exit status: 3") && !error.contains("planted"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap().lines().count(), 1);
}

#[test]
fn tokens_are_read_in_every_form_that_tools_print() {
    let now = clock().now();
    let end = START + 3600;
    let rows = [
        ("pat\n".to_owned(), None),
        (format!("pat\n{end}\n"), Some(end)),
        (format!(r#"{{"accessToken":"pat","expiresOn":"local time","expires_on":{end}}}"#), Some(end)),
        (r#"{"access_token":"pat","expires_in":"3600"}"#.to_owned(), Some(end)),
        (r#"{"access_token":"pat"}"#.to_owned(), None),
    ];
    for (text, end) in rows {
        let printed = Printed::read(&Secret::new(text.clone()), now).unwrap();
        let read = printed.end.map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_secs());
        assert_eq!((printed.token.reveal().as_str(), read), ("pat", end), "{text}");
    }
    for bad in ["pat\nsoon", "{}", "{\"accessToken\":"] {
        assert!(Printed::read(&Secret::new(bad.to_owned()), now).is_err(), "{bad}");
    }
}
