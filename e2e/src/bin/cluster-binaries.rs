//! Finds or builds every program of the test clusters, so that no test has to wait for it. Starts none of them.

use anyhow::Result;
use katonic_logging_e2e::cluster::{
    Tier,
    binaries::{Binaries, Binary},
};

fn main() -> Result<()> {
    // Also where this machine cannot run a node: it may build for one that can.
    let tier = if Tier::Node.available().is_ok() {
        Tier::Node
    } else {
        Tier::Controllers
    };
    let binaries = Binaries::of(tier)?;
    for &binary in Binary::of(tier) {
        println!("{:24} {}", binary.name(), binaries.path(binary)?.display());
    }
    Ok(())
}
