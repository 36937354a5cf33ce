//! What it costs to keep count of the pods of every policy, beside counting them one by one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    Candidate, Installation,
    bundle::selection,
    coverage::{Agent, Expected, Index, Pod, coverage},
    names,
    sidecar::{ContainerDigest, Form, Requirements},
};
use katonic_logging_crds::{LabelSelector, Plane, labels::LabelText};

use super::Figure;
use crate::operator::splunk_policy;

/// What the product is planned for.
const POLICIES: usize = 2_000;
const PODS: usize = 10_000;

/// Apps that pods and selectors share.
const APPS: usize = 100;

/// How many changes of one pod are measured.
const ROUNDS: usize = 100;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let yaml = "namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}\n\
                logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}\n";
    let installation = Installation::validate(yaml, names::OPERATOR_NAMESPACE)?;
    let candidates: Vec<Candidate> = (0..POLICIES).map(candidate).collect();
    let mut pods: BTreeMap<String, Arc<Pod>> = (0..PODS)
        .map(|number| (format!("pod-{number}"), Arc::new(pod(number, "new"))))
        .collect();
    let expected = Expected {
        agent: Some([form("new")].into()),
        former: Some([form("old")].into()),
        refused: false,
    };
    let now = Timestamp::UNIX_EPOCH;
    let mut index = Index::new(Plane::Compute);
    let follow = |index: &mut Index, pods: &BTreeMap<String, Arc<Pod>>| {
        let began = Instant::now();
        index.follow_expected(&expected);
        index.follow_policies(&candidates, &installation);
        index.follow_pods(pods);
        index.follow_time(now);
        began.elapsed()
    };
    let first = follow(&mut index, &pods);
    let mut changes = Duration::ZERO;
    for round in 0..ROUNDS {
        let agent = if round % 2 == 0 { "old" } else { "new" };
        pods.insert(format!("pod-{round}"), Arc::new(pod(round, agent)));
        changes += follow(&mut index, &pods);
    }
    let began = Instant::now();
    for candidate in &candidates {
        let policy = candidate.policy.as_ref().ok().context("a policy of ours")?;
        let selection = selection(policy, candidate, &installation, Plane::Compute);
        let counted = coverage(&selection, &expected, now, pods.values().map(AsRef::as_ref));
        anyhow::ensure!(
            index.coverage(&candidate.uid) == Some(counted),
            "the two ways to count differ"
        );
    }
    let one_by_one = began.elapsed();
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let rounds = f64::from(u32::try_from(ROUNDS)?);
    Ok(vec![
        Figure::told(
            "pods of 2,000 policies and 10,000 pods counted for the first time",
            milliseconds(first),
            "ms",
        ),
        Figure::told(
            "the same after one pod has changed",
            milliseconds(changes) / rounds,
            "ms",
        ),
        Figure::told(
            "the same counted one by one",
            milliseconds(one_by_one),
            "ms",
        ),
    ])
}

/// Three of four select an app, the others everything.
fn candidate(number: usize) -> Candidate {
    let mut policy = splunk_policy(
        &format!("p{number}"),
        "https://hec.example.com:8088",
        "splunk",
    );
    policy.metadata.uid = Some(format!("uid-{number}"));
    policy.metadata.generation = Some(1);
    let app = (
        "app".to_owned(),
        LabelText(format!("app-{}", number % APPS)),
    );
    policy.spec.selector = (!number.is_multiple_of(4)).then(|| LabelSelector {
        match_labels: Some([app].into()),
        match_expressions: None,
    });
    Candidate::readable(&policy)
}

/// An agent that goes by this name.
fn form(name: &str) -> Form {
    let container = serde_json::json!({"image": name});
    Form::new(
        &ContainerDigest::of(&container),
        Some(Requirements::default()),
        [],
    )
}

/// A pod of an execution: a label of its own, and those that it shares.
fn pod(number: usize, agent: &str) -> Pod {
    let labels = [
        ("app".to_owned(), format!("app-{}", number % APPS)),
        (
            "dominodatalab.com/execution-id".to_owned(),
            number.to_string(),
        ),
    ];
    Pod {
        labels: labels.into(),
        containers: ["run", "executor"].map(str::to_owned).into(),
        agent: Agent::Present(form(agent)),
        ..Pod::default()
    }
}
