//! The lease: of several instances one works, and the others wait for it.

use katonic_logging_core::names;
use kube::Client;
use kube_lease_manager::{DurationSeconds, LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::{sync::watch, task::JoinHandle};

/// How long the lease holds after its last renewal, in seconds: the longest pause after an instance has died.
const DURATION: DurationSeconds = 15;

/// How long before its end the lease is renewed, in seconds.
const GRACE: DurationSeconds = 5;

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
