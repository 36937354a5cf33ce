//! Kubeconfig files: how somebody reaches a cluster, written for this run and read from nowhere else.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use super::certificates::{Identity, write_private};

/// Writes a kubeconfig (as JSON, which is YAML too), readable by its owner only.
pub fn write(path: &Path, server: &str, authority: &Path, identity: &Identity) -> Result<()> {
    let user = json!({"client-certificate": identity.certificate, "client-key": identity.key});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    });
    write_private(path, &format!("{config:#}\n"))
}

/// A client as this kubeconfig says. Nothing else is read: no environment, no default kubeconfig.
pub async fn client(path: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("failed to use {}", path.display()))?;
    Client::try_from(config)
        .with_context(|| format!("failed to make a client from {}", path.display()))
}

/// The authority and the server of the current context, to write another kubeconfig for the same cluster.
pub fn with_token(from: &Path, to: &Path, token: &str) -> Result<()> {
    let text = std::fs::read_to_string(from)
        .with_context(|| format!("failed to read {}", from.display()))?;
    let mut kubeconfig = Kubeconfig::from_yaml(&text)
        .with_context(|| format!("failed to parse {}", from.display()))?;
    let current = kubeconfig.current_context.clone();
    kubeconfig
        .contexts
        .retain(|context| Some(&context.name) == current.as_ref());
    let user = kubeconfig
        .contexts
        .first()
        .and_then(|context| context.context.as_ref()?.user.clone())
        .with_context(|| format!("no current context in {}", from.display()))?;
    kubeconfig.auth_infos.clear();
    let mut value = serde_json::to_value(&kubeconfig).context("failed to write a kubeconfig")?;
    value["users"] = json!([{"name": user, "user": {"token": token}}]);
    write_private(to, &format!("{value:#}\n"))
}
