//! Which record of audit events is read, and as whom: what the command line and the audit policies say.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_logging_core::{
    execution::{
        Location,
        location::{Reach, Unlocated},
    },
    retention::Retention,
    trail::{self, Named},
};
use katonic_logging_crds::AuditPolicy;
use kube::{Api, Client, api::ListParams};

use super::args::RecordArgs;
use crate::{
    access::{self, Patience},
    logs::{Failure, place, store::Store},
};

/// What of a store is asked for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Sinks by what keys have for them, as far as they are known.
    pub sinks: BTreeMap<String, Named>,
    /// Whether those alone are meant.
    pub is_chosen: bool,
    /// How long events are kept.
    pub retention: Retention,
}

impl Scope {
    /// Whether a sink is asked for.
    pub fn wants(&self, route: &str) -> bool {
        !self.is_chosen || self.sinks.contains_key(route)
    }

    /// How a sink is called, `<policy>/<sink>` where that is known.
    pub fn name<'a>(&'a self, route: &'a str) -> &'a str {
        self.sinks
            .get(route)
            .map_or(route, |known| known.name.as_str())
    }

    /// For how long objects are kept; none: for ever.
    pub fn kept(&self) -> Option<SignedDuration> {
        match self.retention {
            Retention::Days(days) => Some(SignedDuration::from_hours(24 * i64::from(days.get()))),
            Retention::Forever => None,
        }
    }

    /// What a sink got before may have expired; none: nothing has.
    pub fn expiry(&self, route: &str, now: Timestamp) -> Option<Timestamp> {
        let expiry = now.checked_sub(self.kept()?).unwrap_or(Timestamp::MIN);
        let created = self.sinks.get(route).and_then(|known| known.created);
        // What there never was has not expired.
        created
            .is_none_or(|created| created < expiry)
            .then_some(expiry)
    }

    /// The sinks that are asked for; none: all.
    pub fn routes(&self) -> Option<BTreeSet<String>> {
        self.is_chosen.then(|| self.sinks.keys().cloned().collect())
    }
}

/// The store of the record, and what of it is asked for.
///
/// # Errors
/// When it is not known which one is meant, or it cannot be used.
pub async fn store(args: &RecordArgs) -> Result<(Store, Scope), Failure> {
    let store = &args.store;
    let cluster = &args.cluster;
    let spelled_out = store.location().transpose()?;
    let client = if spelled_out.is_none() || store.credentials_secret.is_some() {
        Some(access::connect(cluster, Patience::OfAnswers).await?)
    } else {
        None
    };
    let (place, mut scope) = match (spelled_out, &client) {
        (Some(location), _) => {
            let everything = Scope {
                sinks: BTreeMap::new(),
                is_chosen: false,
                retention: Retention::Forever,
            };
            ((location, Reach::default()), everything)
        }
        (None, Some(client)) => of_policies(args, client).await?,
        (None, None) => return Err(Unlocated::None.into()),
    };
    scope.retention = args.retention.unwrap_or(scope.retention);
    let store = place::open(store, &cluster.namespace, client.as_ref(), place).await?;
    Ok((store, scope))
}

/// The record that the audit policies of the cluster name.
async fn of_policies(
    args: &RecordArgs,
    client: &Client,
) -> Result<((Location, Reach), Scope), Failure> {
    let policies: Api<AuditPolicy> = Api::all(client.clone());
    let listed = access::list(&policies, &ListParams::default()).await;
    let listed = listed.map_err(|error| access::Error::read("the audit policies", &error))?;
    let place = trail::place(&listed, args.policy.as_deref(), args.sink.as_deref())?;
    let scope = Scope {
        sinks: place.sinks,
        is_chosen: place.is_chosen,
        retention: place.retention,
    };
    let store = if let Some(store) = place.store {
        store
    } else {
        let namespace = &args.cluster.namespace;
        access::installation(client, namespace).await?.log_store
    };
    Ok((Location::of(&store)?, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_than_its_retention_has_not_expired() {
        let time = |text: &str| -> Timestamp { text.parse().unwrap() };
        let named = |created: &str| Named {
            name: "a/record".to_owned(),
            created: Some(time(created)),
        };
        let mut scope = Scope {
            sinks: [
                ("aaaaaaaa".to_owned(), named("2026-11-01T00:00:00Z")),
                ("bbbbbbbb".to_owned(), named("2026-10-01T00:00:00Z")),
            ]
            .into(),
            is_chosen: false,
            retention: "30d".parse().unwrap(),
        };
        let now = time("2026-11-30T12:00:00Z");
        let expiry = Some(time("2026-10-31T12:00:00Z"));
        assert_eq!(scope.expiry("aaaaaaaa", now), None);
        assert_eq!(scope.expiry("bbbbbbbb", now), expiry);
        assert_eq!(
            scope.expiry("cccccccc", now),
            expiry,
            "of a policy that is gone"
        );
        scope.retention = Retention::Forever;
        assert_eq!(scope.expiry("cccccccc", now), None);
        assert!(scope.wants("cccccccc"));
        scope.is_chosen = true;
        assert!(scope.wants("aaaaaaaa") && !scope.wants("cccccccc"));
        assert_eq!(
            (scope.name("aaaaaaaa"), scope.name("cccccccc")),
            ("a/record", "cccccccc")
        );
    }
}
