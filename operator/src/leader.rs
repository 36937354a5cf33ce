//! The lease: of several instances one works, and the others wait for it.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::Lease,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_core::names;
use kube::{Api, Client};
use kube_lease_manager::{DurationSeconds, LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

/// How long the lease holds after its last renewal, in seconds: the longest pause after an instance has died.
const DURATION: DurationSeconds = 15;

/// How long before its end the lease is renewed, in seconds.
const GRACE: DurationSeconds = 5;

/// How long before its end the lease counts as over: what is about to be written takes this long at most to arrive.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

/// How often a lease that this instance does not hold at present is looked at.
const AGAIN: Duration = Duration::from_secs(1);

/// This instance's part in the election.
#[derive(Debug)]
pub struct Election {
    state: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Election {
    /// Joins the election.
    ///
    /// # Errors
    /// When the lease can neither be read nor created.
    pub async fn join(
        client: Client,
        namespace: &str,
        identity: &str,
    ) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, names::LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(names::FIELD_MANAGER)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        let (state, task) = manager.watch().await;
        Ok(Self { state, task })
    }

    /// Waits until this instance is elected, or until the election has ended.
    pub async fn won(&mut self) -> bool {
        self.state.wait_for(|leads| *leads).await.is_ok()
    }

    /// Waits until this instance is no longer elected.
    pub async fn lost(&mut self) {
        // An error means that the election has ended, which is a loss too.
        let _ = self.state.wait_for(|leads| !*leads).await;
    }

    /// Leaves the election and gives the lease back, so that the next instance need not wait for its end.
    ///
    /// # Errors
    /// When the lease could not be given back.
    pub async fn resign(self) -> Result<(), LeaseManagerError> {
        drop(self.state);
        // The task only fails to join when the runtime is already going down.
        self.task.await.map_or(Ok(()), |result| result.map(drop))
    }
}

/// Until when this instance leads for certain.
///
/// A process can be stopped for longer than its lease lasts (its machine was suspended, say), while another instance goes on. When it
/// runs again it acts on what it knew before, until it learns that the lease is lost. So it looks before it writes.
#[derive(Debug)]
pub struct Tenure {
    leases: Api<Lease>,
    identity: String,
    until: Mutex<Timestamp>,
}

impl Tenure {
    /// Nothing is known of it yet.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            until: Mutex::new(Timestamp::MIN),
        }
    }

    /// Returns when this instance leads; never once another one does, for then this one is about to end.
    ///
    /// # Errors
    /// When the lease cannot be read.
    pub async fn holds(&self) -> kube::Result<()> {
        let mut until = self.until.lock().await;
        while Timestamp::now() >= *until {
            let lease = self.leases.get(names::LEASE).await?;
            match held(&lease, &self.identity) {
                Some(end) if Timestamp::now() < end => *until = end,
                _ => {
                    tracing::warn!("the lease is not held any more: nothing is written");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        Ok(())
    }
}

/// Until when this instance holds the lease, by the clock that it was renewed by: its own.
fn held(lease: &Lease, identity: &str) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    if spec.holder_identity.as_deref() != Some(identity) {
        return None;
    }
    let lasts = SignedDuration::from_secs(spec.lease_duration_seconds?.into());
    let renewed = spec.renew_time.as_ref()?.0;
    renewed.checked_add(lasts.checked_sub(MARGIN)?).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime,
    };

    use super::*;

    #[test]
    fn a_lease_is_held_until_shortly_before_its_end_and_only_by_its_holder() {
        let renewed = Timestamp::from_second(1_000_000).unwrap();
        let lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some("one".to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed)),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        let end = renewed + SignedDuration::from_secs(13);
        assert_eq!(held(&lease, "one"), Some(end));
        assert_eq!(held(&lease, "two"), None);
        assert_eq!(held(&Lease::default(), "one"), None);
    }
}
