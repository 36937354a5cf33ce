//! What the demo shows on the terminal: steps on stderr, results on stdout. Decides nothing.

use anyhow::Result;

use crate::{
    cluster::{Cluster, progress::say},
    receiver::{Receiver, Record},
};

/// The steps of the demo, numbered as they begin.
#[derive(Debug)]
pub struct Steps {
    begun: usize,
    of: usize,
}

impl Steps {
    /// So many steps, none of which has begun.
    pub fn new(of: usize) -> Self {
        Self { begun: 0, of }
    }

    /// Announces the next step, such as `[3/7] Installing …`.
    pub fn begin(&mut self, what: &str) {
        self.begun += 1;
        say(&format!("\n[{}/{}] {what}", self.begun, self.of));
    }
}

/// Shows what a command printed, under the command.
pub fn output(command: &str, text: &str) {
    println!("$ {command}\n{}", text.trim_end());
}

/// Runs kubectl and shows what it prints.
pub async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let text = cluster.kubectl(arguments).await?.ok()?;
    output(&format!("kubectl {}", arguments.join(" ")), &text);
    Ok(())
}

/// Shows the first record of each container, in full.
pub fn records(receiver: &Receiver) {
    receiver.inspect(|received| {
        let mut shown: Vec<&str> = Vec::new();
        for record in &received.records {
            let container = record.field("container");
            if !shown.contains(&container) {
                shown.push(container);
                println!("{}", pretty(record));
            }
        }
    });
}

fn pretty(record: &Record) -> String {
    let mut members = record.envelope.clone();
    members.insert("event".to_owned(), record.line.clone().into());
    members.insert("fields".to_owned(), record.fields.clone().into());
    serde_json::to_string_pretty(&members).unwrap_or_default()
}
