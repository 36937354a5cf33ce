//! Sinks behind a proxy, that of a policy or that of the installation: what it is asked, what it gets to see, and what
//! the agent says when it does not carry.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{Method, StatusCode, header};
use katonic_log_config::{Sink, Target};
use katonic_logging_core::{installation::Installation, names, policy::validate, sidecar::Sidecar};
use katonic_logging_crds::LoggingPolicy;
use katonic_logging_e2e::{
    eventually::eventually,
    program,
    receiver::{
        Authority, OtelCollector, Protocol, Proxy, Received, Receiver, Tally, json, loggly,
        new_relic, otel_collector,
        proxy::{Asked, Rules},
        splunk::{self, Indexing, Token},
    },
    simulated::{Agent, Load, Pod, policy},
};

const LIMIT: Duration = Duration::from_mins(1);
const LINES: usize = 2_000;
const LINES_PER_SECOND: u32 = 10_000;
const NEVER: u64 = u64::MAX;

/// Only proxies can look it up.
const SERVER: &str = "logs.example.com";
const TOKEN: &str = "0b6e5a1c-2f1d-4c59-9f0e-7a4d3c2b1a09";
const USERNAME: &str = "logs";
const PASSWORD: &str = "correct horse: battery";

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// What stands in `Proxy-Authorization`, and must stand nowhere else.
fn pair(password: &str) -> String {
    BASE64.encode(format!("{USERNAME}:{password}"))
}

/// The sink of a policy, as the operator tells it to the agents.
fn sink(kind: &str) -> Result<Sink> {
    let yaml = format!(
        "apiVersion: logging.katonic.ai/v1alpha1\nkind: LoggingPolicy\nmetadata: {{name: p, uid: u}}\nspec: {{sinks: [{{name: s, {kind}}}]}}"
    );
    let policy: LoggingPolicy = serde_saphyr::from_str(&yaml)?;
    let policy = validate(&policy).map_err(|found| anyhow::anyhow!("{found:?}"))?;
    let mut sinks = policy.sinks.into_iter().map(|sink| sink.config);
    sinks.next().context("the policy has no sink")
}

/// An agent whose one container writes.
struct Scene {
    pod: Pod,
    sinks: Vec<Sink>,
    agent: Agent,
    load: Load,
}

impl Scene {
    fn begin(
        sinks: Vec<Sink>,
        credentials: &[(&str, &str)],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let mut pod = Pod::new("katonic-compute", "run-1", &[("app", "dataset")])?;
        pod.mount(&policy::bundle(sinks.clone()), credentials)?;
        let program = program::build("katonic-log-agent", "katonic-log-agent")?;
        let arguments = ["--flush-ms", "50", "--drain-seconds", "20"];
        let agent = Agent::start_with(&program, &pod, &arguments, environment)?;
        let log = pod.container("dataset-sync", NEVER)?;
        let load = Load::start(log, LINES, LINES_PER_SECOND.try_into()?);
        Ok(Self {
            pod,
            sinks,
            agent,
            load,
        })
    }

    /// The kubelet shows other credentials.
    fn replace(&mut self, credentials: &[(&str, &str)]) -> Result<()> {
        let bundle = policy::bundle(self.sinks.clone());
        self.pod.mount(&bundle, credentials)
    }

    async fn says(&self, what: &str) -> Result<()> {
        eventually(format!("{what:?} is said"), LIMIT, async || {
            Ok(said(&self.pod)?.contains(what).then_some(()))
        })
        .await
        .with_context(|| said(&self.pod).unwrap_or_default())
    }

    /// Every line comes once and in order, the pod ends, and the agent has shown no credential to anybody.
    async fn end(self, receivers: &[&Receiver], credentials: &[&str]) -> Result<()> {
        let Self {
            pod, agent, load, ..
        } = self;
        load.finish().await?;
        for receiver in receivers {
            let every = |received: &Received| Tally::of(&received.records).is_complete(LINES);
            receiver
                .until("every line", LIMIT, every)
                .await
                .with_context(|| said(&pod).unwrap_or_default())?;
        }
        let output = ended(&pod, agent, LINES * receivers.len(), credentials).await?;
        for receiver in receivers {
            let tally = receiver.inspect(|received| Tally::of(&received.records));
            assert_eq!(tally, once(), "{output}");
        }
        Ok(())
    }
}

/// Each line came once and in order.
fn once() -> Tally {
    Tally {
        expected: LINES,
        unique: LINES,
        ..Tally::default()
    }
}

/// The pod ends, with so many records delivered, and the agent has shown no credential to anybody; gives what it said.
async fn ended(pod: &Pod, agent: Agent, delivered: usize, credentials: &[&str]) -> Result<String> {
    let status = agent.terminate(LIMIT).await?;
    let output = said(pod)?;
    assert!(status.success(), "{status}: {output}");
    let message = std::fs::read_to_string(pod.termination_log())?;
    let ends: serde_json::Value = serde_json::from_str(&message)?;
    assert_eq!(ends["delivered"], delivered, "{message}");
    assert_eq!(ends["lost"], 0, "{message}");
    for credential in credentials {
        assert!(!output.contains(credential), "{output}");
        assert!(!message.contains(credential), "{message}");
    }
    Ok(output)
}

fn said(pod: &Pod) -> Result<String> {
    std::fs::read_to_string(pod.agent_output()).context("failed to read what the agent said")
}

/// What a proxy that is asked for tunnels to the server alone has seen: no header but its own.
fn assert_tunnels(asked: &[Asked], target: &str, authorization: Option<&str>) {
    assert!(!asked.is_empty());
    for one in asked {
        assert_eq!(one.method, Method::CONNECT, "{one:?}");
        assert_eq!(one.target, target);
        let shown = one.headers.get(header::PROXY_AUTHORIZATION);
        let shown = shown.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        assert_eq!(shown.as_deref(), authorization);
        let mut names: Vec<_> = one.headers.keys().map(header::HeaderName::as_str).collect();
        names.retain(|name| *name != "proxy-authorization");
        assert_eq!(names, ["host"]);
    }
}

/// A server with TLS of a name that only proxies know.
async fn behind(authority: &Authority, protocol: Protocol) -> Result<Receiver> {
    let identity = authority.server_named(&[SERVER])?;
    Receiver::start_tls(anywhere(), protocol, &identity).await
}

fn port(receiver: &Receiver) -> u16 {
    receiver.address().port()
}

/// Fields that every sink behind the proxy of its policy has.
fn through(proxy: &Proxy) -> String {
    format!(
        "tls: {{caSecretRef: {{name: ca, key: ca.crt}}}}, proxyURL: '{}', proxyBasicAuth: {{username: {USERNAME}, passwordSecretRef: {{name: proxy, key: password}}}}",
        proxy.url()
    )
}

#[tokio::test]
async fn every_kind_of_sink_is_reached_through_a_tunnel_of_the_proxy_that_its_policy_names()
-> Result<()> {
    let authority = Authority::new()?;
    let mut acknowledging = splunk::Rules::with_token(TOKEN);
    let indexing = Token::acknowledging(Indexing::AfterPolls(1));
    acknowledging.tokens.insert(TOKEN.to_owned(), indexing);
    let mut bearer = json::Rules::at("/in");
    bearer.authorization = Some(json::Authorization::Bearer(TOKEN.to_owned()));
    let token = "{name: sink, key: token}";
    for (protocol, kind) in [
        (
            Protocol::Splunk(acknowledging),
            format!(
                "splunk: {{endpoint: 'https://SERVER', tokenSecretRef: {token}, acknowledgement: {{pollInterval: 100ms}}, THROUGH}}"
            ),
        ),
        (
            Protocol::Loggly(loggly::Rules::with_token(TOKEN)),
            format!("loggly: {{endpoint: 'https://SERVER', tokenSecretRef: {token}, THROUGH}}"),
        ),
        (
            Protocol::NewRelic(new_relic::Rules::with_license_key(TOKEN)),
            format!(
                "newRelic: {{endpoint: 'https://SERVER', licenseKeySecretRef: {token}, THROUGH}}"
            ),
        ),
        (
            Protocol::Json(bearer),
            format!("http: {{url: 'https://SERVER/in', bearerTokenSecretRef: {token}, THROUGH}}"),
        ),
    ] {
        let receiver = behind(&authority, protocol).await?;
        let rules = Rules::with_credentials(USERNAME, PASSWORD)?;
        let proxy = Proxy::start(rules.knowing(SERVER, receiver.address())).await?;
        let target = format!("{SERVER}:{}", port(&receiver));
        let kind = kind.replace("SERVER", &target);
        let sink = sink(&kind.replace("THROUGH", &through(&proxy)))?;
        let ca = authority.certificate_pem();
        let credentials = [
            ("sink_token", TOKEN),
            ("proxy_password", PASSWORD),
            ("ca_ca.crt", ca.as_str()),
        ];
        let scene = Scene::begin(vec![sink], &credentials, &[])?;
        scene.says(&format!(r#""proxy":"{}""#, proxy.url())).await?;
        let secrets = [TOKEN, PASSWORD, &pair(PASSWORD)];
        scene.end(&[&receiver], &secrets).await?;
        let authorization = format!("Basic {}", pair(PASSWORD));
        assert_tunnels(&proxy.asked(), &target, Some(&authorization));
        // Kept: a tunnel for each batch would be a handshake for each.
        assert!(proxy.asked().len() <= 2, "{:?}", proxy.asked());
    }
    Ok(())
}

#[tokio::test]
async fn the_collector_is_reached_through_a_tunnel_too() -> Result<()> {
    let authority = Authority::new()?;
    let settings = otel_collector::Settings {
        identity: Some(authority.server_named(&[SERVER])?),
        ..otel_collector::Settings::default()
    };
    let mut collector = OtelCollector::start(settings).await?;
    let rules = Rules::with_credentials(USERNAME, PASSWORD)?;
    let proxy = Proxy::start(rules.knowing(SERVER, collector.address())).await?;
    let target = format!("{SERVER}:{}", collector.address().port());
    let through = through(&proxy);
    let sink = sink(&format!(
        "otlp: {{endpoint: 'https://{target}', {through}}}"
    ))?;
    let ca = authority.certificate_pem();
    let credentials = [("proxy_password", PASSWORD), ("ca_ca.crt", ca.as_str())];
    let scene = Scene::begin(vec![sink], &credentials, &[])?;
    scene.says(&format!(r#""proxy":"{}""#, proxy.url())).await?;
    let Scene {
        pod, agent, load, ..
    } = scene;
    load.finish().await?;
    let every = |received: &Received| Tally::of(&received.records).is_complete(LINES);
    let came = collector.until("every line", LIMIT, every).await;
    came.with_context(|| said(&pod).unwrap_or_default())?;
    let output = ended(&pod, agent, LINES, &[PASSWORD, &pair(PASSWORD)]).await?;
    collector.stop().await?;
    let tally = collector.inspect(|received| Tally::of(&received.records))?;
    assert_eq!(tally, once(), "{output}");
    let authorization = format!("Basic {}", pair(PASSWORD));
    assert_tunnels(&proxy.asked(), &target, Some(&authorization));
    Ok(())
}

/// The variables that the operator gives the agent where the installation names proxies.
fn variables(proxies: &str) -> Result<Vec<(String, String)>> {
    let yaml = format!(
        "namespaces: {{platform: {{name: p}}, compute: {{name: c}}}}\nlogging: {{agent: {{image: 'localhost/agent:v1', proxy: {proxies}}}}}"
    );
    let installation = Installation::validate(&yaml, names::OPERATOR_NAMESPACE)?;
    let container = Sidecar::new(&installation.agent)?.container;
    let variables = container["env"].as_array().into_iter().flatten();
    let plain = variables.filter_map(|one| {
        Some((
            one["name"].as_str()?.to_owned(),
            one["value"].as_str()?.to_owned(),
        ))
    });
    Ok(plain.collect())
}

#[tokio::test]
async fn the_proxies_of_the_installation_are_for_sinks_that_name_none_and_are_not_excepted()
-> Result<()> {
    const PLAIN: &str = "plain.example.com";
    let authority = Authority::new()?;
    let json = || Protocol::Json(json::Rules::at("/in"));
    let secure = behind(&authority, json()).await?;
    let plain = Receiver::start(anywhere(), json()).await?;
    let excepted = Receiver::start(anywhere(), json()).await?;
    let own = behind(&authority, json()).await?;
    let for_https = Proxy::start(Rules::open().knowing(SERVER, secure.address())).await?;
    let for_http = Proxy::start(Rules::open().knowing(PLAIN, plain.address())).await?;
    let of_policy =
        Proxy::start(Rules::with_credentials(USERNAME, PASSWORD)?.knowing(SERVER, own.address()))
            .await?;
    let environment = variables(&format!(
        "{{httpProxy: '{}', httpsProxy: '{}', noProxy: '.svc, 127.0.0.0/8'}}",
        for_http.url(),
        for_https.url()
    ))?;
    let names: Vec<_> = environment.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]);
    let tls = "tls: {caSecretRef: {name: ca, key: ca.crt}}";
    let mut sinks = vec![
        sink(&format!(
            "http: {{url: 'https://{SERVER}:{}/in', {tls}}}",
            port(&secure)
        ))?,
        sink(&format!(
            "http: {{url: 'http://{PLAIN}:{}/in'}}",
            port(&plain)
        ))?,
        sink(&format!("http: {{url: '{}/in'}}", excepted.url()))?,
        sink(&format!(
            "http: {{url: 'https://{SERVER}:{}/in', {}}}",
            port(&own),
            through(&of_policy)
        ))?,
    ];
    for (sink, name) in sinks.iter_mut().zip(["secure", "plain", "excepted", "own"]) {
        sink.name = name.to_owned();
    }
    let ca = authority.certificate_pem();
    let credentials = [("ca_ca.crt", ca.as_str()), ("proxy_password", PASSWORD)];
    let scene = Scene::begin(sinks, &credentials, &environment)?;
    let secrets = [PASSWORD, &pair(PASSWORD)];
    scene
        .end(&[&secure, &plain, &excepted, &own], &secrets)
        .await?;
    let target = |receiver: &Receiver| format!("{SERVER}:{}", port(receiver));
    assert_tunnels(&for_https.asked(), &target(&secure), None);
    let authorization = format!("Basic {}", pair(PASSWORD));
    assert_tunnels(&of_policy.asked(), &target(&own), Some(&authorization));
    let address = format!("http://{PLAIN}:{}/in", port(&plain));
    assert!(!for_http.asked().is_empty());
    for asked in for_http.asked() {
        assert_eq!((&asked.method, &asked.target), (&Method::POST, &address));
    }
    Ok(())
}

/// Credentials in the address of a proxy are refused by the installation, and are all the same no reason to show them.
#[tokio::test]
async fn a_password_in_a_variable_is_used_and_not_shown() -> Result<()> {
    let authority = Authority::new()?;
    let receiver = behind(&authority, Protocol::Json(json::Rules::at("/in"))).await?;
    let rules = Rules::with_credentials(USERNAME, PASSWORD)?;
    let proxy = Proxy::start(rules.clone().refusing(StatusCode::BAD_GATEWAY)).await?;
    let encoded = PASSWORD.replace(' ', "%20").replace(':', "%3A");
    let url = proxy
        .url()
        .replace("http://", &format!("http://{USERNAME}:{encoded}@"));
    let environment = [("HTTPS_PROXY".to_owned(), url)];
    let tls = "tls: {caSecretRef: {name: ca, key: ca.crt}}";
    let url = format!("https://{SERVER}:{}/in", port(&receiver));
    let sink = sink(&format!("http: {{url: '{url}', {tls}}}"))?;
    let ca = authority.certificate_pem();
    let scene = Scene::begin(vec![sink], &[("ca_ca.crt", &ca)], &environment)?;
    scene.says("the proxy answered HTTP 502").await?;
    proxy.change_rules(rules.knowing(SERVER, receiver.address()));
    let secrets = [PASSWORD, &encoded, &pair(PASSWORD)];
    scene.end(&[&receiver], &secrets).await
}

/// By a tunnel and by whole addresses.
#[tokio::test]
async fn a_proxy_that_wants_another_password_says_so_and_costs_nothing() -> Result<()> {
    const WRONG: &str = "incorrect donkey";
    let authority = Authority::new()?;
    for is_secure in [true, false] {
        let rules = Protocol::Splunk(splunk::Rules::with_token(TOKEN));
        let (receiver, scheme) = if is_secure {
            (behind(&authority, rules).await?, "https")
        } else {
            (Receiver::start(anywhere(), rules).await?, "http")
        };
        let mut rules = Rules::with_credentials(USERNAME, PASSWORD)?;
        let of_wrong = if is_secure { "401" } else { "407" };
        if is_secure {
            rules = rules.answering_wrong_ones(StatusCode::UNAUTHORIZED);
        }
        let proxy = Proxy::start(rules.knowing(SERVER, receiver.address())).await?;
        let endpoint = format!("{scheme}://{SERVER}:{}", port(&receiver));
        let tls = if is_secure {
            "tls: {caSecretRef: {name: ca, key: ca.crt}}, "
        } else {
            ""
        };
        let splunk = |more: &str| {
            sink(&format!(
                "splunk: {{endpoint: '{endpoint}', tokenSecretRef: {{name: sink, key: token}}, {tls}proxyURL: '{}'{more}}}",
                proxy.url()
            ))
        };
        let ca = authority.certificate_pem();
        let with = |password| {
            [
                ("sink_token", TOKEN),
                ("ca_ca.crt", ca.as_str()),
                ("proxy_password", password),
            ]
        };
        let mut scene = Scene::begin(vec![splunk("")?], &with(WRONG), &[])?;
        scene
            .says("the proxy asks for a name and a password (HTTP 407): set proxyURL and proxyBasicAuth of the sink")
            .await?;
        let basic = format!(
            ", proxyBasicAuth: {{username: {USERNAME}, passwordSecretRef: {{name: proxy, key: password}}}}"
        );
        scene.sinks = vec![splunk(&basic)?];
        scene.replace(&with(WRONG))?;
        scene
            .says(&format!("the proxy refuses the name and the password that it is shown (HTTP {of_wrong}): correct proxyBasicAuth of the sink"))
            .await?;
        scene.says(r#""state":"AuthenticationFailed""#).await?;
        scene.replace(&with(PASSWORD))?;
        let secrets = [TOKEN, PASSWORD, WRONG, &pair(PASSWORD), &pair(WRONG)];
        scene.end(&[&receiver], &secrets).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_down_or_may_not_carry_is_told_from_a_sink_that_is_down() -> Result<()> {
    let authority = Authority::new()?;
    let receiver = behind(
        &authority,
        Protocol::Splunk(splunk::Rules::with_token(TOKEN)),
    )
    .await?;
    let closed = {
        let proxy = Proxy::start(Rules::open()).await?;
        proxy.url()
    };
    let address: SocketAddr = closed
        .trim_start_matches("http://")
        .parse()
        .context("the proxy has no address")?;
    let sink = sink(&format!(
        "splunk: {{endpoint: 'https://{SERVER}:{}', tokenSecretRef: {{name: sink, key: token}}, tls: {{caSecretRef: {{name: ca, key: ca.crt}}}}, proxyURL: '{closed}'}}",
        port(&receiver)
    ))?;
    assert!(matches!(sink.target, Target::Splunk(_)));
    let ca = authority.certificate_pem();
    let credentials = [("sink_token", TOKEN), ("ca_ca.crt", ca.as_str())];
    let scene = Scene::begin(vec![sink], &credentials, &[])?;
    scene
        .says("failed to connect to the proxy: Connection refused")
        .await?;
    scene.says(&format!(r#""proxy":"{closed}""#)).await?;
    let proxy = Proxy::start_at(address, Rules::open().refusing(StatusCode::FORBIDDEN)).await?;
    scene.says("the proxy answered HTTP 403").await?;
    scene.says(r#""state":"Misconfigured""#).await?;
    // It does not know the name either.
    proxy.change_rules(Rules::open());
    scene.says("the proxy answered HTTP 502").await?;
    proxy.change_rules(Rules::open().knowing(SERVER, receiver.address()));
    scene.end(&[&receiver], &[TOKEN]).await
}
