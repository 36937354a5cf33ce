//! Every kind of sink and step, as the agents are told of it, and every mistake with its words.

use katonic_logging_crds::Sink;

use super::*;
use crate::{
    installation::{Installation, LogStore},
    testing::{http_sink, policy, splunk_sink},
};

fn rejects(change: impl FnOnce(&mut LoggingPolicy), path: &str, message: &str) {
    let mut resource = policy("p");
    change(&mut resource);
    let violations = validate(&resource).unwrap_err();
    let found = violations
        .iter()
        .any(|one| one.path == path && one.message.contains(message));
    assert!(found, "{violations:?}");
}

#[test]
fn a_policy_reaches_both_planes_unless_it_says_otherwise() {
    assert_eq!(validate(&policy("p")).unwrap().planes, Plane::ALL.into());
    let mut resource = policy("p");
    resource.spec.planes = Some(vec![Plane::Compute]);
    assert_eq!(validate(&resource).unwrap().planes, [Plane::Compute].into());
}

#[test]
fn what_an_earlier_definition_let_through_is_refused() {
    rejects(|p| p.spec.sinks.clear(), "spec.sinks", "at least one sink");
    rejects(
        |p| p.spec.planes = Some(vec![]),
        "spec.planes",
        "leave the field out",
    );
    rejects(
        |p| p.spec.sinks[0].http = http_sink("https://h").http,
        "spec.sinks[0]",
        "exactly one kind",
    );
    rejects(
        |p| p.spec.sinks.push(p.spec.sinks[0].clone()),
        "spec.sinks[1].name",
        "earlier sink",
    );
    rejects(
        |p| p.spec.sinks[0] = splunk_sink("ftp://h"),
        "spec.sinks[0].splunk.endpoint",
        "https://",
    );
    rejects(
        |p| p.spec.sinks[0] = http_sink("https://u:p@h"),
        "spec.sinks[0].http.url",
        "must not hold credentials",
    );
}

#[test]
fn execution_logs_of_anything_but_user_code_are_refused() {
    let execution = |change: fn(&mut LoggingPolicy), path: &str, message: &str| {
        rejects(
            |p| {
                p.spec.logs = Some(Logs::Execution);
                change(p);
            },
            path,
            message,
        );
    };
    execution(
        |p| p.spec.planes = Some(Plane::ALL.to_vec()),
        "spec.planes",
        "write [Compute]",
    );
    execution(
        |p| {
            p.spec.containers = Some(katonic_logging_crds::ContainerSelector {
                include: Some(vec!["nginx".into()]),
                exclude: None,
            });
        },
        "spec.containers.include",
        "remove include",
    );
}

#[test]
fn an_archive_is_read_with_the_same_care_as_the_schema() {
    let secret = "credentialsSecretRef: {name: a}";
    for (store, path, message) in [
        (
            format!("bucket: logs, {secret}"),
            ".objectStorage.s3",
            "needs the region of the bucket",
        ),
        (
            format!("bucket: Logs, region: r, {secret}"),
            ".objectStorage.s3.bucket",
            "not the name of a bucket",
        ),
        (
            format!("bucket: logs, region: a b, {secret}"),
            ".objectStorage.s3.region",
            "not the name of a region",
        ),
        (
            format!("bucket: logs, region: r, prefix: /a, {secret}"),
            ".objectStorage.s3.prefix",
            "`/` only between them",
        ),
        (
            format!("bucket: logs, endpoint: h, {secret}"),
            ".objectStorage.s3.endpoint",
            "https://",
        ),
        (
            "bucket: logs, region: r, credentialsSecretRef: {name: a_b}".to_owned(),
            ".objectStorage.s3.credentialsSecretRef",
            "cannot be the name of a credential",
        ),
    ] {
        rejects_sink(
            &format!("objectStorage: {{s3: {{{store}}}}}"),
            path,
            message,
        );
    }
    let good = format!("s3: {{bucket: logs, region: r, {secret}}}");
    rejects_sink(
        &format!("objectStorage: {{{good}, objects: {{maxAge: 2h}}}}"),
        ".objectStorage.objects.maxAge",
        "between 1s and 1h",
    );
    rejects_sink(
        &format!("objectStorage: {{{good}}}, batch: {{}}"),
        ".objectStorage",
        "remove batch",
    );
    rejects_sink(
        &format!("objectStorage: {{{good}}}, http: {{url: 'https://h'}}"),
        "",
        "exactly one kind",
    );
}

#[test]
fn an_archive_at_google_or_azure_is_read_with_the_same_care_as_the_schema() {
    let secret = "credentialsSecretRef: {name: a}";
    for (store, path, message) in [
        (
            format!("gcs: {{bucket: Logs, {secret}}}"),
            ".objectStorage.gcs.bucket",
            "not the name of a bucket",
        ),
        (
            format!("gcs: {{bucket: logs, endpoint: h, {secret}}}"),
            ".objectStorage.gcs.endpoint",
            "https://",
        ),
        (
            "gcs: {bucket: logs, credentialsSecretRef: {name: a, key: a/b}}".to_owned(),
            ".objectStorage.gcs.credentialsSecretRef",
            "cannot be the name of a credential",
        ),
        (
            format!("azure: {{account: a.b, container: logs, {secret}}}"),
            ".objectStorage.azure.account",
            "write the address into endpoint",
        ),
        (
            format!("azure: {{account: logs, container: a--b, {secret}}}"),
            ".objectStorage.azure.container",
            "not the name of a container",
        ),
        (
            format!("azure: {{account: logs, container: logs, prefix: a./b, {secret}}}"),
            ".objectStorage.azure.prefix",
            "remove the dot",
        ),
        (
            format!(
                "gcs: {{bucket: logs, {secret}}}, azure: {{account: logs, container: logs, {secret}}}"
            ),
            ".objectStorage",
            "spell out one of s3, gcs and azure",
        ),
        (
            format!("installation: true, gcs: {{bucket: logs, {secret}}}"),
            ".objectStorage",
            "exactly one store",
        ),
    ] {
        rejects_sink(&format!("objectStorage: {{{store}}}"), path, message);
    }
}

#[test]
fn an_archive_of_the_installation_is_what_the_installation_says_or_told() {
    let mut resource = policy("p");
    let archive = "objectStorage: {installation: true, objects: {maxBytes: 2000000}}";
    resource.spec.sinks.insert(0, sink(archive));
    let candidate = crate::Candidate::readable(&resource);
    assert_eq!(candidate.policy.as_ref().unwrap().sinks.len(), 1);
    let mut installation = crate::testing::installation();
    let resolved = |installation: &Installation| candidate.resolved(installation).unwrap().policy;
    let violations = resolved(&installation).unwrap_err();
    assert_eq!(
        violations[0].path,
        "spec.sinks[0].objectStorage.installation"
    );
    assert!(
        violations[0].message.contains("set blob_storage.logs"),
        "{violations:?}"
    );
    installation.log_store = LogStore::Unusable("it is of another kind".into());
    let violations = resolved(&installation).unwrap_err();
    assert!(
        violations[0]
            .message
            .ends_with("cannot be used: it is of another kind")
    );
    let store = "{bucket: logs, region: r, credentialsSecretRef: {name: log-store}}";
    installation.log_store = LogStore::S3(serde_saphyr::from_str(store).unwrap());
    let policy = resolved(&installation).unwrap();
    let names: Vec<_> = policy
        .sinks
        .iter()
        .map(|sink| sink.config.name.as_str())
        .collect();
    assert_eq!(names, ["s", "splunk"]);
    assert!(policy.of_installation.is_empty());
    assert_eq!(policy.sinks[0].needs.sources.len(), 2);
    assert!(
        crate::Candidate::readable(&crate::testing::policy("q"))
            .resolved(&installation)
            .is_none()
    );
}

/// A sink as a user writes it.
fn sink(yaml: &str) -> Sink {
    serde_saphyr::from_str(&format!("{{name: s, {yaml}}}")).unwrap()
}

fn rejects_sink(yaml: &str, path: &str, message: &str) {
    rejects(
        |p| p.spec.sinks = vec![sink(yaml)],
        &format!("spec.sinks[0]{path}"),
        message,
    );
}

#[test]
fn splunk_loggly_and_new_relic_are_read_with_the_same_care_as_the_schema() {
    let secret = "tokenSecretRef: {name: a, key: b}";
    for (yaml, path, message) in [
        (
            "batch: {}",
            "",
            "splunk, loggly, newRelic, syslog, otlp, http, objectStorage",
        ),
        (
            "splunk: {endpoint: 'https://h', tokenSecretRef: {name: a_b, key: c}}",
            ".splunk.tokenSecretRef",
            "cannot be the name of a credential",
        ),
        (
            &format!(
                "splunk: {{endpoint: 'https://h', {secret}, acknowledgement: {{pollInterval: 1m, timeout: 10s}}}}"
            ),
            ".splunk.acknowledgement",
            "shorter than timeout",
        ),
        (
            &format!(
                "splunk: {{endpoint: 'https://h', {secret}, acknowledgement: {{timeout: 1s}}}}"
            ),
            ".splunk.acknowledgement.timeout",
            "between 10s and 1h",
        ),
        (
            &format!("loggly: {{{secret}, tags: [ok, a/b]}}"),
            ".loggly.tags[1]",
            "not a Loggly tag",
        ),
        (
            &format!("loggly: {{{secret}, endpoint: 'ftp://h'}}"),
            ".loggly.endpoint",
            "https://",
        ),
        (
            "newRelic: {endpoint: h, licenseKeySecretRef: {name: a, key: b}}",
            ".newRelic.endpoint",
            "https://",
        ),
    ] {
        rejects_sink(yaml, path, message);
    }
}

#[test]
fn syslog_is_read_with_the_same_care_as_the_schema() {
    for (yaml, path, message) in [
        (
            "syslog: {host: 'tcp://h', transport: TCP}",
            ".syslog.host",
            "without scheme",
        ),
        (
            "syslog: {host: h, port: 70000, transport: TCP}",
            ".syslog.port",
            "use 1 to 65535",
        ),
        (
            "syslog: {host: h, transport: UDP, tls: {}}",
            ".syslog.tls",
            "needs the transport TLS",
        ),
        (
            "syslog: {host: h, transport: TLS, appName: a b}",
            ".syslog.appName",
            "not an APP-NAME",
        ),
        (
            "syslog: {host: h, transport: TLS, enterpriseID: 0}",
            ".syslog.enterpriseID",
            "use at least 1",
        ),
        (
            "syslog: {host: h, transport: TLS, maxMessageBytes: -1}",
            ".syslog.maxMessageBytes",
            "use at least 1",
        ),
        (
            "syslog: {host: h, transport: TLS, tls: {serverName: 'https://h'}}",
            ".syslog.tls.serverName",
            "not a host",
        ),
    ] {
        rejects_sink(yaml, path, message);
    }
}

#[test]
fn http_and_batches_are_read_with_the_same_care_as_the_schema() {
    for (yaml, path, message) in [
        ("otlp: {endpoint: 'h:4317'}", ".otlp.endpoint", "https://"),
        (
            "otlp: {endpoint: 'https://h', headers: [{name: Host, value: h}]}",
            ".otlp.headers[0].name",
            "set by the agent",
        ),
        (
            "otlp: {endpoint: 'https://h', headers: [{name: X-A}]}",
            ".otlp.headers[0]",
            "exactly one of value and valueSecretRef",
        ),
        (
            "http: {url: 'https://h', timeout: 10m}",
            ".http.timeout",
            "between 1s and 5m",
        ),
        (
            "http: {url: 'https://h', timeout: soon}",
            ".http.timeout",
            "write for example 1s or 5m",
        ),
        (
            "http: {url: 'https://h', timeout: -1m}",
            ".http.timeout",
            "between 1s and 5m",
        ),
        (
            "http: {url: 'https://h', timeout: 99999999999999999h}",
            ".http.timeout",
            "between 1s and 5m",
        ),
        (
            "http: {url: 'https://h', proxyURL: 'https://proxy'}",
            ".http.proxyURL",
            "without TLS",
        ),
        (
            "http: {url: 'https://h', proxyURL: proxy}",
            ".http.proxyURL",
            "must begin with",
        ),
        (
            "http: {url: 'https://h', proxyBasicAuth: {username: u, passwordSecretRef: {name: a, key: b}}}",
            ".http.proxyBasicAuth",
            "needs a proxyURL",
        ),
        (
            "http: {url: 'https://h', basicAuth: {username: 'a:b', passwordSecretRef: {name: a, key: b}}}",
            ".http.basicAuth.username",
            "no colon",
        ),
        (
            "http: {url: 'https://h', bearerTokenSecretRef: {name: a, key: b}, headers: [{name: authorization, value: a}]}",
            ".http",
            "keep one of them",
        ),
        (
            "http: {url: 'https://h'}, batch: {maxBytes: 0}",
            ".batch.maxBytes",
            "use at least 1",
        ),
        (
            "http: {url: 'https://h'}, batch: {maxRecords: -1}",
            ".batch.maxRecords",
            "use at least 1",
        ),
        (
            "http: {url: 'https://h'}, batch: {flushInterval: 1ms}",
            ".batch.flushInterval",
            "between 50ms and 1m",
        ),
    ] {
        rejects_sink(yaml, path, message);
    }
}

#[test]
fn a_pattern_that_agents_could_not_compile_is_refused_in_the_compilers_words() {
    let filters = |yaml: &str| serde_saphyr::from_str(yaml).unwrap();
    for (yaml, path, message) in [
        (
            "[{drop: {pattern: 'a('}}]",
            "spec.filters[0].drop.pattern",
            "not a usable regular expression: unclosed group at character 2",
        ),
        (
            "[{drop: {pattern: a}}, {keep: {pattern: '(?!a)'}}]",
            "spec.filters[1].keep.pattern",
            "look-around",
        ),
        (
            r"[{redact: {pattern: '(a)\1'}}]",
            "spec.filters[0].redact.pattern",
            "backreferences are not supported",
        ),
        (
            "[{sample: {pattern: '[', percent: 1}}]",
            "spec.filters[0].sample.pattern",
            "unclosed character class",
        ),
        (
            r"[{drop: {pattern: '(\p{L}{100}){100}'}}]",
            "spec.filters[0].drop.pattern",
            "more than 1 MiB once compiled",
        ),
        (
            "[{sample: {percent: 101}}]",
            "spec.filters[0].sample.percent",
            "use 1 to 100",
        ),
        (
            "[{rateLimit: {recordsPerSecond: 0}}]",
            "spec.filters[0].rateLimit.recordsPerSecond",
            "use at least 1",
        ),
        ("[{}]", "spec.filters[0]", "exactly one step"),
        (
            "[{redact: {pattern: a, replacement: b, hashKeySecretRef: {name: a, key: b}}}]",
            "spec.filters[0].redact",
            "keep one",
        ),
    ] {
        rejects(|p| p.spec.filters = filters(yaml), path, message);
    }
    let large = |number| format!(r"{{drop: {{pattern: '\w{{15}}{number}'}}}}");
    let five: Vec<String> = (0..5).map(large).collect();
    rejects(
        |p| p.spec.filters = filters(&format!("[{}]", five.join(", "))),
        "spec.filters[4]",
        "more than 4 MiB once compiled",
    );
    let multiline = |yaml: &str| serde_saphyr::from_str(yaml).unwrap();
    for (yaml, path, message) in [
        (
            "{firstLine: '('}",
            "spec.multiline.firstLine",
            "unclosed group",
        ),
        ("{}", "spec.multiline", "exactly one"),
        (
            "{rule: Java, firstLine: a}",
            "spec.multiline",
            "exactly one",
        ),
        (
            "{rule: Java, timeout: 1h}",
            "spec.multiline.timeout",
            "between 100ms and 1m",
        ),
        (
            "{rule: Java, maxBytes: 0}",
            "spec.multiline.maxBytes",
            "use at least 1",
        ),
    ] {
        rejects(|p| p.spec.multiline = multiline(yaml), path, message);
    }
    rejects(
        |p| p.spec.pod_labels = Some(vec!["a b".into()]),
        "spec.podLabels[0]",
        "not the name of a label",
    );
}

#[test]
fn a_fallback_is_one_of_several_sinks() {
    rejects(
        |p| p.spec.fallback = Some("other".into()),
        "spec.fallback",
        "`other` is not the name",
    );
    rejects(
        |p| p.spec.fallback = Some("splunk".into()),
        "spec.fallback",
        "another sink beside it",
    );
    let mut resource = policy("p");
    resource.spec.sinks.push(http_sink("https://h"));
    resource.spec.fallback = Some("http".into());
    let is_fallback = |sink: &super::Sink| sink.is_fallback;
    let sinks = validate(&resource).unwrap().sinks;
    assert_eq!(
        sinks.iter().map(is_fallback).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn a_certificate_and_an_authority_may_be_the_same() {
    let mut resource = policy("p");
    let tls = "tls: {caSecretRef: {name: a, key: tls.crt}, clientCertificateSecretRef: {name: a}}";
    resource.spec.sinks = vec![sink(&format!("syslog: {{host: h, transport: TLS, {tls}}}"))];
    let needs = &validate(&resource).unwrap().sinks[0].needs;
    let key = |key| CredentialKey::of_secret("a", key).unwrap();
    assert_eq!(
        needs.sources[&key("tls.crt")].usages,
        [Usage::Authorities, Usage::Certificate].into()
    );
    assert_eq!(
        needs.sources[&key("tls.key")].usages,
        [Usage::PrivateKey].into()
    );
    assert_eq!(needs.pairs, [(key("tls.crt"), key("tls.key"))].into());
}

#[test]
fn every_violation_is_told_at_once() {
    let mut resource = policy("p");
    resource.spec.planes = Some(vec![]);
    resource.spec.sinks = vec![splunk_sink("ftp://a"), http_sink("b")];
    assert_eq!(validate(&resource).unwrap_err().len(), 3);
}

#[test]
fn a_password_in_an_address_is_never_repeated() {
    for yaml in [
        "http: {url: 'https://user:hunter2@h'}",
        "http: {url: 'https://h', proxyURL: 'http://user:hunter2@proxy'}",
        "http: {url: 'https://h', basicAuth: {username: 'user:hunter2', passwordSecretRef: {name: a, key: b}}}",
        "syslog: {host: 'user:hunter2@h', transport: TCP}",
        "otlp: {endpoint: 'https://user:hunter2@h'}",
        "newRelic: {endpoint: 'https://user:hunter2@h', licenseKeySecretRef: {name: a, key: b}}",
        "loggly: {endpoint: 'https://user:hunter2@h', tokenSecretRef: {name: a, key: b}}",
    ] {
        let mut resource = policy("p");
        resource.spec.sinks = vec![sink(yaml)];
        let violations = validate(&resource).unwrap_err();
        assert!(
            !format!("{violations:?}").contains("hunter2"),
            "{violations:?}"
        );
    }
}

#[test]
fn a_credential_in_the_query_of_an_address_is_allowed_and_warned_about() {
    let mut resource = policy("p");
    resource.spec.sinks = vec![
        sink("http: {url: 'https://h/in?source=k8s&access_token=hunter2'}"),
        http_sink("https://h/in?source=k8s"),
    ];
    resource.spec.sinks[1].name = "other".into();
    let sinks = validate(&resource).unwrap().sinks;
    let warning = &sinks[0].warnings[0];
    assert!(
        warning.contains("access_token") && !warning.contains("hunter2"),
        "{warning}"
    );
    assert!(sinks[1].warnings.is_empty());
}

#[test]
fn an_unencrypted_sink_is_allowed_and_warned_about() {
    let mut resource = policy("p");
    resource.spec.sinks = vec![splunk_sink("http://h:8088"), splunk_sink("https://h:8088")];
    resource.spec.sinks[1].name = "other".into();
    let sinks = validate(&resource).unwrap().sinks;
    assert!(sinks[0].warnings[0].contains("unencrypted"));
    assert!(sinks[1].warnings.is_empty());
}
