//! What is asked of a store, byte for byte, by a server that answers what a test wants.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, sync::Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use katonic_log_config::{AccessKey, Connection, CredentialKey, KeyPrefix, Store as StoreKind};
use katonic_logging_core::{
    credential::Credential,
    installation::Proxies,
    retention::{Access, Identity, Subject, lifecycle::Merged},
};
use tokio::net::TcpListener;

use super::*;

/// A request as the server saw it.
#[derive(Debug)]
struct Asked {
    line: String,
    headers: HeaderMap,
    body: String,
}

/// A store that answers each request with the next of these, and keeps what it was asked.
struct Store {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Given = (u16, Vec<(&'static str, String)>, String);

async fn store(answers: Vec<Given>) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (kept, answers) = (asked.clone(), Arc::new(Mutex::new(answers.into_iter())));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, answers) = (kept.clone(), answers.clone());
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (kept, answers) = (kept.clone(), answers.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    kept.lock().unwrap().push(Asked {
                        line: format!("{} {}", parts.method, parts.uri),
                        headers: parts.headers,
                        body: String::from_utf8(body.to_vec()).unwrap(),
                    });
                    let (status, headers, body) = answers.lock().unwrap().next().unwrap();
                    let mut response = http::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Store { address, asked }
}

impl Store {
    fn custody(&self) -> Custody {
        let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
        let credential = |text: &str| Credential::new(text.as_bytes().to_vec());
        let store = StoreKind::S3(S3 {
            endpoint: format!("http://{}", self.address).try_into().unwrap(),
            region: "eu-central-1".to_owned().try_into().unwrap(),
            bucket: "logs".to_owned().try_into().unwrap(),
            prefix: KeyPrefix::default(),
            access_key: Some(AccessKey {
                id: key("id"),
                secret: key("secret"),
            }),
            object_lock: None,
        });
        Custody {
            id: BucketId::of(&store),
            subject: Subject::Store(store),
            connection: Connection::default(),
            proxies: Proxies::default(),
            access: Access {
                identity: Identity::AccessKey {
                    id: credential("AKIAIOSFODNN7EXAMPLE"),
                    secret: credential("hunter2"),
                },
                connection: BTreeMap::new(),
            },
            places: BTreeMap::new(),
            namesakes: BTreeMap::new(),
            unusable: None,
        }
    }

    fn bucket(&self) -> Bucket {
        of(&self.custody()).unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn of(custody: &Custody) -> Result<Bucket, Trouble> {
    let (Subject::Store(StoreKind::S3(s3)), Identity::AccessKey { id, secret }) =
        (&custody.subject, &custody.access.identity)
    else {
        panic!("it is not of S3");
    };
    Bucket::new(custody, s3, id, secret)
}

fn endpoint(custody: &mut Custody) -> &mut katonic_log_config::Endpoint {
    let Subject::Store(store) = &mut custody.subject else {
        panic!("it is no store");
    };
    match store {
        StoreKind::S3(s3) => &mut s3.endpoint,
        StoreKind::Gcs(gcs) => &mut gcs.endpoint,
        StoreKind::Azure(azure) => &mut azure.endpoint,
    }
}

fn ok(body: &str) -> Given {
    (200, Vec::new(), body.to_owned())
}

fn error(status: u16, code: &str) -> Given {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>hunter2</Message></Error>"
    );
    (status, Vec::new(), body)
}

const RULES: &str = "<LifecycleConfiguration><Rule><ID>x</ID><Filter/><Status>Disabled</Status></Rule></LifecycleConfiguration>";

#[tokio::test]
async fn rules_are_replaced_as_a_whole_with_all_that_belongs_to_them() {
    let minimum = "x-amz-transition-default-minimum-object-size";
    let with = vec![(minimum, "varies_by_storage_class".to_owned())];
    let store = store(vec![(200, with, RULES.to_owned()), ok("")]).await;
    let mut bucket = store.bucket();
    let rules = bucket.rules().await.unwrap();
    bucket
        .write_rules(&rules.configuration, &rules)
        .await
        .unwrap();
    let asked = store.asked();
    assert_eq!(asked[0].line, "GET /logs?lifecycle=");
    let put = &asked[1];
    assert_eq!(put.line, "PUT /logs?lifecycle=");
    assert_eq!(put.body, RULES);
    assert_eq!(put.headers[minimum], "varies_by_storage_class");
    // `printf … | openssl md5 -binary | base64`
    assert_eq!(
        put.headers["content-md5"],
        BASE64_STANDARD.encode(Md5::digest(RULES))
    );
    let signature = put.headers["authorization"].to_str().unwrap();
    assert!(
        signature.contains("/eu-central-1/s3/aws4_request"),
        "{signature}"
    );
    for signed in [
        "content-md5",
        "host",
        "x-amz-content-sha256",
        "x-amz-date",
        minimum,
    ] {
        assert!(signature.contains(signed), "{signed}: {signature}");
    }
}

#[tokio::test]
async fn a_bucket_without_rules_is_read_as_one_and_written_as_one() {
    let store = store(vec![
        error(404, "NoSuchLifecycleConfiguration"),
        (204, Vec::new(), String::new()),
    ])
    .await;
    let mut bucket = store.bucket();
    let rules = bucket.rules().await.unwrap();
    assert_eq!(rules.configuration, Configuration::default());
    assert_eq!(
        rules.configuration.with(&BTreeMap::new()).unwrap(),
        Merged::Same
    );
    bucket
        .write_rules(&rules.configuration, &rules)
        .await
        .unwrap();
    assert_eq!(store.asked()[1].line, "DELETE /logs?lifecycle=");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_made_up_for_with_the_stores() {
    let theirs = "Fri, 24 May 2030 00:00:00 GMT".to_owned();
    let (status, _, body) = error(403, "RequestTimeTooSkewed");
    let store = store(vec![
        (status, vec![("date", theirs)], body),
        ok(RULES),
        ok(RULES),
    ])
    .await;
    let mut bucket = store.bucket();
    bucket.rules().await.unwrap();
    bucket.rules().await.unwrap();
    let asked = store.asked();
    assert_eq!(asked.len(), 3);
    for request in &asked[1..] {
        let date = request.headers["x-amz-date"].to_str().unwrap();
        assert!(date.starts_with("20300524T0000"), "{date}");
    }
}

#[tokio::test]
async fn a_clock_that_stays_wrong_is_told() {
    let skewed = || error(403, "RequestTimeTooSkewed");
    let store = store(vec![skewed(), skewed()]).await;
    let trouble = store.bucket().rules().await.unwrap_err();
    assert!(
        trouble.message.contains("set the node's clock"),
        "{trouble:?}"
    );
    assert!(!format!("{trouble:?}").contains("hunter2"));
}

#[tokio::test]
async fn versions_and_locks_are_read() {
    let locked = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>2</Years></DefaultRetention></Rule></ObjectLockConfiguration>";
    let store = store(vec![
        ok("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"),
        ok("<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>"),
        error(501, "NotImplemented"),
        error(403, "AccessDenied"),
        ok(locked),
        error(404, "ObjectLockConfigurationNotFoundError"),
    ])
    .await;
    let mut bucket = store.bucket();
    assert_eq!(bucket.versioning().await, Ok(Versioning::Suspended));
    assert_eq!(bucket.versioning().await, Ok(Versioning::Never));
    assert_eq!(bucket.versioning().await, Ok(Versioning::Never));
    let denied = bucket.versioning().await.unwrap_err();
    assert!(
        denied.message.contains("s3:GetBucketVersioning"),
        "{denied:?}"
    );
    let lock = bucket.lock().await.unwrap().unwrap();
    assert_eq!(
        (lock.mode.as_deref(), lock.days),
        (Some("COMPLIANCE"), Some(730))
    );
    assert_eq!(bucket.lock().await, Ok(None));
}

#[tokio::test]
async fn logs_of_today_are_no_earlier_ones() {
    let listing = |truncated: bool, stored: &str| -> Given {
        let body = format!(
            "<ListBucketResult><IsTruncated>{truncated}</IsTruncated><Contents><Key>a</Key><LastModified>{stored}</LastModified></Contents></ListBucketResult>"
        );
        (
            200,
            vec![("date", "Fri, 24 May 2030 12:00:00 GMT".to_owned())],
            body,
        )
    };
    let store = store(vec![
        listing(false, "2030-05-24T11:00:00.000Z"),
        listing(false, "2030-05-20T11:00:00.000Z"),
        listing(true, "2030-05-24T11:00:00.000Z"),
        listing(false, "yesterday"),
        ok("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
    ])
    .await;
    let mut bucket = store.bucket();
    for expected in [false, true, true, true, false] {
        assert_eq!(bucket.has_earlier_logs("a b/ü").await, Ok(expected));
    }
    assert_eq!(
        store.asked()[0].line,
        "GET /logs?list-type=2&prefix=a%20b%2F%C3%BC"
    );
}

#[tokio::test]
async fn a_store_that_is_down_is_told_as_one() {
    let store = store(Vec::new()).await;
    let mut custody = store.custody();
    *endpoint(&mut custody) = "http://127.0.0.1:1".to_owned().try_into().unwrap();
    let trouble = of(&custody).unwrap().rules().await.unwrap_err();
    assert!(
        trouble
            .message
            .contains("does not answer: failed to connect"),
        "{trouble:?}"
    );
}

#[tokio::test]
async fn rules_are_not_changed_over_a_connection_that_nobody_has_verified() {
    let store = store(Vec::new()).await;
    let mut custody = store.custody();
    *endpoint(&mut custody) = "https://127.0.0.1:1".to_owned().try_into().unwrap();
    custody.connection.tls.insecure_skip_verify = true;
    let trouble = of(&custody).unwrap_err();
    assert!(
        trouble
            .message
            .contains("name the store's authority in tls.caSecretRef"),
        "{trouble:?}"
    );
}

/// A proxy for plain HTTP is asked for the whole address (RFC 9112 §3.2.2), and shown its password.
#[tokio::test]
async fn a_proxy_is_used_where_the_sink_names_one_or_the_installation_does() {
    let proxy = store(vec![ok(RULES), ok(RULES)]).await;
    let mut custody = proxy.custody();
    *endpoint(&mut custody) = "http://store.example.com:9000"
        .to_owned()
        .try_into()
        .unwrap();
    let url = format!("http://{}", proxy.address);
    custody.proxies.http_proxy = Some(url.clone());
    of(&custody).unwrap().rules().await.unwrap();
    let password = CredentialKey::try_from("proxy_password".to_owned()).unwrap();
    custody.proxies = Proxies::default();
    custody.connection.proxy = Some(katonic_log_config::Proxy {
        url: url.try_into().unwrap(),
        basic: Some(katonic_log_config::BasicAuth {
            username: "logs".into(),
            password: password.clone(),
        }),
    });
    let credential = Credential::new(b"hunter2".to_vec());
    custody.access.connection.insert(password, credential);
    of(&custody).unwrap().rules().await.unwrap();
    let asked = proxy.asked();
    for request in &asked {
        assert_eq!(
            request.line,
            "GET http://store.example.com:9000/logs?lifecycle="
        );
        assert_eq!(request.headers["host"], "store.example.com:9000");
    }
    assert_eq!(
        asked[1].headers["proxy-authorization"],
        "Basic bG9nczpodW50ZXIy"
    );
    // An exception of the installation's own.
    custody.connection.proxy = None;
    *endpoint(&mut custody) = "http://127.0.0.1:1".to_owned().try_into().unwrap();
    custody.proxies.http_proxy = Some(format!("http://{}", proxy.address));
    custody.proxies.no_proxy = Some("127.0.0.1".into());
    let trouble = of(&custody).unwrap().rules().await.unwrap_err();
    assert!(!trouble.message.contains("proxy"), "{trouble:?}");
}
