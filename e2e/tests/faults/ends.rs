//! Ends of the agent at fifty random moments under load: a container prints, and lines are on their way.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use katonic_log_config::{Acknowledgement, JsonFormat, SyslogTransport, Target};
use katonic_logging_e2e::{
    receiver::{
        Authority, Protocol, Received, Receiver, Rsyslog, Tally, json, loggly, new_relic, rsyslog,
        splunk::{Indexing, Rules, Token},
        tally::sequence_number,
    },
    simulated::{
        Agent, ContainerLog, Load, Moments, Pod,
        load::Printed,
        policy::{self, LICENSE_KEY_FILE, LOGGLY_TOKEN_FILE, TOKEN_FILE},
    },
};
use tokio::time::sleep;

use super::{
    CONTAINER, ENDLESS, LIMIT, TOKEN, assert_accounted, assert_all_came, counted, loopback,
    mounted, said, says, some, start,
};

/// Ends of the agent of each pod: fifty in all, of one pod for each protocol.
const ENDS: usize = 10;

const LINES_PER_SECOND: u32 = 1_000;

/// The live log is rotated every second or two.
const ROTATE_AT: u64 = 150_000;

/// Longest life of an agent: it starts, reads, sends and saves in it.
const LONGEST: Duration = Duration::from_millis(600);

/// Finer than the time between two moments at which a container prints.
const LOOK: Duration = Duration::from_millis(1);

/// What the lines are sent to.
#[derive(Clone, Copy, Debug)]
enum Way {
    Splunk,
    Acknowledging,
    Json,
    Loggly,
    NewRelic,
}

const WAYS: [Way; 5] = [
    Way::Splunk,
    Way::Acknowledging,
    Way::Json,
    Way::Loggly,
    Way::NewRelic,
];

impl Way {
    fn protocol(self) -> Protocol {
        match self {
            Self::Splunk => Protocol::Splunk(Rules::with_token(TOKEN)),
            Self::Acknowledging => {
                let mut rules = Rules::with_token(TOKEN);
                let token = Token::acknowledging(Indexing::AfterPolls(1));
                rules.tokens.insert(TOKEN.to_owned(), token);
                Protocol::Splunk(rules)
            }
            Self::Json => Protocol::Json(json::Rules::at("/")),
            Self::Loggly => Protocol::Loggly(loggly::Rules::with_token(TOKEN)),
            Self::NewRelic => Protocol::NewRelic(new_relic::Rules::with_license_key(TOKEN)),
        }
    }

    fn pod(self, url: &str) -> Result<Pod> {
        let (sink, credential) = match self {
            Self::Splunk => (policy::splunk("splunk", url)?, TOKEN_FILE),
            Self::Acknowledging => {
                let mut sink = policy::splunk("splunk", url)?;
                let Target::Splunk(splunk) = &mut sink.target else {
                    bail!("another sink")
                };
                splunk.acknowledgement = Some(Acknowledgement {
                    poll_ms: 50.try_into()?,
                    timeout_ms: 60_000.try_into()?,
                });
                (sink, TOKEN_FILE)
            }
            Self::Json => (policy::http("http", url, JsonFormat::Lines)?, TOKEN_FILE),
            Self::Loggly => (policy::loggly("loggly", url, &[])?, LOGGLY_TOKEN_FILE),
            Self::NewRelic => (policy::new_relic("new-relic", url)?, LICENSE_KEY_FILE),
        };
        mounted(vec![sink], &[(credential, TOKEN)])
    }
}

/// Who takes the lines.
enum Server {
    Played(Receiver),
    Rsyslog(Box<Rsyslog>),
}

impl Server {
    fn inspect<T>(&self, look: impl FnOnce(&Received) -> T) -> Result<T> {
        match self {
            Self::Played(receiver) => Ok(receiver.inspect(look)),
            Self::Rsyslog(rsyslog) => rsyslog.inspect(look),
        }
    }

    async fn until(&self, what: &str, condition: impl FnMut(&Received) -> bool) -> Result<()> {
        match self {
            Self::Played(receiver) => receiver.until(what, LIMIT, condition).await,
            Self::Rsyslog(rsyslog) => rsyslog.until(what, LIMIT, condition).await,
        }
    }
}

/// A pod whose agent ends again and again.
struct Scene {
    server: Server,
    pod: Pod,
    /// Lines that were printed by containers that have ended.
    printed: usize,
    came: Came,
}

/// Which lines came, as far as was looked.
#[derive(Default)]
struct Came {
    seen: usize,
    numbers: BTreeSet<usize>,
}

impl Came {
    fn look(&mut self, server: &Server) -> Result<usize> {
        server.inspect(|received| {
            let new = &received.records[self.seen..];
            let numbers = new
                .iter()
                .filter_map(|record| sequence_number(&record.line));
            self.numbers.extend(numbers.map(|(number, _)| number));
            self.seen = received.records.len();
        })?;
        Ok(self.numbers.len())
    }
}

impl Scene {
    async fn begin(way: Way) -> Result<Self> {
        let receiver = Receiver::start(loopback(), way.protocol()).await?;
        Ok(Self::of(
            way.pod(&receiver.url())?,
            Server::Played(receiver),
        ))
    }

    async fn begin_or_skip_syslog() -> Result<Option<Self>> {
        let settings = rsyslog::Settings::with_clients_of(&Authority::new()?)?;
        let Some(rsyslog) = Rsyslog::start_or_skip(settings).await? else {
            return Ok(None);
        };
        let sink = policy::syslog("syslog", rsyslog.tcp(), SyslogTransport::Tcp)?;
        let pod = mounted(vec![sink], &[])?;
        Ok(Some(Self::of(pod, Server::Rsyslog(Box::new(rsyslog)))))
    }

    fn of(pod: Pod, server: Server) -> Self {
        Self {
            server,
            pod,
            printed: 0,
            came: Came::default(),
        }
    }

    fn log(&self) -> Result<ContainerLog> {
        // How long agents take to start is the machine's affair: nothing may be deleted meanwhile.
        let log = self.pod.container(CONTAINER, ROTATE_AT)?;
        Ok(log.keeping_all())
    }

    fn print(&self, log: ContainerLog) -> Result<Load> {
        let rate = LINES_PER_SECOND.try_into()?;
        Ok(Load::go_on(log, self.printed, ENDLESS, rate))
    }

    /// A moment, or the first after it at which lines are on their way.
    async fn under_load(&mut self, load: &Load, moment: Duration) -> Result<()> {
        sleep(moment).await;
        let begun = Instant::now();
        while self.came.look(&self.server)? >= self.printed + load.printed() {
            ensure!(begun.elapsed() < LIMIT, "nothing is on its way any more");
            sleep(LOOK).await;
        }
        ensure!(load.is_printing(), "the container has ended before");
        Ok(())
    }

    /// The signal, and then, within milliseconds, the end of the container. What was printed before the signal is delivered
    /// when the agent has ended; says whether what was printed after it is, too.
    async fn terminate(&mut self, agent: Agent, load: Load) -> Result<(ContainerLog, bool)> {
        let signalled = Instant::now();
        // The first of them has sent the signal when the second begins.
        let (status, stopped) = tokio::join!(agent.terminate(LIMIT), load.stop());
        let (status, Printed { log, at }) = (status?, stopped?);
        let after = at.last().context("nothing was printed")?;
        ensure!(*after >= signalled, "it printed nothing after the signal");
        let said = said(&self.pod)?;
        assert!(status.success(), "{status}: {said}");
        // The last one may only be about to be written.
        let before = at.iter().filter(|at| **at < signalled).count();
        let least = self.printed + before.saturating_sub(1);
        if let Server::Rsyslog(_) = &self.server {
            // It has them in a queue of its own.
            let delivered = usize::try_from(counted(&self.pod, "delivered")?)?;
            self.server.until("what it took", some(delivered)).await?;
        }
        let came = self.came.look(&self.server)?;
        let missing = (1..=least).find(|number| !self.came.numbers.contains(number));
        assert_eq!(missing, None, "of {least} lines: {said}");
        let delivered = assert_accounted(&self.pod, came)?;
        assert_eq!(delivered, u64::try_from(came)?, "{said}");
        self.printed += at.len();
        Ok((log, came == self.printed))
    }

    /// The container has ended for good, and everything that it has printed came.
    async fn end(&self) -> Result<Tally> {
        let started = said(&self.pod)?.matches("\"started\"").count();
        let agent = start(&self.pod)?;
        says(&self.pod, "\"started\"", started + 1).await?;
        let printed = self.printed;
        let every = self.server.until("every line", some(printed)).await;
        every.with_context(|| said(&self.pod).unwrap_or_default())?;
        assert!(agent.terminate(LIMIT).await?.success());
        // Cursors and counts are saved together, so what is sent again is counted once.
        let delivered = assert_accounted(&self.pod, printed)?;
        assert_eq!(delivered, u64::try_from(printed)?);
        let records = |received: &Received| assert_all_came(&received.records, printed);
        self.server.inspect(records)
    }
}

async fn terminate_again_and_again(mut scene: Scene, mut moments: Moments) -> Result<()> {
    let mut log = scene.log()?;
    let mut whole = 0;
    for end in 1..=ENDS {
        let agent = start(&scene.pod)?;
        let load = scene.print(log)?;
        // Before that it has no handler for the signal.
        says(&scene.pod, "\"started\"", end).await?;
        scene.under_load(&load, moments.next(LONGEST)).await?;
        let ended = scene.terminate(agent, load).await;
        let (next, is_whole) = ended.with_context(|| format!("end {end}"))?;
        whole += usize::from(is_whole);
        log = next;
    }
    assert!(log.rotations()? > 0, "the log was never rotated");
    let tally = scene.end().await?;
    assert_eq!(tally.duplicates, 0, "cursors are saved at the end");
    // On a busy machine a container's last line can be so late that no agent waits for it.
    assert!(whole > ENDS / 2, "{whole} of {ENDS} ends");
    Ok(())
}

#[tokio::test]
async fn ended_at_fifty_random_moments_it_has_delivered_all_that_was_written_before() -> Result<()>
{
    let mut moments = Moments::of_any_seed()?;
    let pods = WAYS.map(|way| {
        let moments = moments.split();
        async move {
            let ended = terminate_again_and_again(Scene::begin(way).await?, moments).await;
            ended.with_context(|| format!("{way:?}"))
        }
    });
    try_join_all(pods).await.map(drop)
}

#[tokio::test]
async fn ended_at_random_moments_it_has_delivered_to_syslog_all_that_was_written_before()
-> Result<()> {
    let Some(scene) = Scene::begin_or_skip_syslog().await? else {
        return Ok(());
    };
    terminate_again_and_again(scene, Moments::of_any_seed()?).await
}

/// Every other time at any moment of its life, and in between after it has delivered something.
async fn kill_again_and_again(mut scene: Scene, mut moments: Moments) -> Result<()> {
    let load = scene.print(scene.log()?)?;
    for end in 1..=ENDS {
        let before = scene.server.inspect(|received| received.records.len())?;
        let agent = start(&scene.pod)?;
        if end % 2 == 0 {
            let more = move |received: &Received| received.records.len() > before;
            scene.server.until("its lines", more).await?;
        }
        scene.under_load(&load, moments.next(LONGEST)).await?;
        agent.kill()?;
    }
    let Printed { log, at } = load.stop().await?;
    assert!(log.rotations()? > 0, "the log was never rotated");
    scene.printed = at.len();
    scene.end().await.map(drop)
}

#[tokio::test]
async fn killed_at_fifty_random_moments_it_loses_nothing_and_repeats_only_what_is_told_by_id()
-> Result<()> {
    let mut moments = Moments::of_any_seed()?;
    let pods = WAYS.map(|way| {
        let moments = moments.split();
        async move {
            let ended = kill_again_and_again(Scene::begin(way).await?, moments).await;
            ended.with_context(|| format!("{way:?}"))
        }
    });
    try_join_all(pods).await.map(drop)
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_nothing_to_syslog() -> Result<()> {
    let Some(scene) = Scene::begin_or_skip_syslog().await? else {
        return Ok(());
    };
    kill_again_and_again(scene, Moments::of_any_seed()?).await
}
