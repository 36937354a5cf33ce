use std::fs;

use katonic_log_config::{
    Acknowledgement, Authorization, BasicAuth, ClientCertificate, Connection, CredentialKey,
    Endpoint, Http, HttpMethod, Loggly, LogglyTag, NewRelic, NewRelicRegion, Otlp, OtlpEncoding,
    Splunk, Tls,
};

use proptest::prelude::*;

use super::*;

fn key(name: &str) -> CredentialKey {
    CredentialKey::try_from(name.to_owned()).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::try_from(text.to_owned()).unwrap()
}

fn try_resolve(target: &Target, secret: &str) -> Result<Destination, CredentialError> {
    let directory = tempfile::tempdir().unwrap();
    for name in ["token", "password", "pem"] {
        fs::write(directory.path().join(name), secret).unwrap();
    }
    let channel = HeaderValue::from_static("0f0e0d0c-0b0a-8908-8706-050403020100");
    Destination::resolve(target, directory.path(), &channel)
}

fn resolve(target: &Target) -> Destination {
    try_resolve(target, "hunter2\n").unwrap()
}

fn header(destination: &Destination, name: &str) -> String {
    let value = destination.headers.get(name);
    value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

fn loggly() -> Loggly {
    Loggly {
        endpoint: endpoint("https://logs-01.loggly.com"),
        token: key("token"),
        tags: ["platform", "eu-1"]
            .map(|tag| LogglyTag::try_from(tag.to_owned()).unwrap())
            .to_vec(),
        connection: Connection::default(),
    }
}

fn otlp(encoding: OtlpEncoding) -> Otlp {
    Otlp {
        endpoint: endpoint("http://otel:4318"),
        encoding,
        headers: Vec::new(),
        connection: Connection::default(),
    }
}

#[test]
fn loggly_is_never_told_with_its_token() {
    let destination = resolve(&Target::Loggly(loggly()));
    assert_eq!(
        destination.uri.to_string(),
        "https://logs-01.loggly.com/bulk/hunter2/tag/platform,eu-1/"
    );
    assert_eq!(
        destination.address(),
        "https://logs-01.loggly.com/bulk/…/tag/platform,eu-1/"
    );
    assert!(!format!("{destination:?}").contains("hunter2"));
    let untagged = Loggly {
        tags: Vec::new(),
        ..loggly()
    };
    let destination = resolve(&Target::Loggly(untagged));
    assert_eq!(destination.uri.path(), "/bulk/hunter2/");
    assert_eq!(header(&destination, "content-type"), "text/plain");
}

#[test]
fn what_would_lead_elsewhere_is_no_token() {
    for secret in ["a/../b", "a?b", "a b", "a#b", "ä", "a\nb"] {
        let error = try_resolve(&Target::Loggly(loggly()), secret).unwrap_err();
        assert!(matches!(error, CredentialError::NotInAddress(_)));
        assert!(!error.to_string().contains(secret));
    }
}

#[test]
fn new_relic_is_found_by_region_or_by_name() {
    let sink = |region, other: Option<&str>| {
        let sink = NewRelic {
            region,
            endpoint: other.map(endpoint),
            license_key: key("token"),
            connection: Connection::default(),
        };
        let destination = resolve(&Target::NewRelic(sink));
        assert_eq!(header(&destination, "api-key"), "hunter2");
        assert!(!format!("{destination:?}").contains("hunter2"));
        destination.address().to_owned()
    };
    let host = |name: &str| format!("https://{name}.newrelic.com/log/v1");
    assert_eq!(sink(NewRelicRegion::Us, None), host("log-api"));
    assert_eq!(sink(NewRelicRegion::Eu, None), host("log-api.eu"));
    assert_eq!(sink(NewRelicRegion::FedRamp, None), host("gov-log-api"));
    for given in ["http://link:8080", "http://link:8080/log/v1"] {
        let found = sink(NewRelicRegion::Us, Some(given));
        assert_eq!(found, "http://link:8080/log/v1");
    }
}

#[test]
fn otlp_goes_to_the_path_of_logs_in_its_encoding() {
    for (encoding, expected) in [
        (OtlpEncoding::Protobuf, "application/x-protobuf"),
        (OtlpEncoding::Json, "application/json"),
    ] {
        let destination = resolve(&Target::Otlp(otlp(encoding)));
        assert_eq!(destination.address(), "http://otel:4318/v1/logs");
        assert_eq!(header(&destination, "content-type"), expected);
    }
}

#[test]
fn a_generic_server_is_asked_as_the_policy_says() {
    let mut sink = Http::to(endpoint("https://example.com/in?key=secret"));
    sink.method = HttpMethod::Put;
    sink.format = katonic_log_config::JsonFormat::Array;
    sink.authorization = Some(Authorization::Basic(BasicAuth {
        username: "logs".into(),
        password: key("password"),
    }));
    let destination = resolve(&Target::Http(sink.clone()));
    assert_eq!(destination.method, Method::PUT);
    assert_eq!(destination.address(), "https://example.com/in");
    assert_eq!(
        header(&destination, "authorization"),
        "Basic bG9nczpodW50ZXIy"
    );
    assert_eq!(header(&destination, "content-type"), "application/json");
    let shown = format!("{destination:?}");
    assert!(!shown.contains("bG9n") && !shown.contains("key=secret"));

    sink.authorization = Some(Authorization::Bearer(key("token")));
    let destination = resolve(&Target::Http(sink));
    assert_eq!(header(&destination, "authorization"), "Bearer hunter2");
    assert!(!format!("{destination:?}").contains("hunter2"));
}

#[test]
fn the_connection_is_that_of_the_policy() {
    let mut sink = otlp(OtlpEncoding::Protobuf);
    let plain = resolve(&Target::Otlp(sink.clone()));
    assert_eq!(plain.timeout, Duration::from_mins(1));
    assert_eq!((plain.proxy, plain.trust), (None, Trust::default()));
    sink.connection = Connection {
        tls: Tls {
            ca: Some(key("pem")),
            client_certificate: Some(ClientCertificate {
                certificate: key("pem"),
                private_key: key("pem"),
            }),
            ..Tls::default()
        },
        proxy: Some(Proxy {
            url: endpoint("http://proxy:3128"),
            basic: Some(BasicAuth {
                username: "logs".into(),
                password: key("password"),
            }),
        }),
        compression: Compression::Zstd,
        timeout_ms: NonZeroU32::new(1500),
    };
    let destination = resolve(&Target::Otlp(sink));
    assert_eq!(destination.timeout, Duration::from_millis(1500));
    assert_eq!(header(&destination, "content-encoding"), "zstd");
    let identity = destination.trust.identity.as_ref().unwrap();
    assert_eq!(identity.private_key.reveal(), b"hunter2");
    let proxy = destination.proxy.as_ref().unwrap();
    assert_eq!(proxy.uri, "http://proxy:3128");
    let authorization = proxy.authorization.as_ref().unwrap();
    assert_eq!(authorization, "Basic bG9nczpodW50ZXIy");
    assert!(!format!("{:?}", destination.proxy).contains("bG9n"));
}

#[test]
fn a_vendor_gets_the_coding_that_it_documents() {
    let coding = |target: &dyn Fn(Connection) -> Target, compression| {
        let connection = Connection {
            compression,
            ..Connection::default()
        };
        let destination = resolve(&target(connection));
        let header = header(&destination, "content-encoding");
        let expected = match destination.compression {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::None => "",
        };
        assert_eq!(header, expected);
        destination.compression
    };
    let loggly = |connection| {
        Target::Loggly(Loggly {
            connection,
            ..loggly()
        })
    };
    assert_eq!(coding(&loggly, Compression::Gzip), Compression::None);
    let splunk = |connection| {
        let mut sink = Splunk::to(endpoint("https://hec:8088"), key("token"));
        sink.connection = connection;
        Target::Splunk(sink)
    };
    assert_eq!(coding(&splunk, Compression::Zstd), Compression::Gzip);
    assert_eq!(coding(&splunk, Compression::None), Compression::None);
    let otlp = |connection| {
        Target::Otlp(Otlp {
            connection,
            ..otlp(OtlpEncoding::Json)
        })
    };
    assert_eq!(coding(&otlp, Compression::Zstd), Compression::Zstd);
}

#[test]
fn a_collector_that_acknowledges_is_told_the_channel() {
    let mut sink = Splunk::to(endpoint("https://hec:8088"), key("token"));
    let destination = resolve(&Target::Splunk(sink.clone()));
    assert_eq!(destination.acknowledging, None);
    assert_eq!(header(&destination, splunk::CHANNEL.as_str()), "");
    sink.acknowledgement = Some(Acknowledgement {
        poll_ms: NonZeroU32::new(1000).unwrap(),
        timeout_ms: NonZeroU32::new(60_000).unwrap(),
    });
    let destination = resolve(&Target::Splunk(sink));
    let channel = header(&destination, splunk::CHANNEL.as_str());
    assert_eq!(channel, "0f0e0d0c-0b0a-8908-8706-050403020100");
    let asking = destination.acknowledging.unwrap();
    assert_eq!(asking.uri, "https://hec:8088/services/collector/ack");
    assert_eq!(asking.headers[splunk::CHANNEL], *channel);
    assert_eq!(asking.headers["authorization"], *"Splunk hunter2");
    assert!(asking.headers.get("content-encoding").is_none());
    assert_eq!(asking.poll, Duration::from_secs(1));
}

/// One sink of each kind, with a credential wherever it can have one.
fn sinks_with_credentials() -> Vec<Target> {
    let mut otlp = otlp(OtlpEncoding::Json);
    otlp.headers = vec![katonic_log_config::Header {
        name: "x-api-key".to_owned().try_into().unwrap(),
        value: katonic_log_config::HeaderValue::Credential(key("token")),
    }];
    let mut http = Http::to(endpoint("https://example.com/in?key=hunter2"));
    http.authorization = Some(Authorization::Basic(BasicAuth {
        username: "logs".into(),
        password: key("password"),
    }));
    vec![
        Target::Splunk(Splunk::to(endpoint("https://hec:8088"), key("token"))),
        Target::Loggly(loggly()),
        Target::NewRelic(NewRelic {
            region: NewRelicRegion::Us,
            endpoint: None,
            license_key: key("token"),
            connection: Connection::default(),
        }),
        Target::Otlp(otlp),
        Target::Http(http),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A server may repeat whatever it was sent, in whatever place of its answer.
    #[test]
    fn no_verdict_tells_a_credential_that_the_answer_repeats(
        status in prop_oneof![Just(200_u16), Just(202), Just(400), Just(403), Just(404), Just(500), 100_u16..600],
        code in 0_u64..30,
        before in "\\PC{0,130}",
        after in "\\PC{0,20}",
    ) {
        for target in sinks_with_credentials() {
            let destination = resolve(&target);
            let headers = destination.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let sent = format!("{} {}", destination.uri, headers.collect::<Vec<_>>().join("; "));
            let said = format!("{before}{sent}{after}");
            let partial = serde_json::json!({"rejectedLogRecords": code, "errorMessage": said});
            let body = serde_json::json!({"text": said, "code": code, "response": said, "message": said, "partialSuccess": partial});
            for body in [body.to_string(), said] {
                let verdict = destination.kind.judge(&Answer {
                    status,
                    retry_after: None,
                    body: body.as_bytes(),
                    quoter: &destination.quoter,
                });
                let told = format!("{verdict:?}");
                prop_assert!(!told.contains("hunter2") && !told.contains("bG9nczpodW50ZXIy"), "{told}");
            }
        }
    }
}
