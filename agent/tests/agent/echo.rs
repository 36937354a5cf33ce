//! Servers that repeat in their answers what they were sent: what the agent says of them shows no credential.

use std::{
    io::{Error, Result},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use katonic_log_config::{
    Authorization, BasicAuth, Connection, Endpoint, Header, HeaderValue, Loggly, Otlp,
    OtlpEncoding, Target,
};
use serde_json::json;

use crate::{
    pod::{Pod, http, key, policy, splunk},
    server::{Reply, Request, Server},
    witness::Witness,
};

const TOKEN: &str = "hunter2-hunter2-hunter2";
const PASSWORD: &str = "correct \"horse\" battery";
/// The pair `logs:` and the password in Base64.
const PAIR: &str = "bG9nczpjb3JyZWN0ICJob3JzZSIgYmF0dGVyeQ==";

/// The whole head of a request.
fn head(request: &Request) -> String {
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| format!("{name}: {value}"));
    let lines: Vec<String> = [request.line.clone()].into_iter().chain(headers).collect();
    lines.join("\r\n")
}

/// Says no in the words of Splunk, Loggly and OTLP at once, and each time another beginning of the head is left out, so
/// that each part of it comes first once.
fn repeat(status: u16, echoed: Arc<AtomicUsize>) -> impl Fn(&Request) -> Reply {
    move |request| {
        let head = head(request);
        let contains = [TOKEN, PAIR].iter().any(|secret| head.contains(secret));
        echoed.fetch_add(usize::from(contains), Ordering::SeqCst);
        let skipped: String = head.chars().skip(17 * (request.number % 20)).collect();
        let body = json!({"text": skipped, "code": 4, "response": skipped, "message": skipped,
            "partialSuccess": {"errorMessage": skipped, "rejectedLogRecords": "1"}});
        Reply::Refuse(status, "X-Echo: 1\r\n", body.to_string())
    }
}

fn endpoint(url: &str) -> Result<Endpoint> {
    Endpoint::try_from(url.to_owned()).map_err(Error::other)
}

fn loggly(url: &str) -> Result<Target> {
    Ok(Target::Loggly(Loggly {
        endpoint: endpoint(url)?,
        token: key("token")?,
        tags: Vec::new(),
        connection: Connection::default(),
    }))
}

fn otlp(url: &str) -> Result<Target> {
    let header = Header {
        name: "x-api-key".to_owned().try_into().map_err(Error::other)?,
        value: HeaderValue::Credential(key("token")?),
    };
    Ok(Target::Otlp(Otlp {
        endpoint: endpoint(url)?,
        encoding: OtlpEncoding::Json,
        headers: vec![header],
        connection: Connection::default(),
    }))
}

fn basic(url: &str) -> Result<Target> {
    let mut target = http(url)?;
    if let Target::Http(http) = &mut target {
        http.authorization = Some(Authorization::Basic(BasicAuth {
            username: "logs".to_owned(),
            password: key("password")?,
        }));
    }
    Ok(target)
}

#[test]
fn a_credential_that_a_server_repeats_is_shown_nowhere() -> Result<()> {
    let witness = Witness::default();
    let mut pod = Pod::new()?;
    pod.set("token", Some(TOKEN.as_bytes()))?;
    pod.set("password", Some(PASSWORD.as_bytes()))?;
    let (mut servers, mut policies) = (Vec::new(), Vec::new());
    for (name, kind) in [
        ("splunk", splunk as fn(&str) -> Result<Target>),
        ("loggly", loggly),
        ("otlp", otlp),
        ("basic", basic),
    ] {
        for status in [200, 400, 403, 407, 503] {
            let echoed = Arc::new(AtomicUsize::new(0));
            let reply = repeat(status, Arc::clone(&echoed));
            let server = Server::start(&Witness::default(), reply)?;
            policies.push(policy(&format!("{name}-{status}"), kind(&server.url())?));
            servers.push((format!("{name}-{status}"), server, echoed));
        }
    }
    pod.set_policies(policies)?;
    pod.write("web", "0.log", 1..=30)?;
    let agent = pod.start_with(&witness, &["--drain-seconds", "2"])?;
    for (name, _, echoed) in &servers {
        witness.wait(&format!("an answer to {name}"), |seen| {
            let told = |line: &&serde_json::Value| line["policy"] == **name;
            // `http` takes any 2xx at its word and says nothing more.
            seen.said.iter().any(|line| told(&line)) && echoed.load(Ordering::SeqCst) > 0
        });
    }
    let (code, message) = agent.terminate()?;
    assert_eq!(code, Some(0));
    let seen = witness.seen();
    let said = seen.said.iter().map(ToString::to_string);
    let said: Vec<String> = said.chain([message.to_string()]).collect();
    let told = said.iter().filter(|line| line.contains('…')).count();
    assert!(told >= 4, "{said:#?}");
    for line in &said {
        for secret in [TOKEN, PAIR, PASSWORD, "horse"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    Ok(())
}
