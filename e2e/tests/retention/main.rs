//! Retention in a real store of objects, looked after by the operator with the documented rights and no others.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod agreed;
mod cloud;
mod merged;
mod refused;
mod rights;
mod settings;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use katonic_logging_core::{
    names,
    retention::lifecycle::{OURS, s3::Configuration},
};
use katonic_logging_crds::{LoggingPolicyStatus, SinkRetention};
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{Installed, Operator, condition},
    receiver::{
        Authority, Minio,
        minio::{User, documented_policy},
    },
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const BUCKET: &str = "platform-logs";
const LIMIT: Duration = Duration::from_mins(1);

/// What `docs/object-storage.md` gives the operator, word for word but for the bucket.
fn least_privilege() -> Result<Value> {
    documented_policy("operator", BUCKET, "logs")
}

/// A cluster with the operator.
struct Setup {
    installed: Installed,
    operator: Operator,
}

/// The same, with a store with a bucket, and the user that the operator looks after it with.
struct World {
    setup: Setup,
    minio: Minio,
    user: User,
    authority: Option<Authority>,
}

impl std::ops::Deref for World {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
    }
}

impl std::ops::DerefMut for World {
    fn deref_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }
}

impl Setup {
    async fn of(installed: Installed) -> Result<Self> {
        Ok(Self {
            operator: Self::operator(&installed).await?,
            installed,
        })
    }

    async fn operator(installed: &Installed) -> Result<Operator> {
        let often = ["--retention-interval", "1"];
        Operator::start_with(&installed.cluster, "one", &often).await
    }

    /// A Secret in the operator's namespace.
    async fn secret(&self, name: &str, data: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": names::OPERATOR_NAMESPACE},
            "stringData": data,
        });
        self.apply(&object).await
    }

    async fn apply(&self, object: &Value) -> Result<()> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let cluster = &self.installed.cluster;
        cluster
            .kubectl_with(&arguments, &object.to_string())
            .await?
            .ok()?;
        Ok(())
    }

    async fn acknowledge(&self, policy: &str, retention: &str) -> Result<()> {
        let annotations = json!({names::ACKNOWLEDGE_RETENTION_ANNOTATION: retention});
        let patch = json!({"metadata": {"annotations": annotations}});
        let policies = self.installed.policies();
        policies
            .patch(policy, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Waits until the condition has this state and this reason and says this.
    async fn told(
        &self,
        policy: &str,
        state: &str,
        reason: &str,
        says: &str,
    ) -> Result<LoggingPolicyStatus> {
        let policies = self.installed.policies();
        let what = format!("{policy} is RetentionEnforced={state} because of {reason}: {says}");
        let told = eventually(what, LIMIT, async || {
            let policy = policies.get(policy).await?;
            let status = policy.status.unwrap_or_default();
            let enforced = condition(&status, "RetentionEnforced").cloned();
            let holds = enforced.as_ref().is_some_and(|enforced| {
                (enforced.status.as_str(), enforced.reason.as_str()) == (state, reason)
                    && enforced.message.contains(says)
                    && enforced.observed_generation == policy.metadata.generation
            });
            ensure!(holds, "it is {enforced:?}");
            Ok(Some(status))
        });
        told.await
            .with_context(|| self.operator.log().unwrap_or_default())
    }

    /// Waits until the bucket has been looked at from beginning to end, with nothing to put right.
    async fn quiet_look(&self) -> Result<()> {
        let looks = || self.count("katonic_logging_bucket_looks_total", "success");
        let before = looks().await?;
        // One may have begun before.
        eventually("the bucket was looked at again", LIMIT, async || {
            Ok((looks().await? > before + 1).then_some(()))
        })
        .await
    }

    /// The sum of a metric over the lines with this label.
    async fn count(&self, metric: &str, label: &str) -> Result<u64> {
        let (_, metrics) = self.operator.get("/metrics").await?;
        let lines = metrics.lines();
        let lines = lines.filter(|line| line.starts_with(metric) && line.contains(label));
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        Ok(counts.sum::<Result<u64, _>>()?)
    }
}

impl World {
    /// With the bucket, and the documented rights.
    async fn start_or_skip() -> Result<Option<Self>> {
        let Some(minio) = Minio::start_or_skip(None).await? else {
            return Ok(None);
        };
        minio.make_bucket(BUCKET).await?;
        Self::of(minio, None, &least_privilege()?).await.map(Some)
    }

    /// With this store, and a user with these rights.
    async fn of(minio: Minio, authority: Option<Authority>, rights: &Value) -> Result<Self> {
        let user = minio.user("operator", "of-the-operator", rights).await?;
        let installed = Installed::start(Tier::ApiServer, Options::default()).await?;
        let world = Self {
            setup: Setup::of(installed).await?,
            minio,
            user,
            authority,
        };
        world
            .access_key("agents", "agents", "of-the-agents")
            .await?;
        let User { id, secret } = &world.user;
        world.access_key("management", id, secret).await?;
        Ok(world)
    }

    /// A Secret with an access key.
    async fn access_key(&self, name: &str, id: &str, secret: &str) -> Result<()> {
        let ca = self.authority.as_ref().map(Authority::certificate_pem);
        let key = json!({"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "ca.crt": ca});
        self.secret(name, &key).await
    }

    /// The store, as a policy spells it out.
    fn store(&self) -> Value {
        let mut store = json!({
            "bucket": BUCKET,
            "endpoint": self.minio.url(),
            "prefix": "logs",
            "credentialsSecretRef": {"name": "agents"},
            "managementSecretRef": {"name": "management"},
        });
        if self.authority.is_some() {
            store["tls"] = json!({"caSecretRef": {"name": "management", "key": "ca.crt"}});
        }
        store
    }

    /// A policy that archives, with these fields beside its sink.
    fn policy(&self, name: &str, fields: &Value) -> Value {
        let mut policy = json!({
            "apiVersion": "logging.katonic.ai/v1alpha1",
            "kind": "LoggingPolicy",
            "metadata": {"name": name},
            "spec": {"sinks": [{"name": "archive", "objectStorage": {"s3": self.store()}}]},
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            policy["spec"][field] = value.clone();
        }
        policy
    }

    /// The rules of the bucket as they are written.
    async fn rules(&self) -> Result<Vec<String>> {
        let Some(text) = self.minio.lifecycle(BUCKET).await? else {
            return Ok(Vec::new());
        };
        let configuration = Configuration::parse(&text)?;
        Ok(configuration.written().map(str::to_owned).collect())
    }

    /// Those of the operator, and those of others.
    async fn ours_and_others(&self) -> Result<(Vec<String>, Vec<String>)> {
        let rules = self.rules().await?.into_iter();
        Ok(rules.partition(|rule| rule.contains(&format!("<ID>{OURS}"))))
    }

    /// How often the operator has written rules.
    async fn writes(&self) -> Result<u64> {
        self.count("katonic_logging_writes_total", "LifecycleConfiguration")
            .await
    }

    /// More logs than one listing shows, so that nobody knows how old the oldest of them are.
    async fn fill(&self) -> Result<()> {
        let puts = stream::iter(0..1_001).map(|number| async move {
            let key = format!("logs/application/katonic-platform/{number}");
            let content = Bytes::from_static(b"x");
            self.minio.put(BUCKET, &key, content).await
        });
        puts.buffer_unordered(16).try_collect::<Vec<()>>().await?;
        Ok(())
    }
}

/// A rule as somebody else writes it, in the form in which MinIO answers it.
fn rule(id: &str, prefix: &str, days: u32) -> String {
    format!(
        "<Rule><ID>{id}</ID><Status>Enabled</Status><Filter><Prefix>{prefix}</Prefix></Filter><Expiration><Days>{days}</Days></Expiration></Rule>"
    )
}

fn retention(status: &LoggingPolicyStatus) -> &SinkRetention {
    status.sinks[0].retention.as_ref().unwrap()
}
