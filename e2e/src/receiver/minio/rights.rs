//! The rights that the documentation gives to users of an archive.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::program;

/// The roles in the cluster that the documentation gives to readers, as YAML.
pub fn documented_roles() -> Result<String> {
    block("roles of the readers", "yaml")
}

/// What `docs/object-storage.md` gives the `agents`, the `operator` or the `readers`, word for word but for bucket and prefix.
pub fn documented_policy(whose: &str, bucket: &str, prefix: &str) -> Result<Value> {
    let policy = block(&format!("policy of the {whose}"), "json")?;
    let policy = policy.replace("BUCKET", bucket).replace("PREFIX", prefix);
    serde_json::from_str(&policy).context("the policy is no JSON")
}

/// What stands below a mark of the documentation.
fn block(mark: &str, language: &str) -> Result<String> {
    let documentation = fs::read_to_string(program::workspace().join("docs/object-storage.md"))
        .context("failed to read the documentation")?;
    let (_, rest) = documentation
        .split_once(&format!("<!-- {mark} -->\n\n```{language}\n"))
        .with_context(|| format!("the documentation has no {mark}"))?;
    let (block, _) = rest.split_once("```").context("the block does not end")?;
    Ok(block.to_owned())
}
