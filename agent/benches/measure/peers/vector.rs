//! Vector: `file` to `splunk_hec_logs` (vector.dev/docs), with end-to-end acknowledgements.

use std::{path::Path, process::Command};

use super::{Peer, SPLUNK, Work};
use crate::Outcome;

pub(super) const PEER: Peer = Peer {
    name: "Vector",
    variable: "VECTOR",
    programs: &["vector"],
    version: &["--version"],
    wire: SPLUNK,
    command,
};

fn command(program: &Path, work: &Work) -> Outcome<Command> {
    let configuration = work.file(
        "vector.yaml",
        &format!(
            r#"data_dir: {state}
sources:
  log:
    type: file
    include: ["{log}"]
    read_from: beginning
    glob_minimum_cooldown_ms: 200
transforms:
  cri:
    type: remap
    inputs: [log]
    source: |
      parts = parse_regex!(.message, r'^(?P<time>\S+) (?P<stream>\S+) (?P<tags>\S+) (?P<line>.*)$')
      .message = parts.line
      .stream = parts.stream
      .timestamp = parse_timestamp!(parts.time, "%+")
sinks:
  hec:
    type: splunk_hec_logs
    inputs: [cri]
    endpoint: http://{receiver}
    default_token: secret
    index: platform
    sourcetype: kube:container:web
    compression: gzip
    encoding:
      codec: json
    batch:
      timeout_secs: 1
    healthcheck:
      enabled: false
    acknowledgements:
      enabled: true
      indexer_acknowledgements_enabled: false
"#,
            state = work.state().display(),
            log = work.log().display(),
            receiver = work.receiver,
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("--quiet").arg("--config").arg(configuration);
    Ok(command)
}
