//! Retention in the stores of Google and Azure, played strictly by their documents. It was not run against the real ones.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use katonic_logging_crds::{LoggingPolicyStatus, SinkRetention};
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::Installed,
    receiver::{
        Authority, Protocol, Receiver, azure,
        azure::{Managed, Principal},
        gcs,
        gcs::{Account, Settings},
    },
};
use serde_json::{Value, json};

use crate::{LIMIT, Setup};

const EMAIL: &str = "rules@katonic.iam.gserviceaccount.com";
const SUBSCRIPTION: &str = "00000000-1111-2222-3333-444444444444";
/// What the names of all rights at Azure begin with here.
const BELOW: &str = "Microsoft.Storage/storageAccounts/";

const SECRET: &str = "abc~8Q.of-the-application";
const OLD: &str = "2020-01-01T00:00:00.000Z";
const OLD_IN_HTTP: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

/// What `docs/object-storage.md` gives the operator, one right a line.
fn rights(vendor: &str) -> Result<BTreeSet<String>> {
    let documentation = std::fs::read_to_string(
        katonic_logging_e2e::program::workspace().join("docs/object-storage.md"),
    )?;
    let marker = format!("<!-- rights of the operator at {vendor} -->\n\n```text\n");
    let (_, rest) = documentation
        .split_once(&marker)
        .context("the documentation has no rights of the operator")?;
    let (rights, _) = rest.split_once("```").context("they do not end")?;
    Ok(rights.lines().map(str::to_owned).collect())
}

/// A vendor that is played, and how its rules are seen and changed from outside.
#[derive(Clone, Copy)]
enum Vendor {
    Google,
    Azure,
}

const VENDORS: [Vendor; 2] = [Vendor::Google, Vendor::Azure];

struct Cloud {
    vendor: Vendor,
    receiver: Receiver,
    authority: Authority,
    setup: Setup,
}

impl Cloud {
    async fn start(vendor: Vendor) -> Result<Self> {
        let protocol = match vendor {
            Vendor::Google => {
                let rights = rights("Google")?;
                let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
                let account = Account::custodian("1", &rights);
                let rules = gcs::Rules::new(&["platform-logs"], EMAIL, account);
                Protocol::Gcs(rules.with_settings())
            }
            Vendor::Azure => {
                let mut rules = azure::Rules::new("platformlogs", "", &["logs"]);
                let actions = rights("Azure")?;
                let action = |action: &String| action.trim_start_matches(BELOW).to_owned();
                rules.principal = Some(Box::new(Principal {
                    tenant: "tenant".into(),
                    client: "client".into(),
                    secret: SECRET.into(),
                    actions: actions.iter().map(action).collect(),
                }));
                rules.managed = Some(Box::new(Managed {
                    subscription: SUBSCRIPTION.into(),
                    group: "platform".into(),
                    ..Managed::default()
                }));
                Protocol::Azure(rules)
            }
        };
        let authority = Authority::new()?;
        let identity = authority.server("127.0.0.1".parse()?)?;
        let here = ([127, 0, 0, 1], 0).into();
        let receiver = Receiver::start_tls(here, protocol, &identity).await?;
        let url = receiver.url();
        receiver.change_rules(|protocol| match protocol {
            Protocol::Gcs(rules) => rules.audience = format!("{url}/token"),
            Protocol::Azure(rules) => rules.resource_manager.clone_from(&url),
            _ => {}
        });
        let installed = Installed::start(Tier::ApiServer, Options::default()).await?;
        let cloud = Self {
            vendor,
            setup: Setup::of(installed).await?,
            authority,
            receiver,
        };
        cloud.secrets(SECRET, "1").await?;
        Ok(cloud)
    }

    /// The operator's credentials, and those of the agents.
    async fn secrets(&self, secret: &str, key: &str) -> Result<()> {
        let url = self.receiver.url();
        let key_file = gcs::key_file(&url, EMAIL, key);
        let storage_key = format!("{}==", "a".repeat(86));
        self.setup
            .secret(
                "agents",
                &json!({"key.json": key_file, "AZURE_STORAGE_KEY": storage_key}),
            )
            .await?;
        let management = json!({
            "ca.crt": self.authority.certificate_pem(),
            "rules.json": key_file,
            "AZURE_TENANT_ID": "tenant",
            "AZURE_CLIENT_ID": "client",
            "AZURE_CLIENT_SECRET": secret,
        });
        self.setup.secret("management", &management).await
    }

    fn policy(&self, name: &str, retention: &str) -> Value {
        let url = self.receiver.url();
        let tls = json!({"caSecretRef": {"name": "management", "key": "ca.crt"}});
        let store = match self.vendor {
            Vendor::Google => json!({"gcs": {
                "bucket": "platform-logs",
                "endpoint": url,
                "prefix": "platform",
                "credentialsSecretRef": {"name": "agents"},
                "managementSecretRef": {"name": "management", "key": "rules.json"},
                "tls": tls,
            }}),
            Vendor::Azure => json!({"azure": {
                "account": "platformlogs",
                "container": "logs",
                "endpoint": url,
                "prefix": "platform",
                "credentialsSecretRef": {"name": "agents"},
                "managementSecretRef": {"name": "management"},
                "subscriptionId": SUBSCRIPTION,
                "resourceGroup": "platform",
                "managementEndpoint": url,
                "authorityHost": url,
                "tls": tls,
            }}),
        };
        json!({
            "apiVersion": "logging.katonic.ai/v1alpha1",
            "kind": "LoggingPolicy",
            "metadata": {"name": name},
            "spec": {"retention": retention, "sinks": [{"name": "archive", "objectStorage": store}]},
        })
    }

    async fn apply(&self, name: &str, retention: &str) -> Result<()> {
        self.setup.apply(&self.policy(name, retention)).await
    }

    async fn told(
        &self,
        policy: &str,
        state: &str,
        reason: &str,
        says: &str,
    ) -> Result<LoggingPolicyStatus> {
        self.setup.told(policy, state, reason, says).await
    }

    fn with<T>(
        &self,
        google: impl FnOnce(&mut Settings) -> T,
        azure: impl FnOnce(&mut Managed) -> T,
    ) -> Result<T> {
        let found = self.receiver.change_rules(|protocol| match protocol {
            Protocol::Gcs(rules) => rules.settings.get_mut("platform-logs").map(google),
            Protocol::Azure(rules) => rules.managed.as_deref_mut().map(azure),
            _ => None,
        });
        found.context("nothing to look after")
    }

    fn rules(&self) -> Result<Vec<Value>> {
        self.with(|google| google.rules.clone(), |azure| azure.rules.clone())
    }

    fn set_rules(&self, rules: Vec<Value>) -> Result<()> {
        let other = rules.clone();
        self.with(
            |google| google.set_rules(rules),
            |azure| azure.rules = other,
        )
    }

    fn writes(&self) -> Result<usize> {
        self.with(|google| google.writes, |azure| azure.writes)
    }

    /// Logs that are there already.
    fn store_old(&self) -> Result<()> {
        self.with(
            |google| {
                google
                    .stored
                    .insert("platform/application/a".into(), OLD.into())
            },
            |azure| {
                azure
                    .stored
                    .insert("logs/platform/application/a".into(), OLD_IN_HTTP.into())
            },
        )
        .map(drop)
    }

    /// A rule of somebody else's that deletes what begins with a prefix.
    fn theirs(&self, name: &str, prefix: &str, days: u32) -> Value {
        match self.vendor {
            Vendor::Google => json!({
                "action": {"type": "Delete"},
                "condition": {"age": days, "matchesPrefix": [prefix], "matchesSuffix": [name]},
            }),
            Vendor::Azure => json!({
                "enabled": true,
                "name": name,
                "type": "Lifecycle",
                "definition": {
                    "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": f64::from(days)}}},
                    "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [format!("logs/{prefix}")]},
                },
            }),
        }
    }

    /// One of ours, as it stands there.
    fn ours(&self, days: u32) -> Result<Value> {
        let id = match self.vendor {
            Vendor::Google => "katonic-logging-application-",
            Vendor::Azure => "katonicloggingapplication",
        };
        let rules = self.rules()?;
        let ours: Vec<&Value> = rules
            .iter()
            .filter(|rule| rule.to_string().contains(id))
            .collect();
        ensure!(ours.len() == 1, "{rules:?}");
        let told = match self.vendor {
            Vendor::Google => ours[0]["condition"]["age"].as_f64(),
            Vendor::Azure => ours[0]["definition"]["actions"]["baseBlob"]["delete"]["daysAfterModificationGreaterThan"].as_f64(),
        };
        ensure!(told == Some(f64::from(days)), "{ours:?}");
        Ok(ours[0].clone())
    }

    /// Lets the operator do all that is documented but this.
    fn grant_all_but(&self, rights: &BTreeSet<String>, right: &str) {
        let granted = rights.iter().filter(|granted| *granted != right);
        let granted: Vec<&str> = granted
            .map(|right| right.trim_start_matches(BELOW))
            .collect();
        self.receiver.change_rules(|protocol| match protocol {
            Protocol::Gcs(rules) => {
                let account = Account::custodian("1", &granted);
                rules.accounts.insert(EMAIL.to_owned(), account);
            }
            Protocol::Azure(rules) => {
                if let Some(principal) = &mut rules.principal {
                    principal.actions = granted.iter().map(|&right| right.to_owned()).collect();
                }
            }
            _ => {}
        });
    }

    /// What `bucket platform-logs` is at Google.
    fn named(&self) -> &'static str {
        match self.vendor {
            Vendor::Google => "bucket platform-logs",
            Vendor::Azure => "storage account platformlogs",
        }
    }

    /// No credential is told to anybody.
    fn assert_secrecy(&self, status: &LoggingPolicyStatus) -> Result<()> {
        let told = format!(
            "{}{}",
            self.setup.operator.log()?,
            serde_json::to_string(status)?
        );
        for secret in [SECRET, "PRIVATE KEY", "ya29.", "eyJ0.of-the-principal"] {
            ensure!(!told.contains(secret), "{told}");
        }
        Ok(())
    }
}

fn retention(status: &LoggingPolicyStatus) -> Result<&SinkRetention> {
    let sink = status.sinks.first().context("no sink")?;
    sink.retention.as_ref().context("no retention")
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_merged_beside_those_of_others_and_put_right_when_somebody_changes_them()
-> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        let others = vec![
            cloud.theirs("first", "tmp/", 1),
            cloud.theirs("second", "platform/other/", 2),
        ];
        cloud.set_rules(others.clone())?;
        cloud.apply("logs", "30d").await?;
        let says = format!(
            "{} keeps the logs for 30 days by its lifecycle rule katonic",
            cloud.named()
        );
        let status = cloud.told("logs", "True", "Enforced", &says).await?;
        let told = retention(&status)?;
        assert_eq!(
            (told.state.as_str(), told.kept.as_deref()),
            ("Enforced", Some("30d"))
        );
        let ours = cloud.ours(30)?;
        let good = [others.clone(), vec![ours.clone()]].concat();
        assert_eq!(cloud.rules()?, good);
        let mut shorter = ours.clone();
        let days = match vendor {
            Vendor::Google => "/condition/age",
            Vendor::Azure => "/definition/actions/baseBlob/delete/daysAfterModificationGreaterThan",
        };
        *shorter.pointer_mut(days).context("no days")? = json!(3);
        for changed in [vec![], vec![shorter], vec![ours.clone(), ours.clone()]] {
            let rules = [others.clone(), changed].concat();
            cloud.set_rules(rules)?;
            eventually("the rule is as it was", LIMIT, async || {
                Ok((cloud.rules()? == good).then_some(()))
            })
            .await?;
            cloud.setup.quiet_look().await?;
        }
        // One that is as it should be is not written.
        let writes = cloud.writes()?;
        cloud.setup.quiet_look().await?;
        assert_eq!(cloud.writes()?, writes);
        // No policy: nobody takes its rule away.
        cloud.setup.installed.delete("logs").await?;
        assert_eq!(cloud.rules()?, good);
        cloud.assert_secrecy(&status)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_there_are_deleted_by_no_rule_that_nobody_has_agreed_to() -> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        cloud.store_old()?;
        cloud.apply("logs", "7d").await?;
        let says = "annotate policy logs with logging.katonic.ai/acknowledge-retention=7d";
        cloud
            .told("logs", "False", "AcknowledgementNeeded", says)
            .await?;
        assert_eq!(cloud.rules()?, Vec::<Value>::new());
        cloud.setup.acknowledge("logs", "7d").await?;
        cloud.told("logs", "True", "Enforced", "for 7 days").await?;
        cloud.ours(7)?;
        // Of two policies with one prefix the longer holds.
        cloud.apply("longer", "90d").await?;
        cloud
            .told("longer", "True", "Enforced", "for 90 days")
            .await?;
        cloud
            .told(
                "logs",
                "True",
                "Enforced",
                "because policy longer asks for 90d",
            )
            .await?;
        cloud.ours(90)?;
        // Back for ever: the last rule goes.
        cloud.apply("longer", "Forever").await?;
        cloud
            .told("longer", "True", "Enforced", "keeps the logs for ever")
            .await?;
        assert_eq!(cloud.rules()?, Vec::<Value>::new());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_anyone_that_would_delete_what_is_kept_for_ever_is_named_and_left() -> Result<()>
{
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        let theirs = vec![cloud.theirs("clean", "plat", 365)];
        cloud.set_rules(theirs.clone())?;
        cloud.apply("logs", "Forever").await?;
        let says = match vendor {
            Vendor::Google => {
                "lifecycle rule number 1 (it has no id) deletes what begins with plat after 365 days"
            }
            Vendor::Azure => {
                "lifecycle rule clean deletes what begins with logs/plat after 365 days"
            }
        };
        cloud.told("logs", "False", "ExpiredByOthers", says).await?;
        assert_eq!((cloud.rules()?, cloud.writes()?), (theirs, 0));
        cloud.set_rules(Vec::new())?;
        cloud
            .told("logs", "True", "Enforced", "keeps the logs for ever")
            .await?;
    }
    Ok(())
}

/// Google refuses a change that was made of old rules; Azure has no condition, so it is read back.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_another_tool_writes_at_the_same_moment_are_there_in_the_end() -> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        let theirs = cloud.theirs("late", "tmp/", 1);
        let (google, azure) = (theirs.clone(), vec![theirs.clone()]);
        cloud.with(
            |settings| settings.race = Some(google),
            |managed| managed.race = Some(azure),
        )?;
        cloud.apply("logs", "30d").await?;
        cloud
            .told("logs", "True", "Enforced", "for 30 days")
            .await?;
        let ours = cloud.ours(30)?;
        assert_eq!(cloud.rules()?, [theirs, ours]);
        let raced = cloud.with(
            |settings| settings.race.is_none(),
            |managed| managed.race.is_none(),
        )?;
        assert!(raced, "somebody else has written, too");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_refuses_is_told_with_what_to_do_and_looked_after_once_it_is_mended()
-> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        cloud.secrets("not-this-one", "2").await?;
        cloud.apply("logs", "30d").await?;
        let says = match vendor {
            Vendor::Google => "HTTP 400 invalid_grant: Google gives no token",
            Vendor::Azure => "HTTP 401 invalid_client: Microsoft Entra gives no token",
        };
        let status = cloud.told("logs", "Unknown", "RulesDenied", says).await?;
        cloud.assert_secrecy(&status)?;
        assert!(!serde_json::to_string(&status)?.contains("not-this-one"));
        let rights = match vendor {
            Vendor::Google => rights("Google")?,
            Vendor::Azure => rights("Azure")?,
        };
        // The last rule is deleted with it, and there is none yet.
        let (writing, mut reading): (Vec<&String>, Vec<&String>) = rights
            .iter()
            .filter(|right| !right.ends_with("/delete"))
            .partition(|right| right.ends_with("update") || right.ends_with("/write"));
        reading.sort_by_key(|right| {
            let is_of_logs = right.contains("objects") || right.contains("blobs");
            (is_of_logs, right.contains("blobServices"))
        });
        // What is needed first comes first: a look that has come further than that would end with what is granted next.
        let needed = reading.into_iter().chain(writing);
        for (index, right) in needed.enumerate() {
            cloud.grant_all_but(&rights, right);
            if index == 0 {
                cloud.secrets(SECRET, "1").await?;
            }
            let says = right.trim_start_matches(BELOW);
            cloud.told("logs", "Unknown", "RulesDenied", says).await?;
        }
        cloud.grant_all_but(&rights, "");
        cloud
            .told("logs", "True", "Enforced", "for 30 days")
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_full_or_not_there_is_told() -> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        let full = (0..100).map(|number| cloud.theirs(&format!("rule{number}"), "tmp/", 1));
        let full: Vec<Value> = full.collect();
        cloud.set_rules(full.clone())?;
        cloud.apply("logs", "30d").await?;
        cloud
            .told("logs", "False", "RulesFull", "remove a rule")
            .await?;
        assert_eq!(cloud.rules()?, full);
        let mut policy = cloud.policy("elsewhere", "30d");
        let store = &mut policy["spec"]["sinks"][0]["objectStorage"];
        match vendor {
            Vendor::Google => store["gcs"]["bucket"] = json!("another-bucket"),
            Vendor::Azure => store["azure"]["account"] = json!("another"),
        }
        cloud.setup.apply(&policy).await?;
        cloud
            .told("elsewhere", "Unknown", "NoSuchBucket", "there is no")
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_holds_are_told() -> Result<()> {
    for vendor in VENDORS {
        let cloud = Cloud::start(vendor).await?;
        cloud.with(
            |google| {
                google.versioning = true;
                google.retention_period = Some(5 * 24 * 60 * 60);
            },
            |azure| azure.versioning = true,
        )?;
        cloud.apply("logs", "30d").await?;
        let status = cloud
            .told("logs", "True", "Enforced", "it keeps versions")
            .await?;
        let ours = cloud.ours(30)?;
        match vendor {
            Vendor::Google => {
                let message = &retention(&status)?.message;
                let says =
                    "the bucket's retention policy (not locked) holds each object for 5 days";
                assert!(message.contains(says), "{message}");
            }
            Vendor::Azure => {
                let versions = &ours["definition"]["actions"]["version"]["delete"];
                assert_eq!(versions["daysAfterCreationGreaterThan"], 30.0);
            }
        }
    }
    Ok(())
}
