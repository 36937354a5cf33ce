//! The installation: what the platform's installer and the administrator say once for all policies.

use std::collections::{BTreeMap, BTreeSet};

use katonic_log_config::ContainerPattern;
use katonic_logging_crds::Plane;
use serde::{Deserialize, Serialize};

use crate::{names, quantity::Quantity};

/// What every plan needs to know of the platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installation {
    /// Namespace of the platform's own services.
    pub platform_namespace: String,
    /// Namespace of executions and builds.
    pub compute_namespace: String,
    /// The injected container.
    pub agent: Agent,
    /// Label of a compute pod that holds the id of its execution.
    pub execution_id_label: String,
    /// Containers of a compute pod that run user code; their output is no application log.
    pub user_containers: BTreeSet<ContainerPattern>,
}

/// What of the injected container differs from platform to platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agent {
    /// Image of the log agent.
    pub image: String,
    /// Its resources.
    #[serde(default)]
    pub resources: Resources,
}

/// Requests and limits of the injected container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What a node must have left for it, for each pod.
    #[serde(default = "default_requests")]
    pub requests: BTreeMap<String, String>,
    /// What it may take at most.
    #[serde(default = "default_limits")]
    pub limits: BTreeMap<String, String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            requests: default_requests(),
            limits: default_limits(),
        }
    }
}

fn default_requests() -> BTreeMap<String, String> {
    [("cpu", "10m"), ("memory", "16Mi")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn default_limits() -> BTreeMap<String, String> {
    [("memory".to_owned(), "32Mi".to_owned())].into()
}

/// The file as it is written. The installer's own keys stand beside ours, so what is unknown outside
/// `logging` is somebody else's and no mistake.
#[derive(Deserialize)]
struct File {
    namespaces: Namespaces,
    logging: Logging,
}

#[derive(Deserialize)]
struct Namespaces {
    platform: Named,
    compute: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Logging {
    agent: Agent,
    #[serde(default = "default_execution_id_label")]
    execution_id_label: String,
    #[serde(default = "default_user_containers")]
    user_containers: BTreeSet<String>,
}

fn default_execution_id_label() -> String {
    "dominodatalab.com/execution-id".to_owned()
}

fn default_user_containers() -> BTreeSet<String> {
    ["run".to_owned()].into()
}

/// What is wrong with an installation, for a person to mend.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    /// The ConfigMap or its key is not there.
    pub fn missing(namespace: &str) -> Self {
        Self(format!(
            "ConfigMap {namespace}/{} with the key {} is missing: create it",
            names::INSTALLATION,
            names::INSTALLATION_KEY
        ))
    }

    /// It could not be read.
    pub fn unreadable(namespace: &str, reason: &str) -> Self {
        Self(format!(
            "ConfigMap {namespace}/{} cannot be read: {reason}",
            names::INSTALLATION
        ))
    }
}

impl Installation {
    /// Reads `installation.yaml`.
    ///
    /// # Errors
    /// The first thing that is wrong, with what to write instead.
    pub fn validate(yaml: &str, operator_namespace: &str) -> Result<Self, Problem> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| {
            Problem(format!(
                "{} cannot be used: {error}",
                names::INSTALLATION_KEY
            ))
        })?;
        let (platform, compute) = (file.namespaces.platform.name, file.namespaces.compute.name);
        for (key, name) in [("platform", &platform), ("compute", &compute)] {
            if !names::is_namespace(name) {
                return problem(format!(
                    "namespaces.{key}.name is `{name}`, which is not the name of a namespace"
                ));
            }
            if name == operator_namespace || name == "kube-system" {
                return problem(format!(
                    "namespaces.{key}.name is `{name}`: a plane needs a namespace of its own, apart from the operator's and from kube-system"
                ));
            }
        }
        if platform == compute {
            return problem(format!(
                "namespaces.platform.name and namespaces.compute.name are both `{platform}`: each plane needs a namespace of its own"
            ));
        }
        if !names::is_label_key(&file.logging.execution_id_label) {
            return problem(format!(
                "logging.executionIdLabel is `{}`, which is not the name of a label",
                file.logging.execution_id_label
            ));
        }
        let user_containers = file
            .logging
            .user_containers
            .into_iter()
            .map(ContainerPattern::try_from);
        let user_containers = user_containers
            .collect::<Result<_, _>>()
            .map_err(|error| Problem(format!("logging.userContainers: {error}")))?;
        check_image(&file.logging.agent.image)?;
        check_resources(&file.logging.agent.resources)?;
        Ok(Self {
            platform_namespace: platform,
            compute_namespace: compute,
            agent: file.logging.agent,
            execution_id_label: file.logging.execution_id_label,
            user_containers,
        })
    }

    /// The namespace of a plane.
    pub fn namespace(&self, plane: Plane) -> &str {
        match plane {
            Plane::Platform => &self.platform_namespace,
            Plane::Compute => &self.compute_namespace,
        }
    }
}

fn problem<T>(message: String) -> Result<T, Problem> {
    Err(Problem(message))
}

/// A pod whose image reference does not parse never starts (`InvalidImageName`), so it is checked here.
fn check_image(image: &str) -> Result<(), Problem> {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let is_digest = |digest: &str| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64
                && hex
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    };
    let (host, path) = match name.split_once('/') {
        // As Docker's reference grammar tells a host from a path.
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), path)
        }
        _ => (None, name),
    };
    let (path, tag) = path
        .split_once(':')
        .map_or((path, None), |(path, tag)| (path, Some(tag)));
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_component = |part: &str| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes()
            .all(|byte| lower(byte) || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(lower)
            && part.bytes().last().is_some_and(lower)
    };
    let is_tag = |tag: &str| {
        (1..=128).contains(&tag.len()) && tag.bytes().all(is_word) && !tag.starts_with(['.', '-'])
    };
    let is_host = |host: &str| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
    };
    if digest.is_none_or(is_digest)
        && tag.is_none_or(is_tag)
        && host.is_none_or(is_host)
        && path.split('/').all(is_component)
    {
        Ok(())
    } else {
        problem(format!(
            "logging.agent.image is `{image}`, which is not the name of an image: write for example registry.example.com/katonic-log-agent:0.1.0"
        ))
    }
}

fn check_resources(resources: &Resources) -> Result<(), Problem> {
    for (field, quantities) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        for (resource, quantity) in quantities {
            if !["cpu", "memory", "ephemeral-storage"].contains(&resource.as_str()) {
                return problem(format!(
                    "logging.agent.resources.{field}.{resource}: use cpu, memory or ephemeral-storage"
                ));
            }
            if Quantity::parse(quantity).is_none() {
                return problem(format!(
                    "logging.agent.resources.{field}.{resource} is `{quantity}`, which is not a quantity: write for example 10m or 32Mi"
                ));
            }
        }
    }
    // `32m` of memory is a thirtieth of a byte; a pod with it never starts.
    for (field, memory) in [
        ("requests", resources.requests.get("memory")),
        ("limits", resources.limits.get("memory")),
    ] {
        if memory.is_some_and(|memory| Quantity::parse(memory) < Quantity::parse("8Mi")) {
            return problem(format!(
                "logging.agent.resources.{field}.memory is less than 8Mi, too little for the agent to start: write for example 32Mi"
            ));
        }
    }
    for (resource, request) in &resources.requests {
        let Some(limit) = resources.limits.get(resource) else {
            continue;
        };
        if Quantity::parse(request) > Quantity::parse(limit) {
            return problem(format!(
                "logging.agent.resources: the request of {resource} ({request}) exceeds its limit ({limit})"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
namespaces:
  platform: {name: katonic-platform}
  compute: {name: katonic-compute}
  system: {name: katonic-system}
blob_storage: {logs: {type: s3}}
logging:
  agent: {image: registry.example.com:5000/katonic-log-agent:0.1.0}
";

    fn validate(yaml: &str) -> Result<Installation, Problem> {
        Installation::validate(yaml, "katonic-logging")
    }

    fn refuses(from: &str, to: &str, expected: &str) {
        assert!(GOOD.contains(from));
        let message = validate(&GOOD.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn the_installers_own_keys_are_no_mistake() {
        let installation = validate(GOOD).unwrap();
        assert_eq!(installation.namespace(Plane::Platform), "katonic-platform");
        assert_eq!(installation.namespace(Plane::Compute), "katonic-compute");
        assert_eq!(installation.agent.resources, Resources::default());
        assert!(
            installation
                .user_containers
                .iter()
                .any(|pattern| pattern.matches("run"))
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        refuses(
            "katonic-compute",
            "katonic-platform",
            "both `katonic-platform`",
        );
        refuses(
            "katonic-compute",
            "katonic-logging",
            "a namespace of its own",
        );
        refuses("katonic-compute", "kube-system", "a namespace of its own");
        refuses("katonic-compute", "Compute", "not the name of a namespace");
        refuses("  compute: {name: katonic-compute}\n", "", "compute");
        refuses("namespaces:", "namespaces: [", "cannot be used");
        refuses("agent: {", "agnt: {", "agnt");
        refuses("agent:0.1.0}", "Agent:0.1.0}", "not the name of an image");
        refuses(
            "registry.example.com:5000/katonic-log-agent:0.1.0",
            "'a b'",
            "not the name of an image",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {requests: {memory: 16MB}}}",
            "16MB",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {requests: {memory: 64Mi}}}",
            "exceeds its limit (32Mi)",
        );
        refuses(
            "0.1.0}",
            "0.1.0, resources: {limits: {gpu: 1}}}",
            "use cpu, memory",
        );
        refuses(
            "logging:",
            "logging:\n  executionIdLabel: a b\n",
            "not the name of a label",
        );
        refuses("logging:", "logging:\n  userContainers: [Run]\n", "`Run`");
    }

    #[test]
    fn an_installation_survives_the_way_through_an_annotation() {
        let installation = validate(GOOD).unwrap();
        let json = serde_json::to_string(&installation).unwrap();
        assert_eq!(
            serde_json::from_str::<Installation>(&json).unwrap(),
            installation
        );
    }
}
