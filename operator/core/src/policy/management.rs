//! What the operator looks after a sink's store with.

use std::{fmt, num::NonZeroU32};

use katonic_log_config::Endpoint;
use katonic_logging_crds as api;
use katonic_logging_crds::ServiceAccountSecretRef;

use super::{
    Management, ManagementKeys, Needs, Reader, Told, Usage, archive::SERVICE_ACCOUNT_KEY,
    connection::Findings,
};

/// Keys of a Secret with a service principal, as Azure's own tools name them.
pub const TENANT_ID: &str = "AZURE_TENANT_ID";
/// See [`TENANT_ID`].
pub const CLIENT_ID: &str = "AZURE_CLIENT_ID";
/// See [`TENANT_ID`].
pub const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";

/// Where accounts are managed, and who gives tokens for that, in Azure's public cloud.
const RESOURCE_MANAGER: &str = "https://management.azure.com";
const AUTHORITY_HOST: &str = "https://login.microsoftonline.com";

/// Where stacks of Splunk Cloud are managed (Splunk: "Basic setup and usage concepts for the ACS API").
const SPLUNK_CLOUD: &str = "https://admin.splunk.com";

/// Where accounts are managed (New Relic: "Introduction to NerdGraph").
const NERDGRAPH: &str = "https://api.newrelic.com";
const NERDGRAPH_EU: &str = "https://api.eu.newrelic.com";

/// What is warned of where agents and operator share a credential.
const SHARED: &str = "managementSecretRef is the access key of the agents, which may then change the bucket's rules: give the operator a key of its own";

/// A storage account as Azure manages it: as a resource, and not by its address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManagedAccount {
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// Its resource group.
    pub resource_group: ResourceGroup,
    /// Where it is managed (Azure Resource Manager).
    pub resource_manager: Endpoint,
    /// Who gives tokens for that (Microsoft Entra).
    pub authority_host: Endpoint,
}

/// A setting that says how long everything is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ManagedSetting {
    /// Of an index of Splunk Enterprise.
    SplunkEnterprise {
        /// Where it is managed.
        endpoint: Endpoint,
        /// Its name.
        index: String,
        /// Whose password it is; none where it is a token.
        username: Option<String>,
    },
    /// Of an index of Splunk Cloud.
    SplunkCloud {
        /// Where stacks are managed.
        endpoint: Endpoint,
        /// Name of the stack.
        stack: String,
        /// Its name.
        index: String,
    },
    /// Of the logs of an account of New Relic's.
    NewRelic {
        /// Where accounts are managed.
        endpoint: Endpoint,
        /// Its id.
        account: NonZeroU32,
    },
}

impl ManagedSetting {
    /// Where it is managed.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::SplunkEnterprise { endpoint, .. }
            | Self::SplunkCloud { endpoint, .. }
            | Self::NewRelic { endpoint, .. } => endpoint,
        }
    }
}

/// Id of a subscription of Azure's: a UUID.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscriptionId(String);

/// Name of a resource group (Azure: "Naming rules and restrictions for Azure resources").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceGroup(String);

/// A text that names nothing of Azure's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidResource {
    /// It is no UUID.
    #[error(
        "is not the id of a subscription: write its UUID, for example 00000000-1111-2222-3333-444444444444"
    )]
    SubscriptionId,
    /// It has other characters than a name, or too many.
    #[error(
        "is not the name of a resource group: use letters, digits, `-`, `_`, `.`, `(` and `)`, at most 90 and no `.` at the end, for example platform"
    )]
    ResourceGroup,
}

impl TryFrom<String> for SubscriptionId {
    type Error = InvalidResource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if lengths == [8, 4, 4, 4, 12] && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            Err(InvalidResource::SubscriptionId)
        }
    }
}

impl TryFrom<String> for ResourceGroup {
    type Error = InvalidResource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.()".contains(&byte);
        if (1..=90).contains(&text.len()) && text.bytes().all(is_allowed) && !text.ends_with('.') {
            Ok(Self(text))
        } else {
            Err(InvalidResource::ResourceGroup)
        }
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for ResourceGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Reader {
    /// Who may change how long an index of Splunk's keeps events.
    pub(super) fn manages_splunk(
        &mut self,
        path: &str,
        sink: &api::SplunkSink,
        findings: &mut Findings,
    ) -> Result<Option<Management>, Told> {
        let Some(secret) = &sink.management_secret_ref else {
            if sink.management_endpoint.is_some()
                || sink.management_username.is_some()
                || sink.stack.is_some()
            {
                return Err(self.violation(
                    path,
                    "managementEndpoint, managementUsername and stack are for managementSecretRef: add it, or remove them",
                ));
            }
            return Ok(None);
        };
        let Some(index) = sink.index.clone() else {
            return Err(self.violation(
                path,
                "managementSecretRef needs the index to look after: name it in index",
            ));
        };
        let endpoint = match (&sink.management_endpoint, &sink.stack) {
            (Some(endpoint), _) => endpoint.as_str(),
            (None, Some(_)) => SPLUNK_CLOUD,
            (None, None) => {
                return Err(self.violation(
                    path,
                    "managementSecretRef needs managementEndpoint (Splunk Enterprise) or stack (Splunk Cloud)",
                ));
            }
        };
        let endpoint = self.endpoint(format!("{path}.managementEndpoint"), endpoint, findings);
        let usage = match sink.management_username {
            Some(_) => Usage::Password,
            None => Usage::Token,
        };
        let mut needs = Needs::default();
        let secret = self.credential(
            format!("{path}.managementSecretRef"),
            secret,
            usage,
            &mut needs,
        );
        let (endpoint, secret) = (endpoint?, secret?);
        let setting = match (&sink.stack, &sink.management_username) {
            (Some(_), Some(_)) => {
                return Err(self.violation(
                    path,
                    "Splunk Cloud takes a token and no managementUsername: remove one of stack and managementUsername",
                ));
            }
            (Some(stack), None) => ManagedSetting::SplunkCloud {
                endpoint,
                stack: stack.clone(),
                index,
            },
            (None, username) => ManagedSetting::SplunkEnterprise {
                endpoint,
                index,
                username: username.clone(),
            },
        };
        Ok(Some(Management {
            keys: ManagementKeys::Setting { setting, secret },
            needs,
        }))
    }

    /// Who may change how long an account of New Relic's keeps logs.
    pub(super) fn manages_new_relic(
        &mut self,
        path: &str,
        sink: &api::NewRelicSink,
        findings: &mut Findings,
    ) -> Result<Option<Management>, Told> {
        let (secret, account) = match (&sink.management_secret_ref, sink.account_id) {
            (None, None) if sink.management_endpoint.is_none() => return Ok(None),
            (Some(secret), Some(account)) => (secret, account),
            _ => {
                return Err(self.violation(
                    path,
                    "managementSecretRef and accountId belong together, and managementEndpoint is for them",
                ));
            }
        };
        let by_region = match sink.region {
            None | Some(api::NewRelicRegion::Us) => Some(NERDGRAPH),
            Some(api::NewRelicRegion::Eu) => Some(NERDGRAPH_EU),
            Some(api::NewRelicRegion::FedRamp) => None,
        };
        let Some(endpoint) = sink.management_endpoint.as_deref().or(by_region) else {
            return Err(self.violation(
                format!("{path}.managementEndpoint"),
                "is needed with the region FedRAMP: New Relic names no address of NerdGraph for it",
            ));
        };
        let endpoint = self.endpoint(format!("{path}.managementEndpoint"), endpoint, findings);
        let account = self.positive(format!("{path}.accountId"), account);
        let mut needs = Needs::default();
        let secret = self.credential(
            format!("{path}.managementSecretRef"),
            secret,
            Usage::Token,
            &mut needs,
        );
        let setting = ManagedSetting::NewRelic {
            endpoint: endpoint?,
            account: account?,
        };
        Ok(Some(Management {
            keys: ManagementKeys::Setting {
                setting,
                secret: secret?,
            },
            needs,
        }))
    }

    /// An access key for the rules of a bucket of S3.
    pub(super) fn manages_s3(
        &mut self,
        path: &str,
        store: &api::S3Store,
        findings: &mut Findings,
    ) -> Result<Option<Management>, Told> {
        let Some(secret) = &store.management_secret_ref else {
            return Ok(None);
        };
        if store.credentials_secret_ref.as_ref() == Some(secret) {
            findings.warnings.push(SHARED.into());
        }
        let mut needs = Needs::default();
        let path = format!("{path}.managementSecretRef");
        let key = self.access_key(&path, secret, &mut needs)?;
        Ok(Some(Management {
            keys: ManagementKeys::AccessKey {
                id: key.id,
                secret: key.secret,
            },
            needs,
        }))
    }

    /// A service account for the rules of a bucket of Google's.
    pub(super) fn manages_gcs(
        &mut self,
        path: &str,
        store: &api::GcsStore,
        findings: &mut Findings,
    ) -> Result<Option<Management>, Told> {
        let Some(secret) = &store.management_secret_ref else {
            return Ok(None);
        };
        let key = |secret: &ServiceAccountSecretRef| {
            let key = secret.key.as_deref().unwrap_or(SERVICE_ACCOUNT_KEY);
            (secret.name.clone(), key.to_owned())
        };
        if store.credentials_secret_ref.as_ref().map(key) == Some(key(secret)) {
            findings.warnings.push(SHARED.into());
        }
        let (name, key) = key(secret);
        let mut needs = Needs::default();
        let path = format!("{path}.managementSecretRef");
        let key = self.opens(&path, &name, &key, Usage::ServiceAccountKey, &mut needs)?;
        Ok(Some(Management {
            keys: ManagementKeys::ServiceAccount(key),
            needs,
        }))
    }

    /// A service principal for the rules of a storage account of Azure's, and where that account is.
    pub(super) fn manages_azure(
        &mut self,
        path: &str,
        store: &api::AzureStore,
        findings: &mut Findings,
    ) -> Result<Option<Management>, Told> {
        let (secret, subscription, group) = match (
            &store.management_secret_ref,
            &store.subscription_id,
            &store.resource_group,
        ) {
            (None, None, None)
                if store.management_endpoint.is_none() && store.authority_host.is_none() =>
            {
                return Ok(None);
            }
            (Some(secret), Some(subscription), Some(group)) => (secret, subscription, group),
            _ => {
                return Err(self.violation(
                    path,
                    "looks after rules with all three of managementSecretRef, subscriptionId and resourceGroup, and without them with none of the fields for it: Azure finds an account by them, and not by its address",
                ));
            }
        };
        let subscription = self.take(
            format!("{path}.subscriptionId"),
            SubscriptionId::try_from(subscription.clone()),
        );
        let resource_group = self.take(
            format!("{path}.resourceGroup"),
            ResourceGroup::try_from(group.clone()),
        );
        let resource_manager = self.endpoint(
            format!("{path}.managementEndpoint"),
            store
                .management_endpoint
                .as_deref()
                .unwrap_or(RESOURCE_MANAGER),
            findings,
        );
        let authority_host = self.endpoint(
            format!("{path}.authorityHost"),
            store.authority_host.as_deref().unwrap_or(AUTHORITY_HOST),
            findings,
        );
        let mut needs = Needs::default();
        let path = format!("{path}.managementSecretRef");
        let mut opens = |key, usage| self.opens(&path, &secret.name, key, usage, &mut needs);
        let tenant = opens(TENANT_ID, Usage::EntraId);
        let client = opens(CLIENT_ID, Usage::EntraId);
        let secret = opens(CLIENT_SECRET, Usage::Password);
        Ok(Some(Management {
            keys: ManagementKeys::ServicePrincipal {
                tenant: tenant?,
                client: client?,
                secret: secret?,
                account: ManagedAccount {
                    subscription: subscription?,
                    resource_group: resource_group?,
                    resource_manager: resource_manager?,
                    authority_host: authority_host?,
                },
            },
            needs,
        }))
    }
}
