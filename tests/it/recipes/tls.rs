//! The connection to an ERP: private authorities, client certificates, a proxy.

use std::sync::{Arc, Mutex};

use order_relay::domain::failure::Stage;
use order_relay::ports::erp::{Erp, ProbeAnswer};
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::stand_in::{Books, Says, serve};

use super::{Setting, open, order};

/// A self-signed certificate.
fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![name.to_owned()]).unwrap();
    CertifiedKey { cert: cert.self_signed(&signing_key).unwrap(), signing_key }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_and_our_certificate_is_shown() {
    order_relay::app::commands::install_tls();
    let (erp, ours) = (certificate("localhost"), certificate("relay"));
    let mut known = RootCertStore::empty();
    known.add(ours.cert.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(known)).build().unwrap();
    let key = PrivateKeyDer::try_from(erp.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = config.with_single_cert(vec![erp.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (acceptor, books) = (TlsAcceptor::from(Arc::new(config)), Mutex::<Books>::default());
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(socket) = acceptor.accept(socket).await else { continue };
            let says = |_: &mut Books, _: &crate::stand_in::Asked| {
                (Says::json(404, &serde_json::json!({"error": "no such order"})), false)
            };
            drop(serve(socket, says, &books).await);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, cert) = (file("ca.pem", erp.cert.pem()), file("cert.pem", ours.cert.pem()));
    let key = file("key.pem", ours.signing_key.serialize_pem());
    let nothing = Setting { consts: &[], secrets: &[] };
    let with = |http: &str| {
        let recipe = format!("{}\n[http]\n{http}", super::engine::RECIPE);
        let path = file("recipe.toml", recipe);
        open(&path, &url, &nothing, &[])
    };
    let both = format!("ca_file = '{ca}'\nclient_cert = '{cert}'\nclient_key = '{key}'");
    assert_eq!(with(&both).ask(&order("O-1", "A")).await, ProbeAnswer::Absent);
    for less in ["", &format!("ca_file = '{ca}'")] {
        let ProbeAnswer::Unclear(failure) = with(less).ask(&order("O-1", "A")).await else {
            panic!("it was taken for an answer with {less:?}");
        };
        assert_ne!(failure.status, Some(404), "{failure:?}");
        if less.is_empty() {
            let failure = with(less).submit(&order("O-1", "A")).await.unwrap_err();
            assert_eq!(failure.stage, Some(Stage::Before), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_address_of_the_erp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let reply = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\
            content-length: 26\r\n\r\n{\"error\": \"no such thing\"}";
        socket.write_all(reply).await.unwrap();
        assert!(head.starts_with(b"GET http://erp.invalid/"), "{}", String::from_utf8_lossy(&head));
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    let recipe = format!("{}\n[http]\nproxy = '{proxy}'", super::engine::RECIPE);
    std::fs::write(&path, recipe).unwrap();
    let nothing = Setting { consts: &[], secrets: &[] };
    let erp = open(path.to_str().unwrap(), "http://erp.invalid", &nothing, &[]);
    let answer = erp.ask(&order("O-1", "A")).await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(answer, ProbeAnswer::Absent);
}
