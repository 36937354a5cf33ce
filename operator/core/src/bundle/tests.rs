//! The bundle under every kind of bad input: whoever is not concerned keeps its bytes.

use katonic_logging_crds::{LoggingPolicy, SecretKeyRef, Tls};

use super::*;
use crate::{
    credential::{Fault, Lookup},
    testing::{http_sink, installation, policy, splunk_sink},
};

fn secret_ref(name: &str) -> SecretKeyRef {
    SecretKeyRef {
        name: name.into(),
        key: "token".into(),
    }
}

fn found(value: &str) -> Lookup {
    Lookup::Found(Credential::new(value.as_bytes().to_vec()))
}

fn with_splunk_secret(value: &str) -> BTreeMap<SecretKeyRef, Lookup> {
    [(secret_ref("splunk"), found(value))].into()
}

fn render_all(
    resources: &[LoggingPolicy],
    credentials: &BTreeMap<SecretKeyRef, Lookup>,
    last_good: Option<&LastGood>,
) -> Rendered {
    let candidates: Vec<Candidate> = resources.iter().map(Candidate::readable).collect();
    render_candidates(&candidates, credentials, last_good)
}

fn render_candidates(
    candidates: &[Candidate],
    credentials: &BTreeMap<SecretKeyRef, Lookup>,
    last_good: Option<&LastGood>,
) -> Rendered {
    let installation = installation();
    let usable = candidates
        .iter()
        .filter_map(|candidate| candidate.policy.as_ref().ok());
    let keyring = Keyring::open(
        usable.flat_map(Policy::needs),
        credentials,
        "katonic-logging",
    );
    let context = Context {
        installation: &installation,
        keyring: &keyring,
        reporting: None,
    };
    render(context, Plane::Compute, candidates, last_good).unwrap()
}

fn data(rendered: &Rendered) -> BTreeMap<String, ByteString> {
    rendered.secret.as_ref().unwrap().data.clone().unwrap()
}

fn bundle(rendered: &Rendered) -> Bundle {
    Bundle::decode(&data(rendered)[layout::BUNDLE_FILE].0)
        .unwrap()
        .bundle
}

fn last_good(rendered: &Rendered) -> LastGood {
    LastGood::read(&data(rendered)).unwrap()
}

#[test]
fn a_bundle_holds_the_policies_and_their_credentials_and_nothing_else() {
    let mut credentials = with_splunk_secret("abc\n");
    credentials.insert(secret_ref("unused"), found("secret"));
    let rendered = render_all(&[policy("a"), policy("b")], &credentials, None);
    let data = data(&rendered);
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        [layout::BUNDLE_FILE, "splunk_token"]
    );
    assert_eq!(data["splunk_token"].0, b"abc");
    let names: Vec<_> = bundle(&rendered)
        .policies
        .into_iter()
        .map(|policy| policy.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    let owners = rendered.secret.unwrap().metadata.owner_references.unwrap();
    assert_eq!(
        owners
            .iter()
            .map(|owner| owner.uid.as_str())
            .collect::<Vec<_>>(),
        ["uid-of-a", "uid-of-b"]
    );
}

#[test]
fn equal_inputs_in_any_order_give_equal_bytes() {
    let credentials = with_splunk_secret("abc");
    let policies: Vec<_> = (0..20).map(|n| policy(&format!("p{n}"))).collect();
    let mut reversed = policies.clone();
    reversed.reverse();
    let (one, other) = (
        render_all(&policies, &credentials, None),
        render_all(&reversed, &credentials, None),
    );
    assert_eq!(one.secret, other.secret);
}

#[test]
fn user_containers_are_left_out_of_the_compute_plane() {
    let rendered = render_all(&[policy("a")], &with_splunk_secret("abc"), None);
    let policy = &bundle(&rendered).policies[0];
    assert!(!policy.takes(&BTreeMap::new(), "run"));
    assert!(policy.takes(&BTreeMap::new(), "executor"));
}

#[test]
fn execution_logs_are_those_of_the_user_containers_of_the_compute_plane_alone() {
    let mut resource = policy("a");
    resource.spec.logs = Some(katonic_logging_crds::Logs::Execution);
    let secret = with_splunk_secret("abc");
    let rendered = render_all(std::slice::from_ref(&resource), &secret, None);
    let told = &bundle(&rendered).policies[0];
    assert!(told.takes(&BTreeMap::new(), "run"));
    assert!(!told.takes(&BTreeMap::new(), "executor"));
    let patterns = bundle(&rendered).execution_id_patterns;
    assert_eq!(patterns, installation().execution_id_patterns);
    let policy = crate::policy::validate(&resource).unwrap();
    assert_eq!(policy.planes, [Plane::Compute].into());
}

#[test]
fn a_suspended_policy_and_one_of_another_plane_are_not_told() {
    let (mut suspended, mut elsewhere) = (policy("a"), policy("b"));
    suspended.spec.suspend = Some(true);
    elsewhere.spec.planes = Some(vec![Plane::Platform]);
    let rendered = render_all(&[suspended, elsewhere], &with_splunk_secret("abc"), None);
    assert_eq!(rendered.secret, None);
    assert!(rendered.outcomes.is_empty());
}

#[test]
fn a_secret_that_goes_missing_leaves_the_last_good_sink_in_force() {
    let before = render_all(&[policy("a")], &with_splunk_secret("abc"), None);
    let missing = [(secret_ref("splunk"), Lookup::SecretMissing)].into();
    let after = render_all(&[policy("a")], &missing, Some(&last_good(&before)));
    assert_eq!(after.secret, before.secret);
    let outcome = &after.outcomes["a"].sinks["splunk"];
    assert!(outcome.in_force);
    assert_eq!(outcome.faults[0].0, Fault::SecretMissing);
}

#[test]
fn a_sink_that_never_worked_is_left_out_and_the_others_are_told() {
    let mut resource = policy("a");
    resource
        .spec
        .sinks
        .push(http_sink("https://logs.example.com"));
    let missing = [(secret_ref("splunk"), Lookup::KeyMissing)].into();
    let rendered = render_all(&[resource], &missing, None);
    let sinks: Vec<_> = bundle(&rendered).policies[0]
        .sinks
        .iter()
        .map(|sink| sink.name.clone())
        .collect();
    assert_eq!(sinks, ["http"]);
    assert!(!rendered.outcomes["a"].sinks["splunk"].in_force);
    assert!(rendered.outcomes["a"].sinks["http"].in_force);
}

#[test]
fn a_policy_that_becomes_invalid_stays_as_it_was() {
    let before = render_all(
        &[policy("a"), policy("b")],
        &with_splunk_secret("abc"),
        None,
    );
    let mut invalid = policy("a");
    invalid.spec.sinks = vec![splunk_sink("ftp://nowhere")];
    let after = render_all(
        &[invalid, policy("b")],
        &with_splunk_secret("abc"),
        Some(&last_good(&before)),
    );
    assert_eq!(after.secret, before.secret);
}

#[test]
fn last_good_is_not_taken_from_another_policy_of_the_same_name() {
    let before = render_all(&[policy("a")], &with_splunk_secret("abc"), None);
    let mut recreated = policy("a");
    recreated.metadata.uid = Some("another".into());
    let missing = [(secret_ref("splunk"), Lookup::SecretMissing)].into();
    assert_eq!(
        render_all(&[recreated], &missing, Some(&last_good(&before))).secret,
        None
    );
}

#[test]
fn one_broken_policy_of_five_hundred_changes_no_byte_of_the_others() {
    let mut policies: Vec<_> = (0..500).map(|n| policy(&format!("p{n:03}"))).collect();
    let credentials = with_splunk_secret("abc");
    policies.remove(250);
    let without = render_all(&policies, &credentials, None);
    for broken in [
        splunk_sink("https://user:password@h"),
        splunk_sink("nonsense"),
        missing_ca(),
    ] {
        let mut all = policies.clone();
        let mut policy = policy("p250");
        policy.spec.sinks = vec![broken];
        all.insert(250, policy);
        assert_eq!(render_all(&all, &credentials, None).secret, without.secret);
    }
}

fn missing_ca() -> katonic_logging_crds::Sink {
    let mut sink = splunk_sink("https://h");
    if let Some(splunk) = &mut sink.splunk {
        splunk.connection.tls = Some(Tls {
            ca_secret_ref: Some(secret_ref("ca")),
            ..Tls::default()
        });
    }
    sink
}

/// A policy with a step that needs the key `token` of the Secret `redaction`.
fn with_digests(name: &str) -> LoggingPolicy {
    let mut policy = policy(name);
    let filters =
        "[{redact: {pattern: 'user=.', hashKeySecretRef: {name: redaction, key: token}}}]";
    policy.spec.filters = serde_saphyr::from_str(filters).unwrap();
    policy
}

#[test]
fn without_the_key_of_its_digests_a_policy_is_left_out_or_stays_as_it_was() {
    let key = "0123456789abcdef";
    let mut credentials = with_splunk_secret("abc");
    credentials.insert(secret_ref("redaction"), found(key));
    let all = [with_digests("a"), policy("b")];
    let before = render_all(&all, &credentials, None);
    assert_eq!(data(&before)["redaction_token"].0, key.as_bytes());
    credentials.insert(secret_ref("redaction"), Lookup::SecretMissing);

    let never_told = render_all(&all, &credentials, None);
    let alone = render_all(&all[1..], &credentials, None);
    assert_eq!(never_told.secret, alone.secret);
    let outcome = &never_told.outcomes["a"];
    assert_eq!(outcome.faults[0].0, Fault::SecretMissing);
    assert!(!outcome.sinks["splunk"].in_force);

    let after = render_all(&all, &credentials, Some(&last_good(&before)));
    assert_eq!(after.secret, before.secret);
    assert!(after.outcomes["a"].sinks["splunk"].in_force);
    assert_eq!(after.outcomes["a"].faults.len(), 1);
}

/// A policy with the sink `splunk` and the fallback `http`, whose header is the key `token` of the Secret `archive`.
fn with_fallback(name: &str) -> LoggingPolicy {
    let mut policy = policy(name);
    let archive =
        "{name: http, http: {url: 'https://h', bearerTokenSecretRef: {name: archive, key: token}}}";
    policy
        .spec
        .sinks
        .push(serde_saphyr::from_str(archive).unwrap());
    policy.spec.fallback = Some("http".into());
    policy
}

#[test]
fn a_fallback_is_told_as_such_and_is_no_sink_alone() {
    let mut credentials = with_splunk_secret("abc");
    credentials.insert(secret_ref("archive"), found("def"));
    let both = render_all(&[with_fallback("a")], &credentials, None);
    let told = &bundle(&both).policies[0];
    assert_eq!(told.sinks.len(), 1);
    assert_eq!(told.fallback.as_ref().unwrap().name, "http");
    assert_eq!(data(&both)["archive_token"].0, b"def");

    // Without its credential the sink goes on alone, or with the fallback as it was.
    credentials.insert(secret_ref("archive"), Lookup::KeyMissing);
    let sink_alone = render_all(&[with_fallback("a")], &credentials, None);
    assert_eq!(bundle(&sink_alone).policies[0].fallback, None);
    assert!(sink_alone.outcomes["a"].sinks["splunk"].in_force);
    assert!(!sink_alone.outcomes["a"].sinks["http"].in_force);
    let kept = render_all(&[with_fallback("a")], &credentials, Some(&last_good(&both)));
    assert_eq!(kept.secret, both.secret);
    assert!(kept.outcomes["a"].sinks["http"].in_force);

    let mut credentials = with_splunk_secret("");
    credentials.insert(secret_ref("archive"), found("def"));
    let fallback_alone = render_all(&[with_fallback("a")], &credentials, None);
    assert_eq!(fallback_alone.secret, None);
    assert!(!fallback_alone.outcomes["a"].sinks["http"].in_force);
}

#[test]
fn what_stays_as_it_was_never_overwrites_what_is() {
    let mut loggly = policy("loggly");
    let sink = "[{name: loggly, loggly: {tokenSecretRef: {name: splunk, key: token}}}]";
    loggly.spec.sinks = serde_saphyr::from_str(sink).unwrap();
    let all = [policy("a"), loggly, policy("z")];
    let before = render_all(&all, &with_splunk_secret("abc"), None);
    // Good for Splunk, and no token of Loggly's.
    let changed = render_all(&all, &with_splunk_secret("d/e"), Some(&last_good(&before)));
    assert_eq!(data(&changed)["splunk_token"].0, b"d/e");
    assert_eq!(
        changed.outcomes["loggly"].sinks["loggly"].faults[0].0,
        Fault::CredentialInvalid
    );
}

#[test]
fn a_key_of_another_certificate_concerns_its_own_policy_alone() {
    let pair = || rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    let (one, other) = (pair(), pair());
    let at = |key: &str| SecretKeyRef {
        name: "client".into(),
        key: key.into(),
    };
    let mut syslog = policy("b");
    let sink = "[{name: siem, syslog: {host: h, transport: TLS, tls: {clientCertificateSecretRef: {name: client}}}}]";
    syslog.spec.sinks = serde_saphyr::from_str(sink).unwrap();
    let all = [policy("a"), syslog, policy("c")];
    let mut credentials = with_splunk_secret("abc");
    credentials.insert(at("tls.crt"), found(&one.cert.pem()));
    credentials.insert(at("tls.key"), found(&one.signing_key.serialize_pem()));
    let before = render_all(&all, &credentials, None);
    assert_eq!(bundle(&before).policies.len(), 3);

    credentials.insert(at("tls.key"), found(&other.signing_key.serialize_pem()));
    let others = render_all(&[policy("a"), policy("c")], &credentials, None);
    assert_eq!(render_all(&all, &credentials, None).secret, others.secret);
    let after = render_all(&all, &credentials, Some(&last_good(&before)));
    assert_eq!(after.secret, before.secret);
    let (fault, message) = &after.outcomes["b"].sinks["siem"].faults[0];
    assert_eq!(*fault, Fault::CredentialInvalid);
    assert!(
        message.contains("is not that of its certificate"),
        "{message}"
    );
}

#[test]
fn where_not_everything_fits_the_oldest_stay() {
    let huge = |n: usize| {
        let mut policy = policy(&format!("p{}", 9 - n));
        policy.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
            ));
        if let Some(splunk) = &mut policy.spec.sinks[0].splunk {
            splunk.token_secret_ref = secret_ref(&format!("s{n}"));
        }
        policy
    };
    let policies: Vec<_> = (0..5).map(huge).collect();
    let credentials = (0..5)
        .map(|n| (secret_ref(&format!("s{n}")), found(&"x".repeat(300 << 10))))
        .collect();
    let rendered = render_all(&policies, &credentials, None);
    assert!(size(&data(&rendered)) <= BUDGET);
    let kept: Vec<_> = bundle(&rendered)
        .policies
        .into_iter()
        .map(|policy| policy.name)
        .collect();
    // From the oldest on: agents take them in this order, too.
    assert_eq!(kept, ["p9", "p8", "p7"]);
    assert!(rendered.outcomes["p5"].over_budget);
    assert!(!rendered.outcomes["p5"].sinks["splunk"].in_force);
    assert!(!rendered.outcomes["p9"].over_budget);
}

#[test]
fn a_credential_that_is_too_large_leaves_out_its_own_policy_and_no_other() {
    let mut large = policy("a-large");
    if let Some(splunk) = &mut large.spec.sinks[0].splunk {
        splunk.token_secret_ref = secret_ref("large");
    }
    let policies = [large, policy("b"), policy("c")];
    let mut credentials = with_splunk_secret("abc");
    credentials.insert(secret_ref("large"), found("small"));
    let before = render_all(&policies, &credentials, None);
    credentials.insert(secret_ref("large"), found(&"x".repeat(1000 << 10)));
    let names = |rendered: &Rendered| -> Vec<String> {
        bundle(rendered)
            .policies
            .into_iter()
            .map(|policy| policy.name)
            .collect()
    };
    let rendered = render_all(&policies, &credentials, None);
    assert_eq!(names(&rendered), ["b", "c"]);
    assert!(rendered.outcomes["a-large"].over_budget);
    // It was there before, with a credential that fits: that stays.
    let rendered = render_all(&policies, &credentials, Some(&last_good(&before)));
    assert_eq!(rendered.secret, before.secret);
    assert!(rendered.outcomes["a-large"].sinks["splunk"].in_force);
}

#[test]
fn two_thousand_policies_fit_with_their_owners() {
    let policies: Vec<_> = (0..2000)
        .map(|n| policy(&format!("team-{n:04}-application-logs")))
        .collect();
    let rendered = render_all(&policies, &with_splunk_secret("abc"), None);
    assert_eq!(bundle(&rendered).policies.len(), 2000);
    let object = serde_json::to_vec(&rendered.secret).unwrap();
    assert!(object.len() < 1 << 20, "{} bytes", object.len());
}

#[test]
fn two_thousand_policies_with_filters_and_several_sinks_fit_too() {
    let spec = "
multiline: {firstLine: '^\\d{4}-\\d\\d-\\d\\d'}
filters:
- drop: {pattern: 'GET /(healthz|readyz|metrics)\\b'}
- redact: {pattern: '(?i)\\b(password|token)=\\S+', replacement: '[credential]'}
- redact: {pattern: '\\b[\\w.+-]+@[\\w-]+\\.[\\w.-]+\\b', hashKeySecretRef: {name: redaction, key: token}}
- sample: {pattern: DEBUG, percent: 10}
- rateLimit: {recordsPerSecond: 500}
parse: JSON
podLabels: [app.kubernetes.io/name, team]
sinks:
- {name: splunk, splunk: {endpoint: 'https://hec.example.com:8088', tokenSecretRef: {name: splunk, key: token}, index: platform}}
- {name: siem, syslog: {host: siem.example.com, transport: TLS, facility: local0}}
- {name: archive, otlp: {endpoint: 'https://collector.example.com:4318', compression: Zstd}}
fallback: archive
";
    let spec: katonic_logging_crds::LoggingPolicySpec = serde_saphyr::from_str(spec).unwrap();
    let mut first = policy("first");
    first.spec = spec;
    // Compiled once: the patterns of all are the same here.
    let first = Candidate::readable(&first);
    let of_team = |n: usize| {
        let mut candidate = first.clone();
        candidate.name = format!("team-{n:04}-application-logs");
        candidate.uid = format!("uid-of-{}", candidate.name);
        candidate.policy.as_mut().unwrap().components = [format!("service-of-team-{n:04}")].into();
        candidate
    };
    let candidates: Vec<_> = (0..2000).map(of_team).collect();
    let mut credentials = with_splunk_secret("abc");
    credentials.insert(secret_ref("redaction"), found("0123456789abcdef"));
    let rendered = render_candidates(&candidates, &credentials, None);
    assert_eq!(bundle(&rendered).policies.len(), 2000);
    let object = serde_json::to_vec(&rendered.secret).unwrap();
    assert!(object.len() < 1 << 20, "{} bytes", object.len());
}
