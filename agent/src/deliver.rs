//! The task of one route: makes batches, sends them one after the other, never gives up. Decides nothing about answers.

mod feed;
pub(crate) mod health;
pub(crate) mod line;
mod standing;

use std::{cell::Cell, path::PathBuf, rc::Rc, time::Duration};

use http::HeaderValue;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    backoff::{self, Backoff},
    batch::{Body, Limits},
    bundle::Mount,
    cursor::RouteKey,
    route::{Ends, Health, Reason, Route, Source},
    sink::{Cause, Verdict, splunk},
    split::{Splitting, Step},
    window::{Fate, Window},
};
use feed::{Fed, Feed};
pub use health::tell_declined;
use health::{Place, Voice};
use line::{Address, Line, Outcome, Ticket, verdict_of_setup};
use standing::{MOST_SUSPECTS, Standing};

/// Longest wait between attempts once the pod is ending: then there is no long run to be polite for.
const LONGEST_AT_END: Duration = Duration::from_secs(1);

/// From such a wait on neither body nor connection is kept: there may be many sinks that are down.
const LONG: Duration = Duration::from_secs(1);

/// So many batches may wait for their confirmation; where they are all that is kept of them.
const MOST_WAITING: usize = 128;

/// How often it is asked how far what was written has come.
const LOOK: Duration = Duration::from_millis(500);

/// How far the agent is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The containers run.
    Running,
    /// The containers have ended; what they wrote last may still appear.
    Ending,
    /// All files are known and nothing will be added to them.
    Ended,
}

/// What the tasks of all routes share.
#[derive(Debug)]
pub struct Shared {
    /// What they read.
    pub source: Source,
    /// Where credentials are.
    pub mount: Mount,
    /// Where what must survive the agent is kept.
    pub state_dir: PathBuf,
    /// Wakes them when there is something new to read or the phase changes.
    pub changed: Notify,
    /// Has those look that wait before the next attempt: a credential may have been replaced.
    pub reloaded: Notify,
    /// How far the agent is.
    pub phase: Cell<Phase>,
    /// Longest time that a line waits for others to be sent with it, unless its sink says otherwise.
    pub flush: Duration,
    /// Whether a cursor has moved since the cursors were saved.
    pub dirty: Cell<bool>,
}

impl Shared {
    /// Waits before the next attempt; not longer than a moment once the pod is ending, nor when the credentials of the route's
    /// policy are others than were `tried`. What else may change of it ends its task.
    pub async fn pause(&self, wait: Duration, route: &Route, tried: [u8; 32]) {
        let start = Instant::now();
        let is_news = || route.credentials(&self.mount.current()) != tried;
        if self.phase.get() == Phase::Running && is_news() {
            return;
        }
        loop {
            let running = self.phase.get() == Phase::Running;
            let end = start
                + if running {
                    wait
                } else {
                    wait.min(LONGEST_AT_END)
                };
            if Instant::now() >= end {
                return;
            }
            if running {
                select! {
                    // Both are told at once where a policy has changed, too.
                    biased;
                    () = self.reloaded.notified() => {
                        if is_news() {
                            return;
                        }
                    }
                    // Perhaps of phase.
                    () = self.changed.notified() => {}
                    () = sleep_until(end) => return,
                }
            } else {
                sleep(end - Instant::now()).await;
            }
        }
    }
}

/// The task of a route.
#[derive(Debug)]
pub struct Delivery {
    route: Rc<Route>,
    shared: Rc<Shared>,
    feed: Feed,
    line: Option<Line>,
    window: Window<Ends, Ticket>,
    indexer: Indexer,
    splitting: Splitting,
    backoff: Backoff,
    voice: Voice,
    /// A credential was missing without which no record can be made.
    held: bool,
    /// The digest of the credentials of the last attempt.
    tried: [u8; 32],
    /// When it was last looked how far what waits has come.
    looked: Instant,
    standing: Standing,
}

/// What is known of an indexer that acknowledges.
#[derive(Debug)]
struct Indexer {
    channel: HeaderValue,
    /// The last number that it gave.
    last: Option<u64>,
    /// It has let the time for an acknowledgement pass: one batch at a time until it acknowledges again.
    late: bool,
}

impl Indexer {
    /// Begins a channel that was never used: a number means a batch only within its channel, and a collector that was
    /// started again, or another one behind the same address, counts anew.
    fn new(pod_uid: &str, route: &RouteKey) -> Self {
        let seed = format!("{pod_uid}/{:016x}", backoff::chance());
        Self {
            channel: splunk::channel(&seed, route),
            last: None,
            late: false,
        }
    }
}

/// What a delivery does next.
enum Next {
    Look,
    Broken(String),
    Fed(Fed),
}

impl Delivery {
    /// A task that begins where the route's cursors are.
    pub fn new(route: Rc<Route>, shared: Rc<Shared>) -> Self {
        route.rewind();
        Self {
            feed: Feed::new(Rc::clone(&route), Rc::clone(&shared)),
            line: None,
            window: Window::default(),
            indexer: Indexer::new(&shared.source.pod.uid, &route.key),
            splitting: Splitting::new(route.limits()),
            backoff: Backoff::default(),
            voice: Voice::default(),
            held: false,
            tried: [0; 32],
            looked: Instant::now(),
            standing: Standing::default(),
            route,
            shared,
        }
    }

    /// Delivers until the pod has ended and everything is delivered.
    pub async fn run(mut self) {
        if let Some((end, tried)) = self.route.waits(None) {
            // What has ended the task before this one is no news for the sink.
            self.tried = tried;
            self.pause(end.saturating_duration_since(Instant::now()))
                .await;
        }
        loop {
            match self.next().await {
                Next::Look => self.look().await,
                Next::Broken(reason) => {
                    // An idle connection may be closed.
                    if self.is_waiting() {
                        self.start_over(Reason::Unreachable, reason).await;
                    }
                }
                Next::Fed(Fed::Batch(body, ends)) => {
                    self.go_on();
                    self.deliver(body, ends).await;
                }
                Next::Fed(Fed::Nothing(ends)) => {
                    self.go_on();
                    self.pass(ends);
                }
                Next::Fed(Fed::Held(reason)) => self.wait_for_key(reason).await,
                Next::Fed(Fed::Unreadable(troubles)) => {
                    Voice::unreadable(&self.route, &troubles);
                }
                Next::Fed(Fed::Over) if self.window.is_empty() => return,
                Next::Fed(Fed::Over) => self.conclude().await,
            }
        }
    }

    async fn next(&mut self) -> Next {
        let due = self.due();
        let room = self.window.len() < self.most_waiting();
        let limits = self.limits();
        let Self { feed, line, .. } = self;
        select! {
            biased;
            () = until(due) => Next::Look,
            broken = broken(line) => Next::Broken(broken),
            fed = feed.next(limits), if room => Next::Fed(fed),
        }
    }

    /// Whether the sink has something that it has not confirmed.
    fn is_waiting(&self) -> bool {
        self.window.tickets().next().is_some()
    }

    fn most_waiting(&self) -> usize {
        if self.indexer.late { 1 } else { MOST_WAITING }
    }

    fn limits(&self) -> Limits {
        let mut limits = self.splitting.limits();
        if self.standing.is_suspected() {
            limits.records = 1;
        }
        limits
    }

    /// When something is to be done though nothing happens.
    fn due(&self) -> Option<Instant> {
        if self.window.suspects() > 0 {
            return self.standing.suspense();
        }
        let line = self.line.as_ref()?;
        match self.window.tickets().next()? {
            Ticket::Indexer { sent, .. } => {
                let poll = line.acknowledging()?.poll;
                let poll = if self.shared.phase.get() == Phase::Ended {
                    poll.min(LONGEST_AT_END)
                } else {
                    poll
                };
                Some(self.looked.max(*sent) + poll)
            }
            Ticket::Written(mark) => Some(line.wire()?.due(mark).max(self.looked + LOOK)),
        }
    }

    /// Sends a batch until the sink has it or says what is wrong with it.
    async fn deliver(&mut self, body: Body, ends: Ends) {
        loop {
            let verdict = match self.attempt(&body).await {
                Outcome::Judged(verdict) => verdict,
                Outcome::Sent(ticket) => {
                    self.taken(&body);
                    drop(body);
                    self.wait_for(ends, ticket).await;
                    return;
                }
                Outcome::Unconfirmed(warning) => {
                    self.voice.warn(&self.route, warning);
                    Verdict::Delivered
                }
                Outcome::StartOver(reason) => {
                    drop(body);
                    self.start_over(Reason::Unreachable, reason).await;
                    return;
                }
                Outcome::Changed => {
                    self.begin_again();
                    return;
                }
            };
            let (state, reason, after) = match verdict {
                Verdict::Delivered => {
                    self.taken(&body);
                    self.works();
                    self.deal_with(ends, Fate::Taken);
                    return;
                }
                Verdict::Partial { rejected, reason } => {
                    self.taken(&body);
                    self.works();
                    if rejected == 0 {
                        self.voice.warn(&self.route, &reason);
                        self.deal_with(ends, Fate::Taken);
                    } else {
                        self.deal_with(ends, Fate::Partly { rejected, reason });
                    }
                    return;
                }
                Verdict::Retry { reason, after } => (Reason::Unreachable, reason, after),
                Verdict::Hold { cause, reason } => (cause.into(), reason, None),
                Verdict::Split => {
                    let step = self.splitting.too_large(body.records, body.size);
                    let reason = format!("a body of {} bytes is too large for the sink", body.size);
                    match step {
                        Step::Smaller => return self.rewind(),
                        Step::Reject => return self.reject(ends, reason).await,
                        Step::Wait => (Reason::Misconfigured, reason, None),
                    }
                }
                Verdict::Refused {
                    record: None,
                    reason,
                } if body.records == 1
                    // At the end there is no time to find out, and there may be others behind it that are taken.
                    && self.shared.phase.get() == Phase::Running
                    && self.standing.is_doubtful(Instant::now()) =>
                {
                    (Reason::Rejected, reason, None)
                }
                Verdict::Refused { record, reason } => {
                    match self.splitting.refused(body.records, record) {
                        Step::Smaller => return self.rewind(),
                        Step::Reject => return self.reject(ends, reason).await,
                        Step::Wait => (Reason::Misconfigured, reason, None),
                    }
                }
            };
            self.is(Health::Failing(state, reason));
            let wait = self.backoff.next(after);
            if wait >= LONG {
                drop(body);
                self.rewind();
                self.rest();
                self.pause(wait).await;
                return;
            }
            self.pause(wait).await;
        }
    }

    async fn attempt(&mut self, body: &Body) -> Outcome {
        let target = self.route.target();
        // Also a credential that was just replaced is used at once.
        let credentials = self.shared.mount.current();
        self.tried = self.route.credentials(&credentials);
        let address = match Address::resolve(&target, &credentials, &self.indexer.channel) {
            Ok(address) => address,
            Err(error) => {
                return Outcome::Judged(Verdict::Hold {
                    cause: Cause::AuthenticationFailed,
                    reason: error.to_string(),
                });
            }
        };
        let waiting = self.is_waiting();
        let line = match self.line.take() {
            Some(line) if *line.address() == address => line,
            Some(_) if waiting => return Outcome::Changed,
            _ => match Line::new(address) {
                Ok(line) => {
                    if line.address().trusts_anybody() {
                        self.voice.insecure(&self.route, line.shown());
                    }
                    line
                }
                Err(error) => return Outcome::Judged(verdict_of_setup(error)),
            },
        };
        self.line.insert(line).send(body, waiting).await
    }

    /// The sink has taken a batch, though perhaps not for good.
    fn taken(&mut self, body: &Body) {
        self.splitting.delivered(body.records, body.size);
        if self.standing.takes() {
            self.window.convict();
            self.settle();
        }
    }

    /// The sink does all that can be asked of it.
    fn works(&mut self) {
        self.is(Health::Delivering);
        self.backoff.reset();
        self.indexer.late = false;
    }

    async fn wait_for(&mut self, ends: Ends, ticket: Ticket) {
        if let Ticket::Indexer { id, .. } = ticket
            && self.indexer.last.replace(id).is_some_and(|last| id <= last)
        {
            let reason = "the collector counts its acknowledgements anew";
            return self
                .start_over(Reason::Unconfirmed, reason.to_owned())
                .await;
        }
        if let Ticket::Written(mark) = &ticket
            && let Some((newest, Ticket::Written(before))) = self.window.newest_sent()
            && before.joins(mark)
        {
            newest.then(ends);
        } else {
            self.window.sent(ends, ticket);
        }
    }

    /// What became of a batch is known at once.
    fn deal_with(&mut self, ends: Ends, fate: Fate) {
        self.window.settled(ends, fate);
        self.settle();
    }

    /// Nothing can be read for want of a credential.
    async fn wait_for_key(&mut self, reason: String) {
        self.held = true;
        let credentials = self.shared.mount.current();
        self.tried = self.route.credentials(&credentials);
        self.is(Health::Failing(Reason::Misconfigured, reason));
        if self.route.ready(&credentials).is_ok() {
            // It has come in this moment.
            return;
        }
        let wait = self.backoff.next(None);
        self.pause(wait).await;
    }

    /// Whatever credential was missing is there.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.held) {
            self.backoff.reset();
            self.is(Health::Unknown);
        }
    }

    /// There was nothing to send in what was read.
    fn pass(&mut self, ends: Ends) {
        match self.window.newest() {
            Some(newest) => newest.then(ends),
            None => self.deal_with(ends, Fate::Taken),
        }
    }

    /// Moves the cursors as far as everything is settled; says whether they have moved.
    fn settle(&mut self) -> bool {
        let mut moved = false;
        while let Some((ends, fate)) = self.window.pop() {
            moved = true;
            self.voice.dropped(&self.route, &ends);
            if !matches!(fate, Fate::Refused { .. }) {
                self.voice.faulty(&self.route, &ends);
                self.voice.stale(&self.route, ends.stale());
            }
            match fate {
                Fate::Taken => self.route.delivered(&ends),
                Fate::Partly { rejected, reason } => {
                    self.route.delivered_in_part(&ends, rejected);
                    self.voice.refused(&self.route, &reason);
                }
                Fate::Refused { reason } => {
                    self.route.rejected(&ends);
                    self.voice.refused(&self.route, &reason);
                }
            }
        }
        if moved {
            self.shared.dirty.set(true);
        }
        moved
    }

    /// A record was refused alone.
    async fn reject(&mut self, ends: Ends, reason: String) {
        if self.standing.is_proven() {
            return self.deal_with(ends, Fate::Refused { reason });
        }
        // More likely the wrong address than the right one with a bad record; another record will show.
        self.standing.suspect(reason.clone(), Instant::now());
        self.window.suspected(ends, reason);
        if self.window.suspects() >= MOST_SUSPECTS {
            self.hold().await;
        }
    }

    /// The sink takes nothing at all, so nothing of what it refused is given up.
    async fn hold(&mut self) {
        let reason = format!("{} for everything that was sent", self.standing.suspicion());
        self.start_over(Reason::Misconfigured, reason).await;
    }

    /// Looks how far what waits has come.
    async fn look(&mut self) {
        if self.window.suspects() > 0 {
            return self.hold().await;
        }
        let Some(oldest) = self.window.tickets().next().copied() else {
            return;
        };
        let trouble = match oldest {
            Ticket::Written(_) => {
                self.look_at_wire();
                None
            }
            Ticket::Indexer { .. } => self.ask_indexer().await,
        };
        self.looked = Instant::now();
        if self.settle() {
            self.works();
            return;
        }
        let timeout = self
            .line
            .as_ref()
            .and_then(Line::acknowledging)
            .map(|asking| asking.timeout);
        if let (Ticket::Indexer { sent, .. }, Some(timeout)) = (oldest, timeout)
            && sent.elapsed() >= timeout
        {
            self.indexer.late = true;
            let reason = format!("no acknowledgement within {} s", timeout.as_secs_f32());
            self.start_over(Reason::Unconfirmed, reason).await;
        } else if let Some(trouble) = trouble {
            self.is(trouble);
        }
    }

    fn look_at_wire(&mut self) {
        let Some(wire) = self.line.as_ref().and_then(Line::wire) else {
            return;
        };
        let progress = wire.progress();
        self.window.confirm(|ticket| match ticket {
            Ticket::Written(mark) => progress.settles(mark),
            Ticket::Indexer { .. } => false,
        });
    }

    async fn ask_indexer(&mut self) -> Option<Health> {
        let number = |ticket: &Ticket| match ticket {
            Ticket::Indexer { id, .. } => Some(*id),
            Ticket::Written(_) => None,
        };
        let ids: Vec<u64> = self.window.tickets().filter_map(number).collect();
        match self.line.as_mut()?.ask(&ids).await {
            Ok(indexed) => {
                let is_indexed =
                    |ticket: &Ticket| number(ticket).is_some_and(|id| indexed.contains(&id));
                self.window.confirm(is_indexed);
                None
            }
            Err(Verdict::Hold { cause, reason }) => {
                if self.route.credentials(&self.shared.mount.current()) != self.tried {
                    // Another channel, too: what the old one had is sent again.
                    self.begin_again();
                }
                Some(Health::Failing(cause.into(), reason))
            }
            Err(Verdict::Retry { reason, .. }) => {
                Some(Health::Failing(Reason::Unreachable, reason))
            }
            Err(_) => None,
        }
    }

    /// Everything is read and something is not confirmed.
    async fn conclude(&mut self) {
        if let Some(wire) = self.line.as_mut().and_then(Line::take_wire) {
            match wire.close().await {
                Ok(()) => {
                    self.window.confirm(|_| true);
                    if self.settle() {
                        self.works();
                    }
                }
                Err(broken) => {
                    let reason = broken.to_string();
                    self.start_over(Reason::Unreachable, reason).await;
                }
            }
        } else if let Some(due) = self.due() {
            sleep_until(due).await;
            self.look().await;
        } else {
            let reason = "there is no connection any more".to_owned();
            self.start_over(Reason::Unreachable, reason).await;
        }
    }

    /// Sends everything again that is not confirmed, after a while.
    async fn start_over(&mut self, state: Reason, reason: String) {
        self.is(Health::Failing(state, reason));
        self.begin_again();
        let wait = self.backoff.next(None);
        if wait >= LONG {
            self.rest();
        }
        self.pause(wait).await;
    }

    async fn pause(&self, wait: Duration) {
        self.route.waits(Some((Instant::now() + wait, self.tried)));
        self.shared.pause(wait, &self.route, self.tried).await;
        self.route.waits(None);
    }

    /// Reads everything again that is not settled.
    fn begin_again(&mut self) {
        self.window.clear();
        self.feed.reset();
        self.splitting.forget_search();
        self.indexer = Indexer {
            late: self.indexer.late,
            ..Indexer::new(&self.shared.source.pod.uid, &self.route.key)
        };
        self.route.rewind();
    }

    /// Reads again what was read after the last that the sink has.
    fn rewind(&mut self) {
        self.feed.reset();
        self.route.rewind_to(self.window.ends());
    }

    /// Keeps nothing for a long wait that can be made again.
    fn rest(&mut self) {
        if self.is_waiting() {
            if let Some(line) = &mut self.line {
                line.disconnect();
            }
        } else {
            self.line = None;
        }
    }

    fn is(&mut self, health: Health) {
        let place = self.line.as_ref().map(|line| Place {
            address: line.shown(),
            proxy: line.proxy(),
        });
        self.voice.is(&self.route, place, health);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn broken(line: &mut Option<Line>) -> String {
    match line {
        Some(line) => line.broken().await.to_string(),
        None => std::future::pending().await,
    }
}

/// Shows a route the files that there are by now.
pub fn sync(route: &Route, shared: &Shared) {
    let losses = route.sync(&shared.source);
    if losses.records() > 0 {
        shared.dirty.set(true);
        Voice::lost(route, &losses);
    }
    if !losses.declined.is_empty() {
        shared.dirty.set(true);
        tell_declined(route, &losses.declined);
    }
}
