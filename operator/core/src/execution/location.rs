//! Where an archive is: what a policy, the installation or a command line says of it.

use std::fmt;

use katonic_log_config::{
    AzureAccount, AzureContainer, BucketName, Connection, Endpoint, GcsBucketName, KeyPrefix,
    Region, Store, endpoint::InvalidEndpoint,
};

use super::Subject;
use crate::{
    installation::LogStore,
    policy::{
        Needs,
        archive::{self, REGION},
    },
};

/// What holds objects, and what stands before the keys of the archive in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// Base address of the service.
    pub endpoint: Endpoint,
    /// What holds the objects.
    pub bucket: Bucket,
    /// What all keys begin with.
    pub prefix: KeyPrefix,
}

/// What holds objects, as each vendor names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bucket {
    /// A bucket of Amazon S3, or of what speaks its protocol.
    S3 {
        /// Its name.
        name: BucketName,
        /// Region that requests are signed for.
        region: Region,
    },
    /// A bucket of Google Cloud Storage.
    Gcs(GcsBucketName),
    /// A container of Azure Blob Storage.
    Azure {
        /// Storage account.
        account: AzureAccount,
        /// The container's name.
        container: AzureContainer,
    },
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { name, .. } => write!(formatter, "bucket `{}`", name.as_str()),
            Self::Gcs(name) => write!(formatter, "bucket `{}`", name.as_str()),
            Self::Azure { account, container } => write!(
                formatter,
                "container `{}` of the storage account `{}`",
                container.as_str(),
                account.as_str()
            ),
        }
    }
}

/// How a store is reached: as the agents reach it, but for what opens it to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// TLS, proxy and time.
    pub connection: Connection,
    /// The credentials that these name.
    pub needs: Needs,
}

/// Why it is not known where the archive is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unlocated {
    /// Neither says where.
    #[error(
        "name the bucket's --region, for example eu-central-1, or the --endpoint of a store that is not Amazon's"
    )]
    Nowhere,
    /// No address for the region or the account.
    #[error("the store has no address of its vendor's: {0}: name its --endpoint")]
    Address(InvalidEndpoint),
    /// No prefix that Azure takes.
    #[error("--prefix has a part that ends with a dot, which Azure does not take: remove the dot")]
    Dot,
    /// The installation names none.
    #[error(
        "the installation names no store of logs: set blob_storage.logs and logging.logStore in it, or name a store with --bucket, --gcs-bucket or --azure-container"
    )]
    None,
    /// The installation names one whose certificate nobody checks.
    #[error(
        "the installation has its store of logs not verified (insecureSkipVerify), and what anybody could have sent proves nothing: name its authority with --ca-file, or in logging.logStore.tls.caSecretRef"
    )]
    Unverified,
    /// The installation names one, and for this reason it is of no use.
    #[error(
        "the installation's store of logs cannot be used: {0}: correct it, or name a store with --bucket, --gcs-bucket or --azure-container"
    )]
    Unusable(String),
}

impl Location {
    /// A bucket of S3 that is spelled out: of what is not said, the same is taken as in a policy.
    ///
    /// # Errors
    /// When nothing says where it is.
    pub fn s3(
        name: BucketName,
        region: Option<Region>,
        endpoint: Option<Endpoint>,
        prefix: Option<KeyPrefix>,
    ) -> Result<Self, Unlocated> {
        if region.is_none() && endpoint.is_none() {
            return Err(Unlocated::Nowhere);
        }
        let region = match region {
            Some(region) => region,
            None => Region::try_from(REGION.to_owned()).map_err(|_| Unlocated::Nowhere)?,
        };
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => archive::amazon(&region).map_err(Unlocated::Address)?,
        };
        Ok(Self {
            endpoint,
            bucket: Bucket::S3 { name, region },
            prefix: prefix.unwrap_or_default(),
        })
    }

    /// A bucket of Google's that is spelled out.
    ///
    /// # Errors
    /// None but that Google has no address.
    pub fn gcs(
        name: GcsBucketName,
        endpoint: Option<Endpoint>,
        prefix: Option<KeyPrefix>,
    ) -> Result<Self, Unlocated> {
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => archive::google().map_err(Unlocated::Address)?,
        };
        Ok(Self {
            endpoint,
            bucket: Bucket::Gcs(name),
            prefix: prefix.unwrap_or_default(),
        })
    }

    /// A container of Azure's that is spelled out.
    ///
    /// # Errors
    /// When Azure does not take the prefix.
    pub fn azure(
        account: AzureAccount,
        container: AzureContainer,
        endpoint: Option<Endpoint>,
        prefix: Option<KeyPrefix>,
    ) -> Result<Self, Unlocated> {
        let prefix = prefix.unwrap_or_default();
        if archive::ends_with_dot(prefix.as_str()) {
            return Err(Unlocated::Dot);
        }
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => archive::microsoft(&account).map_err(Unlocated::Address)?,
        };
        Ok(Self {
            endpoint,
            bucket: Bucket::Azure { account, container },
            prefix,
        })
    }

    /// The store of an installation.
    ///
    /// # Errors
    /// When it names none, or none that can be used.
    pub fn of(store: &LogStore) -> Result<(Self, Reach), Unlocated> {
        match store {
            LogStore::None => Err(Unlocated::None),
            LogStore::Unusable(reason) => Err(Unlocated::Unusable(reason.clone())),
            LogStore::S3(_) | LogStore::Gcs(_) | LogStore::Azure(_) => {
                let (store, reach) = archive::of_reader(store).map_err(Unlocated::Unusable)?;
                Ok((store.into(), reach))
            }
        }
    }

    /// What the keys of an execution, or of pods without one, begin with: ends in `/`.
    pub fn keys_of(&self, subject: &Subject) -> String {
        self.prefix.join(&subject.folder())
    }

    /// The name below the prefix that a key has.
    pub fn name<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(self.prefix.as_str())?.strip_prefix('/')
    }
}

impl From<Store> for Location {
    fn from(store: Store) -> Self {
        match store {
            Store::S3(s3) => Self {
                endpoint: s3.endpoint,
                bucket: Bucket::S3 {
                    name: s3.bucket,
                    region: s3.region,
                },
                prefix: s3.prefix,
            },
            Store::Gcs(gcs) => Self {
                endpoint: gcs.endpoint,
                bucket: Bucket::Gcs(gcs.bucket),
                prefix: gcs.prefix,
            },
            Store::Azure(azure) => Self {
                endpoint: azure.endpoint,
                bucket: Bucket::Azure {
                    account: azure.account,
                    container: azure.container,
                },
                prefix: azure.prefix,
            },
        }
    }
}

impl Reach {
    /// The same for a reader, who may name the store's authorities.
    ///
    /// # Errors
    /// When nobody would know what store that is.
    pub fn of_reader(
        mut self,
        location: &Location,
        has_authorities: bool,
    ) -> Result<Self, Unlocated> {
        let tls = &mut self.connection.tls;
        if has_authorities {
            tls.insecure_skip_verify = false;
            if let Some(ca) = tls.ca.take() {
                self.needs.sources.remove(&ca);
            }
        } else if tls.insecure_skip_verify && !location.endpoint.is_plain_text() {
            return Err(Unlocated::Unverified);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use katonic_logging_crds as api;
    use serde_json::json;

    use super::*;

    fn of(more: &serde_json::Value) -> Result<(Location, Reach), Unlocated> {
        let mut store = json!({"bucket": "logs", "endpoint": "https://minio:9000", "prefix": "a",
            "credentialsSecretRef": {"name": "agents"}, "managementSecretRef": {"name": "rules"}});
        store
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let store: api::S3Store = serde_json::from_value(store).unwrap();
        Location::of(&LogStore::S3(store.into()))
    }

    #[test]
    fn the_installations_store_is_reached_as_agents_reach_it_with_no_key_of_theirs() {
        let (location, reach) = of(&json!({
            "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}, "serverName": "minio.example.com",
                "clientCertificateSecretRef": {"name": "reader"}},
            "proxyURL": "http://proxy:3128",
            "proxyBasicAuth": {"username": "logs", "passwordSecretRef": {"name": "proxy", "key": "password"}},
            "timeout": "30s",
        }))
        .unwrap();
        let secrets = |reach: &Reach| -> Vec<String> {
            let sources = reach.needs.sources.values();
            let mut secrets: Vec<_> = sources
                .map(|source| format!("{}/{}", source.secret.name, source.secret.key))
                .collect();
            secrets.sort();
            secrets
        };
        assert_eq!(
            secrets(&reach),
            [
                "ca/ca.crt",
                "proxy/password",
                "reader/tls.crt",
                "reader/tls.key"
            ]
        );
        let connection = &reach.connection;
        assert_eq!(
            connection.timeout_ms.map(std::num::NonZeroU32::get),
            Some(30_000)
        );
        assert!(connection.proxy.is_some() && connection.tls.server_name.is_some());
        assert_eq!(reach.clone().of_reader(&location, false), Ok(reach.clone()));
        let own = reach.of_reader(&location, true).unwrap();
        assert_eq!(own.connection.tls.ca, None);
        assert_eq!(secrets(&own).len(), 3);
    }

    #[test]
    fn a_store_that_is_not_verified_is_read_with_its_authority_alone() {
        let insecure = json!({"tls": {"insecureSkipVerify": true}});
        let (location, reach) = of(&insecure).unwrap();
        let refused = reach.clone().of_reader(&location, false);
        assert_eq!(refused, Err(Unlocated::Unverified));
        let reach = reach.of_reader(&location, true).unwrap();
        assert!(!reach.connection.tls.insecure_skip_verify);
        let mut plain = insecure;
        plain["endpoint"] = "http://minio:9000".into();
        let (location, reach) = of(&plain).unwrap();
        assert!(reach.of_reader(&location, false).is_ok());
    }

    fn bucket() -> BucketName {
        BucketName::try_from("logs".to_owned()).unwrap()
    }

    #[test]
    fn what_is_not_said_of_a_store_is_as_in_a_policy() {
        let region = Region::try_from("eu-central-1".to_owned()).unwrap();
        let location = Location::s3(bucket(), Some(region), None, None).unwrap();
        assert_eq!(
            location.endpoint.uri(),
            "https://s3.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            location.keys_of(&Subject::Execution("a/b".into())),
            "executions/a!2Fb/"
        );
        assert_eq!(location.name("executions/x"), Some("executions/x"));
        let endpoint = Endpoint::try_from("http://minio:9000".to_owned()).unwrap();
        let prefix = KeyPrefix::try_from("a/b".to_owned()).unwrap();
        let location = Location::s3(bucket(), None, Some(endpoint), Some(prefix)).unwrap();
        assert!(
            matches!(&location.bucket, Bucket::S3 { region, .. } if region.as_str() == "us-east-1")
        );
        assert_eq!(
            location.keys_of(&Subject::Execution("63d1".into())),
            "a/b/executions/63d1/"
        );
        assert_eq!(location.name("a/b/executions/x"), Some("executions/x"));
        assert_eq!(location.name("a/bc/executions/x"), None);
        assert_eq!(
            Location::s3(bucket(), None, None, None),
            Err(Unlocated::Nowhere)
        );
    }

    #[test]
    fn what_is_not_said_of_google_and_azure_is_as_in_a_policy() {
        let name = GcsBucketName::try_from("platform_logs".to_owned()).unwrap();
        let google = Location::gcs(name, None, None).unwrap();
        assert_eq!(google.endpoint.uri(), "https://storage.googleapis.com");
        assert_eq!(google.bucket.to_string(), "bucket `platform_logs`");
        let azure = |prefix: &str| {
            Location::azure(
                "platformlogs".to_owned().try_into().unwrap(),
                "logs".to_owned().try_into().unwrap(),
                None,
                Some(prefix.to_owned().try_into().unwrap()),
            )
        };
        let location = azure("a/b").unwrap();
        assert_eq!(
            location.endpoint.uri(),
            "https://platformlogs.blob.core.windows.net"
        );
        assert_eq!(
            location.bucket.to_string(),
            "container `logs` of the storage account `platformlogs`"
        );
        assert_eq!(
            location.keys_of(&Subject::Execution("63d1".into())),
            "a/b/executions/63d1/"
        );
        assert_eq!(azure("a./b"), Err(Unlocated::Dot));
    }

    /// Neither what opens the store to agents, nor what looks after its rules, is asked for.
    #[test]
    fn an_installations_store_at_google_and_azure_is_found_with_no_key_of_theirs() {
        let google: api::GcsStore = serde_json::from_value(json!({
            "bucket": "platform-logs", "prefix": "platform", "proxyURL": "http://proxy:3128",
            "credentialsSecretRef": {"name": "agents"}, "managementSecretRef": {"name": "rules"},
        }))
        .unwrap();
        let azure: api::AzureStore = serde_json::from_value(json!({
            "account": "platformlogs", "container": "logs", "prefix": "platform",
            "endpoint": "https://platformlogs.blob.core.chinacloudapi.cn",
            "credentialsSecretRef": {"name": "agents"}, "managementSecretRef": {"name": "rules"},
            "subscriptionId": "00000000-1111-2222-3333-444444444444", "resourceGroup": "platform",
            "managementEndpoint": "https://management.chinacloudapi.cn",
            "authorityHost": "https://login.chinacloudapi.cn",
            "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
        }))
        .unwrap();
        let (location, reach) = Location::of(&LogStore::Gcs(google.into())).unwrap();
        assert_eq!(location.bucket.to_string(), "bucket `platform-logs`");
        assert_eq!(location.endpoint.uri(), "https://storage.googleapis.com");
        assert_eq!(
            location.keys_of(&Subject::Execution("63d1".into())),
            "platform/executions/63d1/"
        );
        assert!(reach.connection.proxy.is_some() && reach.needs.sources.is_empty());
        let (location, reach) = Location::of(&LogStore::Azure(azure.into())).unwrap();
        assert_eq!(
            location.bucket.to_string(),
            "container `logs` of the storage account `platformlogs`"
        );
        assert_eq!(
            location.endpoint.uri(),
            "https://platformlogs.blob.core.chinacloudapi.cn"
        );
        let secrets: Vec<&str> = reach
            .needs
            .sources
            .values()
            .map(|source| source.secret.name.as_str())
            .collect();
        assert_eq!(secrets, ["ca"]);
    }
}
