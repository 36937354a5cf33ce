//! The installation: what the platform's installer and the administrator say once for all policies.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config::{
    ContainerPattern, Endpoint, HostName, Pattern, endpoint::InvalidEndpoint,
};
use katonic_logging_crds::{
    AccessKeySecretRef, AzureCredential, AzureCredentialsSecretRef, AzureStore, GcsStore,
    HttpConnection, ObjectLock, Plane, S3Store, ServiceAccountSecretRef, ServicePrincipalSecretRef,
    Tls,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    audit::{EventName, TrackerName, Vocabulary},
    names,
    policy::archive,
    quantity::Quantity,
    restart::Window,
    way::Mode,
};

/// What every plan needs to know of the platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installation {
    /// Namespace of the platform's own services.
    pub platform_namespace: String,
    /// Namespace of executions and builds.
    pub compute_namespace: String,
    /// The injected container.
    pub agent: Agent,
    /// How the container gets into pods.
    #[serde(default, skip_serializing_if = "Injection::is_default")]
    pub injection: Injection,
    /// Label of a compute pod that holds the id of its execution.
    pub execution_id_label: String,
    /// Patterns of the names of compute pods: the first group of the first one that matches is the id where the label is
    /// missing.
    #[serde(
        default = "default_execution_id_patterns",
        skip_serializing_if = "are_default_patterns"
    )]
    pub execution_id_patterns: Vec<Pattern>,
    /// Containers of a compute pod that run user code; their output is no application log.
    pub user_containers: BTreeSet<ContainerPattern>,
    /// When owners may be restarted for policies with `rollout: Automatic`.
    #[serde(default, skip_serializing_if = "Rollout::is_default")]
    pub rollout: Rollout,
    /// The platform's own store of logs.
    #[serde(default, skip_serializing_if = "LogStore::is_none")]
    pub log_store: LogStore,
    /// The platform's audit events and their tracker.
    #[serde(default, skip_serializing_if = "Audit::is_default")]
    pub audit: Audit,
}

/// The platform's audit events and their tracker.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audit {
    /// Events that this platform's tracker has besides those of every platform.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub events: BTreeSet<EventName>,
    /// How the tracker is told.
    #[serde(default)]
    pub tracker: Tracker,
}

/// How the event tracker is told.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracker {
    /// Its ConfigMap in the platform's namespace.
    #[serde(default)]
    pub config_map: TrackerName,
}

impl Audit {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The platform's own store of logs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LogStore {
    /// There is none that anybody has named.
    #[default]
    None,
    /// A bucket of S3.
    S3(Box<S3Store>),
    /// A bucket of Google's.
    Gcs(Box<GcsStore>),
    /// A container of Azure's.
    Azure(Box<AzureStore>),
    /// There is one, and for this reason it cannot be used.
    Unusable(String),
}

impl LogStore {
    fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What the installer says of the store, and what we have to know besides.
    ///
    /// The installer's own keys have more forms than anybody has written down: what is not there is nobody's mistake
    /// until a policy wants to use it.
    fn of(installer: &Value, ours: Option<LogStoreFile>) -> Self {
        let logs = &installer["logs"];
        if logs.is_null() {
            return Self::None;
        }
        let named = Self::named(logs, ours);
        let checked = named.and_then(|store| archive::check(&store).map(|()| store));
        checked.unwrap_or_else(Self::Unusable)
    }

    fn named(logs: &Value, ours: Option<LogStoreFile>) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = text(&logs["type"]).unwrap_or_else(|| "s3".to_owned());
        let told = |key: &str| {
            let missing = || format!("blob_storage.logs.{kind}.{key} is missing");
            text(&logs[&kind][key]).ok_or_else(missing)
        };
        let ours = ours.ok_or("logging.logStore is missing: name a Secret in its credentialsSecretRef, or write logStore: {} for the identity of each pod");
        let with = |ours: &LogStoreFile| HttpConnection {
            tls: ours.tls.clone(),
            ..HttpConnection::default()
        };
        if let Ok(ours) = &ours {
            ours.is_for(&kind)?;
        }
        match kind.as_str() {
            "s3" => {
                let bucket = told("bucket")?;
                let ours = ours?;
                let credentials = ours.credentials.as_ref();
                let credentials =
                    credentials.map(|secret| secret.access_key("credentialsSecretRef"));
                let management = ours.management.as_ref();
                let management = management.map(|secret| secret.access_key("managementSecretRef"));
                Ok(Self::S3(Box::new(S3Store {
                    bucket,
                    region: text(&logs["s3"]["region"]),
                    connection: with(&ours),
                    credentials_secret_ref: credentials.transpose()?,
                    management_secret_ref: management.transpose()?,
                    object_lock: ours.object_lock,
                    endpoint: ours.endpoint,
                    prefix: ours.prefix,
                })))
            }
            "gcs" => {
                let bucket = told("bucket")?;
                let ours = ours?;
                let credentials = ours.credentials.as_ref();
                let management = ours.management.as_ref();
                Ok(Self::Gcs(Box::new(GcsStore {
                    bucket,
                    connection: with(&ours),
                    credentials_secret_ref: credentials.map(CredentialsFile::service_account),
                    management_secret_ref: management.map(CredentialsFile::service_account),
                    endpoint: ours.endpoint,
                    prefix: ours.prefix,
                })))
            }
            "azure" => {
                let (account, container) = (told("account_name")?, told("container")?);
                let ours = ours?;
                let credentials = ours.credentials.as_ref();
                let credentials = credentials.map(CredentialsFile::storage_account);
                let management = ours.management.as_ref();
                let management = management.map(CredentialsFile::service_principal);
                Ok(Self::Azure(Box::new(AzureStore {
                    account,
                    container,
                    connection: with(&ours),
                    credentials_secret_ref: credentials.transpose()?,
                    management_secret_ref: management.transpose()?,
                    subscription_id: ours.subscription_id,
                    resource_group: ours.resource_group,
                    management_endpoint: ours.management_endpoint,
                    authority_host: ours.authority_host,
                    endpoint: ours.endpoint,
                    prefix: ours.prefix,
                })))
            }
            other => Err(format!(
                "blob_storage.logs.type is `{other}`, and s3, gcs and azure are all that is supported: spell out a store in the policy"
            )),
        }
    }
}

/// How running pods are made to follow.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// When restarts may begin. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

impl Rollout {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the container gets into pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injection {
    /// By an admission policy or by the webhook.
    #[serde(default)]
    pub mode: Mode,
}

impl Injection {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What of the injected container differs from platform to platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agent {
    /// Image of the log agent.
    pub image: String,
    /// Its resources.
    #[serde(default)]
    pub resources: Resources,
    /// Proxies between it and the sinks, where a policy names none itself.
    #[serde(default, skip_serializing_if = "Proxies::are_none")]
    pub proxy: Proxies,
}

/// Proxies of a network, as the usual environment variables have them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxies {
    /// For addresses with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// For addresses with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<String>,
    /// What is reached without one: names with all below them, addresses and networks, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}

impl Proxies {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests and limits of the injected container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What a node must have left for it, for each pod.
    #[serde(default = "default_requests")]
    pub requests: BTreeMap<String, String>,
    /// What it may take at most.
    #[serde(default = "default_limits")]
    pub limits: BTreeMap<String, String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            requests: default_requests(),
            limits: default_limits(),
        }
    }
}

fn default_requests() -> BTreeMap<String, String> {
    [("cpu", "10m"), ("memory", "16Mi")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn default_limits() -> BTreeMap<String, String> {
    [("memory".to_owned(), "32Mi".to_owned())].into()
}

/// The file as it is written. The installer's own keys stand beside ours, so what is unknown outside
/// `logging` is somebody else's and no mistake.
#[derive(Deserialize)]
struct File {
    namespaces: Namespaces,
    logging: Logging,
    #[serde(default)]
    blob_storage: Value,
}

/// What the installer does not say of the store of logs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogStoreFile {
    #[serde(default, rename = "credentialsSecretRef")]
    credentials: Option<CredentialsFile>,
    #[serde(default, rename = "managementSecretRef")]
    management: Option<CredentialsFile>,
    #[serde(default)]
    subscription_id: Option<String>,
    #[serde(default)]
    resource_group: Option<String>,
    #[serde(default)]
    management_endpoint: Option<String>,
    #[serde(default)]
    authority_host: Option<String>,
    #[serde(default)]
    object_lock: Option<ObjectLock>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    tls: Option<Tls>,
}

impl LogStoreFile {
    /// Refuses what another kind of store has.
    fn is_for(&self, kind: &str) -> Result<(), String> {
        if kind != "s3" && self.object_lock.is_some() {
            return Err("logging.logStore.objectLock is for s3: remove it".to_owned());
        }
        let of_azure = [
            &self.subscription_id,
            &self.resource_group,
            &self.management_endpoint,
            &self.authority_host,
        ];
        if kind != "azure" && of_azure.iter().any(|field| field.is_some()) {
            return Err("logging.logStore.subscriptionId, resourceGroup, managementEndpoint and authorityHost are for azure: remove them".to_owned());
        }
        Ok(())
    }
}

/// A Secret as a policy has it below the store, whatever the store is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsFile {
    name: String,
    #[serde(default)]
    key: Option<String>,
}

impl CredentialsFile {
    fn access_key(&self, field: &str) -> Result<AccessKeySecretRef, String> {
        self.without_key(field, "is for gcs and azure")?;
        Ok(AccessKeySecretRef {
            name: self.name.clone(),
        })
    }

    fn service_principal(&self) -> Result<ServicePrincipalSecretRef, String> {
        self.without_key("managementSecretRef", "is for gcs")?;
        Ok(ServicePrincipalSecretRef {
            name: self.name.clone(),
        })
    }

    fn without_key(&self, field: &str, whose: &str) -> Result<(), String> {
        match self.key {
            None => Ok(()),
            Some(_) => Err(format!("logging.logStore.{field}.key {whose}: remove it")),
        }
    }

    fn service_account(&self) -> ServiceAccountSecretRef {
        ServiceAccountSecretRef {
            name: self.name.clone(),
            key: self.key.clone(),
        }
    }

    fn storage_account(&self) -> Result<AzureCredentialsSecretRef, String> {
        let key = match self.key.as_deref() {
            None => None,
            Some(archive::STORAGE_KEY) => Some(AzureCredential::SharedKey),
            Some(archive::SAS_TOKEN) => Some(AzureCredential::SasToken),
            Some(other) => {
                return Err(format!(
                    "logging.logStore.credentialsSecretRef.key is `{other}`: write {} or {}",
                    archive::STORAGE_KEY,
                    archive::SAS_TOKEN
                ));
            }
        };
        Ok(AzureCredentialsSecretRef {
            name: self.name.clone(),
            key,
        })
    }
}

#[derive(Deserialize)]
struct Namespaces {
    platform: Named,
    compute: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Logging {
    agent: Agent,
    #[serde(default)]
    injection: Injection,
    #[serde(default = "default_execution_id_label")]
    execution_id_label: String,
    execution_id_patterns: Option<Vec<String>>,
    #[serde(default = "default_user_containers")]
    user_containers: BTreeSet<String>,
    #[serde(default)]
    rollout: Rollout,
    #[serde(default)]
    log_store: Option<LogStoreFile>,
    #[serde(default)]
    audit: AuditFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditFile {
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    tracker: TrackerFile,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrackerFile {
    config_map: Option<String>,
}

fn default_execution_id_label() -> String {
    "dominodatalab.com/execution-id".to_owned()
}

/// Executions, and clusters that belong to one.
fn default_execution_id_patterns() -> Vec<Pattern> {
    let patterns = [
        "^run-([0-9a-f]{24})-",
        "^(?:ray|spark|dask|mpi)-([0-9a-f]{24})",
    ];
    patterns
        .into_iter()
        .filter_map(|pattern| Pattern::try_from(pattern.to_owned()).ok())
        .collect()
}

fn are_default_patterns(patterns: &[Pattern]) -> bool {
    patterns == default_execution_id_patterns()
}

fn default_user_containers() -> BTreeSet<String> {
    ["run".to_owned()].into()
}

/// What is wrong with an installation, for a person to mend.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    /// The ConfigMap or its key is not there.
    pub fn missing(namespace: &str) -> Self {
        Self(format!(
            "ConfigMap {namespace}/{} with the key {} is missing: create it",
            names::INSTALLATION,
            names::INSTALLATION_KEY
        ))
    }

    /// It could not be read.
    pub fn unreadable(namespace: &str, reason: &str) -> Self {
        Self(format!(
            "ConfigMap {namespace}/{} cannot be read: {reason}",
            names::INSTALLATION
        ))
    }
}

impl Installation {
    /// Reads `installation.yaml`.
    ///
    /// # Errors
    /// The first thing that is wrong, with what to write instead.
    pub fn validate(yaml: &str, operator_namespace: &str) -> Result<Self, Problem> {
        let options = serde_saphyr::options! {
            // A message that shows the lines around a mistake would put what else the installer has there into a status.
            with_snippet: false,
        };
        let file: File = serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            Problem(format!(
                "{} cannot be used: {error}",
                names::INSTALLATION_KEY
            ))
        })?;
        let (platform, compute) = (file.namespaces.platform.name, file.namespaces.compute.name);
        for (key, name) in [("platform", &platform), ("compute", &compute)] {
            if !names::is_namespace(name) {
                return problem(format!(
                    "namespaces.{key}.name is `{name}`, which is not the name of a namespace"
                ));
            }
            if name == operator_namespace || name == "kube-system" {
                return problem(format!(
                    "namespaces.{key}.name is `{name}`: a plane needs a namespace of its own, apart from the operator's and from kube-system"
                ));
            }
        }
        if platform == compute {
            return problem(format!(
                "namespaces.platform.name and namespaces.compute.name are both `{platform}`: each plane needs a namespace of its own"
            ));
        }
        if !names::is_label_key(&file.logging.execution_id_label) {
            return problem(format!(
                "logging.executionIdLabel is `{}`, which is not the name of a label",
                file.logging.execution_id_label
            ));
        }
        let execution_id_patterns = match file.logging.execution_id_patterns {
            Some(patterns) => check_patterns(patterns)?,
            None => default_execution_id_patterns(),
        };
        let user_containers = file
            .logging
            .user_containers
            .into_iter()
            .map(ContainerPattern::try_from);
        let user_containers = user_containers
            .collect::<Result<_, _>>()
            .map_err(|error| Problem(format!("logging.userContainers: {error}")))?;
        check_image(&file.logging.agent.image)?;
        check_resources(&file.logging.agent.resources)?;
        check_proxies(&file.logging.agent.proxy)?;
        Ok(Self {
            platform_namespace: platform,
            compute_namespace: compute,
            agent: file.logging.agent,
            injection: file.logging.injection,
            execution_id_label: file.logging.execution_id_label,
            execution_id_patterns,
            user_containers,
            rollout: file.logging.rollout,
            log_store: LogStore::of(&file.blob_storage, file.logging.log_store),
            audit: check_audit(file.logging.audit)?,
        })
    }

    /// The audit events that the platform has.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::with(&self.audit.events)
    }

    /// The namespace of a plane.
    pub fn namespace(&self, plane: Plane) -> &str {
        match plane {
            Plane::Platform => &self.platform_namespace,
            Plane::Compute => &self.compute_namespace,
        }
    }
}

fn problem<T>(message: String) -> Result<T, Problem> {
    Err(Problem(message))
}

fn check_audit(file: AuditFile) -> Result<Audit, Problem> {
    let events = file.events.into_iter().map(EventName::try_from);
    let events = events
        .collect::<Result<_, _>>()
        .map_err(|error| Problem(format!("logging.audit.events: {error}")))?;
    let config_map = match file.tracker.config_map {
        Some(name) => TrackerName::try_from(name)
            .map_err(|error| Problem(format!("logging.audit.tracker.configMap: {error}")))?,
        None => TrackerName::default(),
    };
    Ok(Audit {
        events,
        tracker: Tracker { config_map },
    })
}

/// Each has to find something.
fn check_patterns(patterns: Vec<String>) -> Result<Vec<Pattern>, Problem> {
    let check = |text: String| {
        let says = |what: String| {
            Problem(format!(
                "logging.executionIdPatterns: `{text}` {what}: write for example ^run-([0-9a-f]{{24}})-"
            ))
        };
        let pattern = Pattern::try_from(text.clone()).map_err(|error| says(error.to_string()))?;
        let compiled = pattern
            .compile()
            .map_err(|error| says(format!("does not compile, {error}")))?;
        // The whole match is a group, too.
        if compiled.captures_len() != 2 {
            return Err(says(
                "does not have exactly one group in parentheses, the id".to_owned(),
            ));
        }
        Ok(pattern)
    };
    patterns.into_iter().map(check).collect()
}

/// A pod whose image reference does not parse never starts (`InvalidImageName`), so it is checked here.
fn check_image(image: &str) -> Result<(), Problem> {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let is_digest = |digest: &str| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64
                && hex
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    };
    let (host, path) = match name.split_once('/') {
        // As Docker's reference grammar tells a host from a path.
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), path)
        }
        _ => (None, name),
    };
    let (path, tag) = path
        .split_once(':')
        .map_or((path, None), |(path, tag)| (path, Some(tag)));
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_component = |part: &str| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes()
            .all(|byte| lower(byte) || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(lower)
            && part.bytes().last().is_some_and(lower)
    };
    let is_tag = |tag: &str| {
        (1..=128).contains(&tag.len()) && tag.bytes().all(is_word) && !tag.starts_with(['.', '-'])
    };
    let is_host = |host: &str| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
    };
    if digest.is_none_or(is_digest)
        && tag.is_none_or(is_tag)
        && host.is_none_or(is_host)
        && path.split('/').all(is_component)
    {
        Ok(())
    } else {
        problem(format!(
            "logging.agent.image is `{image}`, which is not the name of an image: write for example registry.example.com/katonic-log-agent:0.1.0"
        ))
    }
}

/// Nothing but host and port: the kubelet expands `$(…)` in the values of variables, and every user of a plane can read
/// the variables of its pods.
fn check_proxies(proxies: &Proxies) -> Result<(), Problem> {
    for (field, url) in [
        ("httpProxy", &proxies.http_proxy),
        ("httpsProxy", &proxies.https_proxy),
    ] {
        let Some(url) = url else { continue };
        let endpoint = Endpoint::try_from(url.clone()).map_err(|error| match error {
            InvalidEndpoint::Credentials => Problem(format!(
                "logging.agent.proxy.{field} must not hold credentials, for all could read them in their pods: remove what stands before `@` and name a Secret in proxyBasicAuth of the sinks"
            )),
            InvalidEndpoint::Scheme | InvalidEndpoint::Malformed => not_a_proxy(field),
        })?;
        let uri = endpoint.uri();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_bare = uri.path() == "/" && uri.query().is_none();
        if !endpoint.is_plain_text() || !is_bare || HostName::try_from(host.to_owned()).is_err() {
            return Err(not_a_proxy(field));
        }
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/*, []".contains(&byte);
    match &proxies.no_proxy {
        Some(list) if !list.bytes().all(is_plain) => problem(format!(
            "logging.agent.proxy.noProxy is `{list}`: write names, addresses and networks with commas between them, for example .svc,10.0.0.0/8"
        )),
        _ => Ok(()),
    }
}

fn not_a_proxy(field: &str) -> Problem {
    Problem(format!(
        "logging.agent.proxy.{field} is not the address of a proxy: write for example http://proxy.example.com:3128, without TLS and without a path"
    ))
}

fn check_resources(resources: &Resources) -> Result<(), Problem> {
    for (field, quantities) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        for (resource, quantity) in quantities {
            if !["cpu", "memory", "ephemeral-storage"].contains(&resource.as_str()) {
                return problem(format!(
                    "logging.agent.resources.{field}.{resource}: use cpu, memory or ephemeral-storage"
                ));
            }
            if Quantity::parse(quantity).is_none() {
                return problem(format!(
                    "logging.agent.resources.{field}.{resource} is `{quantity}`, which is not a quantity: write for example 10m or 32Mi"
                ));
            }
        }
    }
    // `32m` of memory is a thirtieth of a byte; a pod with it never starts.
    for (field, memory) in [
        ("requests", resources.requests.get("memory")),
        ("limits", resources.limits.get("memory")),
    ] {
        if memory.is_some_and(|memory| Quantity::parse(memory) < Quantity::parse("8Mi")) {
            return problem(format!(
                "logging.agent.resources.{field}.memory is less than 8Mi, too little for the agent to start: write for example 32Mi"
            ));
        }
    }
    for (resource, request) in &resources.requests {
        let Some(limit) = resources.limits.get(resource) else {
            continue;
        };
        if Quantity::parse(request) > Quantity::parse(limit) {
            return problem(format!(
                "logging.agent.resources: the request of {resource} ({request}) exceeds its limit ({limit})"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
namespaces:
  platform: {name: katonic-platform}
  compute: {name: katonic-compute}
  system: {name: katonic-system}
blob_storage: {logs: {type: s3}}
logging:
  agent: {image: registry.example.com:5000/katonic-log-agent:0.1.0}
";

    fn validate(yaml: &str) -> Result<Installation, Problem> {
        Installation::validate(yaml, "katonic-logging")
    }

    fn refuses(from: &str, to: &str, expected: &str) {
        assert!(GOOD.contains(from));
        let message = validate(&GOOD.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn the_installers_own_keys_are_no_mistake() {
        let installation = validate(GOOD).unwrap();
        assert_eq!(installation.namespace(Plane::Platform), "katonic-platform");
        assert_eq!(installation.namespace(Plane::Compute), "katonic-compute");
        assert_eq!(installation.agent.resources, Resources::default());
        assert!(
            installation
                .user_containers
                .iter()
                .any(|pattern| pattern.matches("run"))
        );
    }

    #[test]
    fn the_event_tracker_may_have_another_name_and_more_events() {
        let installation = validate(GOOD).unwrap();
        assert_eq!(installation.audit, Audit::default());
        assert_eq!(installation.vocabulary().all().len(), 9);
        let written = serde_json::to_string(&installation).unwrap();
        assert!(!written.contains("audit"), "{written}");
        let yaml = format!(
            "{GOOD}  audit: {{events: [DatasetDeleted], tracker: {{configMap: tracker-config}}}}\n"
        );
        let installation = validate(&yaml).unwrap();
        let tracker = &installation.audit.tracker;
        assert_eq!(tracker.config_map.as_str(), "tracker-config");
        assert_eq!(installation.vocabulary().all().len(), 10);
        let json = serde_json::to_string(&installation).unwrap();
        assert_eq!(
            serde_json::from_str::<Installation>(&json).unwrap(),
            installation
        );
        for (audit, expected) in [
            ("events: [dataset]", "logging.audit.events: `dataset`"),
            (
                "tracker: {configMap: A_B}",
                "logging.audit.tracker.configMap: `A_B`",
            ),
            ("evnts: []", "evnts"),
        ] {
            let yaml = format!("{GOOD}  audit: {{{audit}}}\n");
            let message = validate(&yaml).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        refuses(
            "katonic-compute",
            "katonic-platform",
            "both `katonic-platform`",
        );
        refuses(
            "katonic-compute",
            "katonic-logging",
            "a namespace of its own",
        );
        refuses("katonic-compute", "kube-system", "a namespace of its own");
        refuses("katonic-compute", "Compute", "not the name of a namespace");
        refuses("  compute: {name: katonic-compute}\n", "", "compute");
        refuses("namespaces:", "namespaces: [", "cannot be used");
        refuses("agent: {", "agnt: {", "agnt");
        refuses("agent:0.1.0}", "Agent:0.1.0}", "not the name of an image");
        refuses(
            "registry.example.com:5000/katonic-log-agent:0.1.0",
            "'a b'",
            "not the name of an image",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {requests: {memory: 16MB}}}",
            "16MB",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {requests: {memory: 64Mi}}}",
            "exceeds its limit (32Mi)",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {limits: {gpu: 1}}}",
            "use cpu, memory",
        );
        refuses(
            "logging:",
            "logging:\n  executionIdLabel: a b\n",
            "not the name of a label",
        );
        refuses("logging:", "logging:\n  userContainers: [Run]\n", "`Run`");
        for (pattern, says) in [
            ("'('", "does not compile"),
            ("'^run-'", "exactly one group in parentheses"),
            ("'^(a)-(b)'", "exactly one group in parentheses"),
            ("''", "write for example ^run-"),
        ] {
            let with = format!("logging:\n  executionIdPatterns: [{pattern}]\n");
            refuses("logging:", &with, says);
        }
        refuses(
            "logging:",
            "logging:\n  rollout: {window: {from: '25:00', to: '04:00'}}\n",
            "logging.rollout.window.from is `25:00`, which is not a time of day",
        );
        refuses(
            "logging:",
            "logging:\n  rollout: {windows: []}\n",
            "windows",
        );
        refuses(
            "logging:",
            "logging:\n  injection: {mode: webhook}\n",
            "expected one of Auto, AdmissionPolicy, Webhook",
        );
        for (proxy, says) in [
            (
                "httpsProxy: 'https://proxy:3128'",
                "httpsProxy is not the address of a proxy",
            ),
            (
                "httpProxy: 'proxy:3128'",
                "write for example http://proxy.example.com:3128",
            ),
            ("httpProxy: 'http://proxy:3128/logs'", "without a path"),
            (
                "httpProxy: 'http://$(POD_NAME):3128'",
                "is not the address of a proxy",
            ),
            (
                "httpProxy: 'http://logs:hunter2@proxy'",
                "name a Secret in proxyBasicAuth",
            ),
            ("noProxy: '$(POD_NAME)'", "with commas between them"),
            ("noProxy: [a, b]", "expected string scalar at line 8"),
            ("socksProxy: 'http://proxy'", "socksProxy"),
        ] {
            refuses("0.1.0}", &format!("0.1.0, proxy: {{{proxy}}}}}"), says);
        }
    }

    fn log_store(blob_storage: &str, ours: &str) -> LogStore {
        let yaml = GOOD.replace("blob_storage: {logs: {type: s3}}", blob_storage);
        let yaml = yaml.replace("logging:", &format!("logging:\n  {ours}"));
        validate(&yaml).unwrap().log_store
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn the_store_of_logs_is_put_together_of_the_installers_keys_and_ours() {
        const OURS: &str = "logStore: {credentialsSecretRef: {name: log-store}, prefix: platform}";
        let installer =
            "blob_storage: {logs: {type: s3, s3: {bucket: logs, region: r, sse_kms_key_id: x}}}";
        let LogStore::S3(store) = log_store(installer, OURS) else {
            panic!("no store");
        };
        assert_eq!(
            (store.bucket.as_str(), store.region.as_deref()),
            ("logs", Some("r"))
        );
        assert_eq!(store.prefix.as_deref(), Some("platform"));
        let installer_of_google = "blob_storage: {logs: {type: gcs, gcs: {bucket: logs, service_account_name: x, project_name: y}}}";
        let LogStore::Gcs(store) = log_store(installer_of_google, OURS) else {
            panic!("no store");
        };
        assert_eq!(
            (store.bucket.as_str(), store.prefix.as_deref()),
            ("logs", Some("platform"))
        );
        let installer_of_azure = "blob_storage: {logs: {type: azure, azure: {account_name: platformlogs, account_key: hunter2, container: logs}}}";
        let LogStore::Azure(store) = log_store(installer_of_azure, OURS) else {
            panic!("no store");
        };
        assert_eq!(
            (store.account.as_str(), store.container.as_str()),
            ("platformlogs", "logs")
        );
        assert!(!format!("{store:?}").contains("hunter2"));
        let managed = "logStore: {managementSecretRef: {name: rules, key: rules.json}}";
        let LogStore::Gcs(store) = log_store(installer_of_google, managed) else {
            panic!("no store");
        };
        let key = store.management_secret_ref.unwrap().key;
        assert_eq!(key.as_deref(), Some("rules.json"));
        let managed = "logStore: {managementSecretRef: {name: rules}, subscriptionId: 00000000-1111-2222-3333-444444444444, resourceGroup: platform}";
        let LogStore::Azure(store) = log_store(installer_of_azure, managed) else {
            panic!("no store");
        };
        assert_eq!(store.management_secret_ref.unwrap().name, "rules");
        let LogStore::S3(store) = log_store(installer, "logStore: {}") else {
            panic!("no store");
        };
        assert!(store.credentials_secret_ref.is_none());
        for (installer, ours, reason) in [
            (
                "blob_storage: {logs: {type: shared}}",
                OURS,
                "blob_storage.logs.type is `shared`",
            ),
            (
                "blob_storage: {logs: {type: gcs, s3: {bucket: logs}}}",
                OURS,
                "blob_storage.logs.gcs.bucket is missing",
            ),
            (
                "blob_storage: {logs: {type: azure, azure: {account_name: logs}}}",
                OURS,
                "blob_storage.logs.azure.container is missing",
            ),
            (
                "blob_storage: {logs: {type: azure, azure: {account_name: a.b, container: logs}}}",
                OURS,
                "`a.b` is not the name of a storage account",
            ),
            (
                "blob_storage: {logs: {type: azure, azure: {account_name: logs, container: logs}}}",
                "logStore: {credentialsSecretRef: {name: log-store, key: password}}",
                "write AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
            ),
            (
                installer_of_google,
                "logStore: {objectLock: {mode: Governance, days: 1}}",
                "objectLock is for s3: remove it",
            ),
            (
                installer_of_google,
                "logStore: {subscriptionId: 00000000-1111-2222-3333-444444444444}",
                "are for azure: remove them",
            ),
            (
                installer_of_azure,
                "logStore: {managementSecretRef: {name: log-store}}",
                "all three of managementSecretRef, subscriptionId and resourceGroup",
            ),
            (
                installer_of_azure,
                "logStore: {managementSecretRef: {name: log-store}, subscriptionId: mine, resourceGroup: platform}",
                "is not the id of a subscription",
            ),
            (
                installer_of_azure,
                "logStore: {managementSecretRef: {name: log-store}, subscriptionId: 00000000-1111-2222-3333-444444444444, resourceGroup: platform/}",
                "is not the name of a resource group",
            ),
            (
                installer_of_azure,
                "logStore: {managementSecretRef: {name: log-store, key: a}, subscriptionId: 00000000-1111-2222-3333-444444444444, resourceGroup: platform}",
                "managementSecretRef.key is for gcs: remove it",
            ),
            (
                installer,
                "logStore: {credentialsSecretRef: {name: log-store, key: key.json}}",
                "is for gcs and azure: remove it",
            ),
            (
                "blob_storage: {logs: {type: s3}}",
                OURS,
                "blob_storage.logs.s3.bucket is missing",
            ),
            (installer, "", "logging.logStore is missing"),
            (
                "blob_storage: {logs: {s3: {bucket: Logs, region: r}}}",
                OURS,
                "`Logs` is not the name of a bucket",
            ),
            (
                "blob_storage: {logs: {s3: {bucket: logs}}}",
                OURS,
                "needs the region of the bucket",
            ),
        ] {
            let store = log_store(installer, ours);
            let told = matches!(&store, LogStore::Unusable(told) if told.contains(reason));
            assert!(told, "{store:?}");
        }
        for installer in [
            "",
            "blob_storage: {projects: {type: s3}}",
            "blob_storage: null",
        ] {
            assert_eq!(log_store(installer, OURS), LogStore::None, "{installer}");
        }
        refuses("logging:", "logging:\n  logStore: {secret: x}\n", "secret");
    }

    #[test]
    fn proxies_are_taken_as_they_are_written() {
        let with =
            "0.1.0, proxy: {httpsProxy: 'http://[fd00::1]:3128', noProxy: '.svc, 10.0.0.0/8'}}";
        let proxy = validate(&GOOD.replace("0.1.0}", with)).unwrap().agent.proxy;
        assert_eq!(proxy.https_proxy.as_deref(), Some("http://[fd00::1]:3128"));
        assert_eq!(proxy.no_proxy.as_deref(), Some(".svc, 10.0.0.0/8"));
        assert_eq!(proxy.http_proxy, None);
    }

    #[test]
    fn the_way_of_injection_is_chosen_where_nothing_is_said() {
        assert_eq!(validate(GOOD).unwrap().injection.mode, Mode::Auto);
        let with = GOOD.replace("logging:", "logging:\n  injection: {mode: Webhook}");
        assert_eq!(validate(&with).unwrap().injection.mode, Mode::Webhook);
    }

    #[test]
    fn no_password_of_a_proxy_is_repeated() {
        let with = "0.1.0, proxy: {httpProxy: 'http://logs:hunter2@proxy'}}";
        let problem = validate(&GOOD.replace("0.1.0}", with)).unwrap_err();
        assert!(!format!("{problem} {problem:?}").contains("hunter2"));
    }

    #[test]
    fn a_mistake_is_told_by_its_place_and_the_lines_around_it_are_not_shown() {
        let with = "blob_storage: {logs: {secret_key: hunter2}}\nnamespaces:";
        let problem = validate(
            &GOOD
                .replace("namespaces:", with)
                .replace("agent: {", "agent: [{"),
        );
        let problem = problem.unwrap_err().to_string();
        assert!(
            problem.contains("line ") && !problem.contains("hunter2"),
            "{problem}"
        );
        let problem = validate(&GOOD.replace(
            "blob_storage: {",
            "blob_storage: {secret_key: hunter2, a: ]",
        ));
        let problem = problem.unwrap_err().to_string();
        assert!(
            problem.contains("line ") && !problem.contains("hunter2"),
            "{problem}"
        );
    }

    #[test]
    fn an_installation_survives_the_way_through_an_annotation() {
        let window = "logging:\n  rollout: {window: {days: [Sat], from: '22:00', to: '04:00'}}\n";
        let installation = validate(&GOOD.replace("logging:", window)).unwrap();
        assert!(installation.rollout.window.is_some());
        let json = serde_json::to_string(&installation).unwrap();
        assert_eq!(
            serde_json::from_str::<Installation>(&json).unwrap(),
            installation
        );
    }
}
