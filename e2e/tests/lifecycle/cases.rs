//! Cases of one subject, side by side on one cluster; each has a name and a result of its own.

use std::{pin::Pin, time::Instant};

use anyhow::Result;
use futures::future::join_all;

/// Something that is so, or not, of one kind of pod.
pub struct Case<'a> {
    name: &'static str,
    run: Pin<Box<dyn Future<Output = Result<()>> + 'a>>,
}

/// A case by its name.
pub fn case<'a>(name: &'static str, run: impl Future<Output = Result<()>> + 'a) -> Case<'a> {
    let run = Box::pin(run);
    Case { name, run }
}

/// Runs all of them at the same time; fails with the names of those that failed, and why.
pub async fn all(cases: Vec<Case<'_>>) {
    let begun = Instant::now();
    let number = cases.len();
    let run = async |case: Case<'_>| {
        let result = case.run.await;
        let took = begun.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                println!("{}: as it should be after {took:.1} s", case.name);
                None
            }
            Err(error) => Some(format!("{} (after {took:.1} s): {error:#}", case.name)),
        }
    };
    let failed: Vec<String> = join_all(cases.into_iter().map(run))
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {number} cases failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
