//! What stands behind the `ReplicaSets` that pods name as their controller: read when it is asked for, once each.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use katonic_logging_core::coverage::{Owner, Parent};
use kube::{Api, Client, core::PartialObjectMeta};

use crate::cache::chain;

/// How many are read at once.
const CONCURRENCY: usize = 8;

/// The parents of `ReplicaSets`, by UID.
pub struct Owners {
    client: Client,
    known: BTreeMap<String, Parent>,
}

impl Owners {
    /// Knows none yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: BTreeMap::new(),
        }
    }

    /// Reads what is not known of these parents in one namespace; what cannot be read is asked again the next time.
    pub async fn resolve(&mut self, namespace: &str, parents: &BTreeSet<Parent>) {
        let api: Api<PartialObjectMeta<ReplicaSet>> =
            Api::namespaced(self.client.clone(), namespace);
        let unknown: Vec<(&str, &str)> = parents
            .iter()
            .filter_map(|parent| match parent {
                Parent::ReplicaSet { name, uid } if !self.known.contains_key(uid) => {
                    Some((name.as_str(), uid.as_str()))
                }
                _ => None,
            })
            .collect();
        let read: Vec<_> = stream::iter(unknown)
            .map(|(name, uid)| {
                let api = &api;
                async move { (name, uid, api.get_metadata_opt(name).await) }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (name, uid, read) in read {
            match read {
                Ok(Some(object)) if object.metadata.uid.as_deref() == Some(uid) => {
                    let parent = Parent::of(object.metadata.owner_references.as_deref());
                    self.known.insert(uid.to_owned(), parent);
                }
                // Gone, or another one of the same name: its pods go too.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%namespace, replicaset = %name, error = %chain(&error), "failed to read who owns a ReplicaSet");
                }
            }
        }
    }

    /// Forgets all that is not among these.
    pub fn retain(&mut self, parents: &BTreeSet<Parent>) {
        let uids: BTreeSet<&str> = parents
            .iter()
            .filter_map(|parent| match parent {
                Parent::ReplicaSet { uid, .. } => Some(uid.as_str()),
                Parent::Owner(_) => None,
            })
            .collect();
        self.known.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// All that is known.
    pub fn into_known(self) -> BTreeMap<String, Parent> {
        self.known
    }

    /// Who decides about pods of this parent.
    pub fn of(&self, parent: &Parent) -> Owner {
        let of_replica_set = match parent {
            Parent::ReplicaSet { uid, .. } => self.known.get(uid),
            Parent::Owner(_) => None,
        };
        parent.owner(of_replica_set)
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Owners")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}
