//! Fluent Bit: `tail` to `splunk` (docs.fluentbit.io), with its buffer on the disk and retries without limit.

use std::{path::Path, process::Command};

use super::{Peer, SPLUNK, Work};
use crate::{Outcome, lines::POD};

pub(super) const PEER: Peer = Peer {
    name: "Fluent Bit",
    variable: "FLUENT_BIT",
    programs: &["fluent-bit"],
    version: &["--version"],
    wire: SPLUNK,
    command,
};

fn command(program: &Path, work: &Work) -> Outcome<Command> {
    let (log, state) = (work.log(), work.state());
    let (address, port) = (work.receiver.ip(), work.receiver.port());
    let configuration = work.file(
        "fluent-bit.yaml",
        &format!(
            r"service:
  flush: 1
  grace: 25
  log_level: warn
  http_server: off
  storage.path: {state}/storage
  storage.sync: normal
pipeline:
  inputs:
    - name: tail
      path: {log}
      tag: kube
      read_from_head: true
      refresh_interval: 1
      multiline.parser: cri
      db: {state}/tail.db
      storage.type: filesystem
  outputs:
    - name: splunk
      match: '*'
      host: {address}
      port: {port}
      tls: off
      splunk_token: secret
      compress: gzip
      event_host: {POD}
      event_index: platform
      event_sourcetype: kube:container:web
      retry_limit: no_limits
",
            state = state.display(),
            log = log.display(),
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("--config").arg(configuration);
    Ok(command)
}
