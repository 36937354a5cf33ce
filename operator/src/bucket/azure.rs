//! A storage account of Azure's: its management policy and its blob service by Azure Resource Manager (Storage resource provider:
//! "Management Policies", "Blob Services"), and what is in its containers by the blob service itself ("List Blobs").

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use katonic_log_config::Azure;
use katonic_logging_core::{
    credential::Credential,
    policy::ManagedAccount,
    retention::{
        Action, BucketId, Custody, Trouble, Versioning,
        lifecycle::azure::{self, Rules},
        xml::Element,
    },
};

use super::{
    encode,
    https::{Answer, Body, Service, bearer},
    is_earlier,
    token::{Entra, ServicePrincipal},
};

/// The version of the resource provider that is spoken.
const API_VERSION: &str = "2023-01-01";

/// The version of the blob service that is spoken.
const BLOB_VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");

/// What a token for blobs is for, in every cloud.
const BLOBS: &str = "https://storage.azure.com/.default";

/// A storage account that can be asked.
pub struct Account {
    id: BucketId,
    path: String,
    manager: Service,
    blobs: Service,
    entra: Entra,
    scope: String,
    token: Option<Credential>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Account")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Account {
    pub fn new(
        custody: &Custody,
        azure: &Azure,
        account: &ManagedAccount,
        principal: &ServicePrincipal<'_>,
    ) -> Result<Self, Trouble> {
        let manager = account.resource_manager.to_string();
        Ok(Self {
            id: custody.id.clone(),
            path: format!(
                "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Storage/storageAccounts/{}",
                encode(&account.subscription.to_string()),
                encode(&account.resource_group.to_string()),
                encode(azure.account.as_str())
            ),
            manager: Service::new(custody, &account.resource_manager)?,
            blobs: Service::new(custody, &azure.endpoint)?,
            entra: Entra::new(custody, &account.authority_host, principal)?,
            scope: format!("{}/.default", manager.trim_end_matches('/')),
            token: None,
        })
    }

    pub fn id(&self) -> &BucketId {
        &self.id
    }

    /// Reads its rules.
    pub async fn rules(&mut self) -> Result<Rules, Trouble> {
        let answer = self
            .manage(Method::GET, "managementPolicies/default", None)
            .await?;
        match (answer.status, answer.word("/error/code").as_str()) {
            (StatusCode::OK, _) => {
                Rules::parse(&answer.body).map_err(|error| Trouble::unreadable(&self.id, &error))
            }
            (StatusCode::NOT_FOUND, "ManagementPolicyNotFound") => Ok(Rules::default()),
            _ => Err(self.refused(Action::ReadRules, &answer)),
        }
    }

    /// Writes them all. No condition for it is documented.
    pub async fn write(&mut self, rules: &Rules) -> Result<(), Trouble> {
        let policy = rules
            .policy()
            .map_err(|error| Trouble::unreadable(&self.id, &error))?;
        let (method, body) = match policy {
            Some(content) => (
                Method::PUT,
                Some(Body {
                    content_type: "application/json",
                    content,
                }),
            ),
            None => (Method::DELETE, None),
        };
        let answer = self
            .manage(method, "managementPolicies/default", body)
            .await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(self.refused(Action::WriteRules, &answer))
        }
    }

    /// Reads whether it keeps versions.
    pub async fn versioning(&mut self) -> Result<Versioning, Trouble> {
        let answer = self
            .manage(Method::GET, "blobServices/default", None)
            .await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(Action::ReadVersioning, &answer));
        }
        azure::versioning(&answer.body).map_err(|error| Trouble::unreadable(&self.id, &error))
    }

    /// See [`super::Bucket::has_earlier_logs`]; the prefix begins with a container.
    pub async fn has_earlier_logs(&mut self, prefix: &str) -> Result<bool, Trouble> {
        let (container, prefix) = prefix.split_once('/').unwrap_or((prefix, ""));
        let path = format!(
            "/{}?restype=container&comp=list&prefix={}",
            encode(container),
            encode(prefix)
        );
        let token = self.entra.ask(&self.id, BLOBS).await?;
        let mut headers = bearer(&token);
        headers.insert(HeaderName::from_static("x-ms-version"), BLOB_VERSION);
        let answer = self.blobs.ask(Method::GET, &path, &headers, None).await?;
        let error = Element::parse(&answer.body);
        if answer.status != StatusCode::OK {
            let code = error
                .as_ref()
                .ok()
                .and_then(|error| error.text_of("Code"))
                .filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let refusal = answer.refusal(code.unwrap_or_default());
            return Err(Trouble::of(Action::List, &self.id, refusal));
        }
        let listing = error.map_err(|error| Trouble::unreadable(&self.id, &error))?;
        let has_more = listing
            .text_of("NextMarker")
            .is_some_and(|marker| !marker.is_empty());
        let blobs = listing.child("Blobs");
        let mut blobs = blobs.into_iter().flat_map(|blobs| blobs.all("Blob"));
        let stored = |blob: &Element| -> Option<SystemTime> {
            let time = blob.child("Properties")?.text_of("Last-Modified")?;
            httpdate::parse_http_date(time).ok()
        };
        Ok(has_more || blobs.any(|blob| is_earlier(stored(blob), &answer.headers)))
    }

    async fn manage(
        &mut self,
        method: Method,
        what: &str,
        body: Option<Body>,
    ) -> Result<Answer, Trouble> {
        let headers = self.headers().await?;
        let path = format!("{}/{what}?api-version={API_VERSION}", self.path);
        self.manager.ask(method, &path, &headers, body).await
    }

    async fn headers(&mut self) -> Result<HeaderMap, Trouble> {
        let token = match self.token.take() {
            Some(token) => token,
            None => self.entra.ask(&self.id, &self.scope).await?,
        };
        let headers = bearer(&token);
        self.token = Some(token);
        Ok(headers)
    }

    fn refused(&self, action: Action, answer: &Answer) -> Trouble {
        let code = answer.word("/error/code");
        Trouble::of(action, &self.id, answer.refusal(&code))
    }
}
