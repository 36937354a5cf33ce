//! Goes on with what running pods print until they have ended, and then verifies what the archive has of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use katonic_logging_core::execution::{Container, Opened, Succession, seam};
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
    running::Reading,
    show::{Output, Rendered, say},
    source::Source,
};

/// For how long lines of several containers are gathered, to be shown in the order of their times.
const GATHER: Duration = Duration::from_millis(100);

/// Most lines that are gathered.
const GATHERED: usize = 4096;

/// How long to wait before a log is opened again whose connection broke.
const AGAIN: Duration = Duration::from_secs(1);

/// A container of all pods: UID of the pod, and name.
type Key = (String, String);

fn key(container: &Container) -> Key {
    (container.pod_uid.clone(), container.name.clone())
}

/// A run whose turn comes when those of the same container before it have been read.
struct Turn {
    index: usize,
    run: Container,
    /// How its lines are called.
    shown: String,
}

/// What a followed container has to say.
enum News {
    Line(usize, Rendered),
    /// A line that was shown already, as one of the run before.
    Known(usize),
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
            following.read(index, container);
        }
    }
    following.run(output).await?;
    following.verify(output).await
}

struct Following<'r> {
    reader: &'r Arc<Reader>,
    sources: Vec<Source>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// Containers that are read, run after run, while more may come of them.
    turns: BTreeMap<Key, mpsc::UnboundedSender<Turn>>,
    /// Containers that are being read.
    open: usize,
    /// Pods that have not ended.
    pods: BTreeSet<String>,
    gathered: Vec<(usize, Rendered)>,
}

impl<'r> Following<'r> {
    fn new(reader: &'r Arc<Reader>, sources: Vec<Source>) -> Self {
        let (sender, news) = mpsc::channel(1024);
        Self {
            reader,
            sources,
            sender,
            news,
            turns: BTreeMap::new(),
            open: 0,
            pods: BTreeSet::new(),
            gathered: Vec::new(),
        }
    }

    /// Reads a run from the last line on that was shown of its container.
    fn read(&mut self, index: usize, run: Container) {
        let turn = Turn {
            index,
            shown: self.sources[index].origin(),
            run,
        };
        let key = key(&turn.run);
        let turns = match self.turns.get(&key) {
            Some(turns) => turns.clone(),
            None => self.begin(key, &turn),
        };
        // It ends only when it is told to.
        let _ = turns.send(turn);
    }

    /// Begins with a container: with this run of it.
    fn begin(&mut self, key: Key, first: &Turn) -> mpsc::UnboundedSender<Turn> {
        let mut succession = self.sources[first.index].take_succession();
        if succession.is_empty() {
            let is_before = |source: &&mut Source| {
                let of = source.of.as_ref();
                of.is_some_and(|of| self::key(of) == key && of.restart < first.run.restart)
            };
            let restart = |source: &&mut Source| source.of.as_ref().map(|of| of.restart);
            let before = self.sources.iter_mut().filter(is_before);
            if let Some(before) = before.max_by_key(restart) {
                succession = before.take_succession().next_run();
            }
        }
        let (turns, runs) = mpsc::unbounded_channel();
        self.turns.insert(key, turns.clone());
        self.open += 1;
        let (reader, sender) = (Arc::clone(self.reader), self.sender.clone());
        tokio::spawn(async move {
            read_all(&reader, runs, succession, &sender).await;
            // Nobody is there to be told only at the end of the process.
            let _ = sender.send(News::Ended).await;
        });
        turns
    }

    /// No more runs come of the containers of this pod.
    fn end(&mut self, pod_uid: &str) {
        self.pods.remove(pod_uid);
        self.turns.retain(|(uid, _), _| uid != pod_uid);
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
                    Some(News::Known(index)) => self.sources[index].live += 1,
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
                    Some(Ok(Event::Delete(pod))) => self.end(&pod.uid().unwrap_or_default()),
                    Some(Ok(Event::InitDone)) => {
                        is_listed = true;
                        // Of a pod that went while nobody watched, nothing is told.
                        let pods = &self.pods;
                        self.turns.retain(|(uid, _), _| pods.contains(uid));
                    }
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
            self.end(&uid);
            return Ok(());
        };
        for container in pods.containers(&found) {
            let mut of = self.sources.iter().filter_map(|source| source.of.as_ref());
            if of.any(|of| of.is_same_run(&container)) {
                continue;
            }
            let index = self.sources.len();
            let mut others = self.sources.iter().filter_map(|source| source.of.as_ref());
            let is_another = others.any(|other| key(other) != key(&container));
            self.reader.is_named.fetch_or(is_another, Ordering::Relaxed);
            let source = Source::new(container.which(), None, Some(container.clone()));
            self.sources.push(source);
            self.read(index, container);
        }
        let phase = found
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.end(&uid);
        } else {
            self.pods.insert(uid);
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
            source.which
        ));
    }
    if is_recorded {
        source.live = 0;
    }
    Ok(())
}

/// Reads the runs of a container, each until it has ended.
async fn read_all(
    reader: &Reader,
    mut turns: mpsc::UnboundedReceiver<Turn>,
    mut succession: Succession,
    sender: &mpsc::Sender<News>,
) {
    while let Some(turn) = turns.recv().await {
        read(reader, &turn, &mut succession, sender).await;
        succession = succession.next_run();
    }
}

/// Reads the log of a run until it has ended.
async fn read(
    reader: &Reader,
    turn: &Turn,
    succession: &mut Succession,
    sender: &mpsc::Sender<News>,
) {
    let Ok(pods) = reader.pods() else { return };
    let mut run = turn.run.clone();
    loop {
        succession.open();
        let opened = pods.open(&run, succession.since(), run.is_running).await;
        let ending = match opened {
            Ok(reading) => show(reader, turn, &run, reading, succession, sender).await,
            Err(error) => Ending::Fault(error.to_string()),
        };
        let now = pods.now(&run.pod).await;
        // Where it is by now, and whether it still runs.
        let then = match (&ending, now) {
            (Ending::Closed, _) => return,
            // Nobody knows: it is tried again.
            (_, Err(_)) => Some(run.clone()),
            (_, Ok(now)) => now.and_then(|now| now.into_iter().find(|now| now.is_same_run(&run))),
        };
        let again = match (&ending, then) {
            (_, Some(then)) if then.is_running => Some(then),
            // The rest is read from where it is now.
            (Ending::Another | Ending::Fault(_), Some(then)) if then != run => Some(then),
            _ => None,
        };
        let Some(again) = again else {
            match ending {
                Ending::Fault(reason) => say(&reason),
                Ending::Another => say(&format!(
                    "the container was restarted again, and its node has the log of {} no more: what was not shown of it is in the archive",
                    turn.shown
                )),
                Ending::Over | Ending::Closed => {}
            }
            return;
        };
        run = again;
        sleep(AGAIN).await;
    }
}

/// How the reading of a log ended.
enum Ending {
    /// At its end.
    Over,
    /// It was that of another run, and nothing of it was shown.
    Another,
    /// Before its end.
    Fault(String),
    /// Nobody wants more.
    Closed,
}

/// Shows what a log has that was not shown.
async fn show(
    reader: &Reader,
    turn: &Turn,
    run: &Container,
    mut reading: Reading,
    succession: &mut Succession,
    sender: &mpsc::Sender<News>,
) -> Ending {
    let Ok(pods) = reader.pods() else {
        return Ending::Closed;
    };
    let mut is_asked = false;
    loop {
        let line = reading.next().await;
        if !is_asked {
            match pods.now(&run.pod).await {
                Ok(now) if run.opened(now.as_deref()) == Opened::Asked => is_asked = true,
                Ok(_) => return Ending::Another,
                Err(error) => return Ending::Fault(error.to_string()),
            }
        }
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return Ending::Over,
            Err(error) => {
                return Ending::Fault(format!("the log of {} breaks off: {error}", turn.shown));
            }
        };
        let Some(time) = line.time else {
            say(&format!("{}: its node says: {}", turn.shown, line.text));
            continue;
        };
        let place = if line.is_begin {
            succession.take(time, &line.text)
        } else {
            succession.rest()
        };
        let is_before = match place {
            seam::Line::New => false,
            seam::Line::Archived => true,
            // What comes now may have come after a rotation that nobody saw; the archive proves it in the end.
            seam::Line::Apart => {
                succession.accept();
                false
            }
        };
        let news = if !is_before {
            let rendered = reader.render(run, &line, succession, &turn.shown, &mut Vec::new());
            rendered.map(|rendered| News::Line(turn.index, rendered))
        } else if line.is_begin && succession.is_of_run_before() {
            Some(News::Known(turn.index))
        } else {
            None
        };
        if let Some(news) = news
            && sender.send(news).await.is_err()
        {
            return Ending::Closed;
        }
    }
}
