//! The archive against stores that behave as a test says: what is sent again is the same, and what stands in the way is
//! told. Against a real store it is tested by `e2e/tests/archive`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Error, Read, Result},
    os::unix::fs::symlink,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use flate2::read::GzDecoder;
use katonic_log_config::{
    AccessKey, ArchiveLayout, Azure, AzureCredential, Connection, Endpoint, Filter, KeyPrefix,
    ObjectStorage, Pattern, Policy, S3, Store, Target,
};
use serde_json::{Value, json};

use crate::{
    pod::{Pod, key, policy},
    server::{Reply, Request, Server},
    witness::{Witness, numbered},
};

const SECRET: &str = "hunter2-hunter2-hunter2";

/// What a store has, by path; and every attempt to put something there.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<String, Vec<u8>>,
    attempts: Vec<Attempt>,
}

/// Path and body of a PUT.
type Attempt = (String, Vec<u8>);

impl Kept {
    fn attempt(&self, request: &Request) -> String {
        let path = request
            .line
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.attempts.push((path.clone(), request.body.clone()));
        path
    }

    /// As S3 does: what is there stays, if the request says so.
    fn take(&self, request: &Request) -> Reply {
        let path = self.attempt(request);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if request.header("if-none-match") == "*" && kept.objects.contains_key(&path) {
            return refused(412, "PreconditionFailed");
        }
        kept.objects.insert(path, request.body.clone());
        Reply::AcceptAs(200, Vec::new(), Vec::new())
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = kept.objects.iter().filter(|(path, _)| is_object(path));
        objects
            .map(|(path, body)| (path.clone(), body.clone()))
            .collect()
    }

    fn attempts(&self) -> Vec<Attempt> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = kept.attempts.iter().filter(|(path, _)| is_object(path));
        objects.cloned().collect()
    }

    /// The completeness records.
    fn records(&self) -> Result<Vec<Value>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = kept.objects.iter().filter(|(path, _)| !is_object(path));
        records
            .map(|(_, body)| Ok(serde_json::from_slice(body)?))
            .collect()
    }

    /// The lines of all objects in the order of their names.
    fn lines(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for body in self.objects().values() {
            let mut text = String::new();
            GzDecoder::new(&body[..]).read_to_string(&mut text)?;
            for line in text.lines() {
                let record: Value = serde_json::from_str(line)?;
                lines.push(record["message"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(lines)
    }
}

/// And no completeness record.
fn is_object(path: &str) -> bool {
    !path.contains("-complete")
}

fn refused(status: u16, code: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><AWSAccessKeyId>{SECRET}</AWSAccessKeyId></Error>"
    );
    Reply::Refuse(status, "", body)
}

fn archive(url: &str) -> Result<Policy> {
    let s3 = S3 {
        endpoint: Endpoint::try_from(url.to_owned()).map_err(Error::other)?,
        region: "us-east-1".to_owned().try_into().map_err(Error::other)?,
        bucket: "logs".to_owned().try_into().map_err(Error::other)?,
        prefix: KeyPrefix::default(),
        access_key: Some(AccessKey {
            id: key("id")?,
            secret: key("secret")?,
        }),
        object_lock: None,
    };
    archive_in(Store::S3(s3))
}

fn archive_in(store: Store) -> Result<Policy> {
    let number = |number: u32| number.try_into().map_err(Error::other);
    Ok(policy(
        "p",
        Target::ObjectStorage(ObjectStorage {
            store,
            layout: ArchiveLayout::Application,
            max_bytes: number(1_000_000)?,
            max_age_ms: number(50)?,
            connection: Connection::default(),
        }),
    ))
}

fn pod(server: &Server) -> Result<Pod> {
    let mut pod = Pod::new()?;
    pod.set("id", Some(b"AKIA"))?;
    pod.set("secret", Some(SECRET.as_bytes()))?;
    pod.set_policies(vec![archive(&server.url())?])?;
    Ok(pod)
}

fn all(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(numbered).collect()
}

fn assert_no_secret(witness: &Witness) {
    let said = format!("{:?}", witness.seen().said);
    assert!(!said.contains(SECRET), "{said}");
}

/// The answer to an object is lost, the agent killed, the policy changed and the log file compressed and deleted before
/// the store answers again: what it is sent is what it was sent.
#[test]
fn an_object_is_sent_again_as_it_was_whatever_has_changed() -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let is_up = Arc::new(AtomicBool::new(false));
    let (seen, store) = (Arc::clone(&is_up), kept.clone());
    let server = Server::start(&witness, move |request| {
        if seen.load(Ordering::SeqCst) {
            return store.take(request);
        }
        // It has the object and says that it has not.
        let _ = store.take(request);
        refused(500, "InternalError")
    })?;
    let mut pod = pod(&server)?;
    pod.write("web", "0.log", 1..=500)?;
    let agent = pod.start(&witness)?;
    witness.wait("an attempt", |_| !kept.attempts().is_empty());
    agent.kill()?;
    pod.rotate("web", "20261123-100000", 501..=600)?;
    pod.compress("web", "0.log.20261123-100000", true)?;
    let mut changed = archive(&server.url())?;
    let everything = Pattern::try_from("^line 0000".to_owned()).map_err(Error::other)?;
    changed.filters = vec![Filter::Drop(everything)];
    pod.set_policies(vec![changed])?;
    let agent = pod.start(&witness)?;
    witness.wait("another attempt", |_| kept.attempts().len() >= 2);
    is_up.store(true, Ordering::SeqCst);
    witness.wait("the rest", |_| kept.objects().len() >= 2);
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let attempts = kept.attempts();
    let first: Vec<_> = attempts
        .iter()
        .filter(|(path, _)| *path == attempts[0].0)
        .collect();
    assert!(first.len() >= 2 && first.iter().all(|one| **one == attempts[0]));
    assert_eq!(kept.lines()?, all(1..=600));
    assert_eq!(
        (&message["delivered"], &message["lost"]),
        (&json!(600), &json!(0))
    );
    assert_no_secret(&witness);
    Ok(())
}

/// What a store says whose clock is two hours ahead, and that hour of the day.
fn ahead() -> (&'static str, u32) {
    let ahead = SystemTime::now() + Duration::from_hours(2);
    let date = format!("Date: {}\r\n", httpdate::fmt_http_date(ahead));
    let date: &'static str = Box::leak(date.into_boxed_str());
    (date, hour(date).unwrap_or_default())
}

/// The hour in `Date: Sun, 06 Nov 1994 08:49:37 GMT`.
fn hour(date: &str) -> Option<u32> {
    date.split(' ').nth(5)?.get(..2)?.parse().ok()
}

/// Sends ten lines to a store that takes only what says that it is this hour, or the next, which may just have begun.
fn assert_that_the_time_is_learnt(
    archive: impl Fn(&str) -> Result<Policy>,
    refuse: &'static str,
    said: fn(&Request) -> Option<u32>,
) -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let store = kept.clone();
    let (date, now) = ahead();
    let server = Server::start(&witness, move |request| {
        if said(request).is_some_and(|hour| hour == now || hour == (now + 1) % 24) {
            return store.take(request);
        }
        Reply::Refuse(403, date, format!("<Error><Code>{refuse}</Code></Error>"))
    })?;
    let mut pod = pod(&server)?;
    pod.set_policies(vec![archive(&server.url())?])?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait("the object", |_| kept.objects().len() == 1);
    let told = |line: &Value| {
        let reason = line["reason"].as_str().unwrap_or_default();
        reason.starts_with("the node's clock differs from the store's by ")
            && reason.ends_with("set the node's clock")
    };
    witness.wait("the warning", |seen| seen.said.iter().any(told));
    agent.terminate()?;
    assert_eq!(kept.lines()?, all(1..=10));
    Ok(())
}

/// The node's clock is two hours behind, and the store says so.
#[test]
fn a_clock_that_is_wrong_is_made_up_for_by_the_stores_and_told() -> Result<()> {
    // 20261126T101500Z
    let said = |request: &Request| request.header("x-amz-date").get(9..11)?.parse().ok();
    assert_that_the_time_is_learnt(archive, "RequestTimeTooSkewed", said)
}

/// Azure does not say that it is the time that it does not like.
#[test]
fn a_clock_that_is_wrong_is_found_out_where_the_store_does_not_say_so() -> Result<()> {
    let azure = |url: &str| {
        archive_in(Store::Azure(Azure {
            endpoint: Endpoint::try_from(url.to_owned()).map_err(Error::other)?,
            account: "logs".to_owned().try_into().map_err(Error::other)?,
            container: "logs".to_owned().try_into().map_err(Error::other)?,
            prefix: KeyPrefix::default(),
            credential: Some(AzureCredential::SharedKey(key("id")?)),
        }))
    };
    let said = |request: &Request| hour(&format!("Date: {}", request.header("x-ms-date")));
    assert_that_the_time_is_learnt(azure, "AuthenticationFailed", said)
}

#[test]
fn a_store_without_conditions_is_sent_objects_without_them() -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let store = kept.clone();
    let server = Server::start(&witness, move |request| {
        if request.header("if-none-match").is_empty() {
            store.take(request)
        } else {
            refused(501, "NotImplemented")
        }
    })?;
    let pod = pod(&server)?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait("the object", |_| kept.objects().len() == 1);
    pod.write("web", "0.log", 11..=20)?;
    witness.wait("the next object", |_| kept.objects().len() == 2);
    agent.terminate()?;
    assert_eq!(kept.lines()?, all(1..=20));
    Ok(())
}

/// `/dev/full` refuses every byte, as a full disk does.
#[test]
fn a_disk_on_which_nothing_can_be_written_down_holds_objects_until_the_pod_ends() -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let store = kept.clone();
    let server = Server::start(&witness, move |request| store.take(request))?;
    let pod = pod(&server)?;
    fs::remove_dir(pod.path("state"))?;
    fs::write(pod.path("state"), "")?;
    pod.write("web", "0.log", 1..=10)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Backlogged")]);
    assert!(kept.objects().is_empty());
    let (code, message) = agent.terminate()?;
    assert_eq!((code, &message["delivered"]), (Some(0), &json!(10)));
    assert_eq!(kept.lines()?, all(1..=10));
    Ok(())
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing_but_time() -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let store = kept.clone();
    let server = Server::start(&witness, move |request| store.take(request))?;
    let pod = pod(&server)?;
    let directory = pod.path("state").join("archive");
    fs::create_dir(&directory)?;
    let digest = katonic_log_config::bundle::hex_digest(b"uid-of-p/sink");
    let temporary = directory.join(format!("{digest}.new"));
    symlink("/dev/full", &temporary)?;
    pod.write("web", "0.log", 1..=500)?;
    let agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Backlogged")]);
    fs::remove_file(&temporary)?;
    witness.wait("the object", |_| !kept.objects().is_empty());
    agent.terminate()?;
    assert_eq!(kept.lines()?, all(1..=500));
    Ok(())
}

/// What goes while nobody wants it is not archived, and the record does not say that it is.
#[test]
fn what_was_deleted_while_its_policy_was_suspended_is_missing_in_the_record() -> Result<()> {
    let witness = Witness::default();
    let kept = Kept::default();
    let is_up = Arc::new(AtomicBool::new(true));
    let (seen, store) = (Arc::clone(&is_up), kept.clone());
    let server = Server::start(&witness, move |request| {
        if seen.load(Ordering::SeqCst) {
            return store.take(request);
        }
        let _ = store.attempt(request);
        refused(503, "SlowDown")
    })?;
    let mut executions = archive(&server.url())?;
    if let Target::ObjectStorage(archive) = &mut executions.sinks[0].target {
        archive.layout = ArchiveLayout::Executions;
    }
    let mut pod = pod(&server)?;
    pod.set_policies(vec![executions.clone()])?;
    pod.write("web", "0.log", 1..=50)?;
    let agent = pod.start(&witness)?;
    witness.wait("the first object", |_| !kept.objects().is_empty());
    is_up.store(false, Ordering::SeqCst);
    let attempts = kept.attempts().len();
    pod.write("web", "0.log", 51..=100)?;
    witness.wait("an object on its way", |_| kept.attempts().len() > attempts);
    pod.write("web", "0.log", 101..=150)?;
    pod.set_policies(Vec::new())?;
    // Those of the object on its way among them.
    pod.wait_declined(100)?;
    agent.kill()?;
    pod.rotate("web", "20261130-100000", 151..=200)?;
    fs::remove_file(pod.log("web", "0.log.20261130-100000"))?;
    is_up.store(true, Ordering::SeqCst);
    pod.set_policies(vec![executions])?;
    let agent = pod.start(&witness)?;
    let last = numbered(200);
    witness.wait("the last line", |_| {
        kept.lines().is_ok_and(|lines| lines.contains(&last))
    });
    let (code, _) = agent.terminate()?;
    assert_eq!(code, Some(0));
    assert_eq!(kept.lines()?, [all(1..=100), all(151..=200)].concat());
    let records = kept.records()?;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["complete"], json!(false), "{records:?}");
    assert_eq!(records[0]["lost"], json!(50), "{records:?}");
    Ok(())
}
