//! Of two operators the elected one is reported to, and then the other.

use std::time::Duration;

use katonic_logging_e2e::{
    eventually::eventually,
    operator::{Operator, SOON},
};
use tokio::net::TcpStream;

use super::{World, agents_token, metric, outside, pod};

#[tokio::test]
async fn the_next_leader_answers_whoever_trusts_what_the_bundle_said() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let before = world.told().await;
    let web = pod(&world.installed, "web").await;
    let token = agents_token(&world.installed, &web).await;
    reporter.report(&token).await.unwrap().interval();
    // The same address: only the one that leads takes it.
    let second = outside(&world.installed, "two", world.address).await;
    eventually("the second is ready to take over", SOON, async || {
        Ok((second.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    assert!(!second.log().unwrap().contains("failed to listen"));
    let World {
        installed,
        operator,
        address,
    } = world;
    operator.kill().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody leads");
    // The lease of one that was killed has to end first.
    let within = Duration::from_secs(40);
    eventually("the second one answers", within, async || {
        Ok((reporter.report(&token).await?.status == 200).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(metric(&second, "katonic_logging_reporting_pods").await, 1);
    assert_eq!(super::told(&installed).await, before);
}

#[tokio::test]
async fn an_address_that_somebody_else_has_keeps_no_policy_from_its_pods() {
    let installed = super::installed().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let operator: Operator = outside(&installed, "one", address).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let log = operator.log().unwrap();
    assert!(log.contains("failed to listen for reports"), "{log}");
}
