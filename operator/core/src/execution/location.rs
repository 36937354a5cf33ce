//! Where an archive is: what a policy, the installation or a command line says of it.

use katonic_log_config::{
    BucketName, Connection, Endpoint, KeyPrefix, Region, archive::escaped,
    endpoint::InvalidEndpoint,
};

use crate::{
    installation::LogStore,
    policy::{
        Needs,
        archive::{self, REGION},
    },
};

/// A bucket, and what stands before the keys of the archive in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// Base address of the service.
    pub endpoint: Endpoint,
    /// Region that requests are signed for.
    pub region: Region,
    /// Bucket.
    pub bucket: BucketName,
    /// What all keys begin with.
    pub prefix: KeyPrefix,
}

/// How a store is reached: as the agents reach it, but for their access key.
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
    /// No address for the region.
    #[error("the region has no address: {0}")]
    Region(InvalidEndpoint),
    /// The installation names none.
    #[error(
        "the installation names no store of logs: set blob_storage.logs and logging.logStore in it, or name a store with --bucket"
    )]
    None,
    /// The installation names one of another vendor.
    #[error(
        "the installation's store of logs is in {0}, and only stores that speak the protocol of Amazon S3 are read: fetch its objects with the vendor's own tool, or add --from pods"
    )]
    Elsewhere(&'static str),
    /// The installation names one whose certificate nobody checks.
    #[error(
        "the installation has its store of logs not verified (insecureSkipVerify), and what anybody could have sent proves nothing: name its authority with --ca-file, or in logging.logStore.tls.caSecretRef"
    )]
    Unverified,
    /// The installation names one, and for this reason it is of no use.
    #[error(
        "the installation's store of logs cannot be used: {0}: correct it, or name a store with --bucket"
    )]
    Unusable(String),
}

impl Location {
    /// A store that is spelled out: of what is not said, the same is taken as in a policy.
    ///
    /// # Errors
    /// When nothing says where it is.
    pub fn new(
        bucket: BucketName,
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
            None => archive::amazon(&region).map_err(Unlocated::Region)?,
        };
        Ok(Self {
            endpoint,
            region,
            bucket,
            prefix: prefix.unwrap_or_default(),
        })
    }

    /// The store of an installation.
    ///
    /// # Errors
    /// When it names none, or none that can be used.
    pub fn of(store: &LogStore) -> Result<(Self, Reach), Unlocated> {
        match store {
            LogStore::S3(store) => archive::location(store).map_err(Unlocated::Unusable),
            LogStore::Gcs(_) => Err(Unlocated::Elsewhere("Google Cloud Storage")),
            LogStore::Azure(_) => Err(Unlocated::Elsewhere("Azure Blob Storage")),
            LogStore::None => Err(Unlocated::None),
            LogStore::Unusable(reason) => Err(Unlocated::Unusable(reason.clone())),
        }
    }

    /// What the keys of an execution begin with: ends in `/`.
    pub fn of_execution(&self, id: &str) -> String {
        self.prefix.join(&format!("executions/{}/", escaped(id)))
    }

    /// The name below the prefix that a key has.
    pub fn name<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(self.prefix.as_str())?.strip_prefix('/')
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
        let location = Location::new(bucket(), Some(region), None, None).unwrap();
        assert_eq!(
            location.endpoint.uri(),
            "https://s3.eu-central-1.amazonaws.com"
        );
        assert_eq!(location.of_execution("a/b"), "executions/a!2Fb/");
        assert_eq!(location.name("executions/x"), Some("executions/x"));
        let endpoint = Endpoint::try_from("http://minio:9000".to_owned()).unwrap();
        let prefix = KeyPrefix::try_from("a/b".to_owned()).unwrap();
        let location = Location::new(bucket(), None, Some(endpoint), Some(prefix)).unwrap();
        assert_eq!(location.region.as_str(), "us-east-1");
        assert_eq!(location.of_execution("63d1"), "a/b/executions/63d1/");
        assert_eq!(location.name("a/b/executions/x"), Some("executions/x"));
        assert_eq!(location.name("a/bc/executions/x"), None);
        assert_eq!(
            Location::new(bucket(), None, None, None),
            Err(Unlocated::Nowhere)
        );
    }
}
