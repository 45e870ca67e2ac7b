//! The client against servers of its own: TLS with certificates on both sides, tokens, redirects that would betray them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// Certificate and key, PEM.
fn certificate(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
    let certificate = params.signed_by(&key, authority).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("writable");
    path
}

/// A server that wants client certificates of `authority` and gives `answer` to each request; it tells the requests.
async fn tls_server(authority: &Authority, answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .expect("valid");
    let (certificate, key) = certificate(authority, "localhost");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
        .expect("valid");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.expect("a connection");
            let Ok(mut stream) = acceptor.accept(stream).await else {
                requests.push("no handshake".to_owned());
                continue;
            };
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
            requests.push(String::from_utf8_lossy(&request).into_owned());
            // The client may have gone: it refused the certificate in its last step.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        requests
    });
    (format!("https://localhost:{port}"), serving)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides_and_tokens_are_read_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = authority();
    let (certificate_pem, key_pem) = certificate(&ours, "node");
    let access = Access {
        ca: file(&dir, "ca.pem", &ours.pem()),
        certificate: file(&dir, "cert.pem", &certificate_pem),
        key: file(&dir, "key.pem", &key_pem),
        token: file(&dir, "token", "first\n"),
        ..Access::default()
    };
    let (url, seen) = tls_server(&ours, vec![ok("{}"), ok("{}"), ok("{}"), ok("{}")]).await;
    let client = Client::new(&access).expect("valid files");
    client.call(&url, "GET_AGENT").await.expect("trusted");
    std::fs::write(&access.token, "second").expect("writable");
    let dcos = Client {
        scheme: TokenScheme::Dcos,
        ..client.clone()
    };
    dcos.call(&url, "GET_AGENT").await.expect("trusted");
    // Without a certificate of its own, and with one authority that did not sign the server's.
    let bare = Access {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        ..access.clone()
    };
    let refused = Client::new(&bare).expect("valid files").call(&url, "GET_AGENT").await;
    assert!(refused.is_err(), "{refused:?}");
    let stranger = Access {
        ca: file(&dir, "other.pem", &authority().pem()),
        ..access.clone()
    };
    let refused = Client::new(&stranger)
        .expect("valid files")
        .call(&url, "GET_AGENT")
        .await;
    assert!(matches!(refused, Err(ApiError::Handshake(..))), "{refused:?}");
    let requests = seen.await.expect("served");
    assert!(
        requests[0].contains("authorization: Bearer first\r\n"),
        "{}",
        requests[0]
    );
    assert!(
        requests[1].contains("authorization: token=second\r\n"),
        "{}",
        requests[1]
    );
    assert_eq!(requests[2..], ["no handshake", "no handshake"]);
}

#[tokio::test]
async fn a_redirect_keeps_the_scheme_and_never_leaves_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = authority();
    let (certificate_pem, key_pem) = certificate(&ours, "node");
    let access = Access {
        ca: file(&dir, "ca.pem", &ours.pem()),
        certificate: file(&dir, "cert.pem", &certificate_pem),
        key: file(&dir, "key.pem", &key_pem),
        ..Access::default()
    };
    let (leader, _) = tls_server(&ours, vec![ok("")]).await;
    let to = |location: &str| {
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    };
    let relative = leader.replace("https:", "");
    let plain = leader.replace("https:", "http:");
    let (url, _) = tls_server(&ours, vec![to(&relative), to(&plain)]).await;
    let client = Client::new(&access).expect("valid files");
    let stream = client.subscribe(&url).await.expect("the leader");
    assert_eq!(format!("https://{}", stream.leader), leader);
    let refused = client.subscribe(&url).await.expect_err("in the clear");
    assert!(matches!(refused, ApiError::Downgrade(..)), "{refused}");
}

#[test]
fn bad_files_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = |access: Access| Client::new(&access).expect_err("bad").to_string();
    let ca = file(&dir, "ca.pem", &authority().pem());
    let empty = bad(Access {
        ca: file(&dir, "empty.pem", "no certificate\n"),
        ..Access::default()
    });
    assert!(empty.contains("no certificate in"), "{empty}");
    let missing = bad(Access {
        ca: dir.path().join("missing.pem"),
        ..Access::default()
    });
    assert!(missing.contains("missing.pem"), "{missing}");
    let half = bad(Access {
        certificate: ca.clone(),
        ca,
        ..Access::default()
    });
    assert!(half.contains("both or neither"), "{half}");
}

#[tokio::test]
async fn a_token_that_is_none_is_not_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in [("empty", " \n"), ("odd", "two\nlines")] {
        let access = Access {
            token: file(&dir, name, text),
            ..Access::default()
        };
        let client = Client::new(&access).expect("no certificates are named");
        let refused = client.call("http://127.0.0.1:9", "GET_AGENT").await;
        assert!(matches!(refused, Err(ApiError::BadToken(_))), "{refused:?}");
    }
}
