//! Everything at once: three sinks of which one is healthy, and does not notice.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use katonic_log_config::Bundle;
use katonic_logging_e2e::{
    cluster::{Tier, inside::Network},
    eventually::eventually,
    program,
    receiver::{
        Authority, Fault, NameServer, Protocol, Received, Receiver, RetryAfter, Times, Wire, json,
        name_server::Saying,
        splunk::{Rules, Token},
    },
    simulated::{
        Agent, Load, Pod, Surroundings,
        load::percentile,
        policy::{self, CA_FILE, TOKEN_FILE},
    },
};
use tokio::task::spawn_blocking;

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, TOKEN, UNDISTURBED, assert_accounted, assert_all_came,
    collector, impatient, loopback, pod, said, says, some,
};

const LINES_PER_SECOND: u32 = 500;
const NEW_TOKEN: &str = "a1f0c2d4-7a53-4d0b-9f3c-0e6d5c4b3a29";

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where the ill sink is looked up.
const NAME: &str = "ill.example.com";

/// What a full disk answers, as the agent tells it.
const NO_ROOM: &str = "No space left on device";

/// What the ill sink does, one after the other. What is not answered it does not answer for as long as it is given.
fn faults() -> [Fault; 13] {
    let soon = SystemTime::now() + Duration::from_secs(2);
    [
        Fault::status(503),
        Fault::status(429),
        Fault::retry_after(503, RetryAfter::Seconds(1)),
        Fault::retry_after(429, RetryAfter::At(soon)),
        Fault::Reset,
        Fault::ResetDuring(300),
        Fault::ResetAfter,
        Fault::TakeThenReset,
        Fault::Late(Duration::from_millis(500)),
        Fault::Slow(Duration::from_millis(2)),
        Fault::Stall,
        Fault::HalfOpen,
        Fault::status(500),
    ]
}

/// A pod with three sinks, and an agent that comes and goes.
struct Scene {
    healthy: Receiver,
    ill: Receiver,
    away: Receiver,
    authority: Authority,
    names: NameServer,
    wire: Wire,
    surroundings: Surroundings,
    pod: Pod,
    bundle: Bundle,
}

impl Scene {
    async fn begin() -> Result<Self> {
        let authority = Authority::new()?;
        let healthy = collector().await?;
        let rules = Protocol::Splunk(Rules::with_token(TOKEN));
        let identity = authority.server_named(&[NAME])?;
        let ill = Receiver::start_tls(loopback(), rules, &identity).await?;
        let wire = Wire::to(ill.address()).await?;
        let away = Receiver::start(loopback(), Protocol::Json(json::Rules::at("/in"))).await?;
        let names = NameServer::start((HERE, 53).into(), NAME, Saying::Address(HERE)).await?;
        let mut surroundings = Surroundings::new()?;
        surroundings.ask(IpAddr::V4(HERE))?;
        let ill_url = format!("https://{NAME}:{}", wire.address().port());
        let bundle = policy::bundle(vec![
            policy::json_lines("away", &format!("{}/in", away.url()))?,
            impatient(policy::splunk("ill", &ill_url)?)?,
            policy::splunk("healthy", &healthy.url())?,
        ]);
        let mut scene = Self {
            healthy,
            ill,
            away,
            authority,
            names,
            wire,
            surroundings,
            pod: pod()?,
            bundle,
        };
        scene.mount(TOKEN)?;
        Ok(scene)
    }

    fn mount(&mut self, token: &str) -> Result<()> {
        let ca = self.authority.certificate_pem();
        let credentials = [(TOKEN_FILE, token), (CA_FILE, ca.as_str())];
        self.pod.mount(&self.bundle, &credentials)
    }

    /// An agent that does not wait for the two others for long when it is to end.
    fn start(&self) -> Result<Agent> {
        let program = program::build("katonic-log-agent", "katonic-log-agent")?;
        let arguments = ["--flush-ms", "50", "--drain-seconds", "2"];
        Agent::start_in(&self.surroundings, &program, &self.pod, &arguments)
    }

    /// Something went wrong with the ill sink, and it is asked again.
    async fn until_asked_again(&self, before: usize) -> Result<()> {
        let more = move |received: &Received| received.requests > before + 1;
        self.ill.until("another request", LIMIT, more).await
    }

    fn requests(&self) -> usize {
        self.ill.inspect(|received| received.requests)
    }

    /// The next save of the cursors finds no room, which is told, and the one after it does.
    async fn fill_disk(&self) -> Result<()> {
        let state = self.pod.state_dir();
        let told = said(&self.pod)?.matches(NO_ROOM).count();
        eventually("the disk is full", LIMIT, async || {
            // It is there while cursors are being written.
            symlink("/dev/full", state.join("cursors.new"))
                .map(Some)
                .context("failed to fill the disk")
        })
        .await?;
        says(&self.pod, NO_ROOM, told + 1).await?;
        let failed = SystemTime::now();
        eventually("the cursors are saved again", LIMIT, async || {
            let saved = fs::metadata(state.join("cursors"))?.modified()?;
            Ok((saved > failed).then_some(()))
        })
        .await
    }

    /// The token is taken no more until the Secret has another one. The healthy sink takes both.
    async fn replace_token(&mut self) -> Result<()> {
        self.healthy.change_rules(|protocol| {
            if let Protocol::Splunk(rules) = protocol {
                rules.tokens.insert(NEW_TOKEN.to_owned(), Token::default());
            }
        });
        self.ill.change_rules(|protocol| {
            if let Protocol::Splunk(rules) = protocol {
                rules.tokens = [(NEW_TOKEN.to_owned(), Token::default())].into();
            }
        });
        let refused = |received: &Received| received.answers(403) >= 2;
        self.ill.until("refusals", LIMIT, refused).await?;
        let before = self.requests();
        self.mount(NEW_TOKEN)?;
        self.until_asked_again(before).await
    }

    /// The certificate has expired, and is renewed.
    async fn replace_certificate(&self) -> Result<()> {
        self.ill.show(&self.authority.expired_server(HERE.into())?);
        self.wire.cut();
        says(&self.pod, "certificate expired", 1).await?;
        self.ill.show(&self.authority.server_named(&[NAME])?);
        Ok(())
    }

    /// Nobody can say where the ill sink is.
    async fn lose_name(&self) -> Result<()> {
        for saying in [Saying::Failure, Saying::NoSuchName] {
            self.names.say(saying);
            self.wire.cut();
            self.names.until_asked(2, LIMIT).await?;
        }
        self.names.say(Saying::Address(HERE));
        Ok(())
    }

    /// The healthy sink gets lines of an agent that has just begun.
    async fn until_healthy(&self) -> Result<()> {
        let before = self.healthy.inspect(|received| received.records.len());
        let more = move |received: &Received| received.records.len() > before;
        self.healthy.until("lines again", LIMIT, more).await
    }
}

/// One sink is healthy; one gets every fault that there is, one after the other, and is where nobody knows at times; one is
/// away from early on, and back when all is over. Meanwhile files are rotated, tokens and certificates replaced, the
/// disk for cursors is full at times, and the agent is ended, and killed.
#[tokio::test]
async fn with_three_sinks_of_which_one_is_healthy_no_line_is_missing_at_any() -> Result<()> {
    if !Tier::Node.available_or_skip()? {
        return Ok(());
    }
    // There port 53 is free.
    let network = spawn_blocking(Network::own).await??;
    network.handle()?.spawn(all_at_once()).await?
}

async fn all_at_once() -> Result<()> {
    let mut scene = Scene::begin().await?;
    let mut agent = scene.start()?;
    let log = scene.pod.container(CONTAINER, ROTATE_AT)?;
    let load = Load::start(log, ENDLESS, LINES_PER_SECOND.try_into()?);
    for receiver in [&scene.healthy, &scene.ill, &scene.away] {
        receiver.until("the first lines", LIMIT, some(500)).await?;
    }
    scene.away.close_port().await;
    scene.fill_disk().await?;
    for (number, fault) in faults().into_iter().enumerate() {
        let before = scene.requests();
        scene.ill.misbehave(fault.clone(), Times::Exactly(1));
        match number {
            // In the middle of what the fault brings about.
            3 => {
                agent.kill()?;
                agent = scene.start()?;
                scene.until_healthy().await?;
            }
            6 => {
                assert!(agent.terminate(LIMIT).await?.success());
                agent = scene.start()?;
                scene.until_healthy().await?;
            }
            _ => {}
        }
        let again = scene.until_asked_again(before).await;
        again.with_context(|| format!("{fault:?}"))?;
    }
    scene.wire.cut();
    scene.replace_token().await?;
    scene.lose_name().await?;
    scene.fill_disk().await?;
    scene.replace_certificate().await?;
    scene.wire.block();
    let printed = load.stop().await?;
    scene.wire.restore();
    scene.ill.close_port().await;
    scene.ill.open_port().await?;
    scene.away.open_port().await?;
    let lines = printed.at.len();
    let receivers = [&scene.healthy, &scene.ill, &scene.away];
    for (receiver, name) in receivers.iter().zip(["healthy", "ill", "away"]) {
        let every = receiver.until(name, LIMIT, some(lines)).await;
        every.with_context(|| said(&scene.pod).unwrap_or_default())?;
    }
    assert!(
        agent.terminate(LIMIT).await?.success(),
        "{}",
        said(&scene.pod)?
    );
    let all = receivers.len() * lines;
    assert_eq!(assert_accounted(&scene.pod, all)?, u64::try_from(all)?);
    for receiver in receivers {
        receiver.inspect(|received| assert_all_came(&received.records, lines));
    }
    let p99 = percentile(&printed.latencies(&scene.healthy.received()), 99);
    assert!(p99 < UNDISTURBED, "{p99:?}");
    Ok(())
}
