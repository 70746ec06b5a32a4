//! Gate tokens: what callers show instead of a credential of the service.
//!
//! A token is `fgt_{id}_{secret}`, with a secret of 256 random bits of which only the SHA-256 is kept: that many bits
//! cannot be guessed, so the hash needs neither salt nor work. The file has a JSON object a line, is written whole by
//! `feedgate token` (0600, renamed into place) and read again by the gate when it changes. A token that is revoked is
//! no longer in the file.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use parking_lot::Mutex;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Scope;
use crate::{
    config::access::Rights,
    disk::{self, watch::blocks},
    redact::Secret,
};

/// What every gate token begins with; no credential of the service does.
const PREFIX: &str = "fgt_";
/// How often the gate looks whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a secret.
const SECRET: usize = 32;
/// Bytes of an id.
const ID: usize = 6;

/// A gate token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Names it in lists and logs.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// Where it is good.
    pub scopes: Vec<Scope>,
    /// What its holder may do.
    pub rights: Rights,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends.
    pub expires: Option<SystemTime>,
    hash: [u8; SECRET],
}

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What the operator calls it.
    pub name: String,
    /// Where it is good.
    pub scopes: Vec<Scope>,
    /// What its holder may do.
    pub rights: Rights,
    /// How long it is good.
    pub life: Option<Duration>,
}

/// The file of tokens.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

/// The tokens of a file, read again when it changes.
pub(super) struct Tokens {
    file: TokenFile,
    current: ArcSwap<HashMap<String, Token>>,
    /// Which state of the file they are from.
    stamp: Mutex<Option<Stamp>>,
}

type Stamp = (i64, i64, u64, u64);

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    name: String,
    sha256: String,
    scopes: Vec<String>,
    rights: String,
    created: u64,
    expires: Option<u64>,
}

/// Why tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no token.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// Which, from 1.
        line: usize,
        /// The rule that it breaks.
        reason: String,
    },
    /// There is no such token.
    #[error("no token has the id `{0}`")]
    Unknown(String),
}

// === impl Token ===

impl Token {
    /// A new token, and the text that its holder shows: that is told once and kept nowhere.
    pub fn new(wanted: Wanted, now: SystemTime) -> (Self, Secret<String>) {
        let (mut id, mut secret) = ([0; ID], [0; SECRET]);
        rand::rng().fill_bytes(&mut id);
        rand::rng().fill_bytes(&mut secret);
        let id: String = hex(&id);
        let text = format!("{PREFIX}{id}_{}", hex(&secret));
        let Wanted { name, scopes, rights, life } = wanted;
        let expires = life.and_then(|life| now.checked_add(life));
        let hash = Sha256::digest(text.as_bytes()).into();
        (Self { id, name, scopes, rights, created: now, expires, hash }, Secret::new(text))
    }

    /// Whether its time is over at `now`.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    fn of(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let hash = unhex(&line.sha256).ok_or("`sha256` must be 64 hexadecimal digits")?;
        let scopes: Result<_, _> = line.scopes.iter().map(|scope| scope.parse()).collect();
        let scopes: Vec<Scope> = scopes.map_err(|rule: String| format!("`scopes` {rule}"))?;
        let rights = line.rights.parse().map_err(|rule| format!("`rights` {rule}"))?;
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let created = at(line.created).ok_or("`created` is too late")?;
        let expires = line.expires.map(|seconds| at(seconds).ok_or("`expires` is too late")).transpose()?;
        Ok(Self { id: line.id, name: line.name, scopes, rights, created, expires, hash })
    }

    fn line(&self) -> Line {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Line {
            id: self.id.clone(),
            name: self.name.clone(),
            sha256: hex(&self.hash),
            scopes: self.scopes.iter().map(ToString::to_string).collect(),
            rights: self.rights.to_string(),
            created: seconds(self.created),
            expires: self.expires.map(seconds),
        }
    }
}

// === impl TokenFile ===

impl TokenFile {
    /// The file at `path`; it need not be there.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Every token in the file, in the order of making. Blocking.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or a line of it is no token.
    pub fn read(&self) -> Result<Vec<Token>, TokenError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| self.io(source))?,
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let token = |(index, line)| {
            Token::of(line).map_err(|reason| TokenError::Line {
                path: self.path.display().to_string(),
                line: index + 1,
                reason,
            })
        };
        lines.map(token).collect()
    }

    /// Adds a token. Blocking.
    ///
    /// # Errors
    /// As [`TokenFile::read`], and when the file cannot be written.
    pub fn add(&self, token: Token) -> Result<(), TokenError> {
        self.change(|tokens| {
            tokens.push(token);
            Ok(())
        })
    }

    /// Takes the token with this id out, for good. Blocking.
    ///
    /// # Errors
    /// As [`TokenFile::add`], and when there is no such token.
    pub fn revoke(&self, id: &str) -> Result<Token, TokenError> {
        self.change(|tokens| {
            let at = tokens.iter().position(|token| token.id == id);
            Ok(tokens.remove(at.ok_or_else(|| TokenError::Unknown(id.to_owned()))?))
        })
    }

    /// One change at a time, whoever makes it.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Token>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let lock = self.beside(".lock");
        let mut options = fs::OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(lock);
        let lock = lock.map_err(|source| self.io(source))?;
        lock.lock().map_err(|source| self.io(source))?;
        let mut tokens = self.read()?;
        let changed = change(&mut tokens)?;
        self.write(&tokens).map_err(|source| self.io(source))?;
        Ok(changed)
    }

    fn write(&self, tokens: &[Token]) -> io::Result<()> {
        let fresh = self.beside(".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = disk::create_private(&fresh)?;
        for token in tokens {
            serde_json::to_writer(&file, &token.line())?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        disk::sync_directory(folder.unwrap_or(Path::new(".")))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    fn io(&self, source: io::Error) -> TokenError {
        TokenError::Io { path: self.path.display().to_string(), source }
    }

    fn stamp(&self) -> Option<Stamp> {
        blocks("look at gate tokens");
        let file = fs::metadata(&self.path).ok()?;
        Some((file.mtime(), file.mtime_nsec(), file.ino(), file.len()))
    }
}

// === impl Tokens ===

impl Tokens {
    /// # Errors
    /// When the file is there and cannot be read, or a line of it is no token.
    pub(super) fn open(path: &Path) -> Result<Self, TokenError> {
        let file = TokenFile::new(path);
        let stamp = file.stamp();
        let tokens = by_id(file.read()?);
        if tokens.is_empty() {
            tracing::warn!(path = %path.display(), "no gate token there: nobody gets in with one");
        }
        Ok(Self { file, current: ArcSwap::from_pointee(tokens), stamp: Mutex::new(stamp) })
    }

    /// The token whose text this is, expired or not. Takes the same steps whether or not the id is known.
    pub(super) fn find(&self, text: &str) -> Option<Token> {
        let tokens = self.current.load();
        let id = text.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()).unwrap_or_default();
        let token = tokens.get(id);
        let known = token.map_or([0; SECRET], |token| token.hash);
        let hash: [u8; SECRET] = Sha256::digest(text.as_bytes()).into();
        let same = bool::from(hash.ct_eq(&known));
        token.filter(|_| same).cloned()
    }

    /// Reads the file again whenever it has changed; never ends. No request waits for it.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let tokens = Arc::clone(&self);
            if let Err(error) = disk::off_thread("look at gate tokens", move || tokens.look()).await {
                tracing::error!(%error, "gate tokens not looked at");
            }
        }
    }

    /// One with a bad line changes nothing. Blocking.
    fn look(&self) {
        let mut seen = self.stamp.lock();
        let stamp = self.file.stamp();
        if stamp == *seen {
            return;
        }
        *seen = stamp;
        match self.file.read() {
            Ok(tokens) => {
                tracing::info!(tokens = tokens.len(), "gate tokens read again");
                self.current.store(Arc::new(by_id(tokens)));
            }
            Err(error) => {
                tracing::error!(%error, "gate tokens not read again: those from before hold");
            }
        }
    }
}

fn by_id(tokens: Vec<Token>) -> HashMap<String, Token> {
    tokens.into_iter().map(|token| (token.id.clone(), token)).collect()
}

/// Whether a header's value is a gate token in any form that clients send: as Basic, as Bearer, or bare as a key.
pub fn is_gate_token(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(PREFIX.as_bytes()) || shown(value).is_some()
}

/// The gate token that `authorization` shows, as Bearer or as the password of Basic; with any user (facts §6).
pub(super) fn shown(authorization: &HeaderValue) -> Option<Secret<String>> {
    let (scheme, value) = authorization.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    let basic = || String::from_utf8(STANDARD.decode(value).ok()?).ok();
    let pair = if scheme.eq_ignore_ascii_case("basic") { basic()? } else { format!(":{value}") };
    let (user, password) = pair.split_once(':')?;
    // Some clients have one field only, and send it as the user.
    [password, user]
        .into_iter()
        .find(|text| text.starts_with(PREFIX))
        .map(|text| Secret::new(text.to_owned()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; SECRET]> {
    let mut bytes = [0; SECRET];
    if text.len() != 2 * SECRET || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        time::{Duration, UNIX_EPOCH},
    };

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use http::HeaderValue;

    use super::{Token, TokenError, TokenFile, Tokens, Wanted, shown};
    use crate::{config::access::Rights, redact::Secret};

    fn token(life: Option<u64>) -> (Token, Secret<String>) {
        let wanted = Wanted {
            name: "ci".to_owned(),
            scopes: vec!["contoso/main".parse().unwrap()],
            rights: Rights::Read,
            life: life.map(Duration::from_secs),
        };
        Token::new(wanted, UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn tokens_are_kept_as_hashes_in_a_private_file_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let file = TokenFile::new(&path);
        assert_eq!(file.read().unwrap(), []);
        let ((one, text), (two, _)) = (token(None), token(Some(60)));
        file.add(one.clone()).unwrap();
        file.add(two.clone()).unwrap();
        assert_eq!(file.read().unwrap(), [one.clone(), two.clone()]);
        let written = std::fs::read_to_string(&path).unwrap();
        let secret = text.reveal().rsplit('_').next().unwrap();
        assert!(!written.contains(secret) && secret.len() >= 40, "{written}");
        for path in [path.clone(), folder.path().join("tokens.lock")] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        assert_eq!(file.revoke(&one.id).unwrap(), one);
        assert!(matches!(file.revoke(&one.id), Err(TokenError::Unknown(_))));
        assert_eq!(file.read().unwrap(), [two]);
    }

    #[test]
    fn only_the_whole_text_of_a_token_is_that_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&folder.path().join("tokens"));
        let (one, text) = token(None);
        file.add(one.clone()).unwrap();
        let tokens = Tokens::open(&file.path).unwrap();
        assert_eq!(tokens.find(text.reveal()), Some(one.clone()));
        let (_, other) = token(None);
        let secret = |text: &str| text[text.rfind('_').unwrap()..].to_owned();
        for wrong in [
            other.reveal().clone(),
            format!("fgt_{}{}", one.id, secret(other.reveal())),
            format!("fgt_{}_", one.id),
            format!("{}x", text.reveal()),
            text.reveal()[1..].to_owned(),
            String::new(),
        ] {
            assert_eq!(tokens.find(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for value in [
            "Bearer fgt_a_b".to_owned(),
            "bearer  fgt_a_b".to_owned(),
            basic("any:fgt_a_b"),
            basic(":fgt_a_b"),
            basic("fgt_a_b:"),
            basic("fgt_a_b:x"),
        ] {
            let shown = shown(&HeaderValue::from_str(&value).unwrap()).unwrap();
            assert_eq!(shown.reveal(), "fgt_a_b", "{value}");
        }
        for value in [basic("a:pat"), basic("fgt"), "Bearer eyJ".to_owned(), "fgt_a_b".to_owned()] {
            assert!(shown(&HeaderValue::from_str(&value).unwrap()).is_none(), "{value}");
        }
    }

    #[test]
    fn a_line_that_is_no_token_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&folder.path().join("tokens"));
        file.add(token(None).0).unwrap();
        let mut text = std::fs::read_to_string(&file.path).unwrap();
        text.push_str("{\"id\":1}\n");
        std::fs::write(&file.path, text).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("tokens:2: "), "{error}");
    }
}
