//! HTTPS, and what is said when its files are wrong.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use impasto::serve::{Server, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::support::{Answer, config, start};

struct Files {
    folder: TempDir,
    certificate: String,
}

fn files() -> Files {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = made.cert.pem();
    std::fs::write(folder.path().join("cert.pem"), &certificate).expect("written");
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    Files { folder, certificate }
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn the_page_comes_over_https() {
    let files = files();
    let mut config = config();
    config.tls = Some(TlsFiles { certificate: files.path("cert.pem"), key: files.path("key.pem") });
    config.token = Some("a-token-of-the-tests".to_string());
    let server = start(config);

    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(files.certificate.as_bytes()).expect("a certificate"))
        .expect("a root");
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(client), name).expect("a connection");
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(&server.head("GET", "/?token=a-token-of-the-tests", &[], 0)).expect("sent");
    let answer = Answer::read(&mut stream);
    assert_eq!(answer.status, 200);
    // A cookie that came by HTTPS goes by nothing else.
    assert!(
        answer.header("set-cookie").is_some_and(|cookie| cookie.ends_with("; secure")),
        "{}",
        answer.head
    );

    // Plain HTTP is told so, and nothing else, whoever it is.
    for path in ["/", "/api/styles", "/healthz", "/?token=a-token-of-the-tests"] {
        let answer = server.get(path);
        assert!(answer.refusal(400).contains("HTTPS"));
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[test]
fn wrong_files_are_named() {
    let (files, others) = (files(), files());
    std::fs::write(files.path("empty.pem"), "").expect("written");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(files.path("locked.pem"), locked).expect("written");
    for (certificate, key, expected) in [
        (files.path("missing.pem"), files.path("key.pem"), "--tls-cert"),
        (files.path("empty.pem"), files.path("key.pem"), "--tls-cert"),
        (files.path("cert.pem"), files.path("empty.pem"), "--tls-key"),
        (files.path("cert.pem"), files.path("cert.pem"), "--tls-key"),
        (files.path("cert.pem"), files.path("locked.pem"), "without a passphrase"),
        (files.path("cert.pem"), others.path("key.pem"), "does not fit the key"),
    ] {
        let mut config = config();
        config.tls = Some(TlsFiles { certificate, key });
        let error = Server::bind(config).map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    }
}
