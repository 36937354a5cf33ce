//! Goes on with what running pods print until they have ended, and then verifies what the archive has of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use katonic_logging_core::execution::{Seam, Tail, seam};
use kube::{
    ResourceExt as _,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Failure, Planned, Reader,
    archived::Archived,
    merge,
    reader::shown,
    running::Container,
    show::{Output, Rendered, say},
    source::Source,
};

/// For how long lines of several containers are gathered, to be shown in the order of their times.
const GATHER: Duration = Duration::from_millis(100);

/// Most lines that are gathered.
const GATHERED: usize = 4096;

/// How long to wait before a log is opened again whose connection broke.
const AGAIN: Duration = Duration::from_secs(1);

/// A container and how often it was restarted, of all pods.
type Key = (String, String, u32);

fn key(container: &Container) -> Key {
    (
        container.pod_uid.clone(),
        container.name.clone(),
        container.restart,
    )
}

/// What a followed container has to say.
enum News {
    Line(usize, Rendered),
    Ended,
}

/// Follows what was read to its end so far; gives back everything that was read, verified.
pub async fn follow(
    reader: &Arc<Reader>,
    finished: Vec<Source>,
    output: &mut Output,
) -> Result<Vec<Source>, Failure> {
    let mut following = Following::new(reader, finished);
    for index in 0..following.sources.len() {
        let source = &following.sources[index];
        if let Some(container) = source.of.clone().filter(|container| container.is_running) {
            following.begin(index, container);
        }
    }
    following.run(output).await?;
    following.verify(output).await
}

struct Following<'r> {
    reader: &'r Arc<Reader>,
    sources: Vec<Source>,
    known: BTreeMap<Key, usize>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// Logs that are open.
    open: usize,
    /// Pods that have not ended.
    pods: BTreeSet<String>,
    gathered: Vec<(usize, Rendered)>,
    spans: BTreeMap<(String, String), BTreeMap<u32, Span>>,
}

/// The times of the first and of the last line that the log of one run gave.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Timestamp,
    last: Timestamp,
}

impl<'r> Following<'r> {
    fn new(reader: &'r Arc<Reader>, sources: Vec<Source>) -> Self {
        let (sender, news) = mpsc::channel(1024);
        let of = |source: &Source| source.of.as_ref().map(key);
        let known = sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| Some((of(source)?, index)));
        Self {
            known: known.collect(),
            reader,
            sources,
            sender,
            news,
            open: 0,
            pods: BTreeSet::new(),
            gathered: Vec::new(),
            spans: BTreeMap::new(),
        }
    }

    /// Whether this line of a container was given by the log of another of its runs before.
    ///
    /// Who asks for a running container's log gets that of whichever run there is when the kubelet looks, and a restart that
    /// the API does not tell of yet is one of them. Runs follow each other, so a line that lies between lines of another
    /// run is that one's.
    fn is_shown(&mut self, index: usize, time: Timestamp) -> bool {
        let of = self
            .sources
            .get(index)
            .and_then(|source| source.of.as_ref());
        let Some(container) = of else { return false };
        let runs = self
            .spans
            .entry((container.pod_uid.clone(), container.name.clone()))
            .or_default();
        let is_of_another = runs.iter().any(|(restart, span)| {
            *restart != container.restart && (span.first..=span.last).contains(&time)
        });
        if !is_of_another {
            let here = Span {
                first: time,
                last: time,
            };
            let span = runs.entry(container.restart).or_insert(here);
            span.first = span.first.min(time);
            span.last = span.last.max(time);
        }
        is_of_another
    }

    /// Follows a container from the last line on that was shown of it.
    fn begin(&mut self, index: usize, container: Container) {
        let source = &mut self.sources[index];
        let (tail, shown) = (source.take_tail(), source.origin());
        let (reader, sender) = (Arc::clone(self.reader), self.sender.clone());
        self.open += 1;
        tokio::spawn(async move {
            read(&reader, index, &container, tail, &shown, &sender).await;
            // Nobody is there to be told only at the end of the process.
            let _ = sender.send(News::Ended).await;
        });
    }

    /// Until no container and no pod is left that could print.
    async fn run(&mut self, output: &mut Output) -> Result<(), Failure> {
        let pods = self.reader.pods()?;
        let mut watched = pin!(watcher(pods.watched(), watcher::Config::default()));
        let mut is_listed = false;
        let mut due: Option<Instant> = None;
        while !(is_listed && self.pods.is_empty() && self.open == 0) {
            let wait = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {
                    due = None;
                    self.show(output)?;
                }
                news = self.news.recv() => match news {
                    Some(News::Line(index, rendered)) if self.is_shown(index, rendered.time) => {
                        self.sources[index].live += 1;
                    }
                    Some(News::Line(index, rendered)) => {
                        self.gathered.push((index, rendered));
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                        if self.gathered.len() >= GATHERED {
                            due = None;
                            self.show(output)?;
                        }
                    }
                    Some(News::Ended) | None => self.open = self.open.saturating_sub(1),
                },
                event = watched.next() => match event {
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => self.look_at(&pod).await?,
                    Some(Ok(Event::Delete(pod))) => {
                        self.pods.remove(&pod.uid().unwrap_or_default());
                    }
                    Some(Ok(Event::InitDone)) => is_listed = true,
                    Some(Ok(Event::Init)) => self.pods.clear(),
                    // The watch goes on by itself.
                    Some(Err(error)) => say(&format!("the pods are asked for again: {error}")),
                    None => break,
                },
            }
        }
        self.show(output)
    }

    /// Takes up what a pod has got: another container, or a restart.
    async fn look_at(&mut self, pod: &PartialObjectMeta<Pod>) -> Result<(), Failure> {
        let pods = self.reader.pods()?;
        if !pods.is_of_execution(&pod.name_any(), pod.labels()) {
            return Ok(());
        }
        let uid = pod.uid().unwrap_or_default();
        let found = pods.get(&pod.name_any()).await?;
        let Some(found) = found.filter(|found| found.uid().as_deref() == Some(&uid)) else {
            self.pods.remove(&uid);
            return Ok(());
        };
        let phase = found
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.pods.remove(&uid);
        } else {
            self.pods.insert(uid);
        }
        for container in pods.containers(&found) {
            if self.known.contains_key(&key(&container)) {
                continue;
            }
            let index = self.sources.len();
            let called = shown(&container.pod, &container.name, container.restart);
            let others = self.sources.iter().filter_map(|source| source.of.as_ref());
            let is_another = others
                .map(|other| (&other.pod_uid, &other.name))
                .any(|other| other != (&container.pod_uid, &container.name));
            self.reader.is_named.fetch_or(is_another, Ordering::Relaxed);
            let source = Source::new(
                called,
                container.pod_uid.clone(),
                None,
                Some(container.clone()),
            );
            self.sources.push(source);
            self.known.insert(key(&container), index);
            self.begin(index, container);
        }
        Ok(())
    }

    fn show(&mut self, output: &mut Output) -> Result<(), Failure> {
        self.gathered.sort_by_key(|(_, rendered)| rendered.time);
        for (index, rendered) in self.gathered.drain(..) {
            output.write(&rendered)?;
            self.sources[index].live += 1;
        }
        Ok(output.flush()?)
    }

    /// Reads what the archive has got meanwhile; what nobody has followed is shown.
    async fn verify(self, output: &mut Output) -> Result<Vec<Source>, Failure> {
        let Self {
            reader,
            mut sources,
            ..
        } = self;
        let mut unseen: Vec<Planned> = Vec::new();
        for planned in reader.sources(&[]).await? {
            let Some(later) = planned.source.archived() else {
                continue;
            };
            let (folder, restart) = (later.run().folder.clone(), later.run().name.restart);
            let is_it = |source: &&mut Source| {
                let of = source.of.as_ref().is_some_and(|container| {
                    (&container.pod_uid, &container.name, container.restart)
                        == (&folder.pod_uid, &folder.container, restart)
                });
                let archived = source.archived();
                of || archived.is_some_and(|archived| archived.run().name == later.run().name)
            };
            match sources.iter_mut().find(is_it) {
                Some(source) => adopt(reader, source, planned.source).await?,
                None => unseen.push(planned),
            }
        }
        sources.extend(merge::merge(reader, unseen, output).await?);
        Ok(sources)
    }
}

/// Verifies what was shown as lines of a container by what the archive has of it.
async fn adopt(reader: &Reader, source: &mut Source, later: Source) -> Result<(), Failure> {
    let before = source.archived().map_or(0, Archived::lines);
    let (Some(later), _) = later.into_parts() else {
        return Ok(());
    };
    let is_recorded = later.run().is_recorded;
    source.adopt(later);
    source.advance(reader, &mut Vec::new(), 1).await?;
    let archived = source.archived().map_or(0, Archived::lines);
    let (new, live) = (archived.saturating_sub(before), source.live);
    if new > live {
        say(&format!(
            "{} lines of {} were archived and not shown: run again without --follow",
            new - live,
            source.shown
        ));
    }
    if is_recorded {
        source.live = 0;
    }
    Ok(())
}

/// Reads the log of a container until it has ended.
async fn read(
    reader: &Reader,
    index: usize,
    container: &Container,
    mut tail: Tail,
    shown: &str,
    sender: &mpsc::Sender<News>,
) {
    let Ok(pods) = reader.pods() else { return };
    loop {
        let mut seam = Seam::new(&tail);
        let opened = pods
            .open(container, tail.since(), !container.is_previous)
            .await;
        let mut reading = match opened {
            Ok(reading) => reading,
            Err(error) => {
                say(&error.to_string());
                if !goes_on(reader, container).await {
                    return;
                }
                sleep(AGAIN).await;
                continue;
            }
        };
        let fault = loop {
            let line = match reading.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            let Some(time) = line.time else {
                say(&format!("{shown}: its node says: {}", line.text));
                continue;
            };
            let place = if line.is_begin {
                seam.take(time, &line.text)
            } else {
                seam.rest()
            };
            match place {
                seam::Line::New => {}
                seam::Line::Archived => continue,
                // What comes now may have come after a rotation that nobody saw; the archive proves it in the end.
                seam::Line::Apart => seam.accept(),
            }
            let rendered = reader.render(container, &line, &mut tail, shown, &mut Vec::new());
            if let Some(rendered) = rendered
                && sender.send(News::Line(index, rendered)).await.is_err()
            {
                return;
            }
        };
        if container.is_previous || !goes_on(reader, container).await {
            if let Some(error) = fault {
                say(&format!("the log of {shown} breaks off: {error}"));
            }
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Whether the container still runs as it was.
async fn goes_on(reader: &Reader, container: &Container) -> bool {
    let Ok(pods) = reader.pods() else {
        return false;
    };
    match pods.get(&container.pod).await {
        Ok(Some(pod)) => pods
            .containers(&pod)
            .iter()
            .any(|now| key(now) == key(container) && now.is_running),
        Ok(None) => false,
        // Nobody knows: it is tried again.
        Err(_) => true,
    }
}
