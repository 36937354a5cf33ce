//! `make bench`: measures the budgets, shows one table and writes `target/bench/results.json`.

use anyhow::Result;
use clap::Parser;
use katonic_logging_e2e::bench::{self, Section};

/// Measures what the product promises to cost.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; all of it by default. What is measured in part is shown and not written.
    sections: Vec<Section>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let figures = bench::run(&args.sections).await?;
    let (hold, of) = figures.score();
    println!("{}\n{hold} of {of} budgets hold", figures.table());
    if args.sections.is_empty() {
        for path in figures.save()? {
            println!("{}", path.display());
        }
    }
    Ok(())
}
