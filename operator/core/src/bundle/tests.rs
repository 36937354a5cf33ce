//! The bundle under every kind of bad input: whoever is not concerned keeps its bytes.

use katonic_logging_crds::Tls;

use super::*;
use crate::testing::{http_sink, installation, policy, splunk_sink};

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
    let installation = installation();
    let candidates: Vec<Candidate> = resources.iter().map(Candidate::readable).collect();
    let context = Context {
        installation: &installation,
        operator_namespace: "katonic-logging",
        credentials,
    };
    render(context, Plane::Compute, &candidates, last_good).unwrap()
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
        splunk.tls = Some(Tls {
            ca_secret_ref: Some(secret_ref("ca")),
            insecure_skip_verify: None,
        });
    }
    sink
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
    assert_eq!(kept, ["p7", "p8", "p9"]);
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
