//! How long indexes of Splunk's and accounts of New Relic's keep logs, played strictly by their documents. It was not run against
//! the real ones.

use anyhow::{Context as _, Result, ensure};
use katonic_logging_crds::LoggingPolicyStatus;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    operator::Installed,
    receiver::{Protocol, Receiver, new_relic, splunk},
};
use serde_json::{Value, json};

use crate::{Setup, retention};

const SECRET: &str = "of-who-looks-after-it";
const DAY: u64 = 24 * 60 * 60;

#[derive(Clone, Copy, PartialEq)]
enum Vendor {
    Enterprise,
    Cloud,
    NewRelic,
}

const VENDORS: [Vendor; 3] = [Vendor::Enterprise, Vendor::Cloud, Vendor::NewRelic];

struct World {
    vendor: Vendor,
    receiver: Receiver,
    setup: Setup,
}

impl World {
    /// With something that keeps logs for so many days.
    async fn start(vendor: Vendor, days: u64) -> Result<Self> {
        let protocol = match vendor {
            Vendor::Enterprise | Vendor::Cloud => {
                let mut rules = splunk::Rules::with_token("hec");
                let is_cloud = vendor == Vendor::Cloud;
                let kept = if is_cloud { days } else { days * DAY };
                let management = &mut rules.management;
                management.token = SECRET.into();
                management.may_edit = true;
                management.stack = is_cloud.then(|| "acme".into());
                management.indexes =
                    [("platform".to_owned(), kept), ("other".to_owned(), kept)].into();
                Protocol::Splunk(rules)
            }
            Vendor::NewRelic => {
                let mut rules = new_relic::Rules::with_license_key("license");
                rules.retention = new_relic::Retention {
                    user_key: SECRET.into(),
                    account: 1_234_567,
                    rules: [("Log".to_owned(), days), ("APM".to_owned(), 8)].into(),
                    most: [("Log".to_owned(), 395), ("APM".to_owned(), 395)].into(),
                    may_edit: true,
                    writes: 0,
                };
                Protocol::NewRelic(rules)
            }
        };
        let receiver = Receiver::start(([127, 0, 0, 1], 0).into(), protocol).await?;
        let installed = Installed::start(Tier::ApiServer, Options::default()).await?;
        let setup = Setup::of(installed).await?;
        setup
            .secret("agents", &json!({"token": "hec", "license-key": "license"}))
            .await?;
        setup
            .secret("management", &json!({"secret": SECRET}))
            .await?;
        Ok(Self {
            vendor,
            receiver,
            setup,
        })
    }

    fn sink(&self) -> Value {
        let url = self.receiver.url();
        let secret = json!({"name": "management", "key": "secret"});
        let token = json!({"name": "agents", "key": "token"});
        match self.vendor {
            Vendor::Enterprise => json!({"splunk": {
                "endpoint": url, "tokenSecretRef": token, "index": "platform",
                "managementSecretRef": secret, "managementEndpoint": url,
            }}),
            Vendor::Cloud => json!({"splunk": {
                "endpoint": url, "tokenSecretRef": token, "index": "platform",
                "managementSecretRef": secret, "managementEndpoint": url, "stack": "acme",
            }}),
            Vendor::NewRelic => json!({"newRelic": {
                "endpoint": url,
                "licenseKeySecretRef": {"name": "agents", "key": "license-key"},
                "managementSecretRef": secret, "managementEndpoint": url, "accountId": 1_234_567,
            }}),
        }
    }

    async fn apply(&self, name: &str, retention: &str) -> Result<()> {
        let sink = self.sink();
        self.apply_sink(name, retention, sink).await
    }

    async fn apply_sink(&self, name: &str, retention: &str, mut sink: Value) -> Result<()> {
        sink["name"] = json!("sink");
        let policy = json!({
            "apiVersion": "logging.katonic.ai/v1alpha1",
            "kind": "LoggingPolicy",
            "metadata": {"name": name},
            "spec": {"retention": retention, "sinks": [sink]},
        });
        self.setup.apply(&policy).await
    }

    async fn told(
        &self,
        name: &str,
        state: &str,
        reason: &str,
        says: &str,
    ) -> Result<LoggingPolicyStatus> {
        self.setup.told(name, state, reason, says).await
    }

    /// Days, and how often they were changed.
    fn kept(&self) -> Result<(u64, usize)> {
        let kept = self.receiver.change_rules(|protocol| match protocol {
            Protocol::Splunk(rules) => {
                let management = &rules.management;
                let kept = management.indexes.get("platform")?;
                let unit = if management.stack.is_some() { 1 } else { DAY };
                Some((kept / unit, management.writes))
            }
            Protocol::NewRelic(rules) => {
                let retention = &rules.retention;
                Some((*retention.rules.get("Log")?, retention.writes))
            }
            _ => None,
        });
        kept.context("nothing is kept")
    }

    /// Sets it as somebody else does.
    fn set(&self, days: u64) {
        self.receiver.change_rules(|protocol| match protocol {
            Protocol::Splunk(rules) => {
                let unit = if rules.management.stack.is_some() {
                    1
                } else {
                    DAY
                };
                let indexes = &mut rules.management.indexes;
                indexes.insert("platform".into(), days * unit);
            }
            Protocol::NewRelic(rules) => {
                rules.retention.rules.insert("Log".into(), days);
            }
            _ => {}
        });
    }

    fn let_edit(&self, may: bool) {
        self.receiver.change_rules(|protocol| match protocol {
            Protocol::Splunk(rules) => rules.management.may_edit = may,
            Protocol::NewRelic(rules) => rules.retention.may_edit = may,
            _ => {}
        });
    }

    fn named(&self) -> &'static str {
        match self.vendor {
            Vendor::Enterprise | Vendor::Cloud => "index platform",
            Vendor::NewRelic => "New Relic account 1234567",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_raised_and_put_right_and_lowered_only_when_somebody_has_agreed() -> Result<()>
{
    for vendor in VENDORS {
        let world = World::start(vendor, 30).await?;
        world.apply("logs", "90d").await?;
        let says = format!("{} keeps the logs for 90 days", world.named());
        let status = world.told("logs", "True", "Enforced", &says).await?;
        assert_eq!(world.kept()?, (90, 1));
        let told = retention(&status);
        assert_eq!(
            (told.state.as_str(), told.kept.as_deref()),
            ("Enforced", Some("90d"))
        );
        // What somebody else changes is put right, longer or shorter: it was so before.
        for days in [7, 365] {
            world.set(days);
            katonic_logging_e2e::eventually::eventually(
                "it is as it was",
                crate::LIMIT,
                async || Ok((world.kept()?.0 == 90).then_some(())),
            )
            .await?;
        }
        let (_, writes) = world.kept()?;
        world.setup.quiet_look().await?;
        assert_eq!(
            world.kept()?,
            (90, writes),
            "what is as it should be is not written"
        );
        world.apply("logs", "7d").await?;
        let says = format!(
            "what is in {} is kept for 90 days, and 7d would delete all of it that is older: if that is meant, annotate policy logs with logging.katonic.ai/acknowledge-retention=7d",
            world.named()
        );
        world
            .told("logs", "False", "AcknowledgementNeeded", &says)
            .await?;
        assert_eq!(world.kept()?, (90, writes));
        world.setup.acknowledge("logs", "7d").await?;
        world.told("logs", "True", "Enforced", "for 7 days").await?;
        // Of two policies the longer holds.
        world.apply("longer", "60d").await?;
        world
            .told("longer", "True", "Enforced", "for 60 days")
            .await?;
        world
            .told(
                "logs",
                "True",
                "Enforced",
                "because policy longer asks for 60d",
            )
            .await?;
        assert_eq!(world.kept()?.0, 60);
        let log = world.setup.operator.log()?;
        ensure!(!log.contains(SECRET), "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_cannot_keep_or_does_not_allow_is_told() -> Result<()> {
    for vendor in VENDORS {
        let world = World::start(vendor, 30).await?;
        world.apply("logs", "Forever").await?;
        let status = world
            .told("logs", "False", "RetentionUnsupported", "add an archive")
            .await?;
        assert_eq!(retention(&status).state, "Unsupported");
        if vendor == Vendor::NewRelic {
            world.apply("logs", "396d").await?;
            let says = "keeps nothing for longer than 395 days";
            world
                .told("logs", "False", "RetentionUnsupported", says)
                .await?;
        }
        assert_eq!(world.kept()?, (30, 0));
        world.let_edit(false);
        world.apply("logs", "60d").await?;
        world
            .told(
                "logs",
                "Unknown",
                "RulesDenied",
                "allow the user of managementSecretRef",
            )
            .await?;
        world.let_edit(true);
        world
            .told("logs", "True", "Enforced", "for 60 days")
            .await?;
        world
            .setup
            .secret("management", &json!({"secret": "another"}))
            .await?;
        let says = match vendor {
            Vendor::Enterprise | Vendor::Cloud => "correct the Secret of managementSecretRef",
            Vendor::NewRelic => "store a user key, not a license key",
        };
        world.told("logs", "Unknown", "RulesDenied", says).await?;
        assert_eq!(world.kept()?, (60, 1));
    }
    Ok(())
}

/// Who sends to the same index through the same collector shares it, and no other index is touched.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_shared_by_all_who_send_there_and_others_are_left_alone() -> Result<()> {
    let world = World::start(Vendor::Enterprise, 30).await?;
    let mut silent = world.sink();
    let splunk = silent["splunk"].as_object_mut().context("no sink")?;
    splunk.remove("managementSecretRef");
    splunk.remove("managementEndpoint");
    world.apply_sink("silent", "90d", silent).await?;
    let status = world
        .told("silent", "True", "ProviderManaged", "the index decides")
        .await?;
    assert_eq!(retention(&status).state, "ProviderManaged");
    assert_eq!(world.kept()?, (30, 0));
    world.apply("logs", "60d").await?;
    world
        .told(
            "logs",
            "True",
            "Enforced",
            "because policy silent asks for 90d",
        )
        .await?;
    assert_eq!(world.kept()?, (90, 1));
    let mut missing = world.sink();
    missing["splunk"]["index"] = json!("missing");
    world.apply_sink("missing", "60d", missing).await?;
    world
        .told(
            "missing",
            "Unknown",
            "NoSuchIndex",
            "there is no index missing there",
        )
        .await?;
    let other = world.receiver.change_rules(|protocol| match protocol {
        Protocol::Splunk(rules) => rules.management.indexes.get("other").copied(),
        _ => None,
    });
    assert_eq!(other, Some(30 * DAY));
    Ok(())
}

/// Splunk Cloud says that it will, and does so later.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_takes_its_time_is_waited_for() -> Result<()> {
    let world = World::start(Vendor::Cloud, 30).await?;
    world.receiver.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.management.lag = 12;
        }
    });
    world.apply("logs", "90d").await?;
    world
        .told("logs", "True", "Enforced", "for 90 days")
        .await?;
    assert_eq!(world.kept()?, (90, 1));
    Ok(())
}

/// An account without a rule keeps logs for as long as its plan does, which nobody says.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_rule_gets_one_only_when_somebody_has_agreed() -> Result<()> {
    let world = World::start(Vendor::NewRelic, 30).await?;
    world.receiver.change_rules(|protocol| {
        if let Protocol::NewRelic(rules) = protocol {
            rules.retention.rules.remove("Log");
        }
    });
    world.apply("logs", "90d").await?;
    let says = "is kept for as long as it is by default, and 90d would delete";
    let status = world
        .told("logs", "False", "AcknowledgementNeeded", says)
        .await?;
    assert_eq!(retention(&status).kept, None);
    world.setup.acknowledge("logs", "90d").await?;
    world
        .told("logs", "True", "Enforced", "for 90 days")
        .await?;
    assert_eq!(world.kept()?, (90, 1));
    Ok(())
}

/// A user and a password open Splunk Enterprise as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_splunk_enterprise_may_look_after_an_index() -> Result<()> {
    let world = World::start(Vendor::Enterprise, 30).await?;
    world.receiver.change_rules(|protocol| {
        if let Protocol::Splunk(rules) = protocol {
            rules.management.token.clear();
            rules.management.basic = format!("retention:{SECRET}");
        }
    });
    let mut sink = world.sink();
    sink["splunk"]["managementUsername"] = json!("retention");
    world.apply_sink("logs", "90d", sink).await?;
    let says = "index platform keeps the logs for 90 days; once it has more than 500000 MB it deletes what is oldest sooner";
    world.told("logs", "True", "Enforced", says).await?;
    Ok(())
}
