//! How a store is reached: by a proxy with a password before it, and TLS on both sides.

use std::{convert::Infallible, net::SocketAddr, sync::Mutex};

use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use katonic_log_config::{BasicAuth, ClientCertificate, Endpoint};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const LISTED: &str = "<ListBucketResult><Contents><Key>logs/executions/x/a</Key><LastModified>2026-11-23T10:15:07.000Z</LastModified><ETag>\"e\"</ETag><Size>7</Size></Contents></ListBucketResult>";

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate and its key (PEM).
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A proxy that is the store behind itself: it takes nobody without this authority's certificate.
struct Behind {
    address: SocketAddr,
    /// What the proxy was asked.
    asked: Arc<Mutex<Vec<String>>>,
}

async fn behind(authority: &Authority, name: &str) -> Behind {
    let mut clients = RootCertStore::empty();
    clients.add(authority.0.der().clone()).unwrap();
    let (certificate, key) = authority.sign(name);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, kept) = (acceptor.clone(), Arc::clone(&kept));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                kept.lock().unwrap().push(String::from_utf8(head).unwrap());
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                // A client that does not like it is gone.
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(|_: http::Request<Incoming>| async {
                    let answer =
                        http::Response::new(Full::new(Bytes::from_static(LISTED.as_bytes())));
                    Ok::<_, Infallible>(answer)
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Behind { address, asked }
}

fn key(name: &str) -> CredentialKey {
    CredentialKey::try_from(name.to_owned()).unwrap()
}

/// A way through the proxy, with everything that the installation can say.
fn way(authority: &Authority, behind: &Behind) -> Way {
    let (certificate, private_key) = authority.sign("reader");
    let credentials = [
        ("ca", authority.0.pem()),
        ("certificate", certificate),
        ("private-key", private_key),
        ("password", "hunter2".to_owned()),
    ];
    Way {
        connection: Connection {
            tls: Tls {
                ca: Some(key("ca")),
                client_certificate: Some(ClientCertificate {
                    certificate: key("certificate"),
                    private_key: key("private-key"),
                }),
                server_name: Some("minio.example.com".to_owned().try_into().unwrap()),
                insecure_skip_verify: false,
            },
            proxy: Some(Proxy {
                url: format!("http://{}", behind.address).try_into().unwrap(),
                basic: Some(BasicAuth {
                    username: "logs".into(),
                    password: key("password"),
                }),
            }),
            ..Connection::default()
        },
        credentials: credentials
            .into_iter()
            .map(|(name, value)| (key(name), Credential::new(value.into_bytes())))
            .collect(),
        authorities: None,
    }
}

fn store(way: &Way) -> Result<Store, Error> {
    store_at("https://10.0.0.1:9000".to_owned().try_into().unwrap(), way)
}

fn store_at(endpoint: Endpoint, way: &Way) -> Result<Store, Error> {
    let location = Location::new(
        "logs".to_owned().try_into().unwrap(),
        None,
        Some(endpoint),
        None,
    );
    let reader = Credentials::of_key("reader".to_owned(), "hunter3".to_owned());
    Store::new(location.unwrap(), reader, way)
}

async fn listed(way: &Way) -> Result<Vec<String>, Error> {
    listed_at("https://10.0.0.1:9000".to_owned().try_into().unwrap(), way).await
}

async fn listed_at(endpoint: Endpoint, way: &Way) -> Result<Vec<String>, Error> {
    let listed = store_at(endpoint, way)?.list("logs/executions/x/");
    listed.map_ok(|object| object.key).try_collect().await
}

#[tokio::test]
async fn a_store_is_reached_as_the_installation_says() {
    let authority = Authority::new();
    let behind = behind(&authority, "minio.example.com").await;
    let way = way(&authority, &behind);
    assert_eq!(listed(&way).await.unwrap(), ["logs/executions/x/a"]);
    let asked = behind.asked.lock().unwrap().concat();
    assert!(
        asked.starts_with("CONNECT 10.0.0.1:9000 HTTP/1.1\r\n"),
        "{asked}"
    );
    let asked = asked.to_ascii_lowercase();
    assert!(
        asked.contains("proxy-authorization: basic bg9nczpodw50zxiy\r\n"),
        "{asked}"
    );
    assert!(!format!("{way:?}").contains("hunter2"));
}

/// Side by side: each is tried for some seconds, because a proxy may be wrong for a moment.
#[tokio::test]
async fn a_store_that_is_another_one_is_not_read() {
    let authority = Authority::new();
    let behind = behind(&authority, "minio.example.com").await;
    let mut misnamed = way(&authority, &behind);
    misnamed.connection.tls.server_name = Some("other.example.com".to_owned().try_into().unwrap());
    let mut mistrusted = way(&authority, &behind);
    mistrusted.authorities = Some(Authority::new().0.pem().into_bytes());
    let mut nobody = way(&authority, &behind);
    nobody.connection.tls.client_certificate = None;
    let said = async |way: &Way| listed(way).await.unwrap_err().to_string();
    let (misnamed, mistrusted, nobody) =
        tokio::join!(said(&misnamed), said(&mistrusted), said(&nobody));
    assert!(misnamed.contains("not valid for name"), "{misnamed}");
    assert!(
        mistrusted.contains("invalid peer certificate"),
        "{mistrusted}"
    );
    assert!(nobody.contains("gave no answer"), "{nobody}");
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_asked() {
    let mut way = Way {
        authorities: Some(b"nothing".to_vec()),
        ..Way::default()
    };
    let error = store(&way).unwrap_err().to_string();
    assert!(error.contains("no certificates in PEM"), "{error}");
    way.authorities = None;
    way.connection.tls.client_certificate = Some(ClientCertificate {
        certificate: key("certificate"),
        private_key: key("private-key"),
    });
    let error = store(&way).unwrap_err().to_string();
    assert!(
        error.contains("the client certificate and its key cannot be used"),
        "{error}"
    );
}

/// The code of its answer says what to do, and nothing else of the answer is repeated.
#[tokio::test]
async fn a_store_that_refuses_says_what_to_do() {
    for (status, code, words) in [
        (403, "RequestTimeTooSkewed", "set its clock"),
        (403, "AccessDenied", "allow these credentials s3:ListBucket"),
        (
            403,
            "ExpiredToken",
            "does not take these credentials (ExpiredToken)",
        ),
        (404, "NoSuchBucket", "there is no bucket `logs`"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "correct --region or --endpoint",
        ),
        (400, "SomethingElse", "gave no answer: SomethingElse"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |_: http::Request<Incoming>| async move {
                    let body =
                        format!("<Error><Code>{code}</Code><Message>hunter3</Message></Error>");
                    let answer = http::Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let endpoint = format!("http://{address}").try_into().unwrap();
        let error = listed_at(endpoint, &Way::default()).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(words) && !error.contains("hunter3"),
            "{error}"
        );
    }
}
