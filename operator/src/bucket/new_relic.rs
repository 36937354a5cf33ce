//! How long an account of New Relic's keeps logs, by NerdGraph (New Relic: "Manage data retention", "Manage retention via API").

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use katonic_logging_core::{
    credential::Credential,
    policy::ManagedSetting,
    retention::{Action, BucketId, Custody, Trouble, lifecycle::setting::Setting},
};
use serde_json::{Value, json};

use super::https::{Answer, Body, Service};

/// What logs are in, unless a rule of the account puts them into a partition.
const NAMESPACE: &str = "Log";

/// What is asked.
const QUERY: &str = "query($account: Int!, $namespace: String!) { actor { account(id: $account) { dataManagement { eventRetentionRule(namespace: $namespace) { namespace retentionInDays } customizableRetention { eventNamespaces { namespace maxRetentionInDays } } } } } }";

/// What is changed.
const MUTATION: &str = "mutation($account: Int!, $namespace: String!, $days: Int!) { dataManagementCreateEventRetentionRule(accountId: $account, namespace: $namespace, retentionInDays: $days) { namespace retentionInDays } }";

/// An account that can be asked.
pub struct Account {
    id: BucketId,
    service: Service,
    headers: HeaderMap,
    number: u32,
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
        setting: &ManagedSetting,
        key: &Credential,
    ) -> Result<Self, Trouble> {
        let id = custody.id.clone();
        let ManagedSetting::NewRelic { account, .. } = setting else {
            return Err(Trouble::unusable(&id, "it is no account of New Relic's"));
        };
        let mut headers = HeaderMap::new();
        if let Ok(mut value) = HeaderValue::try_from(key.expose().trim_ascii()) {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("api-key"), value);
        }
        Ok(Self {
            service: Service::new(custody, setting.endpoint())?,
            id,
            headers,
            number: account.get(),
        })
    }

    pub fn id(&self) -> &BucketId {
        &self.id
    }

    /// Reads how long it keeps logs.
    pub async fn read(&self) -> Result<Setting, Trouble> {
        let answer = self.ask(Action::ReadRules, QUERY, None).await?;
        Setting::of_new_relic(&answer.body, NAMESPACE)
            .map_err(|error| Trouble::unreadable(&self.id, &error))
    }

    /// Sets it.
    pub async fn write(&self, setting: &Setting) -> Result<(), Trouble> {
        let Some(days) = setting.days() else {
            return Ok(());
        };
        self.ask(Action::WriteRules, MUTATION, Some(days.get()))
            .await
            .map(drop)
    }

    /// A refusal may come with 200.
    async fn ask(&self, action: Action, query: &str, days: Option<u32>) -> Result<Answer, Trouble> {
        let mut variables = json!({"account": self.number, "namespace": NAMESPACE});
        if let Some(days) = days {
            variables["days"] = days.into();
        }
        let body = Body {
            content_type: "application/json",
            content: json!({"query": query, "variables": variables}).to_string(),
        };
        let answer = self
            .service
            .ask(Method::POST, "/graphql", &self.headers, Some(body))
            .await?;
        let content: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let is_refused = content["errors"]
            .as_array()
            .is_some_and(|errors| !errors.is_empty());
        if answer.status.is_success() && !is_refused {
            return Ok(answer);
        }
        let class = answer.word("/errors/0/extensions/errorClass");
        Err(Trouble::of(action, &self.id, answer.refusal(&class)))
    }
}
