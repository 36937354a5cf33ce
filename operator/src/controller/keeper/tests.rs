//! What becomes of rules that others write while ours are, by a bucket that changes at the moments that a test wants.

use std::{convert::Infallible, net::SocketAddr, sync::Mutex as Lock};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use katonic_log_config::{AccessKey, Connection, CredentialKey, KeyPrefix, S3, Store as StoreKind};
use katonic_logging_core::{
    credential::Credential,
    installation::Proxies,
    retention::{Access, Claim, Identity, Place, Subject},
};
use tokio::net::TcpListener;

use super::*;

const PREFIX: &str = "application/";
const OURS: &str = "katonic-logging-application-1";
const NO_LOGS: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";

/// What a request is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Read,
    Listing,
    Write,
    Other,
}

/// A bucket, and who else writes its rules: after which request, and what.
#[derive(Debug, Default)]
struct State {
    rules: Vec<String>,
    others: Vec<(Asked, Vec<String>)>,
    writes: u32,
}

fn rule(id: &str, prefix: &str, days: u32) -> String {
    format!(
        "<Rule><ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status><Expiration><Days>{days}</Days></Expiration></Rule>"
    )
}

impl State {
    fn answer(&mut self, method: &Method, query: &str, body: &str) -> (Asked, u16, String) {
        if query.starts_with("list-type") {
            return (Asked::Listing, 200, NO_LOGS.to_owned());
        }
        if !query.starts_with("lifecycle") {
            let (status, answer) = if query.starts_with("object-lock") {
                (
                    404,
                    "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>",
                )
            } else {
                (200, "<VersioningConfiguration/>")
            };
            return (Asked::Other, status, answer.to_owned());
        }
        if *method == Method::GET {
            let rules = self.rules.concat();
            let all = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
            return (Asked::Read, 200, all);
        }
        self.writes += 1;
        let parts = body.split("<Rule>").skip(1);
        let ends = |part: &str| part.split("</Rule>").next().unwrap_or_default().to_owned();
        self.rules = parts
            .map(|part| format!("<Rule>{}</Rule>", ends(part)))
            .collect();
        (Asked::Write, 200, String::new())
    }
}

async fn bucket(state: &Arc<Lock<State>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = state.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = state.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let state = state.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    let mut state = state.lock().unwrap();
                    let query = parts.uri.query().unwrap_or_default();
                    let (what, status, answer) = state.answer(&parts.method, query, &body);
                    if state
                        .others
                        .first()
                        .is_some_and(|(after, _)| *after == what)
                    {
                        state.rules = state.others.remove(0).1;
                    }
                    let response = Response::builder().status(status);
                    let answer = Full::new(Bytes::from(answer));
                    Ok::<_, Infallible>(response.body(answer).unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn custody(address: SocketAddr) -> Custody {
    let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
    let credential = |text: &str| Credential::new(text.as_bytes().to_vec());
    let store = StoreKind::S3(S3 {
        endpoint: format!("http://{address}").try_into().unwrap(),
        region: "eu-central-1".to_owned().try_into().unwrap(),
        bucket: "logs".to_owned().try_into().unwrap(),
        prefix: KeyPrefix::default(),
        access_key: Some(AccessKey {
            id: key("id"),
            secret: key("secret"),
        }),
        object_lock: None,
    });
    let place = Place {
        rule: OURS.to_owned(),
        claims: vec![Claim {
            policy: "logs".to_owned(),
            retention: "30d".parse().unwrap(),
            acknowledged: false,
            address: None,
        }],
        established: None,
    };
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
        places: BTreeMap::from([(PREFIX.to_owned(), place)]),
        namesakes: BTreeMap::new(),
        unusable: None,
    }
}

/// Looks at a bucket that others write at these moments; gives its rules then, and how often they were written.
async fn looked(others: Vec<(Asked, Vec<String>)>) -> (Vec<String>, u32) {
    let state = State {
        rules: vec![rule("first", "tmp/", 1)],
        others,
        ..State::default()
    };
    let state = Arc::new(Lock::new(state));
    let custody = custody(bucket(&state).await);
    let looked = look(&custody, &Health::default()).await;
    let looked = looked.map_err(|trouble| trouble.message).unwrap();
    assert!(looked.wrote);
    let state = state.lock().unwrap();
    assert!(state.others.is_empty(), "not all came: {state:?}");
    (state.rules.clone(), state.writes)
}

fn ours() -> String {
    rule(OURS, PREFIX, 30)
}

#[tokio::test]
async fn a_rule_that_is_written_while_we_look_for_logs_is_kept() {
    let theirs = vec![rule("first", "tmp/", 1), rule("second", "cache/", 2)];
    let (rules, writes) = looked(vec![(Asked::Listing, theirs.clone())]).await;
    assert_eq!(rules, [&theirs[..], &[ours()]].concat());
    assert_eq!(writes, 1);
}

#[tokio::test]
async fn rules_that_are_written_over_ours_get_ours_again_and_stay() {
    // They had read before we wrote.
    let theirs = vec![rule("second", "cache/", 2)];
    let (rules, writes) = looked(vec![(Asked::Write, theirs.clone())]).await;
    assert_eq!(rules, [&theirs[..], &[ours()]].concat());
    assert_eq!(writes, 2);
}

#[tokio::test]
async fn a_rule_that_is_taken_away_while_we_look_for_logs_does_not_come_back() {
    let (rules, _) = looked(vec![(Asked::Listing, Vec::new())]).await;
    assert_eq!(rules, [ours()]);
}
