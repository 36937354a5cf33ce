//! `make bench-peers`: our agent beside every other one that is there, as one table and `target/bench/peers.json`.

use anyhow::Result;
use katonic_logging_e2e::bench::peers;

fn main() -> Result<()> {
    let comparison = peers::run()?;
    println!("{}", comparison.table()?);
    for absent in comparison.absent() {
        println!("not measured: {absent}");
    }
    for path in comparison.save()? {
        println!("{}", path.display());
    }
    Ok(())
}
