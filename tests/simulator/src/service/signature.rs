//! Signed blob URLs: making the `Location` of a redirect and checking what comes back (facts §3.5).
//!
//! Not the real scheme (whose key nobody here has), but the same parts with the same effect: a URL opens one blob
//! until it expires, and a changed character makes it worthless.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::ids::Ids;
use crate::clock;
use crate::content::seed::Seed;
use crate::wire::request::Request;

/// The CDN's own expiry runs this much longer than the signature's (facts §3.5).
const CDN_SECONDS: u64 = 3 * 3600;

/// Signs and checks.
pub(crate) struct Signer {
    seed: Seed,
    lifetime: Mutex<Duration>,
    /// Part of every signature; raising it voids all earlier ones.
    generation: AtomicU64,
}

/// Why a signed URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSignature {
    Missing,
    Wrong,
    Expired,
}

// === impl Signer ===

impl Signer {
    pub(crate) fn new(seed: Seed, lifetime: Duration) -> Self {
        Self { seed, lifetime: Mutex::new(lifetime), generation: AtomicU64::new(0) }
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.lock() = lifetime;
    }

    /// Makes every URL issued so far worthless.
    pub(crate) fn void_issued(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Path and query that open a blob.
    pub(crate) fn sign(&self, container: &str, storage_id: &str, file_name: &str, ids: &Ids) -> String {
        let expires = clock::now() + self.lifetime.lock().as_secs();
        let expires_text = clock::iso(expires);
        let path = format!("/b-{container}/{storage_id}.blob");
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let signature = encode(&self.signature(&path, &expires_text));
        let shown = encode(&format!("x-e2eid-{}-session-{}", ids.activity.simple(), ids.session.simple()));
        let disposition = encode(&format!("attachment; filename=\"{file_name}\""));
        let expiry = encode(&expires_text);
        let edge = encode(&STANDARD.encode(Sha256::digest(format!("edge {signature}"))));
        format!(
            "{path}?sv=2019-07-07&sr=b&si=1&sig={signature}&spr=https&se={expiry}&rscl={shown}&rscd={disposition}\
             &P1={}&P2=1&P3=2&P4={edge}",
            expires + CDN_SECONDS
        )
    }

    pub(crate) fn check(&self, request: &Request) -> Result<(), BadSignature> {
        let (Some(signature), Some(expiry)) = (request.parameter("sig"), request.parameter("se")) else {
            return Err(BadSignature::Missing);
        };
        if signature != self.signature(&request.path, &expiry) {
            return Err(BadSignature::Wrong);
        }
        // Both are ISO texts of one form, which sort like the moments they name.
        if clock::iso(clock::now()) >= expiry { Err(BadSignature::Expired) } else { Ok(()) }
    }

    fn signature(&self, path: &str, expiry: &str) -> String {
        let generation = self.generation.load(Ordering::SeqCst);
        STANDARD.encode(Sha256::digest(format!("{} {generation} {path} {expiry}", self.seed.0)))
    }
}
