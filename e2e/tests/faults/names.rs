//! Name servers that fail, and an address that changes, for the agent as it is shipped: its resolver is linked statically.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    cluster::{Tier, inside::Network},
    images::Image,
    receiver::{
        NameServer, Protocol, Received, Receiver, Record, Tally, name_server::Saying, splunk::Rules,
    },
    simulated::{
        Agent, Load, Pod, Surroundings,
        policy::{self, TOKEN_FILE},
    },
};
use tokio::task::spawn_blocking;

use super::{
    CONTAINER, ENDLESS, LIMIT, ROTATE_AT, TOKEN, assert_accounted, assert_all_came, mounted, said,
    says,
};

const NAME: &str = "logs.example.com";
const PORT: u16 = 8088;
const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where the sink is, and where it moves.
const BEFORE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const AFTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Questions that show that the agent has failed, and tried again.
const TRIES: usize = 2;

const LINES_PER_SECOND: u32 = 1_000;

#[tokio::test]
async fn names_that_cannot_be_looked_up_and_addresses_that_change_cost_nothing() -> Result<()> {
    if !Tier::Node.available_or_skip()? {
        return Ok(());
    }
    let agent = spawn_blocking(|| Image::Agent.executable()).await??;
    // There port 53 is free.
    let network = spawn_blocking(Network::own).await??;
    let test = async move {
        let names = NameServer::start((NAME_SERVER, 53).into(), NAME, Saying::Failure).await?;
        let mut surroundings = Surroundings::new()?;
        surroundings.ask(NAME_SERVER)?;
        let sink = policy::splunk("splunk", &format!("http://{NAME}:{PORT}"))?;
        let pod = mounted(vec![sink], &[(TOKEN_FILE, TOKEN)])?;
        let agent = Agent::start_in(&surroundings, &agent, &pod, &["--flush-ms", "50"])?;
        let log = pod.container(CONTAINER, ROTATE_AT)?;
        let load = Load::start(log, ENDLESS, LINES_PER_SECOND.try_into()?);
        let ended = deliver(&pod, &names, load).await;
        let came = ended.with_context(|| said(&pod).unwrap_or_default())?;
        assert!(agent.terminate(LIMIT).await?.success(), "{}", said(&pod)?);
        let delivered = assert_accounted(&pod, came.printed)?;
        assert_eq!(delivered, u64::try_from(came.printed)?);
        assert_all_came(came.before.iter().chain(&came.after), came.printed);
        anyhow::Ok(())
    };
    network.handle()?.spawn(test).await?
}

/// How many lines were printed, and which came to the sink where it was and where it is.
struct Came {
    printed: usize,
    before: Vec<Record>,
    after: Vec<Record>,
}

/// The name server begins with a failure, fails in every way, and says another address in the end.
async fn deliver(pod: &Pod, names: &NameServer, load: Load) -> Result<Came> {
    let mut before = sink(BEFORE).await?;
    // Nobody has ever told the agent where it is.
    says(pod, NAME, 1).await?;
    names.until_asked(TRIES, LIMIT).await?;
    names.say(Saying::Address(BEFORE));
    before.until("the first lines", LIMIT, more(0)).await?;
    for saying in [Saying::Failure, Saying::NoSuchName, Saying::Nothing] {
        names.say(saying);
        // Only a new connection looks the name up.
        before.close_port().await;
        before.open_port().await?;
        let came = before.inspect(|received| received.records.len());
        names.until_asked(TRIES, LIMIT).await?;
        names.say(Saying::Address(BEFORE));
        let context = || format!("after {saying:?}");
        let again = before.until("lines again", LIMIT, more(came)).await;
        again.with_context(context)?;
    }
    // Nobody listens where it was.
    let after = sink(AFTER).await?;
    before.close_port().await;
    names.say(Saying::Address(AFTER));
    after.until("lines elsewhere", LIMIT, more(0)).await?;
    let printed = load.stop().await?.at.len();
    let before = before.received().records;
    let all =
        |received: &Received| Tally::of(before.iter().chain(&received.records)).unique >= printed;
    after.until("every line", LIMIT, all).await?;
    Ok(Came {
        printed,
        after: after.received().records,
        before,
    })
}

async fn sink(address: Ipv4Addr) -> Result<Receiver> {
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    Receiver::start(SocketAddr::from((address, PORT)), rules).await
}

fn more(than: usize) -> impl FnMut(&Received) -> bool {
    move |received| received.records.len() > than
}
