//! The OpenTelemetry Collector, with its queue on the disk and retries without limit: a distribution with `filelog`,
//! `splunk_hec` and `file_storage`, such as contrib; and one that sends OTLP, which can be built from modules.

use std::{path::Path, process::Command};

use super::{Peer, SPLUNK, Work};
use crate::{Outcome, kinds::PROTOBUF, lines::POD};

pub(super) const PEER: Peer = Peer {
    name: "OpenTelemetry Collector",
    variable: "OTELCOL",
    programs: &["otelcol-contrib", "otelcol"],
    version: &["--version"],
    wire: SPLUNK,
    command: |program, work| {
        let endpoint = format!("http://{}/services/collector/event", work.receiver);
        let names = Names {
            receiver: "filelog",
            exporter: "splunk_hec",
            telemetry: "{metrics: {level: none}, logs: {level: warn}}",
        };
        let own = format!(
            "    endpoint: {endpoint}\n    token: secret\n    index: platform\n    sourcetype: kube:container:web\n"
        );
        command(program, work, &names, &own)
    },
};

pub(super) const BY_OTLP: Peer = Peer {
    name: "OpenTelemetry Collector (OTLP)",
    variable: "OTELCOL_OTLP",
    programs: &["otelcol-otlp"],
    version: &["--version"],
    wire: PROTOBUF,
    command: |program, work| {
        let names = Names {
            receiver: "file_log",
            exporter: "otlp_http",
            // The one that is built for the comparison has none.
            telemetry: "{}",
        };
        let own = format!("    endpoint: http://{}\n", work.receiver);
        command(program, work, &names, &own)
    },
};

/// What components are called: version 0.144 and later have begun to call them otherwise.
struct Names {
    receiver: &'static str,
    exporter: &'static str,
    telemetry: &'static str,
}

fn command(program: &Path, work: &Work, names: &Names, own: &str) -> Outcome<Command> {
    let Names {
        receiver,
        exporter,
        telemetry,
    } = names;
    let configuration = work.file(
        "otelcol.yaml",
        &format!(
            r#"extensions:
  file_storage:
    directory: {state}
receivers:
  {receiver}:
    include: ["{log}"]
    start_at: beginning
    storage: file_storage
    retry_on_failure:
      enabled: true
      max_elapsed_time: 0
    resource:
      host.name: {POD}
    operators:
      - type: container
        format: containerd
        add_metadata_from_filepath: false
exporters:
  {exporter}:
{own}    retry_on_failure:
      enabled: true
      max_elapsed_time: 0
    sending_queue:
      enabled: true
      storage: file_storage
service:
  extensions: [file_storage]
  telemetry: {telemetry}
  pipelines:
    logs:
      receivers: [{receiver}]
      exporters: [{exporter}]
"#,
            state = work.state().display(),
            log = work.log().display(),
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("--config").arg(configuration);
    Ok(command)
}
