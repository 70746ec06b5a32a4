//! A certificate authority of the simulator's own, and the server side of TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The names under which the simulator may be reached; the service's own ones are for tests that override DNS.
const NAMES: [&str; 8] = [
    "127.0.0.1",
    "localhost",
    "pkgs.dev.azure.com",
    "feeds.dev.azure.com",
    "*.pkgs.visualstudio.com",
    "*.feeds.visualstudio.com",
    "*.blob.core.windows.net",
    "*.vsblob.vsassets.io",
];

/// An acceptor, and the PEM text of the authority that clients must trust. Keys are new in every run.
pub(crate) fn acceptor() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "feedgate simulator authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("the ring provider makes keys");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("the parameters are valid");
    let key = KeyPair::generate().expect("the ring provider makes keys");
    let leaf = CertificateParams::new(NAMES.map(str::to_owned)).expect("the names are valid");
    let leaf = leaf.signed_by(&key, &authority).expect("the parameters are valid");
    let chain = vec![CertificateDer::from(leaf)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS #8");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring speaks TLS 1.2 and 1.3");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("key and chain match");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}
