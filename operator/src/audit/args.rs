//! The command line of `katonic-logging audit`.

use std::path::PathBuf;

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{retention::Retention, trail::Window};

use crate::{
    access::ClusterArgs,
    logs::{
        args::{StoreArgs, When, when},
        show::Form,
    },
};

/// What the command says of itself.
pub const ABOUT: &str = "\
Reads audit events back from their record, the archive that an objectStorage sink of an AuditPolicy keeps.

The record is that of the AuditPolicies in the cluster, of the one that --policy names where there are several, or the one that \
--bucket, --gcs-bucket or --azure-container names; with one of these alone no cluster is asked. It is read with the credentials of the \
environment, as the vendor's own tools name them, or of a Secret; see `katonic-logging logs --help`. Nothing is written.";

const VERIFY_ABOUT: &str = "\
Proves that no audit event is missing, was changed or inserted, or stands elsewhere, or says exactly which is.

Every record carries the number of its event in the stream of its container and a chain over all before it (docs/audit-events.md). \
All of them are read and checked, also across restarts of the container, and so are the objects and the completeness records. The last \
line on stdout says what that proves, for example `complete: 12,345 events, chain intact`. Of a container that still runs, and of one that \
ended before its last events were delivered, nothing but another copy can show that the newest events were removed: --against. It is then \
not called complete, unless an event from a quarter of an hour after --to binds those before it. In S3 the versions of objects are looked at too.";

const VERIFY_HELP: &str = "\
Exit codes:
  0  complete: every event is there as it was written, and in the file of --against too
  1  an error, said in one line
  2  the command line is wrong
  3  nothing is known to be missing, and nothing proves that nothing is: why is said
  4  not complete: events are missing, changed, inserted, out of order or unreadable; which ones is said
  5  nothing was found

Examples:
  katonic-logging audit verify
  katonic-logging audit verify --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
  katonic-logging audit verify --bucket audit --region eu-central-1 --against /var/log/siem/audit.log";

const LIST_HELP: &str = "\
Exit codes:
  0  events were listed
  1  an error, said in one line
  2  the command line is wrong
  4  the output was closed before its end, or something could not be read or is not as it was written: `verify` says what
  5  nothing was found

Examples:
  katonic-logging audit list --from 7d --event ModelArchived --event ModelSettingsChanged
  katonic-logging audit list --actor ada -o json | jq -r .event.target";

/// What is done with audit events.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What is done with audit events.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Proves that no audit event is missing, or says exactly what is.
    #[command(long_about = VERIFY_ABOUT, after_help = VERIFY_HELP)]
    Verify(Box<VerifyArgs>),
    /// Lists audit events, in the order in which they were written.
    #[command(after_help = LIST_HELP)]
    List(Box<ListArgs>),
}

/// Which record is read, and which part of it.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordArgs {
    /// Only events that were written from this time on: a time, for example 2026-11-23T10:15:07Z, or how long ago, for example 7d.
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub from: Option<When>,
    /// Only events that were written before this time.
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub to: Option<When>,
    /// Only what this `AuditPolicy` has sent there.
    #[arg(long, value_name = "NAME", conflicts_with = "named")]
    pub policy: Option<String>,
    /// Only what sinks of this name have sent there.
    #[arg(long, value_name = "NAME", conflicts_with = "named")]
    pub sink: Option<String>,
    /// How long events are kept there, for example 365d: what was stored before may have expired, and does not count as removed.
    /// Default: what the policies say; of a store that is named here, that nothing expires.
    #[arg(long, value_name = "TIME")]
    pub retention: Option<Retention>,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is verified.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub record: RecordArgs,
    /// Compare with this file: messages of syslog with their structured data, or one JSON object a line, as exports have them; `-` for
    /// stdin. Some 60 bytes of memory are needed for each event.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// What is listed.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub record: RecordArgs,
    /// Only this event, for example `ModelCreated`. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub event: Vec<String>,
    /// Only what this user did. May be repeated.
    #[arg(long, value_name = "USER")]
    pub actor: Vec<String>,
    /// Only what was done to this model. May be repeated.
    #[arg(long, value_name = "TARGET")]
    pub target: Vec<String>,
    /// The form of the list.
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
}

impl RecordArgs {
    /// The time that is asked for.
    pub fn window(&self, now: Timestamp) -> Window {
        let time = |when: When| when.since(now).lines;
        Window {
            from: self.from.map(time),
            to: self.to.map(time),
        }
    }
}
