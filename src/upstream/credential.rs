//! A credential of the gate itself: read from where it is kept, read again before it ends.
//!
//! [`Credential::keep`] runs for as long as the gate does and looks every second whether the credential is due: a file
//! that changed, a token whose end is near. Requests take what is held; only when nothing usable is, they wait for one
//! reading that is shared by all. A reading that fails leaves the credential that is held, until that ends.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};
use tokio::{io::AsyncReadExt as _, time::Instant};

use crate::{
    clock::Clock,
    config::{
        self,
        organisation::{GateCredential, Scheme, Source},
    },
    disk::{off_thread, watch::blocks},
    redact::Secret,
};

/// How often the gate looks whether a credential is due.
const LOOK: Duration = Duration::from_secs(1);
/// A token is due this long before its end, or at four fifths of its life if that is later. Entra's live an hour.
const AHEAD: Duration = Duration::from_secs(300);
/// How long a program's token is used when the program does not say how long it is good.
const UNDATED: Duration = Duration::from_secs(300);
/// How long after a reading that failed the next one begins.
const RETRY: Duration = Duration::from_secs(5);
/// Longest run of a program.
const LONGEST_RUN: Duration = Duration::from_secs(30);
/// Most that is read of a file or of what a program prints, in bytes; Entra tokens have some 2 KiB.
const LARGEST: u64 = 64 << 10;
/// The user part of Basic: the service does not look at it (facts §6).
const USER: &str = "feedgate";

/// A credential of the gate. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Credential {
    shared: Arc<Shared>,
}

/// Counts readings and shows when credentials end.
#[derive(Clone)]
pub struct CredentialMetrics {
    ends: GaugeVec,
    readings: IntCounterVec,
}

/// Why there is no credential.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read; the text names it.
    #[error("{0}")]
    File(String),
    /// The program cannot be run, or ended with an error.
    #[error("the program of the credential {0}")]
    Program(String),
    /// What was read is no token.
    #[error("the credential {0}")]
    Form(&'static str),
    /// What was read has ended already.
    #[error("the credential has ended")]
    Ended,
}

struct Shared {
    settings: GateCredential,
    organisation: String,
    clock: Clock,
    state: Mutex<State>,
    /// Held by the one reading that goes on.
    reading: tokio::sync::Mutex<()>,
    metrics: CredentialMetrics,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    failed: Option<(Instant, CredentialError)>,
}

/// A credential that was read.
#[derive(Clone)]
struct Held {
    header: HeaderValue,
    read: Instant,
    /// When it is read anew although nothing changed, and when it ends.
    end: Option<End>,
    /// Which state of the file it is from.
    stamp: Option<Stamp>,
}

#[derive(Clone, Copy)]
struct End {
    due: SystemTime,
    at: SystemTime,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

/// A token and how long it is good, as a file holds it or a program prints it.
struct Printed {
    token: Secret<String>,
    end: Option<SystemTime>,
}

// === impl CredentialMetrics ===

impl CredentialMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ends = GaugeVec::new(
            Opts::new("feedgate_credential_expiry_seconds", "Seconds until the gate's credential ends"),
            &["organisation"],
        )?;
        let readings = IntCounterVec::new(
            Opts::new("feedgate_credential_readings_total", "Readings of the gate's credentials"),
            &["organisation", "outcome"],
        )?;
        registry.register(Box::new(ends.clone()))?;
        registry.register(Box::new(readings.clone()))?;
        Ok(Self { ends, readings })
    }
}

// === impl Credential ===

impl Credential {
    /// The credential of `organisation`; nothing is read yet.
    pub fn new(
        settings: GateCredential,
        organisation: String,
        clock: Clock,
        metrics: CredentialMetrics,
    ) -> Self {
        for outcome in ["ok", "failed"] {
            metrics.readings.with_label_values(&[&organisation, outcome]).inc_by(0);
        }
        let shared = Shared {
            settings,
            organisation,
            clock,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The value of `Authorization`, marked sensitive. Waits only when nothing usable is held.
    ///
    /// # Errors
    /// When there is none, and none can be read.
    pub async fn header(&self) -> Result<HeaderValue, CredentialError> {
        if let Some(header) = self.usable() {
            return Ok(header);
        }
        let _one = self.shared.reading.lock().await;
        if let Some(header) = self.usable() {
            return Ok(header);
        }
        if let Some((at, error)) = &self.shared.state.lock().failed
            && at.elapsed() < RETRY
        {
            return Err(error.clone());
        }
        self.read().await
    }

    /// Reads the credential whenever it is due; never ends.
    pub async fn keep(self) {
        loop {
            if self.is_due().await {
                let _one = self.shared.reading.lock().await;
                // Its error is logged, and what is held goes on.
                let _ = self.read().await;
            }
            self.show_end();
            tokio::time::sleep(LOOK).await;
        }
    }

    fn usable(&self) -> Option<HeaderValue> {
        let now = self.shared.clock.now();
        let state = self.shared.state.lock();
        let held = state.held.as_ref()?;
        held.end.is_none_or(|end| now < end.at).then(|| held.header.clone())
    }

    async fn is_due(&self) -> bool {
        let (held, failed) = {
            let state = self.shared.state.lock();
            (state.held.clone(), state.failed.as_ref().map(|(at, _)| *at))
        };
        if failed.is_some_and(|at| at.elapsed() < RETRY) {
            return false;
        }
        let Some(held) = held else { return true };
        if held.end.is_some_and(|end| self.shared.clock.now() >= end.due) {
            return true;
        }
        match &self.shared.settings.source {
            Source::Kept(config::Credential::Variable(_)) => false,
            Source::Kept(config::Credential::File(path)) => Stamp::of(path).await != held.stamp,
            Source::Command(_) => held.end.is_none() && held.read.elapsed() >= UNDATED,
        }
    }

    async fn read(&self) -> Result<HeaderValue, CredentialError> {
        let Shared { settings, organisation, metrics, .. } = &*self.shared;
        let read = self.read_once().await;
        let outcome = if read.is_ok() { "ok" } else { "failed" };
        metrics.readings.with_label_values(&[organisation, outcome]).inc();
        let mut state = self.shared.state.lock();
        match read {
            Ok(held) => {
                tracing::debug!(organisation, scheme = settings.scheme.as_str(), "credential read");
                state.failed = None;
                let header = held.header.clone();
                state.held = Some(held);
                Ok(header)
            }
            Err(error) => {
                tracing::error!(organisation, %error, "the gate's credential cannot be read");
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn read_once(&self) -> Result<Held, CredentialError> {
        let Shared { settings, clock, .. } = &*self.shared;
        // Before the content: a change in between is seen as one the next time.
        let stamp = match &settings.source {
            Source::Kept(config::Credential::File(path)) => Stamp::of(path).await,
            Source::Kept(config::Credential::Variable(_)) | Source::Command(_) => None,
        };
        let text = match &settings.source {
            Source::Kept(kept) => {
                kept.read().await.map_err(|error| CredentialError::File(error.to_string()))?
            }
            Source::Command(command) => run(command).await?,
        };
        let now = clock.now();
        let printed = Printed::read(&text, now)?;
        let end = printed.end.map(|at| End::new(now, at)).transpose()?;
        let header = header_of(&printed.token, settings.scheme)?;
        Ok(Held { header, read: Instant::now(), end, stamp })
    }

    fn show_end(&self) {
        let Shared { organisation, clock, metrics, state, .. } = &*self.shared;
        let Some(End { at, .. }) = state.lock().held.as_ref().and_then(|held| held.end) else { return };
        let left = at.duration_since(clock.now()).unwrap_or_default();
        metrics.ends.with_label_values(&[organisation]).set(left.as_secs_f64());
    }
}

// === impl End ===

impl End {
    fn new(now: SystemTime, at: SystemTime) -> Result<Self, CredentialError> {
        let life =
            at.duration_since(now).ok().filter(|life| !life.is_zero()).ok_or(CredentialError::Ended)?;
        Ok(Self { due: at - AHEAD.min(life / 5), at })
    }
}

// === impl Stamp ===

impl Stamp {
    async fn of(path: &Path) -> Option<Self> {
        const LOOK_AT: &str = "look at credential";
        let path = path.to_owned();
        let look = move || {
            blocks(LOOK_AT);
            std::fs::metadata(path)
        };
        let file = off_thread(LOOK_AT, look).await.ok()?.ok()?;
        Some(Self { modified: (file.mtime(), file.mtime_nsec()), inode: file.ino(), length: file.len() })
    }
}

// === impl Printed ===

impl Printed {
    /// A token alone; a token with the Unix time of its end on the next line; or JSON, as Entra's endpoint answers
    /// (`access_token`, `expires_in`) and as `az account get-access-token` prints it (`accessToken`, `expires_on`).
    fn read(text: &Secret<String>, now: SystemTime) -> Result<Self, CredentialError> {
        let text = text.reveal().trim();
        if text.starts_with('{') {
            return Self::of_json(text, now);
        }
        let mut lines = text.lines().map(str::trim);
        let token = lines.next().unwrap_or_default().to_owned();
        let end =
            match lines.next() {
                None => None,
                Some(end) => Some(end.parse().ok().and_then(at_unix).ok_or(CredentialError::Form(
                    "has a second line that is not the Unix time of its end",
                ))?),
            };
        Ok(Self { token: Secret::new(token), end })
    }

    fn of_json(text: &str, now: SystemTime) -> Result<Self, CredentialError> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|_| CredentialError::Form("is not the JSON it begins as"))?;
        let token = ["accessToken", "access_token"].iter().find_map(|key| value[*key].as_str());
        let token = token.ok_or(CredentialError::Form("has no `accessToken` or `access_token`"))?;
        let seconds = |key: &str| {
            let value = &value[key];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        let end = seconds("expires_on")
            .and_then(at_unix)
            .or_else(|| now.checked_add(Duration::from_secs(seconds("expires_in")?)));
        Ok(Self { token: Secret::new(token.to_owned()), end })
    }
}

fn at_unix(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn header_of(token: &Secret<String>, scheme: Scheme) -> Result<HeaderValue, CredentialError> {
    if token.reveal().is_empty() {
        return Err(CredentialError::Form("is empty"));
    }
    let text = match scheme {
        Scheme::Basic => format!("Basic {}", STANDARD.encode(format!("{USER}:{}", token.reveal()))),
        Scheme::Bearer => format!("Bearer {}", token.reveal()),
    };
    let header = HeaderValue::from_str(&text);
    let mut header = header.map_err(|_| CredentialError::Form("has characters that no header can have"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// What a program prints. Nothing of it, nor of what it complains, is ever shown.
async fn run(command: &[String]) -> Result<Secret<String>, CredentialError> {
    let failed = |what: String| CredentialError::Program(what);
    let (program, arguments) = command.split_first().ok_or(CredentialError::Form("has no program"))?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("`{program}` cannot be run: {error}")))?;
    let work = async {
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LARGEST).read_to_string(&mut text).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, text))
    };
    let (status, text) = tokio::time::timeout(LONGEST_RUN, work)
        .await
        .map_err(|_| failed(format!("`{program}` ran for more than {LONGEST_RUN:?}")))?
        .map_err(|error| failed(format!("`{program}`: {error}")))?;
    if status.success() {
        Ok(Secret::new(text))
    } else {
        Err(failed(format!("`{program}` ended with {status}")))
    }
}

#[cfg(test)]
mod tests;
