//! Azure Blob Storage.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HttpConnection, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://platformlogs.blob.core.windows.net",
    credential: "credentialsSecretRef",
};

const MANAGEMENT_ENDPOINT: Address = Address {
    field: "managementEndpoint",
    optional: true,
    example: "https://management.azure.com",
    credential: "managementSecretRef",
};

const AUTHORITY_HOST: Address = Address {
    field: "authorityHost",
    optional: true,
    example: "https://login.microsoftonline.com",
    credential: "managementSecretRef",
};

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials(),
    validation = MANAGEMENT_ENDPOINT.has_scheme(),
    validation = MANAGEMENT_ENDPOINT.is_url(),
    validation = MANAGEMENT_ENDPOINT.has_no_query(),
    validation = MANAGEMENT_ENDPOINT.has_no_credentials(),
    validation = AUTHORITY_HOST.has_scheme(),
    validation = AUTHORITY_HOST.is_url(),
    validation = AUTHORITY_HOST.has_no_query(),
    validation = AUTHORITY_HOST.has_no_credentials(),
    validation = (
        "has(self.managementSecretRef) ? has(self.subscriptionId) && has(self.resourceGroup) : !has(self.subscriptionId) && !has(self.resourceGroup) && !has(self.managementEndpoint) && !has(self.authorityHost)",
        "managementSecretRef, subscriptionId and resourceGroup belong together: Azure finds an account by them, and not by its address"
    ),
    // Azure allows no part of a name to end with a dot.
    validation = ("!has(self.prefix) || self.prefix.split('/').all(part, !part.endsWith('.'))", "prefix has a part that ends with a dot, which Azure does not take: remove the dot")
)]
pub struct AzureStore {
    /// Name of the storage account. Example: `platformlogs`.
    #[schemars(length(min = 3, max = 24))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]+$')", "account is not the name of a storage account: use 3 to 24 lower-case letters and digits, for example platformlogs, and write the address into endpoint"))]
    pub account: String,
    /// Name of the container of blobs, which exists already. Example: `logs`.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]+(-[a-z0-9]+)*$')", "container is not the name of a container: use lower-case letters and digits, and single `-` between them, for example platform-logs"))]
    pub container: String,
    /// Address of the account's blob service; the container's name is part of the path (`<endpoint>/<container>/<key>`).
    /// `http://` is allowed, sends lines unencrypted and is warned about. Default: `https://<account>.blob.core.windows.net`.
    /// Example: `https://platformlogs.blob.core.chinacloudapi.cn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// What the keys of all objects begin with. Default: nothing. Example: `platform/logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = super::object_storage::prefix())]
    pub prefix: Option<String>,
    /// Who writes: needs nothing but the right to create blobs in the container. Default: the pod
    /// itself, by the identity that its service account has in the cloud; whatever else runs in the pod may then write, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<AzureCredentialsSecretRef>,
    /// Who looks after the policy's `retention`: a service principal that may read and write the account's management policy. The
    /// operator alone uses it, agents never see it. Needs `subscriptionId` and `resourceGroup`. Default: none; then nobody does, and
    /// the status says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_secret_ref: Option<ServicePrincipalSecretRef>,
    /// Subscription of the storage account: with `managementSecretRef`. Example: `00000000-1111-2222-3333-444444444444`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = (r"self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "subscriptionId is not the id of a subscription: write its UUID, for example 00000000-1111-2222-3333-444444444444"))]
    pub subscription_id: Option<String>,
    /// Resource group of the storage account: with `managementSecretRef`. Example: `platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 90))]
    #[x_kube(validation = (r"self.matches('^[-_.()a-zA-Z0-9]*[-_()a-zA-Z0-9]$')", "resourceGroup is not the name of a resource group: use letters, digits, `-`, `_`, `.`, `(` and `)`, and no `.` at the end, for example platform"))]
    pub resource_group: Option<String>,
    /// Where storage accounts are managed (Azure Resource Manager): with `managementSecretRef`.
    /// Default: `https://management.azure.com`. Example: `https://management.chinacloudapi.cn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub management_endpoint: Option<String>,
    /// Who gives tokens for that (Microsoft Entra): with `managementSecretRef`. Default: `https://login.microsoftonline.com`.
    /// Example: `https://login.chinacloudapi.cn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub authority_host: Option<String>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// What opens a storage account: a Secret in the operator's namespace with one of its keys or a shared access signature.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example archive")
)]
pub struct AzureCredentialsSecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `archive`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret, which says what is there: a key of the account, which opens all of it, or a shared access
    /// signature, which can allow less. Default: `AZURE_STORAGE_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AzureCredential>,
}

/// A service principal: a Secret in the operator's namespace with the keys `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
/// `AZURE_CLIENT_SECRET`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example archive")
)]
pub struct ServicePrincipalSecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `archive-rules`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What opens a storage account, as Azure's own tools name it.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum AzureCredential {
    /// One of the account's two keys (Shared Key).
    #[serde(rename = "AZURE_STORAGE_KEY")]
    SharedKey,
    /// A shared access signature (SAS) for the container or the account.
    #[serde(rename = "AZURE_STORAGE_SAS_TOKEN")]
    SasToken,
}
