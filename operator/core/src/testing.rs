//! Fixtures for tests, of this crate and of those above it.

use katonic_logging_crds::{
    AccessKeySecretRef, AzureCredentialsSecretRef, AzureStore, GcsStore, HttpConnection, HttpSink,
    LoggingPolicy, LoggingPolicySpec, ObjectStorageSink, S3Store, SecretKeyRef,
    ServiceAccountSecretRef, ServicePrincipalSecretRef, Sink, SplunkSink,
};

use crate::{
    Installation,
    sidecar::{ContainerDigest, Form, Requirements},
};

/// A valid policy with one Splunk sink, created before policies with a greater name.
pub fn policy(name: &str) -> LoggingPolicy {
    let spec = LoggingPolicySpec {
        sinks: vec![splunk_sink("https://hec.example.com:8088")],
        ..LoggingPolicySpec::default()
    };
    let mut policy = LoggingPolicy::new(name, spec);
    policy.metadata.uid = Some(format!("uid-of-{name}"));
    policy.metadata.generation = Some(1);
    policy
}

/// A Splunk sink whose token is the key `token` of the Secret `splunk`.
pub fn splunk_sink(endpoint: &str) -> Sink {
    let token = SecretKeyRef {
        name: "splunk".into(),
        key: "token".into(),
    };
    Sink {
        name: "splunk".into(),
        splunk: Some(SplunkSink::to(endpoint, token)),
        ..Sink::default()
    }
}

/// An HTTP sink without headers.
pub fn http_sink(url: &str) -> Sink {
    Sink {
        name: "http".into(),
        http: Some(HttpSink::to(url)),
        ..Sink::default()
    }
}

/// An archive in the bucket `logs` of a store on loopback, whose rules the operator looks after with the Secret
/// `management`.
pub fn archive_sink(name: &str, prefix: &str) -> Sink {
    let secret = |name: &str| AccessKeySecretRef { name: name.into() };
    let store = S3Store {
        bucket: "logs".into(),
        region: None,
        endpoint: Some("https://store.example.com:9000".into()),
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        credentials_secret_ref: Some(secret("agents")),
        management_secret_ref: Some(secret("management")),
        object_lock: None,
        connection: HttpConnection::default(),
    };
    Sink {
        name: name.into(),
        object_storage: Some(ObjectStorageSink {
            installation: None,
            s3: Some(store),
            gcs: None,
            azure: None,
            objects: None,
        }),
        ..Sink::default()
    }
}

/// The key file of a service account, with the key of RFC 7515, A.2.
pub const SERVICE_ACCOUNT: &str = concat!(
    r#"{"type": "service_account", "private_key_id": "1", "client_email": "rules@katonic.iam.gserviceaccount.com", "token_uri": "https://oauth2.example.com/token", "private_key": "#,
    include_str!("../testdata/rfc7515-a2.json"),
    "}"
);

/// An archive in the bucket `logs` of Google's, whose rules the operator looks after with the Secret `management`.
pub fn gcs_sink(name: &str, prefix: &str) -> Sink {
    let secret = |name: &str| ServiceAccountSecretRef {
        name: name.into(),
        key: None,
    };
    let store = GcsStore {
        bucket: "logs".into(),
        endpoint: Some("https://storage.example.com".into()),
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        credentials_secret_ref: Some(secret("agents")),
        management_secret_ref: Some(secret("management")),
        connection: HttpConnection::default(),
    };
    Sink {
        name: name.into(),
        object_storage: Some(ObjectStorageSink {
            installation: None,
            s3: None,
            gcs: Some(store),
            azure: None,
            objects: None,
        }),
        ..Sink::default()
    }
}

/// An archive in the container `container` of the account `platformlogs` of Azure's, whose management policy the operator looks
/// after with the Secret `management`.
pub fn azure_sink(name: &str, prefix: &str) -> Sink {
    let store = AzureStore {
        account: "platformlogs".into(),
        container: "container".into(),
        endpoint: None,
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        credentials_secret_ref: Some(AzureCredentialsSecretRef {
            name: "agents".into(),
            key: None,
        }),
        management_secret_ref: Some(ServicePrincipalSecretRef {
            name: "management".into(),
        }),
        subscription_id: Some("00000000-1111-2222-3333-444444444444".into()),
        resource_group: Some("platform".into()),
        management_endpoint: None,
        authority_host: None,
        connection: HttpConnection::default(),
    };
    Sink {
        name: name.into(),
        object_storage: Some(ObjectStorageSink {
            installation: None,
            s3: None,
            gcs: None,
            azure: Some(store),
            objects: None,
        }),
        ..Sink::default()
    }
}

/// The installation of the tests: namespaces `katonic-platform` and `katonic-compute`.
///
/// # Panics
/// Never: the text below is an installation.
#[expect(
    clippy::expect_used,
    reason = "a fixture that does not parse must fail its tests"
)]
pub fn installation() -> Installation {
    let yaml = "
namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}
logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}
";
    Installation::validate(yaml, crate::names::OPERATOR_NAMESPACE)
        .expect("the installation of the tests")
}

/// An agent that goes by this name in a test.
pub fn form(name: &str) -> Form {
    let container = serde_json::json!({"image": name});
    Form::new(
        &ContainerDigest::of(&container),
        Some(Requirements::default()),
        [],
    )
}
