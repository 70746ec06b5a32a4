//! TLS: which authorities are trusted, and what is offered.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{
    server::{Act, Server, answer, ok},
    settings, text,
};
use crate::{
    config::upstream::Upstream as Settings,
    upstream::{Http, UpstreamError},
};

/// An authority, and a folder with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    async fn server(&self, name: &str, script: Vec<Act>) -> Server {
        Server::start_tls(self.acceptor(name), vec![script]).await
    }
}

fn trusting(server: &Server, authority: &Authority) -> Http {
    Http::new(&Settings { ca_file: Some(authority.file()), ..settings(server) }).unwrap()
}

#[tokio::test]
async fn the_authority_in_the_file_is_trusted_and_only_http_1_is_offered() {
    let authority = Authority::new("known");
    let server = authority.server("localhost", vec![ok("one"), ok("two")]).await;
    let http = trusting(&server, &authority);
    assert_eq!(text(&http, "/x").await.unwrap(), "one");
    assert_eq!(text(&http, "/x").await.unwrap(), "two");
    assert_eq!(server.protocols(), [Some(b"http/1.1".to_vec())], "one handshake, without h2");
}

#[tokio::test]
async fn another_authority_or_another_name_is_refused() {
    let (authority, stranger) = (Authority::new("known"), Authority::new("stranger"));
    let rows =
        [("localhost", &stranger, "UnknownIssuer"), ("other.example", &authority, "not valid for name")];
    for (name, trusted, expected) in rows {
        let server = authority.server(name, vec![ok("no")]).await;
        let error = text(&trusting(&server, trusted), "/x").await.unwrap_err();
        let UpstreamError::Connect { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains(expected), "{reason}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_taken_over_tls_only_when_it_ends_in_order() {
    let authority = Authority::new("known");
    let raw = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd";
    let server = authority.server("localhost", vec![answer(raw)]).await;
    assert_eq!(text(&trusting(&server, &authority), "/x").await.unwrap(), "abcd");

    let server = authority.server("localhost", vec![answer(raw), Act::Cut]).await;
    let error = text(&trusting(&server, &authority), "/x").await.unwrap_err();
    assert!(matches!(error, UpstreamError::Broken { .. }), "{error}");
}
