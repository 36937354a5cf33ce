//! Rules of ours among those of others, whoever changes them, and whenever.

use anyhow::{Context as _, Result, ensure};
use katonic_log_config::layout;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{PLATFORM, splunk_policy},
    receiver::{Authority, Minio},
};
use serde_json::json;

use crate::{BUCKET, LIMIT, World, least_privilege, retention, rule};

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_others_stay_as_they_are_and_ours_are_put_right_when_somebody_changes_them()
-> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    let others = [rule("first", "tmp/", 1), rule("second", "logs/other/", 2)];
    world.minio.set_lifecycle(BUCKET, &others.concat()).await?;
    let written = world.rules().await?;
    let policy = world.policy("logs", &json!({"retention": "30d"}));
    world.apply(&policy).await?;
    let says = "bucket platform-logs keeps the logs for 30 days by its lifecycle rule katonic-logging-application-";
    let status = world.told("logs", "True", "Enforced", says).await?;
    assert_eq!(status.retention.as_deref(), Some("30d"));
    let told = retention(&status);
    assert_eq!(
        (told.state.as_str(), told.kept.as_deref()),
        ("Enforced", Some("30d"))
    );
    let (ours, rest) = world.ours_and_others().await?;
    assert_eq!(rest, written);
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(
        ours[0].contains("<Prefix>logs/application/</Prefix>"),
        "{ours:?}"
    );
    assert!(ours[0].contains("<Days>30</Days>"), "{ours:?}");
    // What the operator uses is not told to agents.
    let bundle = world.installed.bundle_secret(PLATFORM).await?;
    let data = bundle.and_then(|secret| secret.data).context("no bundle")?;
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "agents_AWS_ACCESS_KEY_ID",
            "agents_AWS_SECRET_ACCESS_KEY",
            layout::BUNDLE_FILE
        ]
    );
    for changed in [
        String::new(),
        ours[0].replace("<Days>30<", "<Days>3<"),
        ours[0].replace("<Days>30<", "<Days>300<"),
        ours[0].replace("Enabled", "Disabled"),
        ours[0].replace("logs/application/", "logs/"),
    ] {
        let rules = format!("{}{changed}{}", others[0], others[1]);
        world.minio.set_lifecycle(BUCKET, &rules).await?;
        eventually("the rule is as it was", LIMIT, async || {
            let (now, rest) = world.ours_and_others().await?;
            ensure!(rest == written, "{rest:?}");
            Ok((now == ours).then_some(()))
        })
        .await?;
        world.quiet_look().await?;
    }
    world.told("logs", "True", "Enforced", says).await?;
    // Nobody who deletes a policy deletes logs, and nothing that was promised of them.
    world.installed.delete("logs").await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world.told("logs", "True", "Enforced", says).await?;
    assert_eq!(world.ours_and_others().await?, (ours, written));
    let log = world.operator.log()?;
    assert!(!log.contains(&world.user.secret), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_as_it_should_be_is_not_written() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("forever", &json!({"logs": "Execution"})))
        .await?;
    world
        .told("forever", "True", "Enforced", "keeps the logs for ever")
        .await?;
    assert_eq!(world.writes().await?, 0);
    world.apply(&world.policy("logs", &json!({}))).await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    assert_eq!(world.writes().await?, 1);
    let version = async || {
        let policy = world.installed.policies().get("logs").await?;
        anyhow::Ok(policy.metadata.resource_version)
    };
    world.installed.ready("logs", "True", "InForce").await?;
    let before = version().await?;
    // Each of these shows that the bucket was looked at again.
    for days in [31, 32, 33] {
        world
            .minio
            .set_lifecycle(BUCKET, &rule("others", "logs/executions/", days))
            .await?;
        let says = format!("after {days} days");
        world
            .told("forever", "False", "ExpiredByOthers", &says)
            .await?;
        eventually("our rule is there again", LIMIT, async || {
            let (ours, _) = world.ours_and_others().await?;
            Ok((ours.len() == 1).then_some(()))
        })
        .await?;
        world.quiet_look().await?;
    }
    assert_eq!(world.writes().await?, 4);
    assert_eq!(
        version().await?,
        before,
        "what stays the same is not written"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_policies_with_one_prefix_the_longer_holds_and_both_say_so() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("short", &json!({"retention": "30d"})))
        .await?;
    world
        .told("short", "True", "Enforced", "for 30 days")
        .await?;
    world
        .apply(&world.policy("long", &json!({"retention": "90d"})))
        .await?;
    world
        .told("long", "True", "Enforced", "for 90 days")
        .await?;
    let says = "longer than the 30d of this policy, because policy long asks for 90d";
    let status = world.told("short", "True", "Enforced", says).await?;
    assert_eq!(retention(&status).kept.as_deref(), Some("90d"));
    let (ours, _) = world.ours_and_others().await?;
    assert!(
        ours.len() == 1 && ours[0].contains("<Days>90</Days>"),
        "{ours:?}"
    );
    Ok(())
}

/// As a tool does that owns the whole configuration: it knows nothing of our rules and writes its own again and again. It writes each
/// once and never looks: that they are there is the operator's doing.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_another_tool_writes_over_ours_stay_and_get_ours_again() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    for round in 1..=10 {
        // While ours is as it should be the operator writes nothing, so this falls between no read and no write of it.
        world.quiet_look().await?;
        let theirs = [
            rule(&format!("of-another-tool-{round}"), "tmp/", round),
            rule("of-another-tool", "cache/", round + 1),
        ];
        world.minio.set_lifecycle(BUCKET, &theirs.concat()).await?;
        let (_, written) = world.ours_and_others().await?;
        ensure!(written.len() == theirs.len(), "{written:?}");
        eventually("ours is there again", LIMIT, async || {
            let (ours, others) = world.ours_and_others().await?;
            ensure!(others == written, "{others:?} instead of {written:?}");
            Ok((ours.len() == 1).then_some(()))
        })
        .await?;
    }
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_bucket_at_two_addresses_the_longer_holds_whichever_it_is() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    let elsewhere = world.minio.url().replace("127.0.0.1", "localhost");
    ensure!(elsewhere != world.minio.url(), "{elsewhere}");
    let at_another = |name: &str, spec: serde_json::Value| {
        let mut policy = world.policy(name, &spec);
        policy["spec"]["sinks"][0]["objectStorage"]["s3"]["endpoint"] = json!(elsewhere);
        policy
    };
    world
        .apply(&world.policy("long", &json!({"retention": "90d"})))
        .await?;
    world
        .told("long", "True", "Enforced", "for 90 days")
        .await?;
    world
        .apply(&at_another("short", json!({"retention": "30d"})))
        .await?;
    let says = "longer than the 30d of this policy, because policy long asks for 90d of a bucket of this name at http";
    let status = world.told("short", "True", "Enforced", says).await?;
    assert_eq!(retention(&status).kept.as_deref(), Some("90d"));
    world
        .apply(&at_another("longest", json!({"retention": "120d"})))
        .await?;
    let says = "because policy longest asks for 120d";
    world.told("long", "True", "Enforced", says).await?;
    world.quiet_look().await?;
    let (ours, _) = world.ours_and_others().await?;
    assert!(
        ours.len() == 1 && ours[0].contains("<Days>120</Days>"),
        "{ours:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_takes_our_rule_away_again_and_again_is_told_of() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    let theirs = rule("of-another-tool", "tmp/", 1);
    let policies = world.installed.policies();
    let message = eventually("the policy says so", LIMIT, async || {
        let (ours, _) = world.ours_and_others().await?;
        if !ours.is_empty() {
            world.minio.set_lifecycle(BUCKET, &theirs).await?;
        }
        let status = policies.get("logs").await?.status.unwrap_or_default();
        let told = retention(&status);
        let is_contested = told.reason == "RulesContested" && told.state == "Drifted";
        Ok(is_contested.then(|| told.message.clone()))
    })
    .await?;
    let says = "let it leave rules alone whose ids begin with katonic-logging-";
    assert!(message.contains(says), "{message}");
    // Once it does, all is well.
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_tls_is_reached_by_the_authority_that_the_sink_names() -> Result<()> {
    let authority = Authority::new()?;
    let Some(minio) = Minio::start_or_skip(Some(&authority)).await? else {
        return Ok(());
    };
    minio.make_bucket(BUCKET).await?;
    let world = World::of(minio, Some(authority), &least_privilege()?).await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    let mut policy = world.policy("other", &json!({"retention": "30d"}));
    let store = &mut policy["spec"]["sinks"][0]["objectStorage"]["s3"];
    store["bucket"] = json!("other-bucket");
    let store = store.as_object_mut().context("no store")?;
    store.remove("tls");
    world.apply(&policy).await?;
    world
        .told(
            "other",
            "Unknown",
            "StoreUnreachable",
            "failed to agree on TLS",
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_delays_nobody() -> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world.minio.pause()?;
    let mut policy = world.policy("logs", &json!({"retention": "30d"}));
    policy["spec"]["sinks"][0]["objectStorage"]["s3"]["timeout"] = json!("2s");
    world.apply(&policy).await?;
    let installed = &world.installed;
    installed.sink_secret("splunk", "token", "abc").await?;
    installed
        .create(&splunk_policy(
            "other",
            "https://hec.example.com:8088",
            "splunk",
        ))
        .await?;
    installed.ready("other", "True", "InForce").await?;
    world
        .told("logs", "Unknown", "StoreUnreachable", "does not answer")
        .await?;
    // Delivery does not wait for it.
    let bundle = installed.bundle(PLATFORM).await?.context("no bundle")?;
    assert_eq!(bundle.policies.len(), 2);
    world.minio.resume()?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    installed.ready("logs", "True", "InForce").await?;
    Ok(())
}
