//! One run of a container, from its archive and then, where it still runs, from its pod. Decides nothing about what joins.

use std::{mem, time::Duration};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::execution::{
    Container, Damage, Opened, Run, Succession, Which,
    catalogue::Catalogue,
    line::{Live, Record},
    seam,
};
use tokio::time::sleep;

use super::{
    Failure, Reader,
    archived::Archived,
    running::{Line, Reading},
    show::{Form, Rendered, say},
};

/// How often it is looked whether the archive has got what the node has rotated away, and how long is waited between: an agent
/// archives a rotated file within a second or two.
const LOOKS: (u32, Duration) = (10, Duration::from_secs(1));

/// The same while nothing is archived of the run yet, and perhaps nothing was rotated away either.
const FIRST_LOOKS: u32 = 3;

/// A run of a container.
#[derive(Debug)]
pub struct Source {
    /// Which it is.
    pub which: Which,
    archived: Option<Archived>,
    /// Its container, if its node has the log.
    pub of: Option<Container>,
    /// The same until the log was read to its end.
    container: Option<Container>,
    reading: Option<Reading>,
    /// Whether it was looked whose log was opened.
    is_asked: bool,
    succession: Succession,
    looks: u32,
    is_checked: bool,
    head: Option<Rendered>,
    /// Lines that only the pod had.
    pub live: u64,
}

impl Source {
    /// A run of which at least one of both is there.
    pub fn new(which: Which, archived: Option<Archived>, container: Option<Container>) -> Self {
        Self {
            which,
            archived,
            of: container.clone(),
            container,
            reading: None,
            is_asked: false,
            succession: Succession::default(),
            looks: 0,
            is_checked: false,
            head: None,
            live: 0,
        }
    }

    /// How it is called in front of its lines.
    pub fn origin(&self) -> String {
        format!("{}/{}", self.which.pod, self.which.container)
    }

    /// The line that comes next.
    pub fn head(&self) -> Option<&Rendered> {
        self.head.as_ref()
    }

    /// Takes it away.
    pub fn take_head(&mut self) -> Option<Rendered> {
        self.head.take()
    }

    /// Makes the next line the head, if it is at hand.
    pub fn try_advance(&mut self, buffer: &mut Vec<u8>) -> bool {
        let Some(archived) = &mut self.archived else {
            return false;
        };
        if !archived.try_advance(buffer) {
            return false;
        }
        self.head = archived.take_head();
        true
    }

    /// Makes the next line the head; none at the end.
    pub async fn advance(
        &mut self,
        reader: &Reader,
        buffer: &mut Vec<u8>,
        open: usize,
    ) -> Result<(), Failure> {
        loop {
            if let Some(archived) = &mut self.archived {
                archived.advance(buffer, open).await?;
                if let Some(head) = archived.take_head() {
                    self.head = Some(head);
                    return Ok(());
                }
            }
            let Some(container) = self.container.clone() else {
                return Ok(());
            };
            if self.reading.is_none() && !self.open(reader, &container).await? {
                return Ok(());
            }
            let Some(reading) = &mut self.reading else {
                return Ok(());
            };
            let line = reading.next().await;
            if !self.is_asked && !self.is_asked_for(reader, &container).await? {
                continue;
            }
            let line = match line {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.close();
                    return Ok(());
                }
                Err(error) => {
                    say(&format!("the log of {} breaks off: {error}", self.which));
                    self.close();
                    return Ok(());
                }
            };
            let Some(time) = line.time else {
                say(&format!("{}: its node says: {}", self.which, line.text));
                continue;
            };
            let place = if line.is_begin {
                self.succession.take(time, &line.text)
            } else {
                self.succession.rest()
            };
            match place {
                seam::Line::Archived => {}
                // Nothing was archived when it was listed: what a rotation has taken away since is in the archive by now.
                seam::Line::New if self.succession.newest().is_none() && !self.is_checked => {
                    self.is_checked = true;
                    if self.first_looks(reader, &container, time).await? {
                        self.reading = None;
                        continue;
                    }
                    self.show(reader, &container, &line, buffer);
                }
                seam::Line::New => self.show(reader, &container, &line, buffer),
                seam::Line::Apart if self.looks < LOOKS.0 => {
                    self.looks += 1;
                    self.reading = None;
                    if !self.look(reader).await? {
                        sleep(LOOKS.1).await;
                    }
                }
                seam::Line::Apart => {
                    self.succession.accept();
                    let newest = self.succession.newest();
                    if let (Some(archived), Some(newest)) = (&mut self.archived, newest) {
                        let run = archived.run().name.to_string();
                        archived.note(Damage::Apart {
                            run,
                            between: (newest, time),
                        });
                    }
                    self.show(reader, &container, &line, buffer);
                }
            }
            if self.head.is_some() {
                return Ok(());
            }
        }
    }

    /// Opens the log where the archive ends; whether it is open.
    async fn open(&mut self, reader: &Reader, container: &Container) -> Result<bool, Failure> {
        if let Some(archived) = &self.archived {
            self.succession.archived(archived.tail().clone());
        }
        self.succession.open();
        let since = self.succession.since();
        let since = since.or_else(|| reader.since.map(|since| since.lines));
        match reader.pods()?.open(container, since, false).await {
            Ok(reading) => {
                self.reading = Some(reading);
                self.is_asked = false;
                Ok(true)
            }
            Err(error) => {
                say(&error.to_string());
                self.close();
                Ok(false)
            }
        }
    }

    fn close(&mut self) {
        self.reading = None;
        self.container = None;
    }

    /// Whether the log that was opened is that of the run. If not, none of it is shown as such: the run's own is opened, or
    /// what the archive has of it is taken.
    async fn is_asked_for(
        &mut self,
        reader: &Reader,
        container: &Container,
    ) -> Result<bool, Failure> {
        let now = reader.pods()?.now(&container.pod).await?;
        match container.opened(now.as_deref()) {
            Opened::Asked => self.is_asked = true,
            Opened::Elsewhere(now) => {
                self.reading = None;
                self.container = Some(now);
            }
            Opened::Gone => {
                self.reading = None;
                self.await_archive(reader, container).await?;
                self.container = None;
            }
        }
        Ok(self.is_asked)
    }

    /// Waits for what the archive gets of a run whose log the node has no more.
    async fn await_archive(
        &mut self,
        reader: &Reader,
        container: &Container,
    ) -> Result<(), Failure> {
        if reader.store.is_some() && container.is_archived() {
            for _ in 0..LOOKS.0 {
                self.look(reader).await?;
                if self.container.is_none() {
                    return Ok(());
                }
                sleep(LOOKS.1).await;
            }
        }
        say(&format!(
            "the container was restarted again, and its node has the log of {} no more: what the archive does not have of it cannot be shown",
            self.which
        ));
        Ok(())
    }

    /// Looks whether the archive has got something of a run of which it had nothing: once, and for a while where lines may
    /// have been rotated away before this one.
    async fn first_looks(
        &mut self,
        reader: &Reader,
        container: &Container,
        first: Timestamp,
    ) -> Result<bool, Failure> {
        let looks = if container.may_have_rotated(first) {
            FIRST_LOOKS
        } else {
            1
        };
        for look in 0..looks {
            if look > 0 {
                sleep(LOOKS.1).await;
            }
            if self.look(reader).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks whether the archive has more by now.
    async fn look(&mut self, reader: &Reader) -> Result<bool, Failure> {
        let Some(archived) = &mut self.archived else {
            let Some(container) = &self.container else {
                return Ok(false);
            };
            let found = reader.catalogue().await?;
            let Some(run) = run_of(found, container) else {
                return Ok(false);
            };
            let origin = self.origin();
            let is_recorded = run.is_recorded;
            self.archived = Some(reader.archived(run, Some(&origin), true).await?);
            if is_recorded {
                self.container = None;
            }
            return Ok(true);
        };
        let before = archived.run().objects.len();
        let name = archived.run().name.clone();
        let Some(run) = reader.catalogue().await?.runs.remove(&name) else {
            return Ok(false);
        };
        let has_more = run.objects.len() > before || run.is_recorded;
        if run.is_recorded {
            // Everything is in the archive.
            self.container = None;
        }
        archived.adopt(reader.archived(run, None, false).await?);
        Ok(has_more)
    }

    fn show(&mut self, reader: &Reader, container: &Container, line: &Line, buffer: &mut Vec<u8>) {
        let origin = self.origin();
        self.head = reader.render(container, line, &mut self.succession, &origin, buffer);
        self.live += u64::from(line.is_begin && self.head.is_some());
    }

    /// Compressed bytes that were fetched since the last question.
    pub fn take_fetched(&mut self) -> u64 {
        self.archived.as_mut().map_or(0, Archived::take_fetched)
    }

    /// What was shown of the container, for whoever goes on reading.
    pub fn take_succession(&mut self) -> Succession {
        mem::take(&mut self.succession)
    }

    /// What was read of the archive.
    pub fn archived(&self) -> Option<&Archived> {
        self.archived.as_ref()
    }

    /// Takes over what the archive has got while the container was followed. All of it was shown; it is verified.
    pub fn adopt(&mut self, later: Archived) {
        let archived = match self.archived.take() {
            Some(mut archived) => {
                archived.adopt(later);
                archived
            }
            None => later,
        };
        self.archived.insert(archived).silence();
        self.container = None;
    }

    /// The archive, and whether the pod had lines that are not there.
    pub fn into_parts(self) -> (Option<Archived>, u64) {
        (self.archived, self.live)
    }
}

/// The run of a container in an archive.
pub fn run_of(mut catalogue: Catalogue, container: &Container) -> Option<Run> {
    catalogue.without_copies(&std::collections::BTreeMap::new());
    catalogue.runs.into_values().find(|run| {
        run.folder.pod_uid == container.pod_uid
            && run.folder.container == container.name
            && run.name.restart == container.restart
    })
}

impl Reader {
    /// A line of a container as it is shown; none if it is from before what was asked for.
    pub fn render(
        &self,
        container: &Container,
        line: &Line,
        succession: &mut Succession,
        shown: &str,
        buffer: &mut Vec<u8>,
    ) -> Option<Rendered> {
        let time = line.time?;
        succession.shown(time, &line.text, line.continues);
        if self.since.is_some_and(|since| time < since.lines) {
            return None;
        }
        buffer.clear();
        match self.form {
            Form::Text => {
                let record = Record {
                    time,
                    written: line.written.as_str().into(),
                    message: line.text.as_str().into(),
                };
                record.write_text(self.is_named().then_some(shown), buffer);
            }
            Form::Json => {
                let record = Live {
                    time: &line.written,
                    container: &container.name,
                    execution_id: self.subject.execution_id(),
                    namespace: self.namespace(),
                    pod: &container.pod,
                    pod_uid: &container.pod_uid,
                    restart: container.restart,
                    message: &line.text,
                };
                // A value of strings always serialises.
                let _ = serde_json::to_writer(&mut *buffer, &record);
                buffer.push(b'\n');
            }
        }
        Some(Rendered {
            time,
            bytes: mem::take(buffer),
        })
    }
}
