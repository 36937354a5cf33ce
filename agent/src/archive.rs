//! The task of a route to an archive: cuts objects, writes each down, puts it into the store, and says when a run of a
//! container is whole.
//!
//! An object has a name that says which bytes of which log are in it. It is written down before it is sent for the first
//! time, and nothing else is cut before it is in the store: so an agent that is killed at any moment sends the same bytes
//! under the same name, and each line is in the store once.

pub mod key;
pub mod ledger;
pub mod spool;

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use katonic_log_config::{ObjectLock, ObjectStorage, Store};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

use crate::{
    access::{Access, Denied},
    backoff::Backoff,
    batch::Spill,
    client::{Client, Outgoing},
    deliver::{
        Phase, Shared,
        health::{Place, Voice},
        line::{of_proxy, verdict_of, verdict_of_setup},
        sync,
    },
    route::{Due, Health, Made, ObjectContent, Reason, Ripe, Route},
    sink::{
        Cause, Destination, Through, Verdict, splunk,
        store::{Put, Reply},
    },
    tell::{Level, tell},
};
use ledger::Run;
use spool::{Header, Locked, Spool};

/// From such a wait on the connection is not kept.
const LONG: Duration = Duration::from_secs(1);

/// How often an open line, or a file that cannot be read, is looked at when nothing happens.
const RECHECK: Duration = Duration::from_secs(1);

/// What a clock may differ from a store's, so that what the store refuses it refuses for something else.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What an object is.
const OBJECT: &str = "application/gzip";
const RECORD: &str = "application/json";

/// The task of a route.
#[derive(Debug)]
pub struct Archive {
    route: Rc<Route>,
    shared: Rc<Shared>,
    spool: Spool,
    /// An object that was written down and is not known to be in the store.
    left: Option<Header>,
    client: Option<(Destination, Client)>,
    access: Access,
    backoff: Backoff,
    voice: Voice,
    /// How far the store's clock is ahead, or behind.
    clock: Clock,
    /// Whether the store knows conditions.
    is_conditional: bool,
    /// A credential was missing without which no record can be made.
    held: bool,
}

/// The time as the store has it.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    ahead: Duration,
    behind: Duration,
}

/// What is put into the store.
struct Item<'a> {
    key: &'a str,
    sha256: [u8; 32],
    length: u64,
    content_type: &'static str,
    /// Whether another one may have this key, which is older then.
    replaces: bool,
    locked: Option<Locked>,
    body: &'a dyn Fn() -> std::io::Result<Outgoing>,
}

/// How the objects of an archive are locked.
fn lock_of(archive: &ObjectStorage) -> Option<ObjectLock> {
    match &archive.store {
        Store::S3(s3) => s3.object_lock,
        Store::Gcs(_) | Store::Azure(_) => None,
    }
}

impl Archive {
    /// A task that begins with what was written down before, if that is not in the store, and else where the route's
    /// cursors are.
    pub fn new(route: Rc<Route>, shared: Rc<Shared>) -> Self {
        let spool = Spool::of(&shared.state_dir, &route.key);
        let left = take_up(&route, &spool);
        route.rewind();
        if let Some(header) = &left {
            route.is_on_its_way(header);
        }
        Self {
            spool,
            left,
            client: None,
            access: Access::default(),
            backoff: Backoff::default(),
            voice: Voice::default(),
            clock: Clock::default(),
            is_conditional: true,
            held: false,
            route,
            shared,
        }
    }

    /// Archives until the pod has ended and everything is in the store.
    pub async fn run(mut self) {
        if let Some(header) = self.left.take() {
            let spool = self.spool.clone();
            let length = header.length;
            let body = || Ok(Outgoing::beginning_of(spool.open()?, length));
            self.store(&header, &body).await;
            self.route.stored(&header, true);
            self.shared.dirty.set(true);
        }
        while let Some(archive) = self.route.archive() {
            let shared = Rc::clone(&self.shared);
            // Before looking, so that nothing that happens meanwhile is missed.
            let changed = shared.changed.notified();
            let begun = self.route.begun();
            sync(&self.route, &shared);
            if self.route.begun() != begun {
                shared.dirty.set(true);
            }
            let ended = shared.phase.get() == Phase::Ended;
            let due = Due {
                age: Duration::from_millis(archive.max_age_ms.get().into()),
                bytes: archive.max_bytes.get().into(),
                ended,
            };
            // Before what comes after it: a run that is not there when a later one is, is missing.
            if let Some(run) = self.route.unrecorded(&shared.source, ended) {
                self.record(run, lock_of(&archive)).await;
                continue;
            }
            let ripe = self.route.ripe(due, std::time::Instant::now());
            if let Ripe::Now(file) = ripe {
                // Others have their turn, whatever there is to read.
                yield_now().await;
                self.cut(&archive, file).await;
                continue;
            }
            if ended {
                break;
            }
            let recheck = self.route.needs_time().then(|| Instant::now() + RECHECK);
            let due = match ripe {
                Ripe::At(due) => Some(Instant::from_std(due)),
                Ripe::Now(_) | Ripe::Nothing => None,
            };
            let Some(next) = recheck.into_iter().chain(due).min() else {
                changed.await;
                continue;
            };
            let changed = timeout_at(next, changed).await;
            if changed.is_err() && recheck == Some(next) {
                self.route.retry_failed();
            }
        }
    }

    /// Makes an object of what waits in a file, writes it down and puts it into the store.
    async fn cut(&mut self, archive: &ObjectStorage, file: crate::assemble::FileNumber) {
        let ready = match self.route.ready(&self.shared.mount.current()) {
            Ok(ready) => ready,
            Err(error) => {
                self.held = true;
                return self.fail(Reason::Misconfigured, error.to_string()).await;
            }
        };
        if std::mem::take(&mut self.held) {
            self.backoff.reset();
        }
        let spill = match self.spool.begin() {
            Ok(file) => Some(Spill::to(file)),
            // Nobody is expected to send it again: better than not at all.
            Err(_) if self.is_ended() => None,
            Err(error) => return self.fail_to_write(&error).await,
        };
        let mut troubles = Vec::new();
        let source = &self.shared.source;
        let made = self
            .route
            .make_object(source, &ready, file, spill, &mut troubles);
        Voice::unreadable(&self.route, &troubles);
        let Some(mut made) = made else {
            return;
        };
        let run = self.route.run_of(source, archive.layout, &made);
        let Some(content) = made.content.take() else {
            self.route.passed(run, &made);
            self.shared.dirty.set(true);
            return;
        };
        if run.objects == 0 && run.is_unidentified() {
            self.tell_unidentified(&run);
        }
        let lock = lock_of(archive);
        let locked = lock.map(|lock| Locked::from(lock, self.clock.now()));
        self.finish(run, &made, content, locked).await;
    }

    async fn finish(
        &mut self,
        run: Run,
        made: &Made,
        content: ObjectContent,
        locked: Option<Locked>,
    ) {
        let ObjectContent { body, spilled } = content;
        let source = &self.shared.source;
        let header = |run, stored| Header {
            locked,
            ..self.route.header(source, run, made, &body, stored)
        };
        let Some(spilled) = spilled else {
            let stored = (body.bytes.len() as u64, Sha256::digest(&body.bytes).into());
            let header = header(run, stored);
            let bytes: Bytes = body.bytes;
            self.store(&header, &|| Ok(bytes.clone().into())).await;
            self.route.stored(&header, false);
            self.shared.dirty.set(true);
            return;
        };
        let written = match spilled {
            Ok(spilled) => {
                let stored = (spilled.length, spilled.sha256);
                let header = header(run, stored);
                let committed = self.spool.commit(spilled, &header).await;
                committed.map(|()| header)
            }
            Err(error) => Err(error),
        };
        let header = match written {
            Ok(header) => header,
            Err(error) => {
                self.route.rewind();
                return self.fail_to_write(&error).await;
            }
        };
        self.route.is_on_its_way(&header);
        let spool = self.spool.clone();
        let length = header.length;
        let body = || Ok(Outgoing::beginning_of(spool.open()?, length));
        self.store(&header, &body).await;
        self.route.stored(&header, false);
        self.shared.dirty.set(true);
    }

    /// Puts an object into the store, however long that takes.
    async fn store(&mut self, header: &Header, body: &dyn Fn() -> std::io::Result<Outgoing>) {
        self.put(&Item {
            key: &header.key,
            sha256: header.sha256,
            length: header.length,
            content_type: OBJECT,
            replaces: false,
            locked: header.locked,
            body,
        })
        .await;
    }

    /// Says in the store that a run is whole.
    async fn record(&mut self, run: Run, lock: Option<ObjectLock>) {
        let source = &self.shared.source;
        let execution_id = self.route.execution_id(source);
        let record = run.record(&source.pod, execution_id.as_deref());
        // These types always serialise.
        let record = Bytes::from(record.unwrap_or_default());
        let key = key::record(&run, &self.route.key);
        self.put(&Item {
            key: &key,
            sha256: Sha256::digest(&record).into(),
            length: record.len() as u64,
            content_type: RECORD,
            // A pod that goes on after all has another one later.
            replaces: true,
            locked: lock.map(|lock| Locked::from(lock, self.clock.now())),
            body: &|| Ok(record.clone().into()),
        })
        .await;
        self.route.recorded(run);
        self.shared.dirty.set(true);
    }

    async fn put(&mut self, item: &Item<'_>) {
        loop {
            let (state, reason, after) = match self.attempt(item).await {
                Verdict::Delivered => {
                    self.is(Health::Delivering);
                    self.backoff.reset();
                    return;
                }
                Verdict::Retry { reason, after } => (Reason::Unreachable, reason, after),
                Verdict::Hold { cause, reason } => (cause.into(), reason, None),
                Verdict::Split | Verdict::Partial { .. } | Verdict::Refused { .. } => (
                    Reason::Misconfigured,
                    "the store refuses the object".to_owned(),
                    None,
                ),
            };
            self.is(Health::Failing(state, reason));
            let wait = self.backoff.next(after);
            if wait >= LONG {
                self.client = None;
            }
            self.shared.pause(wait).await;
        }
    }

    async fn attempt(&mut self, item: &Item<'_>) -> Verdict {
        let (mut replacing, mut renewed, mut skewed) = (false, false, false);
        loop {
            // Once more for each thing that the store wants otherwise, and says so.
            let once = self.is_conditional && !replacing;
            let (reply, date) = match self.send(item, once).await {
                Ok(answered) => answered,
                Err(verdict) => return verdict,
            };
            if self.is_of_clock(&reply, date) && !skewed && self.clock.learn(date) {
                skewed = true;
                let by = self.clock.ahead.max(self.clock.behind).as_secs();
                self.voice.warn(
                    &self.route,
                    &format!("the node's clock differs from the store's by {by} s, and the store's is used: set the node's clock"),
                );
                continue;
            }
            let refused = Cause::AuthenticationFailed;
            match reply {
                Reply::There if item.replaces && once => replacing = true,
                Reply::Not(Verdict::Hold { cause, .. }) if replacing && cause == refused => {
                    return self.leave_record();
                }
                Reply::There if replacing => return self.leave_record(),
                Reply::Stored | Reply::There => return Verdict::Delivered,
                Reply::Expired(_) if !renewed && self.access.forget() => renewed = true,
                Reply::Not(verdict) | Reply::Expired(verdict) => return verdict,
                Reply::Unconditional if once => {
                    self.is_conditional = false;
                    self.voice.warn(
                        &self.route,
                        "the store knows no conditional requests: an object that is sent again replaces itself",
                    );
                }
                Reply::Skewed => {
                    return Verdict::Hold {
                        cause: Cause::Misconfigured,
                        reason: "RequestTimeTooSkewed: the node's clock differs from the store's by more than 15 minutes: set the node's clock".to_owned(),
                    };
                }
                Reply::Unconditional => {
                    return Verdict::Hold {
                        cause: Cause::Misconfigured,
                        reason: "what answers there takes no objects as Amazon S3 does: correct endpoint".to_owned(),
                    };
                }
            }
        }
    }

    /// Whether the time is what the store, or who gives tokens for it, does not like about a request. Few say so.
    fn is_of_clock(&self, reply: &Reply, date: Option<SystemTime>) -> bool {
        match reply {
            Reply::Skewed => true,
            Reply::Not(Verdict::Hold { cause, .. }) => {
                *cause == Cause::AuthenticationFailed && self.clock.differs(date)
            }
            _ => false,
        }
    }

    /// A completeness record is there that the credentials may not replace: it is this one, sent before, most often.
    fn leave_record(&mut self) -> Verdict {
        self.voice.warn(
            &self.route,
            "a completeness record is in the store already, and the credentials may not replace it: if its container went on afterwards, it says less than there is",
        );
        Verdict::Delivered
    }

    /// One request.
    async fn send(
        &mut self,
        item: &Item<'_>,
        once: bool,
    ) -> Result<(Reply, Option<SystemTime>), Verdict> {
        let Some(ObjectStorage { store, .. }) = self.route.archive() else {
            return Err(Verdict::Hold {
                cause: Cause::Misconfigured,
                reason: "the sink is no archive any more".to_owned(),
            });
        };
        // Also a credential that was just replaced is used at once.
        let credentials = self.shared.mount.current();
        let unusable = |error: crate::credential::CredentialError| Verdict::Hold {
            cause: Cause::AuthenticationFailed,
            reason: error.to_string(),
        };
        let channel = splunk::channel("", &self.route.key);
        let target = self.route.target();
        let destination =
            Destination::resolve(&target, &credentials, &channel).map_err(unusable)?;
        let now = self.clock.now();
        let authorized = self
            .access
            .authorize(&store, &credentials, &destination, now);
        let authorized = match authorized.await {
            Ok(authorized) => authorized,
            Err(Denied { verdict, date }) => return Ok((Reply::Not(verdict), date)),
        };
        let put = Put {
            key: item.key,
            sha256: item.sha256,
            length: item.length,
            content_type: item.content_type,
            once,
            lock: item
                .locked
                .map(|locked| (locked.lock.mode, locked.until(now))),
        };
        let prepared = authorized.prepare(&put, now).map_err(unusable)?;
        let body = (item.body)().map_err(|error| Verdict::Retry {
            reason: format!("failed to read the object that was written down: {error}"),
            after: None,
        })?;
        let client = match self.client.take() {
            Some((known, client)) if known == destination => client,
            _ => {
                if destination.trust.insecure_skip_verify {
                    self.voice
                        .insecure(&self.route, destination.address().to_owned());
                }
                Client::new(&destination).map_err(verdict_of_setup)?
            }
        };
        let (_, client) = self.client.insert((destination, client));
        let mut quoter = client.quoter().clone();
        quoter.hide_headers(&prepared.headers);
        let response = client.put(&prepared.uri, prepared.headers, body).await;
        let response = response.map_err(|failure| verdict_of(&failure, &quoter))?;
        let answer = response.answer(&quoter);
        let reply = match of_proxy(client, &answer) {
            Some(verdict) => Reply::Not(verdict),
            None => authorized.judge(&answer, item.locked.is_some()),
        };
        Ok((reply, response.date()))
    }

    fn is_ended(&self) -> bool {
        self.shared.phase.get() == Phase::Ended
    }

    async fn fail_to_write(&mut self, error: &std::io::Error) {
        let reason = format!("failed to write an object down before it is sent: {error}");
        self.fail(Reason::Backlogged, reason).await;
    }

    async fn fail(&mut self, state: Reason, reason: String) {
        self.is(Health::Failing(state, reason));
        let wait = self.backoff.next(None);
        self.shared.pause(wait).await;
    }

    fn tell_unidentified(&self, run: &Run) {
        tell(
            Level::Warn,
            "the pod's execution is not known: neither its label nor its name says it, so its log is archived under unidentified/",
            json!({"policy": self.route.policy_name(), "sink": self.route.key.sink, "folder": run.folder}),
        );
    }

    fn is(&mut self, health: Health) {
        let place = self.client.as_ref().map(|(destination, client)| Place {
            address: destination.address().to_owned(),
            proxy: client.proxy().map(Through::address),
        });
        self.voice.is(&self.route, place, health);
    }
}

impl Clock {
    fn now(self) -> SystemTime {
        let now = SystemTime::now();
        let ahead = now.checked_add(self.ahead).unwrap_or(now);
        ahead.checked_sub(self.behind).unwrap_or(ahead)
    }

    /// Whether it is so far from the store's time that a store may refuse what it is sent.
    fn differs(self, date: Option<SystemTime>) -> bool {
        let now = self.now();
        date.is_some_and(|date| {
            let by = date.duration_since(now);
            by.unwrap_or_else(|error| error.duration()) > TOLERANCE
        })
    }

    /// Takes over the store's time; says whether it is known.
    fn learn(&mut self, date: Option<SystemTime>) -> bool {
        let Some(date) = date else {
            return false;
        };
        let now = SystemTime::now();
        *self = Self {
            ahead: date.duration_since(now).unwrap_or_default(),
            behind: now.duration_since(date).unwrap_or_default(),
        };
        true
    }
}

/// What was written down and is not known to be in the store; the route is brought to where it was then.
fn take_up(route: &Route, spool: &Spool) -> Option<Header> {
    if route.is_fallback() {
        // What sinks have left now is not what they had left then.
        spool.clear();
        return None;
    }
    let header = match spool.load() {
        Ok(header) => header?,
        Err(error) => {
            tell(
                Level::Error,
                "an object that was written down cannot be used and is made anew; lines of it may be archived twice",
                json!({"policy": route.policy_name(), "sink": route.key.sink, "reason": error.to_string()}),
            );
            spool.clear();
            return None;
        }
    };
    let acknowledged = route.acknowledged();
    if header.number <= acknowledged {
        return None;
    }
    if header.number > acknowledged + 1 {
        // The cursors are older than the object.
        route.restore(header.before.clone());
    }
    Some(header)
}
