//! How a store is reached: by a proxy with a password before it, and TLS on both sides.

use std::{convert::Infallible, net::SocketAddr, sync::Mutex};

use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use katonic_log_config::{BasicAuth, ClientCertificate, Endpoint, Proxy, Tls};
use katonic_logging_core::policy::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
use object_store::{
    ClientOptions, azure::AzureConfigKey, client::HttpConnector as _, gcp::GoogleConfigKey,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
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
    let name = "logs".to_owned().try_into().unwrap();
    let location = Location::s3(name, None, Some(endpoint), None).unwrap();
    let data = [(ACCESS_KEY_ID, "reader"), (SECRET_ACCESS_KEY, "hunter3")];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let reader = Credentials::of_secret(&location.bucket, &data.into(), "reader")?;
    Store::new(location, reader, way)
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
    let store = store(&way).unwrap();
    assert!(!format!("{store:?}").contains("hunter3"), "{store:?}");
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

/// The name that a store's certificate must have is not that of whoever gives tokens for it.
#[tokio::test]
async fn who_gives_tokens_is_known_by_its_own_name() {
    let authority = Authority::new();
    let behind = behind(&authority, "login.example.com").await;
    let way = way(&authority, &behind);
    let endpoint = "https://10.0.0.1:9000".to_owned().try_into().unwrap();
    let connector = Connector::new(&endpoint, &way).unwrap();
    let client = connector.connect(&ClientOptions::new()).unwrap();
    let ask = async |address: &str| {
        let request = http::Request::get(address).body(Bytes::new().into());
        let answer = client.execute(request.unwrap()).await;
        answer.map(|answer| answer.status())
    };
    assert_eq!(ask("https://login.example.com/").await.unwrap(), 200);
    assert!(ask("https://10.0.0.1:9000/").await.is_err());
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

/// A server that answers everything with this.
async fn answering(status: u16, body: String) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let body = body.clone();
            let service = service_fn(move |_: http::Request<Incoming>| {
                let answer = http::Response::builder().status(status);
                let answer = answer.body(Full::new(Bytes::from(body.clone()))).unwrap();
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    format!("http://{address}").try_into().unwrap()
}

fn refusal(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>hunter3</Message></Error>")
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
        let endpoint = answering(status, refusal(code)).await;
        let error = listed_at(endpoint, &Way::default()).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(words) && !error.contains("hunter3"),
            "{error}"
        );
    }
    let page = "<html>hunter3: reader is not allowed here</html>".to_owned();
    let endpoint = answering(418, page).await;
    let error = listed_at(endpoint, &Way::default()).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("gave no answer: HTTP 418 I'm a teapot"),
        "{error}"
    );
}

/// What is asked of a store of another vendor's, with a credential that is in each answer.
async fn refused_by(
    location: impl Fn(Endpoint) -> Location,
    reader: impl Fn() -> Credentials,
    (status, code, words): (u16, &str, &str),
) {
    let location = location(answering(status, refusal(code)).await);
    let store = Store::new(location, reader(), &Way::default()).unwrap();
    assert!(!format!("{store:?}").contains("hunter3"), "{store:?}");
    let listed: Result<Vec<Listed>, Error> = store.list("executions/x/").try_collect().await;
    let error = listed.unwrap_err().to_string();
    assert!(
        error.contains(words) && !error.contains("hunter3"),
        "{code}: {error}"
    );
}

#[tokio::test]
async fn googles_store_that_refuses_says_what_to_do() {
    let name = || "logs".to_owned().try_into().unwrap();
    let location = |endpoint| Location::gcs(name(), Some(endpoint), None).unwrap();
    let token = || (GoogleConfigKey::BearerToken, "hunter3".to_owned());
    for answer in [
        (
            404,
            "NoSuchBucket",
            "there is no bucket `logs` at http://127.0.0.1:",
        ),
        (
            401,
            "AuthenticationRequired",
            "does not take these credentials (AuthenticationRequired): set GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (401, "", "does not take these credentials"),
        (
            403,
            "AccessDenied",
            "allow these credentials storage.objects.list on gs://logs/executions/*",
        ),
        (400, "UserProjectMissing", "name one without requester pays"),
        (403, "UserProjectAccountProblem", "mend its billing"),
        (403, "RequestTimeTooSkewed", "set its clock"),
        (400, "SomethingElse", "gave no answer: SomethingElse"),
    ] {
        refused_by(location, || Credentials::Gcs(vec![token()]), answer).await;
    }
}

#[tokio::test]
async fn azures_store_that_refuses_says_what_to_do() {
    let location = |endpoint| {
        let account = "platformlogs".to_owned().try_into().unwrap();
        let container = "logs".to_owned().try_into().unwrap();
        Location::azure(account, container, Some(endpoint), None).unwrap()
    };
    let signature = || (AzureConfigKey::SasKey, "sp=rl&sig=hunter3".to_owned());
    for answer in [
        (
            404,
            "ContainerNotFound",
            "there is no container `logs` of the storage account `platformlogs` at http://127.0.0.1:",
        ),
        (
            403,
            "AuthenticationFailed",
            "does not take these credentials (AuthenticationFailed): set AZURE_STORAGE_SAS_TOKEN",
        ),
        (
            403,
            "AuthorizationPermissionMismatch",
            "or l in a shared access signature, on the container `logs`",
        ),
        (403, "AuthorizationFailure", "check its firewall"),
        (
            403,
            "KeyBasedAuthenticationNotPermitted",
            "takes no Shared Key",
        ),
        (409, "AccountIsDisabled", "is disabled"),
        (400, "SomethingElse", "gave no answer: SomethingElse"),
    ] {
        refused_by(location, || Credentials::Azure(vec![signature()]), answer).await;
    }
}

/// No credential of one store goes to another.
#[test]
fn credentials_of_another_vendor_are_not_used() {
    let endpoint = "https://storage.example.com".to_owned().try_into().unwrap();
    let name = "logs".to_owned().try_into().unwrap();
    let location = Location::gcs(name, Some(endpoint), None).unwrap();
    let reader = Credentials::Azure(Vec::new());
    let error = Store::new(location, reader, &Way::default()).unwrap_err();
    assert!(
        error.to_string().contains("another kind of store"),
        "{error}"
    );
}
