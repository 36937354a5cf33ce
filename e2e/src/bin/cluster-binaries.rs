//! Finds or builds every program of the test clusters and of the receivers, so that no test has to wait for it. Starts none of them.

use anyhow::Result;
use katonic_logging_e2e::cluster::{
    Tier,
    binaries::{Binaries, Binary},
    prerequisites,
};

fn main() -> Result<()> {
    // Also where this machine cannot run a node: it may build for one that can.
    let tier = if Tier::Node.available().is_ok() {
        Tier::Node
    } else {
        Tier::Controllers
    };
    prerequisites::for_running(tier)?;
    let wanted = [
        Binary::of(tier),
        &[
            Binary::OldestKubeApiserver,
            Binary::OtelCollector,
            Binary::Minio,
            Binary::MinioUser,
        ],
    ]
    .concat();
    let binaries = Binaries::find(&wanted)?;
    for binary in wanted {
        println!("{:24} {}", binary.name(), binaries.path(binary)?.display());
    }
    Ok(())
}
