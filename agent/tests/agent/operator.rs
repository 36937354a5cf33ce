//! An operator that takes reports as the protocol has them and nothing else.

use std::{
    cell::RefCell,
    io::{Error, Result},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use katonic_log_config::{
    Bundle, Endpoint, Policy, Report, Reporting,
    report::{MAX_SENTENCE, MAX_SIZE, PATH},
};
use serde_json::{Value, json};

use crate::{
    server::{Reply, Request, Server},
    witness::{PATIENCE, Witness},
};

/// The name in its certificate.
const NAME: &str = "reports.katonic-logging.svc";

/// A running operator; it stops with the test.
#[derive(Debug)]
pub struct Operator {
    server: Server,
    authority: String,
    witness: Witness,
    faults: Faults,
}

/// What was wrong with what it was sent.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Vec<String>>>);

impl Faults {
    fn all(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operator {
    /// One that takes every report that is as it should be, and wants the next one after so many seconds.
    pub fn start(interval: u32) -> Result<Self> {
        Self::start_with(move |_, report| {
            let reply = json!({"interval": interval, "later": true}).to_string();
            Reply::AcceptAs(200, reply.into_bytes(), vec![report])
        })
    }

    /// One that does with a report that is as it should be what the test says.
    pub fn start_with(
        reply: impl Fn(&Request, Value) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let witness = Witness::default();
        let faults = Faults::default();
        let found = faults.clone();
        let (server, authority) =
            Server::start_tls_as(NAME, &witness, move |request| match check(request) {
                Ok(report) => reply(request, report),
                Err(fault) => {
                    found.all().push(fault);
                    Reply::Refuse(400, "", String::new())
                }
            })?;
        Ok(Self {
            server,
            authority,
            witness,
            faults,
        })
    }

    /// What a bundle says of it.
    pub fn reporting(&self) -> Result<Reporting> {
        Ok(Reporting {
            url: Endpoint::try_from(self.server.url()).map_err(Error::other)?,
            server_name: NAME.to_owned(),
            certificate_authorities: self.authority.clone(),
        })
    }

    /// A bundle of these policies, each with this revision, of which is reported to it.
    pub fn bundle(&self, policies: Vec<Policy>, revision: &str) -> Result<Bundle> {
        Ok(Bundle {
            reporting: Some(self.reporting()?),
            revisions: vec![revision.to_owned(); policies.len()],
            policies,
            ..Bundle::default()
        })
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// How many requests it has read.
    pub fn requests(&self) -> usize {
        self.witness.seen().requests
    }

    /// What it has seen.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// The reports that it has taken, in order.
    pub fn reports(&self) -> Vec<Report> {
        self.expect_no_faults();
        let seen = self.witness.seen();
        seen.records.iter().filter_map(report).collect()
    }

    /// The tokens that it was shown with the reports that it has taken.
    pub fn tokens(&self) -> Vec<String> {
        let seen = self.witness.seen();
        let tokens = seen.records.iter().map(|taken| &taken["token"]);
        tokens
            .filter_map(|token| Some(token.as_str()?.to_owned()))
            .collect()
    }

    /// Waits for a report after the first `after` that says enough; gives its number and it.
    pub fn wait(
        &self,
        what: &str,
        after: usize,
        enough: impl Fn(&Report) -> bool,
    ) -> (usize, Report) {
        let found = RefCell::new(None);
        self.witness.wait(what, |seen| {
            self.expect_no_faults();
            let mut taken = seen.records.iter().filter_map(report).enumerate();
            let one = taken.find(|(number, report)| *number >= after && enough(report));
            let is_found = one.is_some();
            found.replace(one);
            is_found
        });
        found.take().unwrap_or_default()
    }

    /// Waits until so many connections were made to it.
    pub fn wait_connections(&self, connections: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.server.connections() < connections {
            if Instant::now() > deadline {
                return Err(Error::other("waited in vain for connections"));
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    fn expect_no_faults(&self) {
        let faults = self.faults.all();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

fn report(taken: &Value) -> Option<Report> {
    serde_json::from_value(taken["report"].clone()).ok()
}

/// The report and the token that was shown with it.
fn check(request: &Request) -> std::result::Result<Value, String> {
    let expected = format!("POST {PATH} HTTP/1.1");
    if request.line != expected {
        return Err(format!("{:?}", request.line));
    }
    for (header, value) in [
        ("content-type", "application/json"),
        ("content-encoding", ""),
        ("connection", "close"),
    ] {
        if request.header(header) != value {
            return Err(format!("{header}: {:?}", request.header(header)));
        }
    }
    let token = request.header("authorization").strip_prefix("Bearer ");
    let token = token.ok_or("no token")?;
    if request.body.len() > MAX_SIZE {
        return Err(format!("{} bytes", request.body.len()));
    }
    let said: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let report: Report =
        serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    // Nothing that the protocol does not know, and nothing that it leaves out.
    let known = serde_json::to_value(&report).map_err(|error| error.to_string())?;
    if known != said {
        return Err(format!("{said} is {known}"));
    }
    let refused = report.policies.iter().flat_map(|policy| &policy.refused);
    let sinks = report.policies.iter().flat_map(|policy| &policy.sinks);
    let sinks = sinks.flat_map(|sink| sink.message.iter().chain(&sink.rejection));
    let mut sentences = refused
        .map(|refused| &refused.message)
        .chain(sinks)
        .chain(&report.bundle_refused);
    if let Some(long) = sentences.find(|sentence| sentence.chars().count() > MAX_SENTENCE) {
        return Err(long.clone());
    }
    Ok(json!({"token": token, "report": said}))
}
