//! `katonic-logging doctor`: asks the cluster for everything that a support engineer would look at, and shows what is thought of it. Writes
//! nothing: pods are created in dry runs alone.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding,
        },
        apps::v1::Deployment,
        authorization::v1::SubjectAccessReview,
        coordination::v1::Lease,
        core::v1::{Namespace, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    jiff::Timestamp,
};
use katonic_logging_core::{
    Installation,
    diagnosis::{self, Answer, Diagnosis, Finding, Probe, Reading, Right, Verdict, text},
    names, plan,
};
use katonic_logging_crds::{Plane, SecretKeyRef, manifest};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::PostParams,
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde::de::DeserializeOwned;

use crate::{
    access::{self, Patience},
    args::DoctorArgs,
    cache::chain,
    status::{Error, Policies, complain, palette, print, render},
};

/// What it is for.
pub const ABOUT: &str = "\
Looks through the installation as a support engineer would, and says of each thing whether it is well, and what to do.

It asks as you: definitions, namespaces, Deployments, the lease of the leader, the Service for reports, certificates and Secrets (whether \
their keys are there; no value is shown), what the operator may do (SubjectAccessReviews), whether a new pod gets the log agent (a pod in a \
dry run, which is never created), and what the statuses of the policies say. What you may not read is told as such. Names and TLS of \
sinks are looked at by the agents, from inside the pods whose logs they send: what they meet is in the policies' statuses.";

/// What its end means.
pub const HELP: &str = "\
Exit codes:
  0  nothing is to be mended
  1  something is: FAIL
  2  the command line is wrong
  3  the cluster could not be asked, or does not have the product

Colours appear on a terminal only, and not where NO_COLOR is set.";

/// Questions that are asked at once.
const CONCURRENCY: usize = 8;

/// How long a lease may take to be renewed before its holder is held for gone, and how often it is looked at.
const RENEWAL: (Duration, u32) = (Duration::from_millis(500), 40);

/// Looks, and shows what it finds. The exit code is told in the help of the command.
pub async fn run(args: DoctorArgs) -> ExitCode {
    let shown = match diagnose(&args).await {
        Ok(diagnosis) => render(&diagnosis, args.output, |diagnosis| {
            text(diagnosis, palette())
        })
        .and_then(|rendered| print(&rendered))
        .map(|_| diagnosis.verdict()),
        Err(error) => Err(error),
    };
    match shown {
        Ok(Verdict::Ok | Verdict::Warn) => ExitCode::SUCCESS,
        Ok(Verdict::Fail) => ExitCode::from(1),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(3)
        }
    }
}

async fn diagnose(args: &DoctorArgs) -> Result<Diagnosis, Error> {
    let client = access::connect(&args.cluster, Patience::OfAnswers).await?;
    let namespace = args.cluster.namespace.as_str();
    // Nothing else makes sense without them.
    let policies = Policies::read(&client).await?;
    let ward = Ward {
        client: &client,
        namespace,
    };
    let installation = access::installation(&client, namespace).await;
    let reading = match &installation {
        Ok(_) => Reading::Usable,
        Err(error @ access::Error::NoInstallation(_)) => Reading::Unusable(error.to_string()),
        Err(error) => Reading::Unread(error.to_string()),
    };
    let installation = installation.ok();
    let mut findings = ward.definitions().await;
    findings.push(diagnosis::installed(namespace, reading));
    findings.push(ward.claim().await);
    findings.extend(ward.guards().await);
    findings.extend(ward.rights(installation.as_ref()).await);
    findings.extend(ward.operator().await);
    if let Some(installation) = &installation {
        findings.extend(ward.planes(installation, &policies).await);
    }
    findings.extend(ward.secrets(&policies).await);
    let views = policies.views();
    if let Some(why) = &policies.without_audit {
        findings.push(Finding::warn(("policy", "audit policies"), why.clone()));
    }
    findings.extend(diagnosis::policies(&views));
    findings.extend(diagnosis::sinks(&views));
    Ok(Diagnosis { findings })
}

/// The installation that is looked through.
struct Ward<'a> {
    client: &'a Client,
    namespace: &'a str,
}

/// What was asked for, or what is said where it could not be read.
type Seen<K> = Result<Option<K>, Finding>;

impl Ward<'_> {
    async fn cluster_wide<K>(&self, check: &'static str, name: &str) -> Seen<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        seen(check, name.to_owned(), api.get_opt(name).await)
    }

    async fn own<K>(&self, check: &'static str, name: &str) -> Seen<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let subject = format!("{}/{name}", self.namespace);
        seen(check, subject, api.get_opt(name).await)
    }

    async fn definitions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for built in manifest::all() {
            let found: Seen<CustomResourceDefinition> =
                self.cluster_wide("definition", &built.name_any()).await;
            findings.push(found.map_or_else(
                |unread| unread,
                |found| diagnosis::definition(found.as_ref(), &built),
            ));
        }
        findings
    }

    async fn guards(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for shipped in diagnosis::guards(self.namespace) {
            let policy: Seen<ValidatingAdmissionPolicy> =
                self.cluster_wide("guard", &shipped.name).await;
            let binding: Seen<ValidatingAdmissionPolicyBinding> =
                self.cluster_wide("guard", &shipped.name).await;
            findings.push(match (policy, binding) {
                (Ok(policy), Ok(binding)) => {
                    diagnosis::guard(&shipped, policy.as_ref(), binding.as_ref())
                }
                (Err(unread), _) | (_, Err(unread)) => unread,
            });
        }
        findings
    }

    async fn rights(&self, installation: Option<&Installation>) -> Vec<Finding> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let ask = |right: Right| {
            let api = api.clone();
            async move {
                let review = SubjectAccessReview {
                    spec: right.asked(self.namespace),
                    ..SubjectAccessReview::default()
                };
                let asked = api.create(&PostParams::default(), &review).await;
                let answer = match asked {
                    Ok(review) => Answer::of(review.status),
                    Err(kube::Error::Api(status)) if status.code == 403 => Answer::MayNotAsk,
                    Err(error) => Answer::Unanswered(chain(&error)),
                };
                (right, answer)
            }
        };
        let mut rights = diagnosis::shipped(self.namespace, installation);
        // Without it the webhook's account has none of them, and needs none.
        let webhook: Seen<Deployment> = self.own("deployment", names::WEBHOOK).await;
        if matches!(webhook, Ok(Some(_))) {
            rights.extend(diagnosis::of_webhook(self.namespace));
        }
        let asked: Vec<_> = stream::iter(rights)
            .map(ask)
            .buffered(CONCURRENCY)
            .collect()
            .await;
        diagnosis::judged(&asked)
    }

    /// The operator itself: its pods, who leads, where agents report, certificates, and the webhook where there is one.
    async fn operator(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (leader, holder) = self.leader().await;
        let is_led = leader.verdict == Verdict::Ok;
        let deployment: Seen<Deployment> = self.own("deployment", names::FIELD_MANAGER).await;
        findings.push(deployment.map_or_else(
            |unread| unread,
            |one| diagnosis::deployment(self.namespace, names::FIELD_MANAGER, one.as_ref(), is_led),
        ));
        findings.push(leader);
        findings.push(self.reports(holder.as_deref()).await);
        findings.push(self.certificate(names::REPORTS_CERTIFICATE).await);
        findings.extend(self.webhook().await);
        findings
    }

    /// Whether this installation is the one that works.
    async fn claim(&self) -> Finding {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), names::CLAIM_NAMESPACE);
        let subject = format!("{}/{}", names::CLAIM_NAMESPACE, names::CLAIM);
        let lease = seen("claim", subject, leases.get_opt(names::CLAIM).await);
        lease.map_or_else(
            |unread| unread,
            |lease| diagnosis::claim(self.namespace, lease.as_ref()),
        )
    }

    async fn leader(&self) -> (Finding, Option<String>) {
        let read = async || self.own::<Lease>("leader", names::LEASE).await;
        let first = match read().await {
            Ok(first) => first,
            Err(unread) => return (unread, None),
        };
        let renewed = |lease: &Option<Lease>| lease.as_ref()?.spec.as_ref()?.renew_time.clone();
        let mut later = first.clone();
        for _ in 0..RENEWAL.1 {
            if first.is_none() || renewed(&first) != renewed(&later) {
                break;
            }
            tokio::time::sleep(RENEWAL.0).await;
            later = match read().await {
                Ok(later) => later,
                Err(unread) => return (unread, None),
            };
        }
        let finding = diagnosis::lease(self.namespace, first.as_ref(), later.as_ref());
        let holder = later.and_then(|lease| lease.spec?.holder_identity);
        (finding, holder)
    }

    async fn reports(&self, leader: Option<&str>) -> Finding {
        let service: Seen<Service> = self.own("reports", names::REPORTS).await;
        let slice: Seen<EndpointSlice> = self.own("reports", names::REPORTS).await;
        // The holder of the lease is called like its pod, where it runs in one.
        let pod: Seen<Pod> = match leader {
            Some(leader) => self.own("reports", leader).await,
            None => Ok(None),
        };
        match (service, slice, pod) {
            (Ok(service), Ok(slice), Ok(pod)) => diagnosis::reports(
                self.namespace,
                service.as_ref(),
                slice.as_ref(),
                pod.as_ref(),
            ),
            (Err(unread), ..) | (_, Err(unread), _) | (.., Err(unread)) => unread,
        }
    }

    async fn certificate(&self, name: &str) -> Finding {
        let secret: Seen<Secret> = self.own("certificate", name).await;
        secret.map_or_else(
            |unread| unread,
            |secret| {
                let pem = secret
                    .as_ref()
                    .and_then(|secret| secret.data.as_ref()?.get("tls.crt"));
                let pem = pem.map(|pem| pem.0.as_slice());
                diagnosis::certificate(self.namespace, name, pem, Timestamp::now())
            },
        )
    }

    async fn webhook(&self) -> Vec<Finding> {
        let configuration: Seen<MutatingWebhookConfiguration> = self
            .cluster_wide("webhook", names::WEBHOOK_CONFIGURATION)
            .await;
        let deployment: Seen<Deployment> = self.own("deployment", names::WEBHOOK).await;
        match (configuration, deployment) {
            // Pods are injected without it.
            (Ok(None), Ok(None)) => Vec::new(),
            (Ok(_), Ok(deployment)) => {
                let deployment = deployment.as_ref();
                vec![
                    diagnosis::deployment(self.namespace, names::WEBHOOK, deployment, false),
                    self.certificate(names::WEBHOOK_CERTIFICATE).await,
                ]
            }
            (Err(unread), _) | (_, Err(unread)) => vec![unread],
        }
    }

    /// The planes' namespaces, and whether new pods there get the agent.
    async fn planes(&self, installation: &Installation, policies: &Policies) -> Vec<Finding> {
        let mut findings = Vec::new();
        for plane in Plane::ALL {
            let name = installation.namespace(plane);
            let found: Seen<Namespace> = self.cluster_wide("namespace", name).await;
            let namespace = match found {
                Ok(namespace) => namespace,
                Err(unread) => {
                    findings.push(unread);
                    continue;
                }
            };
            let is_there = namespace.is_some();
            let namespace = namespace.map(|namespace| plan::Namespace {
                pod_security: namespace.labels().get(names::POD_SECURITY_LABEL).cloned(),
                terminating: namespace.metadata.deletion_timestamp.is_some(),
                uid: namespace.uid().unwrap_or_default(),
            });
            findings.push(diagnosis::namespace(
                name,
                plane.as_str(),
                namespace.as_ref(),
            ));
            if is_there {
                let probe = self.probe(name, &installation.agent.image).await;
                let is_wanted = policies.reach(plane);
                findings.push(diagnosis::injection(name, &probe, is_wanted));
            }
        }
        findings
    }

    /// What would become of a new pod.
    async fn probe(&self, namespace: &str, image: &str) -> Probe {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = diagnosis::trial_pod(image);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match pods.create(&dry_run, &pod).await {
            Ok(pod) => Probe::Created(Box::new(pod)),
            Err(kube::Error::Api(status)) if diagnosis::is_about_rights(&status.message) => {
                Probe::Forbidden
            }
            Err(error) => Probe::Refused(chain(&error)),
        }
    }

    /// The Secrets that policies name.
    async fn secrets(&self, policies: &Policies) -> Vec<Finding> {
        let mut wanted: BTreeMap<&str, Vec<&SecretKeyRef>> = BTreeMap::new();
        for reference in policies.secrets() {
            let keys = wanted.entry(reference.name.as_str()).or_default();
            if !keys.contains(&reference) {
                keys.push(reference);
            }
        }
        let mut findings = Vec::new();
        for (name, keys) in wanted {
            let found: Seen<Secret> = self.own("secret", name).await;
            findings.push(found.map_or_else(
                |unread| unread,
                |secret| diagnosis::secret(self.namespace, &keys, secret.as_ref()),
            ));
        }
        findings
    }
}

fn seen<K>(check: &'static str, subject: String, read: kube::Result<Option<K>>) -> Seen<K> {
    read.map_err(|error| {
        let error = access::Error::read(subject.clone(), &error);
        Finding::warn((check, subject), error.to_string())
    })
}
