//! The `MutatingWebhookConfiguration`: of which pods the API server asks the webhook, and what the webhook is to add.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::{
    admission::{self, DefinitionUid},
    external::{External, NotExternal},
    history::History,
    injection,
    installation::Installation,
    names,
    sidecar::Sidecar,
};

/// How long the API server waits for an answer, in seconds, of at most 30 (Kubernetes: "Dynamic Admission Control,
/// Timeouts"). An answer takes milliseconds; a connection whose first packet got lost is tried again after one second, and
/// no replica that hangs holds up a pod for longer than this.
const TIMEOUT: i32 = 2;

/// Where on the server pods are asked about.
pub const PATH: &str = "/inject";

/// How API servers reach the webhook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    /// By its Service in this namespace.
    Service {
        /// The operator's namespace.
        namespace: String,
    },
    /// By an address: it runs outside of the cluster.
    Url(External),
}

impl Reach {
    /// By an address.
    ///
    /// # Errors
    /// When API servers would refuse it.
    pub fn url(url: &str) -> Result<Self, NotExternal> {
        External::parse(url).map(Self::Url)
    }

    /// The name that the certificate has to have.
    pub fn host(&self) -> String {
        match self {
            Self::Service { namespace } => format!("{}.{namespace}.svc", names::WEBHOOK),
            Self::Url(external) => external.host(),
        }
    }

    fn client_config(&self, ca_bundle: Option<&str>) -> WebhookClientConfig {
        let (service, url) = match self {
            Self::Service { namespace } => (
                Some(ServiceReference {
                    name: names::WEBHOOK.to_owned(),
                    namespace: namespace.clone(),
                    path: Some(PATH.to_owned()),
                    port: Some(443),
                }),
                None,
            ),
            Self::Url(external) => {
                let base = external.endpoint().to_string();
                (None, Some(format!("{}{PATH}", base.trim_end_matches('/'))))
            }
        };
        WebhookClientConfig {
            ca_bundle: ca_bundle.map(|pem| ByteString(pem.as_bytes().to_vec())),
            service,
            url,
        }
    }
}

/// Whom API servers trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// These authorities, as PEM.
    CaBundle(String),
    /// Whatever cert-manager's cainjector writes.
    Injected {
        /// `namespace/name` of the Certificate that it takes it from.
        certificate: String,
        /// What the operator has written before, as PEM: it stays until the cainjector has written something else.
        meanwhile: Option<String>,
    },
}

/// What the webhook is told to add to pods.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Told {
    /// The installation that it follows from.
    pub installation: Installation,
    /// What is added.
    pub sidecar: Sidecar,
}

impl Told {
    /// What an installation has it told.
    ///
    /// # Errors
    /// When the sidecar cannot be serialised.
    pub fn new(installation: &Installation) -> Result<Self, serde_json::Error> {
        Ok(Self {
            sidecar: Sidecar::new(&installation.agent)?,
            installation: installation.clone(),
        })
    }

    /// What a configuration tells it; none when that cannot be read.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            installation: admission::installation_in_force(annotations)?,
            sidecar: sidecar_in_force(annotations)?,
        })
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        Ok(BTreeMap::from([
            (
                names::INSTALLATION_ANNOTATION.to_owned(),
                serde_json::to_string(&self.installation)?,
            ),
            (
                names::SIDECAR_ANNOTATION.to_owned(),
                serde_json::to_string(&self.sidecar)?,
            ),
        ]))
    }
}

/// What pods got before a configuration that has not been seen to act yet.
///
/// There is one configuration, so what is tried is written over what is in force. Whoever takes over before the trial has ended
/// finds here what to go back to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Former {
    /// What was added to pods; none where nothing was.
    pub told: Option<Told>,
    /// Where.
    pub namespaces: BTreeSet<String>,
}

impl Former {
    /// What a configuration is tried in place of; none when it is in force.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(names::FORMER_ANNOTATION)?).ok()
    }
}

/// The configuration for the pods of these namespaces; `former` says what there was before, as long as it is only tried, and
/// `history` what pods got before that.
///
/// # Errors
/// When what is told cannot be serialised.
pub fn configuration(
    told: &Told,
    former: Option<&Former>,
    history: &History,
    namespaces: &BTreeSet<String>,
    definition: &DefinitionUid,
    reach: &Reach,
    trust: &Trust,
) -> Result<MutatingWebhookConfiguration, serde_json::Error> {
    let mut annotations = told.annotations()?;
    annotations.extend([history.annotation()?]);
    if let Some(former) = former {
        let former = serde_json::to_string(former)?;
        annotations.insert(names::FORMER_ANNOTATION.to_owned(), former);
    }
    let ca_bundle = match trust {
        Trust::CaBundle(pem) => Some(pem.as_str()),
        Trust::Injected {
            certificate,
            meanwhile,
        } => {
            annotations.insert(names::INJECT_CA_ANNOTATION.to_owned(), certificate.clone());
            meanwhile.as_deref()
        }
    };
    let webhook = MutatingWebhook {
        name: names::WEBHOOK_CONFIGURATION.to_owned(),
        client_config: reach.client_config(ca_bundle),
        // Nobody waits for us: a pod that could not be asked about is created without the agent.
        failure_policy: Some("Ignore".to_owned()),
        timeout_seconds: Some(TIMEOUT),
        rules: Some(vec![RuleWithOperations {
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".to_owned()]),
            resources: Some(vec!["pods".to_owned()]),
            // Init containers cannot be changed later.
            operations: Some(vec!["CREATE".to_owned()]),
            scope: Some("Namespaced".to_owned()),
        }]),
        match_policy: Some("Equivalent".to_owned()),
        // These namespaces and no others: no system pod ever waits for an answer.
        namespace_selector: Some(admission::namespace_selector(namespaces)),
        object_selector: Some(injection::object_selector()),
        // What is injected already, by an admission policy perhaps, is not asked about.
        match_conditions: Some(injection::match_conditions()),
        // Others may add volumes or containers after us; once more costs nothing, since it is not asked about then.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        side_effects: "None".to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
    };
    Ok(MutatingWebhookConfiguration {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..admission::metadata(names::WEBHOOK_CONFIGURATION, definition)
        },
        webhooks: Some(vec![webhook]),
    })
}

/// What a configuration tells the webhook to add.
pub fn sidecar_in_force(annotations: &BTreeMap<String, String>) -> Option<Sidecar> {
    serde_json::from_str(annotations.get(names::SIDECAR_ANNOTATION)?).ok()
}

/// Whom a configuration has API servers trust, as PEM.
pub fn published(configuration: &MutatingWebhookConfiguration) -> Option<String> {
    let webhook = configuration.webhooks.as_ref()?.first()?;
    let pem = webhook.client_config.ca_bundle.as_ref()?;
    String::from_utf8(pem.0.clone()).ok()
}

/// Whether the operator has written that, and nobody has written something else since: who owns the field
/// (Kubernetes: "Server-Side Apply, Field management").
pub fn is_published_by_us(configuration: &MutatingWebhookConfiguration) -> bool {
    let webhook = format!(r#"k:{{"name":"{}"}}"#, names::WEBHOOK_CONFIGURATION);
    let entries = configuration.metadata.managed_fields.iter().flatten();
    entries
        .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| !fields.0["f:webhooks"][&webhook]["f:clientConfig"]["f:caBundle"].is_null())
}

/// The namespaces whose pods the webhook is asked about.
pub fn bound_namespaces(configuration: &MutatingWebhookConfiguration) -> BTreeSet<String> {
    let webhooks = configuration.webhooks.iter().flatten();
    webhooks
        .filter_map(|webhook| webhook.namespace_selector.as_ref())
        .flat_map(admission::selected_namespaces)
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    use serde_json::json;

    use super::*;
    use crate::testing::installation;

    fn rendered(reach: &Reach, trust: &Trust) -> MutatingWebhookConfiguration {
        let namespaces = ["katonic-compute".to_owned(), "katonic-platform".to_owned()].into();
        let definition = DefinitionUid("uid-of-the-definition".into());
        let told = Told::new(&installation()).unwrap();
        let history = History::default();
        configuration(
            &told,
            None,
            &history,
            &namespaces,
            &definition,
            reach,
            trust,
        )
        .unwrap()
    }

    fn by_service() -> Reach {
        Reach::Service {
            namespace: names::OPERATOR_NAMESPACE.to_owned(),
        }
    }

    #[test]
    fn the_configuration_is_as_reviewed() {
        let trust = Trust::CaBundle("-----BEGIN CERTIFICATE-----\n".to_owned());
        insta::assert_yaml_snapshot!("configuration", rendered(&by_service(), &trust));
    }

    #[test]
    fn the_webhook_finds_what_it_is_to_add() {
        let trust = Trust::CaBundle("pem".to_owned());
        let configuration = rendered(&by_service(), &trust);
        assert_eq!(published(&configuration).as_deref(), Some("pem"));
        let annotations = configuration.metadata.annotations.unwrap();
        let told = Told::new(&installation()).unwrap();
        assert_eq!(sidecar_in_force(&annotations), Some(told.sidecar.clone()));
        assert_eq!(Told::read(&annotations), Some(told));
    }

    /// A former agent goes on being added while other namespaces and other authorities are told.
    #[test]
    fn what_is_told_is_written_again_as_it_was_read() {
        let trust = Trust::CaBundle("pem".to_owned());
        let first = rendered(&by_service(), &trust);
        let told = Told::read(first.metadata.annotations.as_ref().unwrap()).unwrap();
        let namespaces = ["katonic-compute".to_owned()].into();
        let definition = DefinitionUid("uid-of-the-definition".into());
        let trust = Trust::CaBundle("another".to_owned());
        let write = |former: Option<&Former>| {
            let reach = by_service();
            let history = History::default();
            configuration(
                &told,
                former,
                &history,
                &namespaces,
                &definition,
                &reach,
                &trust,
            )
            .unwrap()
        };
        let again = write(None);
        assert_eq!(again.metadata, first.metadata);
        assert_eq!(bound_namespaces(&again), namespaces);
        assert_eq!(published(&again).as_deref(), Some("another"));
    }

    #[test]
    fn what_is_tried_tells_what_there_was_before() {
        let tried = |former: Option<&Former>| {
            let trust = Trust::CaBundle("pem".to_owned());
            let namespaces = ["katonic-compute".to_owned()].into();
            let definition = DefinitionUid("uid-of-the-definition".into());
            let mut installation = installation();
            installation.agent.image = "localhost/another:v2".to_owned();
            let told = Told::new(&installation).unwrap();
            let reach = by_service();
            let history = History::default();
            let tried = configuration(
                &told,
                former,
                &history,
                &namespaces,
                &definition,
                &reach,
                &trust,
            )
            .unwrap();
            let annotations = tried.metadata.annotations.unwrap();
            assert_eq!(Told::read(&annotations), Some(told));
            Former::read(&annotations)
        };
        let former = Former {
            told: Some(Told::new(&installation()).unwrap()),
            namespaces: ["katonic-platform".to_owned()].into(),
        };
        for former in [Former::default(), former] {
            assert_eq!(tried(Some(&former)), Some(former));
        }
        assert_eq!(tried(None), None);
    }

    #[test]
    fn what_cert_manager_injects_is_left_to_it() {
        let injected = |meanwhile: Option<&str>| Trust::Injected {
            certificate: "katonic-logging/katonic-logging-webhook".to_owned(),
            meanwhile: meanwhile.map(str::to_owned),
        };
        // Until it is injected, what was published before stays.
        let before = rendered(&by_service(), &injected(Some("pem")));
        assert_eq!(published(&before).as_deref(), Some("pem"));
        let configuration = rendered(&by_service(), &injected(None));
        assert_eq!(published(&configuration), None);
        assert_eq!(
            configuration.metadata.annotations.unwrap()["cert-manager.io/inject-ca-from"],
            "katonic-logging/katonic-logging-webhook"
        );
    }

    #[test]
    fn whoever_has_written_last_whom_to_trust_owns_it() {
        let owned = |manager: &str, field: &str| {
            let webhook = r#"k:{"name":"katonic-log-agent.logging.katonic.ai"}"#;
            let mut configuration = rendered(&by_service(), &Trust::CaBundle("pem".to_owned()));
            configuration.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
                manager: Some(manager.to_owned()),
                fields_v1: Some(FieldsV1(
                    json!({"f:webhooks": {webhook: {"f:clientConfig": {field: {}}}}}),
                )),
                ..ManagedFieldsEntry::default()
            }]);
            is_published_by_us(&configuration)
        };
        assert!(owned("katonic-logging", "f:caBundle"));
        assert!(!owned("katonic-logging", "f:service"));
        assert!(!owned("cert-manager-cainjector", "f:caBundle"));
    }

    #[test]
    fn the_webhook_is_asked_by_its_service_or_at_an_address() {
        let reach = Reach::url("https://127.0.0.1:8443").unwrap();
        assert_eq!(reach.host(), "127.0.0.1");
        let client = reach.client_config(None);
        assert_eq!(client.url.as_deref(), Some("https://127.0.0.1:8443/inject"));
        assert_eq!(Reach::url("https://a/b"), Err(NotExternal));
        assert_eq!(
            by_service().host(),
            "katonic-logging-webhook.katonic-logging.svc"
        );
    }
}
