//! Who is asking, known by a keyed hash of the credential.

use std::{fmt, path::Path};

use hmac::{Hmac, Mac};
use http::HeaderValue;
use rand::RngCore as _;
use sha2::Sha256;

use super::tokens;
use crate::{redact::Secret, upstream::CredentialError};

/// Name of the file beside the store that holds the key.
const KEY_FILE: &str = "caller-key";

/// The key of the caller hash. A new key makes every stored verdict void.
#[derive(Clone)]
pub struct CallerKey(Secret<[u8; 32]>);

/// A caller: HMAC-SHA-256 of the `Authorization` header, or all zeros for anonymous ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerId([u8; 32]);

/// Whether a caller shows a credential. The service may show the two different documents (facts §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// No `Authorization`.
    Anonymous,
    /// Some `Authorization`.
    Authenticated,
}

/// Who is asking, and the credential to ask the service with.
#[derive(Debug, Clone)]
pub struct Caller {
    id: CallerId,
    credential: Credential,
    turn: Option<CallerId>,
}

/// With what the service is asked.
#[derive(Debug, Clone)]
enum Credential {
    /// With nothing.
    None,
    /// With the caller's own.
    Own(HeaderValue),
    /// With the gate's, if there is one now.
    Gate(Result<HeaderValue, CredentialError>),
}

// === impl CallerKey ===

impl CallerKey {
    /// A key for this run only.
    pub fn random() -> Self {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        Self(Secret::new(key))
    }

    /// Reads the key kept in `folder`, or makes one there, readable by the owner only.
    pub fn load_or_create(folder: &Path) -> std::io::Result<Self> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

        let path = folder.join(KEY_FILE);
        if let Ok(bytes) = std::fs::read(&path)
            && let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice())
        {
            return Ok(Self(Secret::new(key)));
        }
        let key = Self::random();
        let fresh = folder.join(format!("{KEY_FILE}.new"));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(key.0.reveal())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        Ok(key)
    }

    /// The caller who sends this `Authorization` (or none).
    pub fn caller(&self, authorization: Option<&HeaderValue>) -> Caller {
        let Some(authorization) = authorization else {
            return Caller { id: CallerId::ANONYMOUS, credential: Credential::None, turn: None };
        };
        let id = self.hash(&[authorization.as_bytes()]);
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        Caller { id, credential: Credential::Own(authorization), turn: Some(id) }
    }

    /// The gate itself where it asks `organisation` with a credential of its own: one for all who may use that, and
    /// the same when the credential is renewed.
    pub(super) fn gate(&self, organisation: &str) -> CallerId {
        // No `Authorization` begins with a NUL, so this is nobody's.
        self.hash(&[b"\0gate\0", organisation.as_bytes()])
    }

    fn hash(&self, parts: &[&[u8]]) -> CallerId {
        // HMAC takes a key of any length, so this cannot fail; an impossible failure maps to anonymous,
        // the identity with the fewest rights.
        Hmac::<Sha256>::new_from_slice(self.0.reveal()).map_or(CallerId::ANONYMOUS, |mac| {
            let mac = parts.iter().fold(mac, Mac::chain_update);
            CallerId(mac.finalize().into_bytes().into())
        })
    }
}

// === impl CallerId ===

impl CallerId {
    /// Whoever shows no credential.
    pub const ANONYMOUS: Self = Self([0; 32]);

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what [`CallerId::as_bytes`] gave.
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The first eight digits: enough to follow a caller through a log.
impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANONYMOUS {
            return f.write_str("anonymous");
        }
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Caller ===

impl Caller {
    /// The gate on behalf of somebody: verdicts are on the gate, turns are taken by whoever showed `turn`.
    pub(super) fn of_gate(
        id: CallerId,
        turn: Option<CallerId>,
        credential: Result<HeaderValue, CredentialError>,
    ) -> Self {
        Self { id, credential: Credential::Gate(credential), turn }
    }

    /// Whom verdicts are on: the keyed hash.
    pub fn id(&self) -> &CallerId {
        &self.id
    }

    /// Who takes turns with others; `None` is known by its address only.
    pub fn turn(&self) -> Option<&CallerId> {
        self.turn.as_ref()
    }

    /// The credential to send to the service's own hosts; marked sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        match &self.credential {
            Credential::None | Credential::Gate(Err(_)) => None,
            Credential::Own(authorization) | Credential::Gate(Ok(authorization)) => Some(authorization),
        }
    }

    /// Why the gate cannot ask on behalf of the caller, if it cannot: to ask without the credential that is due would
    /// be to ask as somebody else.
    pub fn lacks_credential(&self) -> Option<&CredentialError> {
        match &self.credential {
            Credential::Gate(Err(error)) => Some(error),
            Credential::None | Credential::Own(_) | Credential::Gate(Ok(_)) => None,
        }
    }

    /// What the caller itself showed, unless the gate stands in for it.
    pub fn own(&self) -> Option<&HeaderValue> {
        match &self.credential {
            Credential::Own(authorization) => Some(authorization),
            Credential::None | Credential::Gate(_) => None,
        }
    }

    /// The gate token that the caller itself shows.
    pub fn token(&self) -> Option<Secret<String>> {
        self.own().and_then(tokens::shown)
    }

    /// Whether the service is asked with the gate's own credential.
    pub fn is_gate(&self) -> bool {
        matches!(self.credential, Credential::Gate(_))
    }

    /// Whether there is a credential.
    pub fn audience(&self) -> Audience {
        if matches!(self.credential, Credential::None) {
            Audience::Anonymous
        } else {
            Audience::Authenticated
        }
    }
}

// === impl Audience ===

impl Audience {
    /// One letter for keys.
    pub fn letter(self) -> char {
        match self {
            Self::Anonymous => 'p',
            Self::Authenticated => 'a',
        }
    }
}
