//! Who is asking, known by a keyed hash of the credential.

use std::{fmt, path::Path};

use hmac::{Hmac, Mac};
use http::HeaderValue;
use rand::RngCore as _;
use sha2::Sha256;

use crate::redact::Secret;

/// Name of the file beside the store that holds the key.
const KEY_FILE: &str = "caller-key";

/// The key of the caller hash. A new key makes every stored verdict void.
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
    authorization: Option<HeaderValue>,
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
            return Caller { id: CallerId::ANONYMOUS, authorization: None };
        };
        // HMAC takes a key of any length, so this cannot fail; an impossible failure maps to anonymous,
        // the identity with the fewest rights.
        let id = Hmac::<Sha256>::new_from_slice(self.0.reveal()).map_or(CallerId::ANONYMOUS, |mac| {
            CallerId(mac.chain_update(authorization.as_bytes()).finalize().into_bytes().into())
        });
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        Caller { id, authorization: Some(authorization) }
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
    /// The keyed hash.
    pub fn id(&self) -> &CallerId {
        &self.id
    }

    /// The credential to send to the service's own hosts; marked sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether there is a credential.
    pub fn audience(&self) -> Audience {
        if self.authorization.is_some() { Audience::Authenticated } else { Audience::Anonymous }
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
