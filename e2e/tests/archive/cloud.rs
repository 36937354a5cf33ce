//! What holds for every vendor's store, whatever its protocol is: played by a receiver that is as strict as its documents.

use std::time::Duration;

use anyhow::{Context as _, Result};
use katonic_log_config::{ArchiveLayout, Store};
use katonic_logging_e2e::{
    eventually::eventually,
    receiver::{Authority, Fault, Protocol, Receiver, Times, objects::Bucket},
    simulated::{
        Load, Pod,
        policy::{self, CA_FILE},
    },
};
use serde_json::json;

use crate::{
    CONTAINER, LIMIT, assert_whole, bundle, counts, end, execution, launch, said, says, start,
};

/// Kills of the agent, each at a moment that nobody has chosen.
const KILLS: u32 = 25;

/// A store of a vendor with everything that an agent needs for it.
pub struct Cloud {
    pub receiver: Receiver,
    /// Its bucket.
    pub bucket: fn(&mut Protocol) -> Option<&mut Bucket>,
    /// How it is named in a policy, at an address.
    pub store: fn(&str) -> Result<Store>,
    /// Files of the mounted Secret.
    pub credentials: Vec<(&'static str, String)>,
    /// What must never be told.
    pub secret: String,
    /// Who has signed its certificate.
    pub authority: Authority,
}

impl Cloud {
    pub async fn start(
        protocol: Protocol,
        bucket: fn(&mut Protocol) -> Option<&mut Bucket>,
        store: fn(&str) -> Result<Store>,
    ) -> Result<Self> {
        let authority = Authority::new()?;
        let identity = authority.server("127.0.0.1".parse()?)?;
        let here = "127.0.0.1:0".parse()?;
        let receiver = Receiver::start_tls(here, protocol, &identity).await?;
        Ok(Self {
            receiver,
            bucket,
            store,
            credentials: Vec::new(),
            secret: String::new(),
            authority,
        })
    }

    pub fn with(mut self, file: &'static str, credential: String, secret: &str) -> Self {
        self.credentials = vec![(file, credential)];
        secret.clone_into(&mut self.secret);
        self
    }

    pub fn look<T>(&self, look: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let bucket = self.bucket;
        self.receiver
            .change_rules(|protocol| bucket(protocol).map(look))
    }

    pub fn pod(&self, max_bytes: u32, max_age_ms: u32) -> Result<Pod> {
        let mut pod = execution()?;
        self.mount(&mut pod, max_bytes, max_age_ms)?;
        Ok(pod)
    }

    pub fn mount(&self, pod: &mut Pod, max_bytes: u32, max_age_ms: u32) -> Result<()> {
        let url = self.receiver.url();
        let layout = ArchiveLayout::Executions;
        let sink = policy::archive_in((self.store)(&url)?, &url, layout, max_bytes, max_age_ms)?;
        let ca = self.authority.certificate_pem();
        let credentials = self.credentials.iter();
        let credentials = credentials.map(|(file, value)| (*file, value.as_str()));
        let files: Vec<(&str, &str)> = credentials.chain([(CA_FILE, ca.as_str())]).collect();
        pod.mount(&bundle(sink), &files)
    }

    /// Each line is there once, whatever was sent again was the same, and nobody was told a credential.
    pub fn assert_whole(&self, pod: &Pod, lines: usize) -> Result<()> {
        let archived = self.look(|bucket| bucket.archived());
        let archived = archived.context("no bucket")??;
        assert_whole(&archived, lines)?;
        let changed = self.look(|bucket| bucket.changed().to_vec());
        assert_eq!(changed, Some(Vec::new()));
        let said = said(pod)?;
        assert!(!said.contains(&self.secret), "{said}");
        Ok(())
    }
}

pub async fn load(pod: &Pod, lines: usize) -> Result<()> {
    let log = pod.container(CONTAINER, 400_000)?;
    let load = Load::start(log, lines, 20_000.try_into()?);
    load.finish().await.map(drop)
}

/// Kills at moments that nobody has chosen, rotations, and answers that get lost.
pub async fn is_killed_and_archives_each_line_once(cloud: Cloud) -> Result<()> {
    const LINES: usize = 15_000;
    let pod = cloud.pod(4_000_000, 50)?;
    let mut agent = launch(&pod, &[])?;
    let log = pod.container(CONTAINER, 400_000)?;
    let load = Load::start(log, LINES, 1_500.try_into()?);
    for kill in 0..KILLS {
        let life = Duration::from_millis(u64::from(kill.wrapping_mul(2_654_435_761) >> 20) % 800);
        tokio::time::sleep(life).await;
        if kill % 5 == 0 {
            let lost = Fault::TakeThenReset;
            cloud.receiver.misbehave(lost, Times::Exactly(1));
        }
        agent.kill()?;
        agent = launch(&pod, &[])?;
    }
    load.finish().await?;
    agent.kill()?;
    cloud.receiver.behave();
    end(start(&pod).await?, &pod).await?;
    cloud.assert_whole(&pod, LINES)?;
    // Kills came between objects and not before the only one; how many there are goes by how fast the machine is.
    let objects = cloud.look(|bucket| bucket.objects().len());
    assert!(objects >= Some(10), "{objects:?} objects");
    Ok(())
}

/// What vendors answer when they are busy, and connections that end in the middle.
pub async fn is_refused_for_a_while_and_archives_each_line_once(cloud: Cloud) -> Result<()> {
    const LINES: usize = 4_000;
    let pod = cloud.pod(100_000, 50)?;
    let agent = start(&pod).await?;
    for fault in [
        Fault::status(503),
        Fault::TakeThenReset,
        Fault::ResetDuring(1_000),
        Fault::status(429),
        Fault::Reset,
        Fault::TakeThenReset,
        Fault::status(500),
        Fault::status(408),
    ] {
        cloud.receiver.misbehave(fault, Times::Exactly(1));
    }
    load(&pod, LINES).await?;
    let message = end(agent, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    cloud.assert_whole(&pod, LINES)
}

/// What is wrong is told with these words, waited for, and made up for once it is mended.
pub async fn waits_until_it_is_mended(
    mut cloud: Cloud,
    spoil: impl FnOnce(&Cloud),
    says_so: &str,
    mend: impl FnOnce(&mut Cloud),
) -> Result<()> {
    const LINES: usize = 2_000;
    spoil(&cloud);
    let mut pod = cloud.pod(1_000_000, 100)?;
    let agent = start(&pod).await?;
    load(&pod, LINES).await?;
    says(&pod, says_so).await?;
    mend(&mut cloud);
    cloud.mount(&mut pod, 1_000_000, 100)?;
    eventually("an object is there", LIMIT, async || {
        let objects = cloud.look(|bucket| bucket.objects().len());
        Ok((objects > Some(0)).then_some(()))
    })
    .await?;
    end(agent, &pod).await?;
    cloud.assert_whole(&pod, LINES)
}

/// An agent that has forgotten everything sends the same object and the same completeness record again.
pub async fn is_sent_everything_again(cloud: Cloud, may_replace: bool) -> Result<()> {
    const LINES: usize = 500;
    let pod = cloud.pod(1_000_000, 50)?;
    load(&pod, LINES).await?;
    end(start(&pod).await?, &pod).await?;
    cloud.assert_whole(&pod, LINES)?;
    let state = pod.state_dir();
    std::fs::remove_dir_all(&state)?;
    std::fs::create_dir_all(&state)?;
    let message = end(start(&pod).await?, &pod).await?;
    assert_eq!(
        counts(&message),
        json!({"delivered": LINES, "lost": 0, "dropped": 0})
    );
    cloud.assert_whole(&pod, LINES)?;
    let told = said(&pod)?.contains("a completeness record is in the store already");
    assert_eq!(told, !may_replace, "{}", said(&pod)?);
    Ok(())
}
