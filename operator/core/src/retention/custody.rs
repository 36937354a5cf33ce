//! Which buckets are looked after, with what, and what is asked of each place in them.

use std::{collections::BTreeMap, fmt};

use katonic_log_config as config;
use katonic_log_config::{
    ArchiveLayout, CredentialKey, Endpoint, Store, Target, bundle::hex_digest,
};

use super::{
    Retention,
    lifecycle::{OURS, setting},
};
use crate::{
    candidate::Candidate,
    credential::{Credential, Keyring, Refusal},
    installation::Proxies,
    policy::{ManagedAccount, ManagedSetting, Management, ManagementKeys, Needs, Policy, Sink},
};

/// How much of a digest tells one place from another.
const DIGEST: usize = 16;

/// What says for itself how long it keeps what is in it: a bucket, a storage account with its containers, an index, an account.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BucketId {
    /// What it is.
    pub kind: Kind,
    /// Base address of its store, without `/` at the end.
    pub endpoint: String,
    /// Its name.
    pub name: String,
}

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A bucket of S3.
    S3,
    /// A bucket of Google Cloud Storage.
    Gcs,
    /// A storage account of Azure's.
    Azure,
    /// An index of Splunk Enterprise.
    SplunkEnterprise,
    /// An index of Splunk Cloud.
    SplunkCloud,
    /// The logs of an account of New Relic's.
    NewRelic,
}

impl fmt::Display for BucketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::S3 | Kind::Gcs => "bucket",
            Kind::Azure => "storage account",
            Kind::SplunkEnterprise | Kind::SplunkCloud => "index",
            Kind::NewRelic => "New Relic account",
        };
        write!(formatter, "{what} {}", self.name)
    }
}

impl BucketId {
    /// That of a store.
    pub fn of(store: &Store) -> Self {
        let (kind, name) = match store {
            Store::S3(s3) => (Kind::S3, s3.bucket.as_str()),
            Store::Gcs(gcs) => (Kind::Gcs, gcs.bucket.as_str()),
            Store::Azure(azure) => (Kind::Azure, azure.account.as_str()),
        };
        Self {
            kind,
            endpoint: address(store.endpoint()),
            name: name.to_owned(),
        }
    }

    /// What buckets have in common that may be one and the same under several addresses: no address says what stands behind it.
    /// A bucket of Google's may be reached by the protocol of S3, too.
    fn namesake(&self) -> (bool, &str) {
        (self.kind == Kind::Azure, &self.name)
    }

    /// That of what has a setting.
    pub fn of_setting(setting: &ManagedSetting) -> Self {
        let endpoint = address(setting.endpoint());
        let (kind, endpoint, name) = match setting {
            ManagedSetting::SplunkEnterprise { index, .. } => {
                (Kind::SplunkEnterprise, endpoint, index.clone())
            }
            ManagedSetting::SplunkCloud { stack, index, .. } => (
                Kind::SplunkCloud,
                format!("{endpoint}/{stack}"),
                index.clone(),
            ),
            ManagedSetting::NewRelic { account, .. } => {
                (Kind::NewRelic, endpoint, account.to_string())
            }
        };
        Self {
            kind,
            endpoint,
            name,
        }
    }

    /// The address of what begins with a prefix in it.
    pub fn location(&self, prefix: &str) -> String {
        format!("{}/{}/{prefix}", self.endpoint, self.name)
    }
}

/// A base address in the one of its forms that stands for all of them (RFC 3986, 6.2: case, the scheme's own port, an empty path),
/// and without the dot that a name may end in.
fn address(endpoint: &Endpoint) -> String {
    let uri = endpoint.uri();
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let own = if scheme == "http" { 80 } else { 443 };
    let port = uri.port_u16().filter(|port| *port != own);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{host}{port}{path}")
}

/// A bucket that is looked after.
#[derive(Clone, Debug, PartialEq)]
pub struct Custody {
    /// Which it is.
    pub id: BucketId,
    /// Where it is.
    pub subject: Subject,
    /// How it is reached.
    pub connection: config::Connection,
    /// The proxies of the installation, for a connection that names none.
    pub proxies: Proxies,
    /// Who looks after it.
    pub access: Access,
    /// What is asked of each place in it, by what its keys begin with.
    pub places: BTreeMap<String, Place>,
    /// What is asked of buckets of the same name at other addresses, which may be this one: nothing is kept shorter than that.
    pub namesakes: BTreeMap<String, Vec<Claim>>,
    /// A policy that cannot be used, so that nobody knows what it asks for: nothing is kept shorter meanwhile.
    pub unusable: Option<String>,
}

/// What is looked after.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A bucket, or a storage account. The keys of its credentials are those of the agents, and not meant.
    Store(Store),
    /// A number of days for everything.
    Setting(ManagedSetting),
}

/// Credentials of the operator for a bucket. Printing them prints `…`.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Who it is there.
    pub identity: Identity,
    /// What the connection needs: authorities, a certificate of ours, a proxy's password.
    pub connection: BTreeMap<CredentialKey, Credential>,
}

/// Who the operator is for a vendor. Printing it prints `…`.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// An access key of S3.
    AccessKey {
        /// Its id.
        id: Credential,
        /// Its secret.
        secret: Credential,
    },
    /// A service account of Google's: its key file.
    ServiceAccount(Credential),
    /// A service principal of Microsoft Entra.
    ServicePrincipal {
        /// The tenant that it is in.
        tenant: Credential,
        /// Its application.
        client: Credential,
        /// A secret of the application.
        secret: Credential,
        /// What it looks after.
        account: Box<ManagedAccount>,
    },
    /// A token, a key or a password.
    Secret(Credential),
}

/// What is asked of a place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// What its rule is called.
    pub rule: String,
    /// What each policy asks.
    pub claims: Vec<Claim>,
    /// How long logs were kept there when that was last known.
    pub established: Option<Retention>,
}

/// What a policy asks of a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Name of the policy.
    pub policy: String,
    /// How long logs are to be kept.
    pub retention: Retention,
    /// Whether somebody has said that this may delete logs.
    pub acknowledged: bool,
    /// The other address under which it archives to a bucket of this name; none: to this one.
    pub address: Option<String>,
}

/// All that is looked after, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Custodies {
    /// The buckets.
    pub buckets: BTreeMap<BucketId, Custody>,
    /// Why the operator has no credentials for a sink that names them, by policy and sink.
    pub faults: BTreeMap<(String, String), Refusal>,
}

impl Custody {
    /// The longest that is asked of what begins with this prefix: also of what is deeper in it, for a rule reaches that too.
    pub fn wanted(&self, prefix: &str) -> Option<Retention> {
        self.claims(prefix).map(|claim| claim.retention).max()
    }

    /// What is asked of what begins with this prefix.
    pub fn claims<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Claim> {
        let here = self.places.iter().map(|(at, place)| (at, &place.claims));
        let all = here.chain(&self.namesakes);
        all.filter(move |(at, _)| at.starts_with(prefix))
            .flat_map(|(_, claims)| claims)
    }

    /// Whether nothing differs but what was known of the bucket before.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let without = |custody: &Self| {
            let mut custody = custody.clone();
            let places = custody.places.values_mut();
            places.for_each(|place| place.established = None);
            custody
        };
        without(self) == without(other)
    }
}

/// What all that a sink stores begins with, as rules have it: of Azure's, with the container before it.
pub(crate) fn root(store: &Store) -> String {
    match store {
        Store::S3(s3) => s3.prefix.as_str().to_owned(),
        Store::Gcs(gcs) => gcs.prefix.as_str().to_owned(),
        Store::Azure(azure) => {
            let (container, prefix) = (azure.container.as_str(), azure.prefix.as_str());
            let separator = if prefix.is_empty() { "" } else { "/" };
            format!("{container}{separator}{prefix}")
        }
    }
}

/// What the keys of a sink's objects begin with, as rules have it.
pub(crate) fn prefixes(store: &Store, layout: ArchiveLayout) -> impl Iterator<Item = String> {
    let folders = layout.folders().iter();
    folders.map(|folder| match store {
        Store::S3(s3) => s3.prefix.join(folder),
        Store::Gcs(gcs) => gcs.prefix.join(folder),
        Store::Azure(azure) => {
            let container = azure.container.as_str();
            format!("{container}/{}", azure.prefix.join(folder))
        }
    })
}

/// The id of the rule of a place. Readable where it can be; a digest, because a prefix may be longer than an id. Azure promises
/// letters and digits alone.
fn rule_id(kind: Kind, prefix: &str) -> String {
    let folder = prefix.trim_end_matches('/').rsplit('/').next();
    let digest = hex_digest(prefix.as_bytes());
    let digest = digest.get(..DIGEST).unwrap_or_default();
    let id = format!("{OURS}{}-{digest}", folder.unwrap_or_default());
    match kind {
        Kind::Azure => id.replace('-', ""),
        _ => id,
    }
}

/// Gathers what policies ask of the buckets that somebody may look after. The oldest policy that names credentials for a
/// bucket decides how it is reached; what is asked comes from all policies that archive there.
///
/// # Guarantees
/// Equal policies give equal custodies, whatever their order.
pub fn gather(candidates: &[Candidate], keyring: &Keyring, proxies: &Proxies) -> Custodies {
    let mut by_age: Vec<&Candidate> = candidates.iter().collect();
    by_age.sort_by_key(|candidate| (candidate.created, &candidate.name));
    let archives: Vec<(&Candidate, &Policy, &Sink, &config::ObjectStorage)> = by_age
        .iter()
        .filter_map(|candidate| Some((*candidate, candidate.policy.as_ref().ok()?)))
        .flat_map(|(candidate, policy)| {
            policy.sinks.iter().filter_map(move |sink| {
                let Target::ObjectStorage(storage) = &sink.config.target else {
                    return None;
                };
                Some((candidate, policy, sink, storage))
            })
        })
        .collect();
    let unusable = by_age
        .iter()
        .find(|candidate| candidate.policy.is_err())
        .map(|candidate| candidate.name.clone());
    let mut custodies = Custodies::default();
    for (candidate, _, sink, storage) in &archives {
        let Some(management) = &sink.management else {
            continue;
        };
        match access(keyring, sink, &storage.store.credentials(), management) {
            Ok(access) => {
                let id = BucketId::of(&storage.store);
                let bucket = custodies.buckets.entry(id.clone());
                bucket.or_insert_with(|| Custody {
                    id,
                    subject: Subject::Store(storage.store.clone()),
                    connection: storage.connection.clone(),
                    proxies: proxies.clone(),
                    access,
                    places: BTreeMap::new(),
                    namesakes: BTreeMap::new(),
                    unusable: unusable.clone(),
                });
            }
            Err(refusal) => {
                let sink = (candidate.name.clone(), sink.config.name.clone());
                custodies.faults.insert(sink, refusal);
            }
        }
    }
    let mut namesakes: BTreeMap<(bool, String), Vec<BucketId>> = BTreeMap::new();
    for id in custodies.buckets.keys() {
        let (is_account, name) = id.namesake();
        let others = namesakes.entry((is_account, name.to_owned()));
        others.or_default().push(id.clone());
    }
    for (candidate, policy, sink, storage) in archives {
        let id = BucketId::of(&storage.store);
        let retention = policy.retention();
        let claim = Claim {
            policy: candidate.name.clone(),
            retention,
            acknowledged: candidate.acknowledges(retention),
            address: None,
        };
        let (is_account, name) = id.namesake();
        let others = namesakes.get(&(is_account, name.to_owned()));
        for other in others.into_iter().flatten().filter(|other| **other != id) {
            let Some(custody) = custodies.buckets.get_mut(other) else {
                continue;
            };
            for prefix in prefixes(&storage.store, storage.layout) {
                custody.namesakes.entry(prefix).or_default().push(Claim {
                    address: Some(id.endpoint.clone()),
                    ..claim.clone()
                });
            }
        }
        let Some(custody) = custodies.buckets.get_mut(&id) else {
            continue;
        };
        for prefix in prefixes(&storage.store, storage.layout) {
            let known = established(candidate, sink, &id.location(&root(&storage.store)));
            let place = custody
                .places
                .entry(prefix.clone())
                .or_insert_with(|| Place {
                    rule: rule_id(id.kind, &prefix),
                    ..Place::default()
                });
            place.claims.push(claim.clone());
            place.established = place.established.max(known);
        }
    }
    settings(&by_age, keyring, proxies, unusable.as_ref(), &mut custodies);
    custodies
}

/// Where the events of a sink go, whoever may look after that: the address of the collector, and the index there.
fn collector(target: &Target) -> Option<(String, &str)> {
    match target {
        Target::Splunk(splunk) => Some((splunk.endpoint.to_string(), splunk.index.as_deref()?)),
        _ => None,
    }
}

/// The setting that a sink names.
pub(crate) fn place_of(sink: &Sink) -> Option<&ManagedSetting> {
    match &sink.management.as_ref()?.keys {
        ManagementKeys::Setting { setting, .. } => Some(setting),
        _ => None,
    }
}

/// Gathers what policies ask of settings. Who sends to an index that another one looks after asks, too: what is sent there is kept
/// no longer than the index does.
fn settings(
    by_age: &[&Candidate],
    keyring: &Keyring,
    proxies: &Proxies,
    unusable: Option<&String>,
    custodies: &mut Custodies,
) {
    let sinks: Vec<(&Candidate, &Policy, &Sink)> = by_age
        .iter()
        .filter_map(|candidate| Some((*candidate, candidate.policy.as_ref().ok()?)))
        .flat_map(|(candidate, policy)| {
            policy
                .sinks
                .iter()
                .map(move |sink| (candidate, policy, sink))
        })
        .collect();
    let mut collectors: BTreeMap<(String, &str), BucketId> = BTreeMap::new();
    for (candidate, _, sink) in &sinks {
        let (Some(setting), Some(management)) = (place_of(sink), &sink.management) else {
            continue;
        };
        let (connection, of_agents) = match &sink.config.target {
            Target::Splunk(splunk) => (&splunk.connection, &splunk.token),
            Target::NewRelic(new_relic) => (&new_relic.connection, &new_relic.license_key),
            _ => continue,
        };
        match access(keyring, sink, &[of_agents], management) {
            Ok(access) => {
                let id = BucketId::of_setting(setting);
                if let Some(collector) = collector(&sink.config.target) {
                    collectors.insert(collector, id.clone());
                }
                let custody = custodies.buckets.entry(id.clone());
                custody.or_insert_with(|| Custody {
                    id,
                    subject: Subject::Setting(setting.clone()),
                    connection: connection.clone(),
                    proxies: proxies.clone(),
                    access,
                    places: BTreeMap::new(),
                    namesakes: BTreeMap::new(),
                    unusable: unusable.cloned(),
                });
            }
            Err(refusal) => {
                let sink = (candidate.name.clone(), sink.config.name.clone());
                custodies.faults.insert(sink, refusal);
            }
        }
    }
    for (candidate, policy, sink) in sinks {
        let id = match place_of(sink) {
            Some(setting) => Some(BucketId::of_setting(setting)),
            None => collector(&sink.config.target)
                .and_then(|collector| collectors.get(&collector).cloned()),
        };
        let custody = id.and_then(|id| custodies.buckets.get_mut(&id));
        let Some(custody) = custody else {
            continue;
        };
        let known = established(candidate, sink, &custody.id.location(""));
        let place = custody
            .places
            .entry(String::new())
            .or_insert_with(|| Place {
                rule: setting::ID.to_owned(),
                ..Place::default()
            });
        let retention = policy.retention();
        place.claims.push(Claim {
            policy: candidate.name.clone(),
            retention,
            acknowledged: candidate.acknowledges(retention),
            address: None,
        });
        place.established = place.established.max(known);
    }
}

/// What the status of a policy says of a sink's place, if it is still about this place.
fn established(candidate: &Candidate, sink: &Sink, location: &str) -> Option<Retention> {
    let sinks = &candidate.status.as_ref()?.sinks;
    let told = sinks.iter().find(|told| told.name == sink.config.name)?;
    let retention = told.retention.as_ref()?;
    let is_here = retention.location.as_deref() == Some(location);
    let kept = retention.kept.as_ref().filter(|_| is_here)?;
    kept.parse().ok()
}

/// The credentials for a bucket, or why one of them cannot be used.
fn access(
    keyring: &Keyring,
    sink: &Sink,
    of_agents: &[&CredentialKey],
    management: &Management,
) -> Result<Access, Refusal> {
    let sources = sink.needs.sources.iter();
    let needs = Needs {
        sources: sources
            .filter(|(key, _)| !of_agents.contains(key))
            .map(|(key, source)| (key.clone(), source.clone()))
            .collect(),
        pairs: sink.needs.pairs.clone(),
    };
    let (connection, refusals) = keyring.resolve(&needs);
    let (mut ours, others) = keyring.resolve(&management.needs);
    if let Some(refusal) = others.into_iter().chain(refusals).next() {
        return Err(refusal);
    }
    let mut take = |key: &CredentialKey| {
        ours.remove(key).ok_or_else(|| {
            (
                crate::credential::Fault::SecretUnreadable,
                format!("the credential {key} has not been read yet"),
            )
        })
    };
    let identity = match &management.keys {
        ManagementKeys::AccessKey { id, secret } => Identity::AccessKey {
            id: take(id)?,
            secret: take(secret)?,
        },
        ManagementKeys::ServiceAccount(key) => Identity::ServiceAccount(take(key)?),
        ManagementKeys::ServicePrincipal {
            tenant,
            client,
            secret,
            account,
        } => Identity::ServicePrincipal {
            tenant: take(tenant)?,
            client: take(client)?,
            secret: take(secret)?,
            account: Box::new(account.clone()),
        },
        ManagementKeys::Setting { secret, .. } => Identity::Secret(take(secret)?),
    };
    Ok(Access {
        identity,
        connection,
    })
}
