//! A logging policy after validation: nothing that follows can be surprised by it.

pub(crate) mod archive;
mod connection;
mod management;
mod processing;
mod selection;
mod sinks;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

pub use archive::{
    ACCESS_KEY_ID, OfInstallation, SAS_TOKEN, SECRET_ACCESS_KEY, SERVICE_ACCOUNT_KEY, STORAGE_KEY,
};
pub use management::{
    CLIENT_ID, CLIENT_SECRET, InvalidResource, ManagedAccount, ManagedSetting, ResourceGroup,
    SubscriptionId, TENANT_ID,
};
pub(crate) use sinks::is_splunk_cloud;

use k8s_openapi::jiff::SignedDuration;
use katonic_log_config as config;
use katonic_log_config::{ArchiveLayout, ContainerFilter, CredentialKey, Selector};
use katonic_logging_crds::{
    LoggingPolicy, LoggingPolicySpec, Logs, Period, Plane, Rollout, SecretKeyRef,
};

use crate::retention::Retention;

/// A policy that can be planned with.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Planes that it reaches, never none.
    pub planes: BTreeSet<Plane>,
    /// Whose output it is about.
    pub logs: Logs,
    /// Whether it is taken out of force for the time being.
    pub suspend: bool,
    /// What becomes of running pods that lack the agent or have an older one.
    pub rollout: Rollout,
    /// How long its logs are to be kept, where it says so: see [`Policy::retention`].
    pub asked_retention: Option<Retention>,
    /// Pods.
    pub selector: Selector,
    /// Components; empty: all.
    pub components: BTreeSet<String>,
    /// Containers.
    pub containers: ContainerFilter,
    /// Of their logs the audit events are meant, and nothing else; none: every line.
    pub audit: Option<config::Audit>,
    /// What is done to each record.
    pub processing: Processing,
    /// Sinks, in the order of the policy.
    pub sinks: Vec<Sink>,
    /// Sinks whose store the installation names: see [`Policy::resolved`].
    pub of_installation: Vec<OfInstallation>,
}

/// What is done to each record of a policy, whatever sink it goes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processing {
    /// Which lines make one record.
    pub multiline: Option<config::Multiline>,
    /// Steps, in this order.
    pub filters: Vec<config::Filter>,
    /// What a record's text is taken for.
    pub parse: config::Parse,
    /// Labels that go with a record; none: all.
    pub pod_labels: Option<BTreeSet<String>>,
    /// Keys of its digests.
    pub needs: Needs,
}

/// A sink of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its kind, as the policy's field is called.
    pub kind: &'static str,
    /// Whether it gets nothing but what the others could not deliver.
    pub is_fallback: bool,
    /// What the agents are told of it.
    pub config: config::Sink,
    /// The credentials that it needs.
    pub needs: Needs,
    /// What is allowed and dangerous.
    pub warnings: Vec<String>,
    /// What delivered can mean, where it is less than elsewhere.
    pub delivered_means: Option<&'static str>,
    /// What the operator looks after its store with, if anybody is to.
    pub management: Option<Management>,
}

/// What the operator looks after a store with. Agents never see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Management {
    /// Who it is there.
    pub keys: ManagementKeys,
    /// Where its credentials come from.
    pub needs: Needs,
}

/// Who the operator is in a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ManagementKeys {
    /// An access key of S3.
    AccessKey {
        /// Its id.
        id: CredentialKey,
        /// Its secret.
        secret: CredentialKey,
    },
    /// The key file of a service account of Google's.
    ServiceAccount(CredentialKey),
    /// A service principal of Microsoft Entra.
    ServicePrincipal {
        /// The tenant that it is in.
        tenant: CredentialKey,
        /// Its application.
        client: CredentialKey,
        /// A secret of the application.
        secret: CredentialKey,
        /// What it looks after.
        account: ManagedAccount,
    },
    /// Whoever may change a setting.
    Setting {
        /// What it is.
        setting: ManagedSetting,
        /// A token, a key or a password.
        secret: CredentialKey,
    },
}

/// The credentials that something needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// Each of them.
    pub sources: BTreeMap<CredentialKey, CredentialSource>,
    /// Certificates with the private keys that must belong to them.
    pub pairs: BTreeMap<CredentialKey, CredentialKey>,
}

/// Where a credential comes from, and what it has to be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CredentialSource {
    /// Secret and key.
    pub secret: SecretKeyRef,
    /// What it is used for; it must be fit for all of it.
    pub usages: BTreeSet<Usage>,
}

/// What a credential is used for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Usage {
    /// As the whole value of a header: visible ASCII and blanks (RFC 9110 §5.5).
    Header,
    /// As the token in a header: visible ASCII.
    Token,
    /// As a part of Loggly's address: letters, digits and `-`.
    LogglyToken,
    /// As the password of Basic authentication: UTF-8 without control characters (RFC 7617 §2).
    Password,
    /// As trusted authorities: PEM.
    Authorities,
    /// As the agent's own certificate, with those between it and its authority: PEM.
    Certificate,
    /// As the key of the agent's own certificate: PEM.
    PrivateKey,
    /// As the key of digests: any bytes, enough of them.
    HashKey,
    /// As an access key id or the secret that belongs to it: visible ASCII.
    AccessKey,
    /// As the key file of a service account of Google's: JSON with an RSA key.
    ServiceAccountKey,
    /// As a key of a storage account of Azure's: Base64.
    StorageKey,
    /// As a shared access signature of Azure's: a query.
    SasToken,
    /// As the id of a tenant or an application of Microsoft Entra, which is a part of an address.
    EntraId,
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Where, as a path into the object.
    pub path: String,
    /// What, and what to write instead.
    pub message: String,
}

impl Policy {
    /// How long its logs are to be kept.
    pub fn retention(&self) -> Retention {
        self.asked_retention
            .unwrap_or_else(|| Retention::of_kind(self.logs))
    }

    /// What the operator alone needs.
    pub fn management_needs(&self) -> impl Iterator<Item = &Needs> {
        let managements = self
            .sinks
            .iter()
            .filter_map(|sink| sink.management.as_ref());
        managements.map(|management| &management.needs)
    }

    /// Everything of which agents need the credentials: the steps, and each sink.
    pub fn needs(&self) -> impl Iterator<Item = &Needs> {
        let sinks = self.sinks.iter().map(|sink| &sink.needs);
        std::iter::once(&self.processing.needs).chain(sinks)
    }

    /// Every key of a Secret that it names; one may come several times.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        self.needs()
            .chain(self.management_needs())
            .flat_map(|needs| needs.sources.values())
            .map(|source| &source.secret)
    }
}

/// Turns a custom resource into a policy.
///
/// The API server has refused most of what is refused here; this is the same once more for objects that were stored
/// under an earlier definition, and the step that makes types of text. What no schema can tell is whether a regular
/// expression compiles: that is seen here first.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn validate(resource: &LoggingPolicy) -> Result<Policy, Vec<Violation>> {
    read(&resource.spec, None)
}

/// The same of a policy's spec, or of what an audit policy ships.
pub(crate) fn read(
    spec: &LoggingPolicySpec,
    audit: Option<config::Audit>,
) -> Result<Policy, Vec<Violation>> {
    let mut reader = Reader::default();
    let logs = spec.logs.unwrap_or_default();
    let by_default = match logs {
        Logs::Application => &Plane::ALL[..],
        Logs::Execution => &[Plane::Compute],
    };
    let planes = spec.planes.as_deref().unwrap_or(by_default);
    let planes: BTreeSet<Plane> = planes.iter().copied().collect();
    if planes.is_empty() {
        reader.violation(
            "spec.planes",
            "is empty: name a plane, or leave the field out for both",
        );
    }
    if logs == Logs::Execution {
        reader.execution(spec, &planes);
    }
    let selector = reader.selector(spec.selector.as_ref());
    let containers = reader.containers(spec.containers.as_ref());
    let processing = reader.processing(spec);
    let retention = spec.retention.as_ref();
    let retention = retention.map(|text| reader.take("spec.retention", text.parse()));
    let layout = match (&audit, logs) {
        (Some(_), _) => ArchiveLayout::Audit,
        (None, Logs::Application) => ArchiveLayout::Application,
        (None, Logs::Execution) => ArchiveLayout::Executions,
    };
    let (sinks, of_installation) = reader.sinks(spec, layout);
    let policy = Policy {
        planes,
        logs,
        suspend: spec.suspend.unwrap_or(false),
        rollout: spec.rollout.unwrap_or_default(),
        asked_retention: retention.and_then(Result::ok),
        selector,
        components: spec.components.iter().flatten().cloned().collect(),
        containers,
        audit,
        processing,
        sinks,
        of_installation,
    };
    reader.violations.extend(policy.outlasted());
    if reader.violations.is_empty() {
        Ok(policy)
    } else {
        Err(reader.violations)
    }
}

/// Collects what is wrong while it reads.
#[derive(Default)]
struct Reader {
    violations: Vec<Violation>,
}

/// A violation has been told: there is no value.
#[derive(Clone, Copy, Debug)]
struct Told;

impl Reader {
    fn violation(&mut self, path: impl Into<String>, message: impl Into<String>) -> Told {
        self.violations.push(Violation {
            path: path.into(),
            message: message.into(),
        });
        Told
    }

    /// The value, or a violation with the error's words.
    fn take<T, E: std::fmt::Display>(
        &mut self,
        path: impl Into<String>,
        result: Result<T, E>,
    ) -> Result<T, Told> {
        result.map_err(|error| self.violation(path, error.to_string()))
    }

    /// A number of at least 1.
    fn positive(&mut self, path: String, number: i32) -> Result<NonZeroU32, Told> {
        let read = u32::try_from(number).ok().and_then(NonZeroU32::new);
        read.ok_or_else(|| self.violation(path, format!("{number} is too small: use at least 1")))
    }

    /// A duration in milliseconds.
    fn milliseconds(
        &mut self,
        path: String,
        text: &str,
        Period { least, most }: Period,
    ) -> Result<NonZeroU32, Told> {
        let parse = |text: &str| {
            let duration: SignedDuration = text.parse().ok()?;
            u32::try_from(duration.as_millis()).ok()
        };
        let read = match (parse(text), parse(least), parse(most)) {
            (Some(one), Some(least), Some(most)) if (least..=most).contains(&one) => {
                NonZeroU32::new(one)
            }
            _ => None,
        };
        read.ok_or_else(|| {
            self.violation(
                path,
                format!("`{text}` is not a duration between {least} and {most}: write for example {least} or {most}"),
            )
        })
    }
}

#[cfg(test)]
mod tests;
