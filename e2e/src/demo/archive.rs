//! The archive of the demo: a real store of objects, who writes and who reads, and the sample policy with its address.

use std::{
    fs,
    net::IpAddr,
    process::{Command, Output},
};

use anyhow::{Context as _, Result};
use katonic_logging_core::names;
use katonic_logging_crds::{LoggingPolicy, SecretKeyRef, Tls};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{show, sink::random_token, workloads};
use crate::{
    program,
    receiver::{
        Authority, Minio,
        minio::{User, documented_policy},
    },
};

/// The policy of the sample.
pub const POLICY: &str = "execution-logs";

/// Bucket and prefix of the sample.
const BUCKET: &str = "platform-logs";
const PREFIX: &str = "platform";

/// A store with the bucket of the sample, a user who can only write, and one who can only read.
#[derive(Debug)]
pub struct Archive {
    minio: Minio,
    writer: User,
    reader: User,
    authority: Authority,
}

impl Archive {
    /// Starts the store on this address. It keeps nothing when it ends.
    pub async fn start(address: IpAddr) -> Result<Self> {
        let authority = Authority::new()?;
        let minio = Minio::start_at(address, Some(&authority)).await?;
        minio.make_bucket(BUCKET).await?;
        let user = async |id: &str, whose: &str| {
            let policy = documented_policy(whose, BUCKET, PREFIX)?;
            minio.user(id, &random_token(), &policy).await
        };
        Ok(Self {
            writer: user("agents", "agents").await?,
            reader: user("reader", "readers").await?,
            minio,
            authority,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.minio.url()
    }

    /// The Secret that the sample policy names, with the authority that the store needs beside its key.
    pub fn secret(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "archive", "namespace": names::OPERATOR_NAMESPACE},
            "stringData": {
                "AWS_ACCESS_KEY_ID": self.writer.id,
                "AWS_SECRET_ACCESS_KEY": self.writer.secret,
                "ca.crt": self.authority.certificate_pem(),
            },
        })
        .to_string()
    }

    /// The shipped sample with the store's address and authority.
    pub fn policy(&self) -> Result<String> {
        let path = program::workspace().join("manifests/samples/execution-logs.yaml");
        let sample = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let mut policy: LoggingPolicy =
            serde_saphyr::from_str(&sample).context("failed to parse the sample policy")?;
        for sink in &mut policy.spec.sinks {
            let storage = sink.object_storage.as_mut();
            let s3 = storage.and_then(|storage| storage.s3.as_mut());
            let s3 = s3.context("the sample has another sink")?;
            s3.endpoint = Some(self.url());
            s3.connection.tls = Some(Tls {
                ca_secret_ref: Some(SecretKeyRef {
                    name: "archive".to_owned(),
                    key: "ca.crt".to_owned(),
                }),
                ..Tls::default()
            });
        }
        serde_json::to_string(&policy).context("failed to write the policy")
    }

    /// Reads the Job's execution back as its user would, by this program; gives what was printed, and what was verified.
    pub async fn read_back(&self, mut command: Command) -> Result<ReadBack> {
        let folder = tempfile::tempdir().context("failed to make a folder for the authority")?;
        let ca_file = folder.path().join("ca.crt");
        fs::write(&ca_file, self.authority.certificate_pem())
            .context("failed to write the authority")?;
        let endpoint = self.url();
        let arguments = [
            "logs",
            workloads::EXECUTION,
            "--bucket",
            BUCKET,
            "--prefix",
            PREFIX,
            "--endpoint",
            &endpoint,
        ];
        command
            .args(arguments)
            .arg("--ca-file")
            .arg(&ca_file)
            .env("AWS_ACCESS_KEY_ID", &self.reader.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.reader.secret);
        let output = spawn_blocking(move || command.output()).await?;
        let output = output.context("failed to run katonic-logging logs")?;
        let shown = format!("katonic-logging {} --ca-file ca.crt", arguments.join(" "));
        ReadBack::of(&shown, &output)
    }
}

/// What `katonic-logging logs` has read and said.
#[derive(Clone, Debug)]
pub struct ReadBack {
    /// Its exit code.
    pub code: Option<i32>,
    /// The lines.
    pub lines: Vec<String>,
    /// Its last words.
    pub verdict: String,
}

impl ReadBack {
    fn of(command: &str, output: &Output) -> Result<Self> {
        let stdout = String::from_utf8(output.stdout.clone())?;
        let stderr = String::from_utf8(output.stderr.clone())?;
        let lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
        let some = match lines.as_slice() {
            [first, .., last] => format!("{first}\n…\n{last}\n"),
            _ => stdout,
        };
        show::output(command, &format!("{some}{stderr}"));
        let verdict = stderr.lines().last().unwrap_or_default();
        let verdict = verdict.trim_start_matches("katonic-logging: ").to_owned();
        Ok(Self {
            code: output.status.code(),
            lines,
            verdict,
        })
    }

    /// Whether every line of the Job's user code came back, once and in order, and that was proven.
    pub fn holds(&self) -> bool {
        let expected = (1..=workloads::USER_LINES)
            .map(|number| format!("line {number:06} of {:06}", workloads::USER_LINES));
        let lines = self.lines.iter().filter_map(|line| line.split_once(' '));
        self.code == Some(0) && lines.map(|(_, line)| line).eq(expected)
    }
}
