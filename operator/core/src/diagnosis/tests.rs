use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{Deployment, DeploymentSpec, DeploymentStatus},
        authorization::v1::SubjectAccessReviewStatus,
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Pod, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::layout;
use katonic_logging_crds::{SecretKeyRef, manifest};
use serde_json::{Value, json};

use super::*;
use crate::{Candidate, names, overview::PolicyView, overview::text::Palette, plan, testing};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn is(finding: &Finding, verdict: Verdict, words: &str) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.message.contains(words), "{words}: {finding:?}");
    if verdict == Verdict::Ok {
        assert_eq!(finding.mend, None);
    }
}

fn mends(finding: &Finding, words: &str) {
    let mend = finding.mend.as_ref().unwrap();
    assert!(mend.contains(words), "{words}: {finding:?}");
}

#[test]
fn a_definition_has_to_be_there_served_and_of_this_version() {
    let built = manifest::all().remove(0);
    is(&definition(None, &built), Verdict::Fail, "not installed");
    let status = json!({"status": {"conditions": [{
        "type": "Established", "status": "True", "reason": "", "message": "", "lastTransitionTime": null,
    }]}});
    let status: CustomResourceDefinition =
        serde_json::from_value(json!({"spec": built.spec, "status": status["status"]})).unwrap();
    let established = CustomResourceDefinition {
        status: status.status,
        ..built.clone()
    };
    is(
        &definition(Some(&built), &built),
        Verdict::Fail,
        "does not serve it yet",
    );
    is(
        &definition(Some(&established), &built),
        Verdict::Ok,
        "it serves v1alpha1",
    );
    let mut other = established.clone();
    other.spec.versions[0].schema = None;
    is(
        &definition(Some(&other), &built),
        Verdict::Warn,
        "its schema is not that",
    );
    other.spec.versions[0].name = "v1".to_owned();
    is(
        &definition(Some(&other), &built),
        Verdict::Fail,
        "it serves v1, and this program knows v1alpha1",
    );
}

#[test]
fn the_shipped_rights_are_read_from_the_manifests_and_asked_one_by_one() {
    let installation = testing::installation();
    let rights = shipped("logging", Some(&installation));
    let has = |namespace: Option<&str>, words: &str| {
        let mut all = rights.iter();
        all.any(|right| {
            let name = right.name.as_deref().unwrap_or("*");
            let said = format!("{} {}/{} {name}", right.verb, right.group, right.resource);
            right.namespace.as_deref() == namespace && said == words
        })
    };
    assert!(has(
        None,
        "patch logging.katonic.ai/loggingpolicies/status *"
    ));
    assert!(has(
        Some("logging"),
        "get coordination.k8s.io/leases katonic-logging-controller"
    ));
    assert!(has(
        Some("default"),
        "patch coordination.k8s.io/leases katonic-logging"
    ));
    for namespace in [
        &installation.platform_namespace,
        &installation.compute_namespace,
    ] {
        assert!(has(Some(namespace), "delete /secrets katonic-logs"));
        assert!(has(Some(namespace), "patch apps/deployments *"));
    }
    let platform = Some(installation.platform_namespace.as_str());
    assert!(has(platform, "delete /configmaps event-tracker"));
    assert!(!has(
        Some(&installation.compute_namespace),
        "delete /configmaps event-tracker"
    ));
    let status = rights
        .iter()
        .find(|right| right.resource.contains('/'))
        .unwrap();
    let asked = status.asked("logging");
    assert_eq!(
        asked.user.as_deref(),
        Some("system:serviceaccount:logging:katonic-logging")
    );
    let attributes = asked.resource_attributes.unwrap();
    assert_eq!(attributes.subresource.as_deref(), Some("status"));
    assert!(
        shipped("logging", None)
            .iter()
            .all(|right| right.namespace.as_deref() != platform)
    );
}

#[test]
fn a_missing_right_is_named_and_weighs_what_depends_on_it() {
    let mut rights = shipped("logging", Some(&testing::installation()));
    rights.extend(of_webhook("logging"));
    let asked = |missing: Weight| -> Vec<(Right, Answer)> {
        let all = rights.iter().cloned();
        all.map(|right| {
            let is_allowed = right.weight != missing || right.verb != "patch";
            let answer = if is_allowed {
                Answer::Allowed
            } else {
                Answer::Denied
            };
            (right, answer)
        })
        .collect()
    };
    let worst = |missing| {
        let findings = judged(&asked(missing)).into_iter();
        findings.max_by_key(|finding| finding.verdict).unwrap()
    };
    let needed = worst(Weight::Needed);
    is(&needed, Verdict::Fail, "patch ");
    mends(&needed, "kubectl apply --server-side -k manifests");
    is(
        &worst(Weight::ForRollouts),
        Verdict::Warn,
        "patch deployments.apps",
    );
    is(
        &worst(Weight::ForAudit),
        Verdict::Warn,
        "patch configmaps event-tracker",
    );
    let webhook = worst(Weight::ForWebhook);
    is(
        &webhook,
        Verdict::Fail,
        "patch secrets katonic-logging-webhook-tls",
    );
    mends(&webhook, "-k manifests/webhook");
    let answered = |answer: &Answer| -> Vec<Finding> {
        let all = rights.iter().cloned();
        let all: Vec<_> = all.map(|right| (right, answer.clone())).collect();
        judged(&all)
    };
    for finding in answered(&Answer::MayNotAsk) {
        is(&finding, Verdict::Warn, "you have no right to ask");
    }
    // What could not be found out is not missing.
    for finding in answered(&Answer::Unanswered("etcd is away".to_owned())) {
        is(&finding, Verdict::Warn, "did not say");
        is(&finding, Verdict::Warn, "etcd is away");
    }
    let findings = answered(&Answer::Allowed);
    assert!(
        findings
            .iter()
            .all(|finding| finding.verdict == Verdict::Ok)
    );
    assert!(findings.len() >= 6, "{findings:?}");
}

#[test]
fn a_plane_has_to_be_there_and_to_let_the_agent_in() {
    let there = plan::Namespace {
        pod_security: None,
        terminating: false,
        uid: "u".to_owned(),
    };
    let judged = |seen| namespace("katonic-compute", "Compute", seen);
    is(&judged(Some(&there)), Verdict::Ok, "plane Compute");
    is(&judged(None), Verdict::Fail, "does not exist");
    let restricted = plan::Namespace {
        pod_security: Some("restricted".to_owned()),
        ..there.clone()
    };
    let finding = judged(Some(&restricted));
    is(&finding, Verdict::Fail, "level restricted");
    mends(
        &finding,
        "katonic-compute pod-security.kubernetes.io/enforce=privileged",
    );
    let going = plan::Namespace {
        terminating: true,
        ..there.clone()
    };
    is(&judged(Some(&going)), Verdict::Fail, "being deleted");
}

#[test]
fn whoever_leads_renews_the_lease() {
    let held = |holder: &str, second| Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(at(second))),
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    };
    let judged = |first: &Lease, later: &Lease| lease("logging", Some(first), Some(later));
    is(
        &judged(&held("one", 1), &held("one", 5)),
        Verdict::Ok,
        "one leads",
    );
    is(
        &judged(&held("one", 1), &held("one", 1)),
        Verdict::Fail,
        "does not renew it",
    );
    is(
        &judged(&held("one", 1), &held("", 5)),
        Verdict::Fail,
        "no operator leads",
    );
    is(
        &lease("logging", None, None),
        Verdict::Fail,
        "no operator leads",
    );
}

#[test]
fn a_deployment_has_as_many_pods_as_it_wants() {
    let with = |available| Deployment {
        spec: DeploymentSpec {
            replicas: Some(2),
            ..DeploymentSpec::default()
        },
        status: Some(DeploymentStatus {
            available_replicas: available,
            ..DeploymentStatus::default()
        }),
        ..Deployment::default()
    };
    let judged = |available| deployment("logging", "operator", Some(&with(available)), true);
    is(&judged(Some(2)), Verdict::Ok, "2 of 2");
    is(&judged(Some(1)), Verdict::Warn, "1 of 2");
    is(&judged(None), Verdict::Fail, "0 of 2");
    let missing = deployment("logging", "operator", None, false);
    is(&missing, Verdict::Fail, "not there");
    mends(&missing, "-k manifests");
    let missing = deployment("logging", names::WEBHOOK, None, false);
    mends(&missing, "-k manifests/webhook");
    is(
        &deployment("logging", "operator", None, true),
        Verdict::Warn,
        "it runs elsewhere",
    );
}

#[test]
fn a_new_pod_shows_whether_pods_are_injected() {
    let pod = |containers: serde_json::Value| -> Probe {
        let pod = json!({"spec": {"containers": [], "initContainers": containers}});
        Probe::Created(Box::new(serde_json::from_value(pod).unwrap()))
    };
    let with = pod(json!([{"name": layout::CONTAINER}]));
    let without = pod(json!([]));
    is(
        &injection("p", &with, true),
        Verdict::Ok,
        "gets the log agent",
    );
    is(
        &injection("p", &without, false),
        Verdict::Ok,
        "no policy reaches it",
    );
    is(
        &injection("p", &without, true),
        Verdict::Fail,
        "does not get",
    );
    let refused = Probe::Refused("quota exceeded".to_owned());
    is(
        &injection("p", &refused, true),
        Verdict::Warn,
        "quota exceeded",
    );
    is(
        &injection("p", &Probe::Forbidden, true),
        Verdict::Warn,
        "no right to create pods",
    );
    let words = r#"pods is forbidden: User "reader" cannot create resource "pods" in API group """#;
    assert!(is_about_rights(words));
    assert!(!is_about_rights(
        "pods \"x\" is forbidden: exceeded quota: small"
    ));
}

#[test]
fn a_secret_has_every_key_that_policies_name_and_tells_no_value() {
    let reference = |key: &str| SecretKeyRef {
        name: "splunk".to_owned(),
        key: key.to_owned(),
    };
    let (token, ca) = (reference("token"), reference("ca.crt"));
    let wanted = [&token, &ca];
    let with = |keys: &[(&str, &str)]| {
        let keys = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().into())));
        Secret {
            data: Some(keys.collect::<BTreeMap<_, _>>()),
            ..Secret::default()
        }
    };
    let judged = |keys: &[(&str, &str)]| secret("logging", &wanted, Some(&with(keys)));
    is(
        &judged(&[("token", "hush"), ("ca.crt", "pem")]),
        Verdict::Ok,
        "it has token, ca.crt",
    );
    for keys in [
        &[("token", "hush")][..],
        &[("token", "hush"), ("ca.crt", "")],
    ] {
        is(&judged(keys), Verdict::Fail, "nothing for ca.crt");
        assert!(!format!("{:?}", judged(keys)).contains("hush"));
    }
    let missing = secret("logging", &wanted, None);
    is(&missing, Verdict::Fail, "policies name it");
    mends(
        &missing,
        "create secret generic splunk --from-file=token=<file> --from-file=ca.crt=<file>",
    );
}

#[test]
fn a_certificate_is_told_before_it_ends() {
    let now = at(1_800_000_000);
    let made = |days: i64| {
        let time =
            |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_before = time(now - SignedDuration::from_hours(24 * 100));
        parameters.not_after = time(now + SignedDuration::from_hours(24 * days));
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    };
    let judged = |pem: Option<&str>| certificate("logging", "tls", pem.map(str::as_bytes), now);
    is(&judged(Some(&made(60))), Verdict::Ok, "valid until");
    is(
        &judged(Some(&made(13))),
        Verdict::Warn,
        "should have been renewed",
    );
    is(
        &judged(Some(&made(-1))),
        Verdict::Fail,
        "it was valid until",
    );
    is(&judged(Some("nonsense")), Verdict::Fail, "no certificate");
    is(&judged(None), Verdict::Warn, "there is none");
}

#[test]
fn the_service_for_reports_leads_to_who_leads() {
    let service = |address: &str| -> Service {
        serde_json::from_value(json!({"spec": {"clusterIP": address}})).unwrap()
    };
    let slice = |address: &str| -> EndpointSlice {
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}]});
        serde_json::from_value(slice).unwrap()
    };
    let pod = |address: &str| -> Pod {
        serde_json::from_value(json!({"status": {"podIP": address}})).unwrap()
    };
    let (there, here) = (service("10.96.0.7"), slice("10.1.2.3"));
    let judged = |service: Option<&Service>, slice: Option<&EndpointSlice>, pod: Option<&Pod>| {
        reports("logging", service, slice, pod)
    };
    let leader = pod("10.1.2.3");
    is(
        &judged(Some(&there), Some(&here), Some(&leader)),
        Verdict::Ok,
        "leads to 10.1.2.3",
    );
    is(
        &judged(Some(&there), Some(&here), None),
        Verdict::Ok,
        "leads to 10.1.2.3",
    );
    let other = pod("10.1.2.4");
    is(
        &judged(Some(&there), Some(&here), Some(&other)),
        Verdict::Fail,
        "has 10.1.2.4",
    );
    is(
        &judged(Some(&there), None, Some(&leader)),
        Verdict::Warn,
        "leads nowhere",
    );
    is(
        &judged(Some(&service("None")), Some(&here), None),
        Verdict::Warn,
        "no such Service",
    );
    is(&judged(None, None, None), Verdict::Warn, "no such Service");
}

#[test]
fn what_a_review_could_not_find_out_is_no_missing_right() {
    let status = |allowed, error: &str| {
        let error = (!error.is_empty()).then(|| error.to_owned());
        Some(SubjectAccessReviewStatus {
            allowed,
            evaluation_error: error,
            ..SubjectAccessReviewStatus::default()
        })
    };
    assert_eq!(Answer::of(status(true, "")), Answer::Allowed);
    // Something else allows it.
    assert_eq!(Answer::of(status(true, "a role is gone")), Answer::Allowed);
    assert_eq!(Answer::of(status(false, "")), Answer::Denied);
    let gone = Answer::Unanswered("a role is gone".to_owned());
    assert_eq!(Answer::of(status(false, "a role is gone")), gone);
    assert!(matches!(Answer::of(None), Answer::Unanswered(_)));
}

#[test]
fn the_webhooks_rights_are_asked_for_its_own_account() {
    let rights = of_webhook("logging");
    let users = |verb: &str, resource: &str| {
        let of = rights
            .iter()
            .filter(|right| right.verb == verb && right.resource == resource);
        of.map(|right| right.asked("logging").user.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        users("watch", "mutatingwebhookconfigurations"),
        ["system:serviceaccount:logging:katonic-logging-webhook"]
    );
    assert_eq!(
        users("patch", "secrets"),
        ["system:serviceaccount:logging:katonic-logging"]
    );
}

#[test]
fn the_installation_that_works_is_told() {
    let held = |holder: &str| Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    };
    let judged = |holder: &str| claim("logging", Some(&held(holder)));
    is(&judged("logging"), Verdict::Ok, "the one that works");
    let other = judged("elsewhere");
    is(
        &other,
        Verdict::Fail,
        "the installation in namespace elsewhere works here",
    );
    mends(&other, "doctor --namespace elsewhere");
    for unclaimed in [judged(""), claim("logging", None)] {
        is(&unclaimed, Verdict::Warn, "no installation has claimed");
    }
}

#[test]
fn the_installation_can_be_used_or_it_is_told_why_not() {
    is(
        &installed("logging", Reading::Usable),
        Verdict::Ok,
        "can be used",
    );
    let broken = "namespaces.compute.name is\nmissing".to_owned();
    let broken = installed("logging", Reading::Unusable(broken));
    is(&broken, Verdict::Fail, "namespaces.compute.name is missing");
    mends(
        &broken,
        "kubectl -n logging edit configmap katonic-logging-installation",
    );
    let unread = Reading::Unread("you have no right to read it".to_owned());
    is(
        &installed("logging", unread),
        Verdict::Warn,
        "no right to read",
    );
}

/// What somebody does to a guard and to its binding.
type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);

/// A guard as the API server gives it back, changed in this way.
fn found(
    shipped: &str,
    change: impl FnOnce(&mut Value, &mut Value),
) -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let (policy, binding) = shipped.split_once("\n---\n").unwrap();
    let mut policy: Value = serde_saphyr::from_str(policy).unwrap();
    let mut binding: Value = serde_saphyr::from_str(binding).unwrap();
    let constraints = &mut policy["spec"]["matchConstraints"];
    constraints["matchPolicy"] = json!("Equivalent");
    constraints["objectSelector"] = json!({});
    if constraints["namespaceSelector"].is_null() {
        constraints["namespaceSelector"] = json!({});
    }
    constraints["resourceRules"][0]["scope"] = json!("*");
    change(&mut policy, &mut binding);
    (
        serde_json::from_value(policy).unwrap(),
        serde_json::from_value(binding).unwrap(),
    )
}

#[test]
fn a_guard_is_held_against_what_is_shipped() {
    let manifests = [
        include_str!("../../../../manifests/dry-run-only.yaml"),
        include_str!("../../../../manifests/claim-only.yaml"),
        include_str!("../../../../manifests/restart-only.yaml"),
    ];
    let shipped = guards(names::OPERATOR_NAMESPACE);
    assert_eq!(shipped.len(), manifests.len());
    for (shipped, manifest) in shipped.iter().zip(manifests) {
        let judged = |change: &dyn Fn(&mut Value, &mut Value)| {
            let (policy, binding) = found(manifest, change);
            guard(shipped, Some(&policy), Some(&binding))
        };
        is(&judged(&|_, _| {}), Verdict::Ok, "within its bounds");
        let (policy, binding) = found(manifest, |_, _| {});
        for missing in [
            guard(shipped, None, Some(&binding)),
            guard(shipped, Some(&policy), None),
        ] {
            is(&missing, Verdict::Fail, "it is missing");
            mends(&missing, "kubectl apply --server-side -k manifests");
        }
        let changes: [(Change<'_>, &str); 5] = [
            (
                &|policy, _| policy["spec"]["validations"][0]["expression"] = json!("true"),
                "spec.validations[0].expression",
            ),
            (
                &|policy, _| policy["spec"]["failurePolicy"] = json!("Ignore"),
                "spec.failurePolicy",
            ),
            (
                &|policy, _| {
                    policy["spec"]["matchConstraints"]["objectSelector"] =
                        json!({"matchLabels": {"a": "b"}});
                },
                "spec.matchConstraints.objectSelector",
            ),
            (
                &|_, binding| binding["spec"]["validationActions"] = json!(["Warn"]),
                "the binding's spec.validationActions[0]",
            ),
            (
                &|_, binding| {
                    binding["spec"]["matchResources"] =
                        json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
                },
                "the binding's spec.matchResources",
            ),
        ];
        for (change, place) in changes {
            let words = format!("{place} is not as this program's version ships it");
            is(&judged(change), Verdict::Fail, &words);
        }
    }
    // Of an operator elsewhere it is that one's account.
    let elsewhere = guards("elsewhere");
    let (policy, binding) = found(manifests[0], |_, _| {});
    let judged = guard(&elsewhere[0], Some(&policy), Some(&binding));
    is(&judged, Verdict::Fail, "spec.matchConditions[0].expression");
}

fn view(change: impl FnOnce(&mut katonic_logging_crds::LoggingPolicyStatus)) -> PolicyView {
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "SecretMissing", "message": "no Secret splunk",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
    };
    let mut policy = testing::policy("logs");
    let status = json!({"observedGeneration": 1,
        "conditions": [condition("SecretsResolved", "False"), condition("Ready", "False")],
        "sinks": [{"name": "splunk", "kind": "splunk", "inForce": true, "reason": "Configured",
            "delivery": {"state": "Unreachable", "message": "no such name: hec.example.com"}}]});
    let mut status = serde_json::from_value(status).unwrap();
    change(&mut status);
    policy.status = Some(status);
    PolicyView::of(&Candidate::readable(&policy)).mended()
}

#[test]
fn policies_and_sinks_are_told_as_their_statuses_say_with_what_to_do() {
    let waiting = view(|_| {});
    let finding = policies(std::slice::from_ref(&waiting)).remove(0);
    is(&finding, Verdict::Warn, "SecretMissing: no Secret splunk");
    mends(&finding, "docs/runbooks.md#secretmissing");
    let stalled = view(|status| {
        let mut stalled = status.conditions[1].clone();
        (stalled.type_, stalled.status) = ("Stalled".into(), "True".into());
        status.conditions.push(stalled);
    });
    is(&policies(&[stalled])[0], Verdict::Fail, "SecretMissing");
    let ready = view(|status| status.conditions[1].status = "True".into());
    is(&policies(&[ready])[0], Verdict::Ok, "SecretMissing");
    let unseen = view(|status| status.observed_generation = Some(0));
    is(&policies(&[unseen])[0], Verdict::Warn, "has not seen it");
    let finding = sinks(std::slice::from_ref(&waiting)).remove(0);
    is(&finding, Verdict::Fail, "no such name: hec.example.com");
    assert_eq!(finding.subject, "logs → splunk");
    let in_state = |state: Option<&str>| {
        let view = view(|status| {
            let delivery = &mut status.sinks[0].delivery;
            match state {
                Some(state) => delivery.as_mut().unwrap().state = state.into(),
                None => *delivery = None,
            }
        });
        sinks(&[view]).remove(0)
    };
    is(&in_state(Some("Delivering")), Verdict::Ok, "acknowledges");
    is(
        &in_state(Some("NothingSent")),
        Verdict::Warn,
        "nothing was sent",
    );
    is(
        &in_state(Some("Unknown")),
        Verdict::Warn,
        "no agent reports",
    );
    is(&in_state(None), Verdict::Warn, "nobody has reported");
}

#[test]
fn what_is_wrong_stands_out_with_what_to_do_below_it() {
    let diagnosis = Diagnosis {
        findings: vec![
            Finding::ok(("guard", "dry-run-only"), "it is there"),
            Finding::fail(("namespace", "compute"), "it does not exist")
                .mended_by("kubectl create namespace compute"),
        ],
    };
    assert_eq!(diagnosis.verdict(), Verdict::Fail);
    assert_eq!(Diagnosis::default().verdict(), Verdict::Ok);
    let lines = "ok    guard      dry-run-only  it is there\n\
        FAIL  namespace  compute       it does not exist\n      → kubectl create namespace compute\n\
        1 ok, 0 to be aware of, 1 to be mended\n";
    assert_eq!(text(&diagnosis, Palette::Plain), lines);
    let coloured = text(&diagnosis, Palette::Colour);
    assert!(coloured.contains("\x1b[31mFAIL"), "{coloured}");
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["findings"][1]["verdict"], "fail");
}
