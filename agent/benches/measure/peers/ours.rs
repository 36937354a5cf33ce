//! Our own agent, in the same run on the same input.

use std::{path::Path, process::Command};

use super::{Peer, SPLUNK, Work};
use crate::{
    Outcome,
    kinds::{self, Kind},
    pod,
};

pub(super) const PEER: Peer = Peer {
    name: "katonic-log-agent",
    variable: "KATONIC_LOG_AGENT",
    programs: &[],
    version: &["--help"],
    wire: SPLUNK,
    command: |program, work| command(program, work, &kinds::SPLUNK),
};

pub(super) const BY_OTLP: Peer = Peer {
    name: "katonic-log-agent (OTLP)",
    wire: kinds::PROTOBUF,
    command: |program, work| command(program, work, &kinds::OTLP),
    ..PEER
};

fn command(program: &Path, work: &Work, kind: &Kind) -> Outcome<Command> {
    let sink = kind.sink_at("sink", work.receiver)?;
    let directory = work.directory.path();
    pod::prepare(directory, vec![pod::policy(vec![sink])])?;
    Ok(pod::command(program, directory, &work.logs))
}
