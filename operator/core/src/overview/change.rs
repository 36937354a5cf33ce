//! What has changed between two looks, one line for each change.

use std::collections::BTreeMap;

use super::{Overview, PolicyView};

/// What has changed; of policies that were not there before, how they are.
pub fn changes(before: &Overview, after: &Overview) -> Vec<String> {
    let by_title = |overview: &Overview| -> BTreeMap<String, PolicyView> {
        let views = overview.policies.iter();
        views.map(|view| (view.title(), view.clone())).collect()
    };
    let (before, after) = (by_title(before), by_title(after));
    let gone = before.keys().filter(|title| !after.contains_key(*title));
    let gone = gone.map(|title| format!("{title} is gone"));
    let changed = after.iter().flat_map(|(title, view)| {
        let known: BTreeMap<String, String> = facts(before.get(title)).into_iter().collect();
        let news = facts(Some(view)).into_iter();
        let news = news
            .filter(|(about, said)| known.get(about) != Some(said))
            .collect::<Vec<_>>();
        news.into_iter()
            .map(move |(about, said)| format!("{title} {about} {said}"))
    });
    gone.chain(changed).collect()
}

/// What is said of a policy: what it is about, and what it says.
fn facts(view: Option<&PolicyView>) -> Vec<(String, String)> {
    let Some(view) = view else {
        return Vec::new();
    };
    let conditions = view.conditions.iter().map(|one| {
        let said = format!("{} {}: {}", one.status, one.reason, one.message);
        (one.type_.clone(), said)
    });
    let sinks = view.sinks.iter().map(|sink| {
        let delivery = sink.delivery.as_ref();
        let state = delivery.map_or(sink.reason.as_str(), |delivery| delivery.state.as_str());
        (format!("→ {}", sink.name), state.to_owned())
    });
    let pods = view.pods.iter();
    let pods = pods.map(|pods| ("pods".to_owned(), pods.summary.clone()));
    let seen = view.ready.is_none().then(|| {
        let said = "its present form has not been seen by the operator yet";
        ("policy".to_owned(), said.to_owned())
    });
    seen.into_iter()
        .chain(conditions)
        .chain(sinks)
        .chain(pods)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Candidate, testing::policy};

    fn overview(names: &[&str]) -> Overview {
        let views = names
            .iter()
            .map(|name| PolicyView::of(&Candidate::readable(&policy(name))));
        Overview {
            policies: views.collect(),
            pods: None,
        }
    }

    #[test]
    fn each_change_is_one_line_and_what_stays_is_none() {
        let nothing = Overview::default();
        let first = overview(&["logs"]);
        let unseen = "logs policy its present form has not been seen by the operator yet";
        assert_eq!(changes(&nothing, &first), [unseen]);
        assert_eq!(changes(&first, &first), [""; 0]);
        let mut ready = first.clone();
        let view = &mut ready.policies[0];
        view.ready = Some(false);
        view.conditions = vec![crate::overview::ConditionView {
            type_: "Ready".into(),
            status: "False".into(),
            reason: "LinesLost".into(),
            message: "5 records".into(),
            since: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            mend: None,
        }];
        assert_eq!(
            changes(&first, &ready),
            ["logs Ready False LinesLost: 5 records"]
        );
        assert_eq!(changes(&ready, &nothing), ["logs is gone"]);
    }
}
