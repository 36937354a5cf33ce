//! What is read of an execution: asks for listings, completeness records and pods, and plans what is opened. Opens nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{
    ContainerPattern,
    archive::{Completeness, RunName},
};
use katonic_logging_core::execution::{
    Catalogue, Container, Kind, Run, Subject, catalogue::Object,
};

use super::{
    Failure,
    archived::{self, Archived, First, Since, Wanted},
    running::Pods,
    show::{Form, say},
    source::Source,
    store::{self, Store},
};

/// Requests for small objects that are on their way at the same time.
const AT_ONCE: usize = 16;

/// From so many runs on, the first record of each is looked at, so that a run is not opened before its time.
const MANY: usize = 8;

/// What is read, and where.
#[derive(Debug)]
pub struct Reader {
    pub subject: Subject,
    pub form: Form,
    pub since: Option<Since>,
    pub kind: Option<(Kind, String)>,
    pub patterns: Vec<ContainerPattern>,
    pub store: Option<Store>,
    pub pods: Option<Pods>,
    /// Whether lines say where they come from.
    pub is_named: AtomicBool,
    /// What was said already: a second listing has nothing new to say of it.
    pub is_told: AtomicBool,
}

/// A run before it is opened.
#[derive(Debug)]
pub struct Planned {
    pub source: Source,
    pub size: u64,
    /// When its first line was written, if that was looked at.
    pub begins: Option<Timestamp>,
}

impl Reader {
    pub fn pods(&self) -> Result<&Pods, Failure> {
        let none = || Failure::Unreadable("no pods are read".to_owned());
        self.pods.as_ref().ok_or_else(none)
    }

    pub fn namespace(&self) -> &str {
        self.pods.as_ref().map_or("", Pods::namespace)
    }

    pub fn is_named(&self) -> bool {
        self.is_named.load(Ordering::Relaxed)
    }

    pub fn nothing(&self) -> String {
        let mut places = Vec::new();
        if let Some(store) = &self.store {
            let location = &store.location;
            let prefix = location.keys_of(&self.subject);
            places.push(format!("below {prefix} in {}", location.bucket));
        }
        if let Some(pods) = &self.pods {
            places.push(format!("among the pods of namespace {}", pods.namespace()));
        }
        let what = match self.subject {
            Subject::Execution(_) => "id",
            Subject::Pod { .. } => "name of the pod, and its namespace",
        };
        format!(
            "nothing found of {} {}: check the {what}, and --kind and --container",
            self.subject,
            places.join(" and ")
        )
    }

    /// The runs of containers whose logs are on their nodes.
    pub async fn containers(&self) -> Result<Vec<Container>, Failure> {
        let Some(pods) = &self.pods else {
            return Ok(Vec::new());
        };
        let found = pods.find().await?;
        Ok(found.iter().flat_map(|pod| pods.containers(pod)).collect())
    }

    /// Everything that is listed of the execution.
    pub async fn catalogue(&self) -> Result<Catalogue, Failure> {
        let mut catalogue = Catalogue::default();
        let Some(store) = &self.store else {
            return Ok(catalogue);
        };
        let location = &store.location;
        let mut listed = store.list(&location.keys_of(&self.subject));
        while let Some(object) = listed.try_next().await? {
            let name = location.name(&object.key);
            if let Some(name) = name.filter(|name| self.subject.has(name)) {
                catalogue.add(name, object.size, object.stored);
            }
        }
        catalogue.sort();
        if !self.patterns.is_empty() {
            catalogue.runs.retain(|_, run| {
                self.patterns
                    .iter()
                    .any(|pattern| pattern.matches(&run.folder.container))
            });
        }
        Ok(catalogue)
    }

    /// The completeness record of a run, or why it cannot be read.
    async fn record(&self, run: &Run) -> Result<Option<Result<Completeness, String>>, Failure> {
        let Some(store) = self.store.as_ref().filter(|_| run.is_recorded) else {
            return Ok(None);
        };
        let key = store.location.prefix.join(&run.name.record());
        match store.record(&key).await {
            Ok(json) => {
                let record = serde_json::from_slice(&json);
                Ok(Some(record.map_err(|error| {
                    format!("it is no completeness record: {error}")
                })))
            }
            Err(error @ (store::Error::Gone | store::Error::Unusable(_))) => {
                Ok(Some(Err(error.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A run of the archive, ready to be read.
    pub async fn archived(
        &self,
        run: Run,
        shown: Option<&str>,
        is_followed: bool,
    ) -> Result<Archived, Failure> {
        let record = self.record(&run).await?;
        self.opened(run, record, shown, is_followed)
    }

    fn opened(
        &self,
        run: Run,
        record: Option<Result<Completeness, String>>,
        shown: Option<&str>,
        is_followed: bool,
    ) -> Result<Archived, Failure> {
        let none = || Failure::Unreadable("no archive is read".to_owned());
        let store = self.store.clone().ok_or_else(none)?;
        let wanted = Wanted {
            form: self.form,
            origin: shown.filter(|_| self.is_named()).map(str::to_owned),
            since: self.since,
            is_followed,
        };
        let (record, fault) = match record {
            Some(Ok(record)) => (Some(record), None),
            Some(Err(reason)) => (None, Some((run.name.record(), reason))),
            None => (None, None),
        };
        let mut archived = Archived::new(store, run, record, wanted);
        if let Some((key, reason)) = fault {
            archived.unreadable(key, reason);
        }
        Ok(archived)
    }

    /// Everything there is to read: runs of the archive, and containers that have more.
    pub async fn sources(&self, containers: &[Container]) -> Result<Vec<Planned>, Failure> {
        let mut catalogue = self.catalogue().await?;
        let tell = |message: String| {
            if !self.is_told.load(Ordering::Relaxed) {
                say(&message);
            }
        };
        if let Some((count, first)) = &catalogue.strangers {
            tell(format!(
                "{count} objects are not of an agent's making and are passed over, the first is {first}"
            ));
        }
        let recorded: Vec<Run> = catalogue
            .runs
            .values()
            .filter(|run| run.is_recorded)
            .map(|run| Run {
                objects: Vec::new(),
                ..run.clone()
            })
            .collect();
        let records = stream::iter(&recorded).map(|run| async move {
            let record = self.record(run).await?;
            Ok::<_, Failure>((run.name.clone(), record))
        });
        let records: BTreeMap<RunName, _> = records.buffer_unordered(AT_ONCE).try_collect().await?;
        let readable: BTreeMap<RunName, Completeness> = records
            .iter()
            .filter_map(|(name, record)| {
                Some((name.clone(), record.as_ref()?.as_ref().ok()?.clone()))
            })
            .collect();
        for copy in catalogue.without_copies(&readable) {
            tell(format!(
                "{}: another sink's archive of the same container is not read, {} objects that begin with {}",
                copy.which(),
                copy.objects.len(),
                copy.name
            ));
        }
        let firsts = self.firsts(&catalogue).await?;
        self.leave_other_kinds(&mut catalogue, &firsts, containers, tell);
        self.is_told.store(true, Ordering::Relaxed);
        self.name_lines(&catalogue, containers);
        self.plan(catalogue, records, &firsts, containers)
    }

    /// What the first records of runs say, if that is needed.
    async fn firsts(&self, catalogue: &Catalogue) -> Result<BTreeMap<RunName, First>, Failure> {
        let Some(store) = &self.store else {
            return Ok(BTreeMap::new());
        };
        if self.kind.is_none() && catalogue.runs.len() <= MANY {
            return Ok(BTreeMap::new());
        }
        let label = self.kind.as_ref().map_or("", |(_, label)| label);
        let firsts = stream::iter(catalogue.runs.values()).map(|run| async move {
            let first = archived::first(store, run, label).await?;
            Ok::<_, Failure>((run.name.clone(), first))
        });
        firsts.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Leaves out pods of other kinds than the one that is asked for. Of a pod with several runs one is enough that says it.
    fn leave_other_kinds(
        &self,
        catalogue: &mut Catalogue,
        firsts: &BTreeMap<RunName, First>,
        containers: &[Container],
        tell: impl Fn(String),
    ) {
        let Some((wanted, _)) = &self.kind else {
            return;
        };
        let mut kinds: BTreeMap<&str, Option<Kind>> = BTreeMap::new();
        for run in catalogue.runs.values() {
            let label = firsts
                .get(&run.name)
                .and_then(|first| first.label.as_deref());
            let known = kinds.entry(&run.folder.pod_uid).or_default();
            *known = known.or(Kind::of(label, &run.folder.pod));
        }
        // Pods that are still there were asked for by kind.
        for container in containers {
            kinds.insert(&container.pod_uid, Some(*wanted));
        }
        let unknown: BTreeSet<&str> = catalogue
            .runs
            .values()
            .filter(|run| kinds.get(run.folder.pod_uid.as_str()) == Some(&None))
            .map(|run| run.folder.pod.as_str())
            .collect();
        if let Some(first) = unknown.first() {
            tell(format!(
                "{} pods whose kind is not known are left out, the first is {first}: their records have no label of the workload's type",
                unknown.len()
            ));
        }
        let kinds: BTreeMap<String, Option<Kind>> = kinds
            .into_iter()
            .map(|(pod, kind)| (pod.to_owned(), kind))
            .collect();
        catalogue
            .runs
            .retain(|_, run| kinds.get(&run.folder.pod_uid) == Some(&Some(*wanted)));
    }

    /// Lines say where they come from when they come from several containers.
    fn name_lines(&self, catalogue: &Catalogue, containers: &[Container]) {
        let archived = catalogue
            .runs
            .values()
            .map(|run| (run.folder.pod_uid.as_str(), run.folder.container.as_str()));
        let running = containers
            .iter()
            .map(|container| (container.pod_uid.as_str(), container.name.as_str()));
        let all: BTreeSet<_> = archived.chain(running).collect();
        self.is_named.fetch_or(all.len() > 1, Ordering::Relaxed);
    }

    fn plan(
        &self,
        catalogue: Catalogue,
        mut records: BTreeMap<RunName, Option<Result<Completeness, String>>>,
        firsts: &BTreeMap<RunName, First>,
        containers: &[Container],
    ) -> Result<Vec<Planned>, Failure> {
        let mut containers = containers.to_vec();
        let mut planned = Vec::new();
        for (name, run) in catalogue.runs {
            let place = containers.iter().position(|container| {
                container.pod_uid == run.folder.pod_uid
                    && container.name == run.folder.container
                    && container.restart == run.name.restart
            });
            let container = place.map(|place| containers.swap_remove(place));
            let record = records.remove(&name).flatten();
            // What the archive has as a whole is not asked of a pod.
            let is_over =
                matches!(&record, Some(Ok(record)) if record.objects >= run.objects.len() as u64);
            let container = container.filter(|container| !is_over || container.is_running);
            let size = run
                .objects
                .iter()
                .filter(|object| self.is_wanted(object))
                .map(|object| object.size)
                .sum();
            let which = run.which();
            let origin = format!("{}/{}", which.pod, which.container);
            let is_followed = container.is_some();
            let archived = self.opened(run, record, Some(&origin), is_followed)?;
            planned.push(Planned {
                source: Source::new(which, Some(archived), container),
                size,
                begins: firsts.get(&name).and_then(|first| first.time),
            });
        }
        for container in containers {
            planned.push(Planned {
                source: Source::new(container.which(), None, Some(container)),
                size: 0,
                begins: None,
            });
        }
        Ok(planned)
    }

    fn is_wanted(&self, object: &Object) -> bool {
        self.since
            .is_none_or(|since| object.stored >= since.objects)
    }
}
