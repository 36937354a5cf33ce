//! The pods of an execution and the logs of their containers, as the API server gives them. Writes nothing.

use std::{collections::BTreeMap, fmt::Debug, io, pin::Pin, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::{ContainerPattern, Execution};
use katonic_logging_core::{
    Installation,
    execution::{Container, Kind, Subject, container},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, LogParams},
    core::PartialObjectMeta,
};

use crate::access::{self, ClusterArgs, Error, Patience};

/// Longer lines are shown in pieces.
const LONGEST: usize = 1 << 20;

/// How long the API server may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pods of one execution.
#[derive(Clone)]
pub struct Pods {
    client: Client,
    logs: Client,
    namespace: String,
    execution: Execution,
    subject: Subject,
    users: Vec<ContainerPattern>,
    containers: Vec<ContainerPattern>,
    kind: Option<(Kind, String)>,
}

impl Debug for Pods {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pods")
            .field("namespace", &self.namespace)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl Pods {
    /// The pods of this execution, or the pod, as the installation tells them.
    ///
    /// # Errors
    /// When no cluster is configured.
    pub async fn new(
        client: Client,
        cluster: &ClusterArgs,
        installation: &Installation,
        subject: Subject,
        containers: Vec<ContainerPattern>,
        kind: Option<(Kind, String)>,
    ) -> Result<Self, Error> {
        Ok(Self {
            client,
            logs: access::connect(cluster, Patience::OfLogs).await?,
            namespace: installation.compute_namespace.clone(),
            execution: Execution::new(
                Some(&installation.execution_id_label),
                &installation.execution_id_patterns,
            ),
            subject,
            users: installation.user_containers.iter().cloned().collect(),
            containers,
            kind,
        })
    }

    /// Their namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Names and labels of all pods of the namespace.
    pub fn watched(&self) -> Api<PartialObjectMeta<Pod>> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All that there are, in whatever state.
    ///
    /// # Errors
    /// When the API server gives no answer.
    pub async fn find(&self) -> Result<Vec<Pod>, Error> {
        let what = || format!("pods of namespace {}", self.namespace);
        // Names and labels alone: a namespace has thousands of pods, and an execution a few.
        let all = access::list(&self.watched(), &ListParams::default()).await;
        let all = all.map_err(|error| Error::read(what(), &error))?;
        let is_ours =
            |pod: &&PartialObjectMeta<Pod>| self.is_of_execution(&pod.name_any(), pod.labels());
        let found = all.iter().filter(is_ours).map(ResourceExt::name_any);
        let mut pods = Vec::new();
        for name in found {
            pods.extend(self.get(&name).await?);
        }
        Ok(pods)
    }

    /// A pod, if it is there.
    ///
    /// # Errors
    /// When the API server gives no answer.
    pub async fn get(&self, name: &str) -> Result<Option<Pod>, Error> {
        let what = || format!("pod {}/{name}", self.namespace);
        let pod = self.api().get_opt(name).await;
        pod.map_err(|error| Error::read(what(), &error))
    }

    /// Whether a pod with this name and these labels belongs to the execution, and is of the kind that is asked for.
    pub fn is_of_execution(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_ours = match &self.subject {
            Subject::Execution(id) => self.execution.id(name, labels).as_ref() == Some(id),
            Subject::Pod { namespace, pod } => *namespace == self.namespace && pod == name,
        };
        is_ours
            && self.kind.as_ref().is_none_or(|(kind, label)| {
                Kind::of(labels.get(label).map(String::as_str), name) == Some(*kind)
            })
    }

    /// Whether a container's log is an execution log, and one that is asked for.
    fn takes(&self, container: &str) -> bool {
        let matches = |patterns: &[ContainerPattern]| {
            patterns.iter().any(|pattern| pattern.matches(container))
        };
        matches(&self.users) && (self.containers.is_empty() || matches(&self.containers))
    }

    /// The runs of a pod's containers whose logs can be read.
    pub fn containers(&self, pod: &Pod) -> Vec<Container> {
        container::runs(pod, |name| self.takes(name))
    }

    /// The same of the pod with this name, as it is now; none: it is gone.
    ///
    /// # Errors
    /// When the API server gives no answer.
    pub async fn now(&self, name: &str) -> Result<Option<Vec<Container>>, Error> {
        let pod = self.get(name).await?;
        Ok(pod.map(|pod| self.containers(&pod)))
    }

    /// The log of a container from the second of a time on.
    ///
    /// # Errors
    /// When the API server does not give it.
    pub async fn open(
        &self,
        container: &Container,
        since: Option<Timestamp>,
        follow: bool,
    ) -> Result<Reading, Error> {
        let what = || {
            format!(
                "the log of container {} of pod {}/{}",
                container.name, self.namespace, container.pod
            )
        };
        let parameters = LogParams {
            container: Some(container.name.clone()),
            follow,
            previous: container.is_previous,
            // The API has whole seconds.
            since_time: since.map(|since| {
                since
                    .checked_sub(SignedDuration::from_nanos(i64::from(
                        since.subsec_nanosecond(),
                    )))
                    .unwrap_or(since)
            }),
            timestamps: true,
            ..LogParams::default()
        };
        let api: Api<Pod> = Api::namespaced(self.logs.clone(), &self.namespace);
        let opened = api.log_stream(&container.pod, &parameters);
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        let opened = opened.map_err(|_| Error::Unanswered {
            what: what(),
            reason: format!("no answer within {} s", PATIENCE.as_secs()),
        })?;
        let stream = opened.map_err(|error| Error::read(what(), &error))?;
        Ok(Reading {
            stream: Box::pin(stream),
            is_inside: None,
        })
    }
}

/// An open log.
pub struct Reading {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The time of a line that is read in pieces.
    is_inside: Option<String>,
}

impl Debug for Reading {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Reading")
    }
}

/// A line, or a piece of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its time as it is written.
    pub written: String,
    /// Its time; none: the node says something that is no line of the container.
    pub time: Option<Timestamp>,
    /// What it says.
    pub text: String,
    /// Whether it begins a line.
    pub is_begin: bool,
    /// Whether more of the line comes.
    pub continues: bool,
}

impl Reading {
    /// The next line; none at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut continues = true;
        loop {
            let available = self.stream.fill_buf().await?;
            if available.is_empty() {
                if bytes.is_empty() {
                    return Ok(None);
                }
                continues = false;
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(available.len(), |end| end + 1);
            bytes.extend_from_slice(&available[..length]);
            self.stream.as_mut().consume(length);
            if end.is_some() {
                bytes.pop();
                continues = false;
                break;
            }
            if bytes.len() >= LONGEST {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = if let Some(written) = self.is_inside.take() {
            Line {
                time: written.parse().ok(),
                written,
                text: text.into_owned(),
                is_begin: false,
                continues,
            }
        } else {
            let (written, rest) = text.split_once(' ').unwrap_or((&text, ""));
            let time: Option<Timestamp> = written.parse().ok();
            Line {
                written: written.to_owned(),
                text: if time.is_some() {
                    rest.to_owned()
                } else {
                    text.to_string()
                },
                time,
                is_begin: true,
                continues,
            }
        };
        if continues {
            self.is_inside = Some(line.written.clone());
        }
        Ok(Some(line))
    }
}
