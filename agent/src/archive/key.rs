//! Under which names a route stores what it has of a run.

use katonic_log_config::{
    ArchiveLayout,
    archive::{self, Folder, Range, RunName, Top},
};

use super::ledger::Run;
use crate::{cursor::RouteKey, pod::Pod};

/// Where the objects of a container stand, below the sink's prefix; ends in `/`.
///
/// An execution's pod whose id nobody knows has a place of its own: what is stored there can be found and told.
pub fn folder(
    layout: ArchiveLayout,
    pod: &Pod,
    execution_id: Option<&str>,
    container: &str,
) -> String {
    let top = match (layout, execution_id) {
        (ArchiveLayout::Executions, Some(id)) => Top::Execution(id.to_owned()),
        (ArchiveLayout::Executions, None) => Top::Unidentified(pod.namespace.clone()),
        (ArchiveLayout::Application, _) => Top::Application(pod.namespace.clone()),
        (ArchiveLayout::Audit, _) => Top::Audit(pod.namespace.clone()),
    };
    let folder = Folder {
        top,
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        container: container.to_owned(),
    };
    folder.to_string()
}

/// The name of the next object of a run, with bytes `first` to `next` of a log file.
pub fn object(run: &Run, route: &RouteKey, file: &str, first: u64, next: u64) -> String {
    name(run, route).object(&Range {
        number: run.objects,
        file: file.to_owned(),
        first,
        next,
    })
}

/// The name of the completeness record of a run.
pub fn record(run: &Run, route: &RouteKey) -> String {
    name(run, route).record()
}

fn name(run: &Run, route: &RouteKey) -> RunName {
    RunName {
        folder: run.folder.clone(),
        restart: run.restart,
        route: short(route),
    }
}

/// A route in a few characters.
pub fn short(route: &RouteKey) -> String {
    archive::route(&route.policy_uid, &route.sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(layout: ArchiveLayout, id: Option<&str>) -> String {
        let pod = Pod {
            namespace: "compute".into(),
            name: "run-1".into(),
            uid: "u-1".into(),
            node: String::new(),
        };
        super::folder(layout, &pod, id, "run")
    }

    #[test]
    fn an_execution_without_an_id_has_a_place_of_its_own() {
        use ArchiveLayout::{Application, Audit, Executions};
        assert_eq!(
            folder(Executions, Some("63d1")),
            "executions/63d1/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Executions, None),
            "unidentified/compute/run-1_u-1/run/"
        );
        assert_eq!(
            folder(Application, Some("63d1")),
            "application/compute/run-1_u-1/run/"
        );
        assert_eq!(folder(Audit, Some("63d1")), "audit/compute/run-1_u-1/run/");
    }
}
