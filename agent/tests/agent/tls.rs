//! Sinks behind TLS.

use std::io::{Error, Result};

use katonic_log_config::{Target, Tls};

use crate::{
    pod::{Pod, key, policy, splunk},
    server::{Reply, Server},
    witness::{Tally, Witness},
};

fn secured(server: &Server, tls: Tls) -> Result<Target> {
    let mut target = splunk(&server.url())?;
    if let Target::Splunk(splunk) = &mut target {
        splunk.tls = tls;
    }
    Ok(target)
}

#[test]
fn a_certificate_is_checked_against_the_authorities_of_the_sink() -> Result<()> {
    let witness = Witness::default();
    let (server, certificate) = Server::start_tls(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    pod.set_policies(vec![policy("p", secured(&server, Tls::default())?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let _agent = pod.start(&witness)?;
    witness.wait_said("sink", &[("state", "Unreachable")]);
    assert_eq!(
        witness.seen().records.len(),
        0,
        "the public authorities do not know it"
    );
    pod.set("ca", Some(b"no certificate"))?;
    let tls = Tls {
        ca: Some(key("ca")?),
        insecure_skip_verify: false,
    };
    pod.set_policies(vec![policy("p", secured(&server, tls)?)])?;
    witness.wait_said("sink", &[("state", "Misconfigured")]);
    pod.set("ca", Some(certificate.as_bytes()))?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    Ok(())
}

#[test]
fn any_certificate_is_accepted_where_the_policy_says_so() -> Result<()> {
    let witness = Witness::default();
    let (server, _) = Server::start_tls(&witness, |_| Reply::Accept)?;
    let mut pod = Pod::new()?;
    pod.set("token", Some(b"secret"))?;
    let tls = Tls {
        ca: None,
        insecure_skip_verify: true,
    };
    pod.set_policies(vec![policy("p", secured(&server, tls)?)])?;
    pod.write("web", "0.log", 1..=100)?;
    let agent = pod.start(&witness)?;
    assert_eq!(witness.wait_lines(100), Tally::perfect(100));
    let (_, message) = agent.terminate().map_err(Error::other)?;
    assert_eq!(message["delivered"], 100);
    Ok(())
}
