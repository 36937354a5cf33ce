//! syslog-ng: `file()` to `http()` (syslog-ng Administration Guide), with flow control so that nothing is dropped.

use std::{path::Path, process::Command};

use super::{Peer, SPLUNK, Work};
use crate::{Outcome, lines::POD};

pub(super) const PEER: Peer = Peer {
    name: "syslog-ng",
    variable: "SYSLOG_NG",
    programs: &["syslog-ng"],
    version: &["--version"],
    wire: SPLUNK,
    command,
};

fn command(program: &Path, work: &Work) -> Outcome<Command> {
    let (log, receiver) = (work.log(), work.receiver);
    let configuration = work.file(
        "syslog-ng.conf",
        &format!(
            r#"@version: 3.35
options {{ stats-freq(0); time-reap(0); }};
source s_log {{
    file("{}" follow-freq(0.2) flags(no-parse) log-fetch-limit(1000) log-iw-size(20000));
}};
parser p_cri {{
    csv-parser(columns("cri.time", "cri.stream", "cri.tags", "cri.line") delimiters(chars(" ")) flags(greedy));
    date-parser(format("%Y-%m-%dT%H:%M:%S.%f%z") template("${{cri.time}}"));
}};
destination d_hec {{
    http(
        url("http://{receiver}/services/collector/event")
        method("POST")
        headers("Authorization: Splunk secret")
        body("$(format-json time=$S_UNIXTIME.$S_USEC host='{POD}' index='platform' sourcetype='kube:container:web' fields.pod='{POD}' fields.stream=${{cri.stream}} event=${{cri.line}})")
        delimiter("\n")
        workers(1)
        batch-lines(5000)
        batch-bytes(1000Kb)
        batch-timeout(1000)
        log-fifo-size(40000)
        persist-name("hec")
    );
}};
log {{ source(s_log); parser(p_cri); destination(d_hec); flags(flow-control); }};
"#,
            log.display(),
        ),
    )?;
    let state = work.state();
    let mut command = Command::new(program);
    command
        .args(["--foreground", "--no-caps"])
        .arg("--cfgfile")
        .arg(configuration)
        .arg("--persist-file")
        .arg(state.join("persist"))
        .arg("--pidfile")
        .arg(state.join("pid"))
        .arg("--control")
        .arg(state.join("control"));
    Ok(command)
}
