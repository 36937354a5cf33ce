//! Which record of audit events is read, and as whom: what the command line and the audit policies say.

use katonic_logging_core::{
    execution::{
        Location,
        location::{Reach, Unlocated},
    },
    trail,
};
use katonic_logging_crds::AuditPolicy;
use kube::{Api, Client, api::ListParams};

use super::args::RecordArgs;
use crate::{
    access::{self, Patience},
    logs::{Failure, place, store::Store},
};

/// The store of the record.
///
/// # Errors
/// When it is not known which one is meant, or it cannot be used.
pub async fn store(args: &RecordArgs) -> Result<Store, Failure> {
    let store = &args.store;
    let cluster = &args.cluster;
    let spelled_out = store.location().transpose()?;
    let client = if spelled_out.is_none() || store.credentials_secret.is_some() {
        Some(access::connect(cluster, Patience::OfAnswers).await?)
    } else {
        None
    };
    let place = match (spelled_out, &client) {
        (Some(location), _) => (location, Reach::default()),
        (None, Some(client)) => of_policies(args, client).await?,
        (None, None) => return Err(Unlocated::None.into()),
    };
    place::open(store, &cluster.namespace, client.as_ref(), place).await
}

/// The record that the audit policies of the cluster name.
async fn of_policies(args: &RecordArgs, client: &Client) -> Result<(Location, Reach), Failure> {
    let policies: Api<AuditPolicy> = Api::all(client.clone());
    let listed = access::list(&policies, &ListParams::default()).await;
    let listed = listed.map_err(|error| access::Error::read("the audit policies", &error))?;
    let place = trail::place(&listed, args.policy.as_deref(), args.sink.as_deref())?;
    let store = if let Some(store) = place.store {
        store
    } else {
        let namespace = &args.cluster.namespace;
        access::installation(client, namespace).await?.log_store
    };
    Ok(Location::of(&store)?)
}
