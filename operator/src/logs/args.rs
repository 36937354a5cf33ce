//! The command line of `katonic-logging logs`.

use std::path::PathBuf;

use k8s_openapi::jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use katonic_log_config::{
    AzureAccount, AzureContainer, BucketName, ContainerPattern, Endpoint, GcsBucketName, KeyPrefix,
    Region,
};
use katonic_logging_core::execution::{Location, Subject, location::Unlocated};

use super::{Failure, archived::Since, show::Form};
use crate::access::ClusterArgs;

/// How far the clocks of a node and of the store may differ: S3 refuses what is further off.
const SKEW: SignedDuration = SignedDuration::from_mins(15);

/// What the command says of itself.
pub const ABOUT: &str = "\
Shows the log of an execution, from the archive and from its running pods, and whether it is complete.

Lines are merged in the order of their times. What has been archived is read from the archive, what running pods have \
printed since from the pods: without a gap, and no line twice. At the end, completeness records are checked against \
everything that was read, and one line on stderr says what they prove, for example `verified: 1,234,567 lines, complete`.

The archive is the one that the installation names (blob_storage.logs), or the one that --bucket, --gcs-bucket or --azure-container \
names; with one of these alone no cluster is asked. It is read with the credentials of the environment, as the vendor's own tools name \
them, or of a Secret; those of the agents can only write.

  Amazon S3             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, the machine's role
  Google Cloud Storage  GOOGLE_APPLICATION_CREDENTIALS, what `gcloud auth application-default login` has written, \
GOOGLE_BEARER_TOKEN, the machine's service account
  Azure Blob Storage    AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY, AZURE_TENANT_ID with AZURE_CLIENT_ID and \
AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, `az login`, the machine's identity";

/// What follows the flags.
pub const HELP: &str = "\
Exit codes:
  0  complete: every line is there, and the archive proves it
  1  an error, said in one line
  2  the command line is wrong
  3  not complete yet: it still runs, or a pod ended before everything was delivered
  4  not complete: lines are missing or damaged; which ones is said
  5  nothing was found

Examples:
  katonic-logging logs 63d16b3ebe3729589c5bd9d8
  katonic-logging logs 63d16b3ebe3729589c5bd9d8 --follow
  katonic-logging logs --unidentified run-without-a-label
  katonic-logging logs 63d16b3ebe3729589c5bd9d8 --since 2h -o json | jq -r .message
  katonic-logging logs 63d16b3ebe3729589c5bd9d8 --bucket platform-logs --endpoint https://minio.example.com:9000 --prefix platform
  katonic-logging logs 63d16b3ebe3729589c5bd9d8 --gcs-bucket platform-logs --prefix platform
  katonic-logging logs 63d16b3ebe3729589c5bd9d8 --azure-account platformlogs --azure-container logs --prefix platform";

/// What is read, and how it is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct LogsArgs {
    /// Id of the execution.
    #[arg(value_name = "EXECUTION ID", required_unless_present = "unidentified", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub execution: Option<String>,
    /// Instead of an execution, a pod whose execution nobody knows; its namespace is that of the compute plane unless it is named.
    #[arg(long, value_name = "[NAMESPACE/]POD", conflicts_with = "execution", value_parser = PodArg::parse)]
    pub unidentified: Option<PodArg>,
    /// Only pods of this kind; where the kind of a pod is not known, it is left out, and that is said.
    #[arg(long, value_enum)]
    pub kind: Option<KindArg>,
    /// Only these containers; `*` stands for any characters. May be repeated.
    #[arg(short, long, value_name = "NAME", value_parser = pattern)]
    pub container: Vec<ContainerPattern>,
    /// Only lines from this time on: a time, for example 2026-11-23T10:15:07Z, or how long ago, for example 2h or 3d.
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub since: Option<When>,
    /// Go on with what running pods print, until they end; then say what the archive proves.
    #[arg(short, long)]
    pub follow: bool,
    /// The form of the lines.
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
    /// Where to read.
    #[arg(long, value_enum, default_value_t = Place::All)]
    pub from: Place,
    #[expect(missing_docs, reason = "its flags stand here, not itself")]
    #[command(flatten)]
    pub store: StoreArgs,
    /// Label of pods with the type of their workload, for --kind.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "dominodatalab.com/workload-type"
    )]
    pub workload_type_label: String,
    #[expect(missing_docs, reason = "its flags stand here, not itself")]
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Where the archive is, instead of the installation's, and who reads it.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("named").args(["bucket", "gcs_bucket", "azure_container"]))]
pub struct StoreArgs {
    /// Bucket of the archive in S3 or a store that speaks its protocol, instead of the installation's.
    #[arg(long, value_parser = |text: &str| BucketName::try_from(text.to_owned()))]
    pub bucket: Option<BucketName>,
    /// Bucket of the archive in Google Cloud Storage, instead of the installation's.
    #[arg(long, value_name = "BUCKET", value_parser = |text: &str| GcsBucketName::try_from(text.to_owned()))]
    pub gcs_bucket: Option<GcsBucketName>,
    /// Container of the archive in Azure Blob Storage, instead of the installation's.
    #[arg(long, value_name = "CONTAINER", requires = "azure_account", value_parser = |text: &str| AzureContainer::try_from(text.to_owned()))]
    pub azure_container: Option<AzureContainer>,
    /// Storage account of that container.
    #[arg(long, value_name = "ACCOUNT", requires = "azure_container", conflicts_with_all = ["bucket", "gcs_bucket"], value_parser = |text: &str| AzureAccount::try_from(text.to_owned()))]
    pub azure_account: Option<AzureAccount>,
    /// Address of the store, where it is not the vendor's own, for example <https://minio.example.com:9000>.
    #[arg(long, value_name = "URL", requires = "named", value_parser = |text: &str| Endpoint::try_from(text.to_owned()))]
    pub endpoint: Option<Endpoint>,
    /// Region of a bucket in S3.
    #[arg(long, requires = "bucket", conflicts_with_all = ["gcs_bucket", "azure_container"], value_parser = |text: &str| Region::try_from(text.to_owned()))]
    pub region: Option<Region>,
    /// What the sink's prefix is, if it has one.
    #[arg(long, requires = "named", value_parser = |text: &str| KeyPrefix::try_from(text.to_owned()))]
    pub prefix: Option<KeyPrefix>,
    /// File with the certificates (PEM) of the authorities to trust for the store, instead of the public ones.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Secret in the operator's namespace with the credentials of a reader, instead of the environment's: `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`; `key.json`; `AZURE_STORAGE_SAS_TOKEN`, `AZURE_STORAGE_KEY`, or `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`
    /// and `AZURE_CLIENT_SECRET`.
    #[arg(long, value_name = "NAME")]
    pub credentials_secret: Option<String>,
}

/// A pod by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodArg {
    namespace: Option<String>,
    name: String,
}

impl PodArg {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let is_name = |text: &str| !text.is_empty() && !text.contains('/');
        if is_name(name) && namespace.is_none_or(is_name) {
            Ok(Self {
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
            })
        } else {
            Err("write the name of a pod, or its namespace, `/` and its name")
        }
    }
}

impl LogsArgs {
    /// Whose log is read; `compute` is the namespace of the compute plane, where a cluster was asked.
    pub(super) fn subject(&self, compute: Option<&String>) -> Result<Subject, Failure> {
        let pod = match (&self.execution, &self.unidentified) {
            (Some(id), _) => return Ok(Subject::Execution(id.clone())),
            (None, Some(pod)) => pod,
            // The command line has one of both.
            (None, None) => return Err(Failure::NoNamespace),
        };
        let namespace = pod.namespace.as_ref().or(compute);
        Ok(Subject::Pod {
            namespace: namespace.ok_or(Failure::NoNamespace)?.clone(),
            pod: pod.name.clone(),
        })
    }
}

/// The platform's kinds of executions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum KindArg {
    /// A job, started by hand or by a schedule.
    Job,
    /// An interactive workspace.
    Workspace,
    /// A published application.
    App,
    /// A published model.
    ModelApi,
}

/// Where lines are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Place {
    /// In the archive, and in pods what is not there yet.
    All,
    /// In the archive alone.
    Archive,
    /// In pods alone: what their nodes still have.
    Pods,
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// A time.
    At(Timestamp),
    /// How long before now.
    Ago(SignedDuration),
}

fn pattern(text: &str) -> Result<ContainerPattern, String> {
    ContainerPattern::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(time) = text.parse() {
        return Ok(When::At(time));
    }
    let span: Result<Span, _> = text.parse();
    let ago = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match ago {
        Ok(ago) if !ago.is_negative() => Ok(When::Ago(ago)),
        _ => Err(
            "write a time, for example 2026-11-23T10:15:07Z, or how long ago, for example 2h or 3d"
                .to_owned(),
        ),
    }
}

impl StoreArgs {
    /// Whether the archive is another one than the installation's.
    pub(super) fn is_spelled_out(&self) -> bool {
        self.bucket.is_some() || self.gcs_bucket.is_some() || self.azure_container.is_some()
    }

    /// The archive that is spelled out, if one is.
    pub(super) fn location(&self) -> Option<Result<Location, Unlocated>> {
        let (endpoint, prefix) = (self.endpoint.clone(), self.prefix.clone());
        if let Some(bucket) = &self.bucket {
            let region = self.region.clone();
            return Some(Location::s3(bucket.clone(), region, endpoint, prefix));
        }
        if let Some(bucket) = &self.gcs_bucket {
            return Some(Location::gcs(bucket.clone(), endpoint, prefix));
        }
        let account = self.azure_account.clone()?;
        let container = self.azure_container.clone()?;
        Some(Location::azure(account, container, endpoint, prefix))
    }
}

impl When {
    /// From which time on that is.
    pub(super) fn since(self, now: Timestamp) -> Since {
        let lines = match self {
            Self::At(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        };
        Since {
            lines,
            objects: lines.checked_sub(SKEW).unwrap_or(Timestamp::MIN),
        }
    }
}
