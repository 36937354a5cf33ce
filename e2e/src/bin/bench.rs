//! `make bench`: measures the budgets, shows one table and writes `target/bench/results.json`.

use anyhow::Result;
use katonic_logging_e2e::bench;

#[tokio::main]
async fn main() -> Result<()> {
    let figures = bench::run().await?;
    let path = figures.save()?;
    let (hold, of) = figures.score();
    println!(
        "{}\n{}\n{hold} of {of} budgets hold",
        figures.table(),
        path.display()
    );
    Ok(())
}
