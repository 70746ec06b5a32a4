//! The certificate of a TLS listener: read from PEM files, and read again when they change.
//!
//! rustls with its defaults: TLS 1.2 and 1.3, forward secrecy and authenticated ciphers only, but by the listener's order
//! and not the client's. HTTP/2 or HTTP/1.1 by ALPN. A connection keeps the certificate that it began with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::config::TlsFiles;

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
pub const H2: &[u8] = b"h2";
/// The name of HTTP/1.1 there (RFC 7301 §6).
const HTTP1: &[u8] = b"http/1.1";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has not what it should.
    #[error("`{path}`: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A listener's certificate.
pub struct Certificates {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    /// What the files had when they were last looked at.
    seen: Mutex<Vec<Vec<u8>>>,
}

// === impl Certificates ===

impl Certificates {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let seen = read(files)?;
        let current = ArcSwap::from_pointee(configuration(files, &seen)?);
        Ok(Self { files: files.clone(), current, seen: Mutex::new(seen) })
    }

    /// For a connection that begins.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again if they have changed; whether they had. What is wrong is told once, and the certificate
    /// before stays.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let new = read(&self.files)?;
        let mut seen = self.seen.lock();
        if *seen == new {
            return Ok(false);
        }
        let fresh = configuration(&self.files, &new);
        *seen = new;
        self.current.store(Arc::new(fresh?));
        Ok(true)
    }
}

fn read(files: &TlsFiles) -> Result<Vec<Vec<u8>>, TlsError> {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| TlsError::Read { path: path.display().to_string(), source })
    };
    paths.into_iter().flatten().map(read).collect()
}

fn configuration(files: &TlsFiles, contents: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let [certificate, key, client_ca @ ..] = contents else {
        return Err(bad(&files.certificate, &"has no certificate"));
    };
    let chain = certificates(&files.certificate, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| bad(&files.key, &format!("has no private key: {e}")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| bad(&files.certificate, &e))?;
    let builder = match (&files.client_ca, client_ca) {
        (Some(path), [authorities]) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, authorities)? {
                roots.add(authority).map_err(|e| bad(path, &e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| bad(path, &e))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| bad(&files.key, &e))?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    Ok(config)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|e| bad(path, &e))?;
    if chain.is_empty() { Err(bad(path, &"has no certificate")) } else { Ok(chain) }
}

fn bad(path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::Content { path: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Certificates;
    use crate::config::TlsFiles;

    fn write(files: &TlsFiles) {
        let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn changed_files_are_read_again_and_bad_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem"), client_ca: None };
        assert!(Certificates::load(&files).err().unwrap().to_string().contains("cert.pem"));
        write(&files);
        let certificates = Certificates::load(&files).unwrap();
        let first = certificates.current();
        assert!(!certificates.refresh().unwrap());
        assert!(Arc::ptr_eq(&first, &certificates.current()));
        std::fs::write(&files.key, "no key").unwrap();
        let error = certificates.refresh().err().unwrap().to_string();
        assert!(error.contains("key.pem") && error.contains("no private key"), "{error}");
        assert!(!certificates.refresh().unwrap(), "told twice");
        assert!(Arc::ptr_eq(&first, &certificates.current()));
        write(&files);
        assert!(certificates.refresh().unwrap());
        assert!(!Arc::ptr_eq(&first, &certificates.current()));
    }
}
