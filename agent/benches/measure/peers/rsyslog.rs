//! rsyslog: `imfile` to `omfwd` over TCP, because Debian's has no `omhttp`: no compression and no answers.

use std::{path::Path, process::Command};

use super::{Peer, Work};
use crate::{Outcome, receiver::Wire};

pub(super) const PEER: Peer = Peer {
    name: "rsyslog (TCP)",
    variable: "RSYSLOGD",
    programs: &["rsyslogd"],
    version: &["-v"],
    wire: Wire::Tcp,
    command,
};

fn command(program: &Path, work: &Work) -> Outcome<Command> {
    let (address, port) = (work.receiver.ip(), work.receiver.port());
    let state = work.state();
    let configuration = work.file(
        "rsyslog.conf",
        &format!(
            r#"global(workDirectory="{state}")
module(load="imfile")
template(name="line" type="string"
    string="<134>1 %msg:F,32:1% %hostname% web - - [pod stream=\"%msg:F,32:2%\"] %msg:41:$%")
ruleset(name="deliver") {{
    action(type="omfwd" target="{address}" port="{port}" protocol="tcp" TCP_Framing="octet-counted" template="line"
        action.resumeRetryCount="-1" action.resumeInterval="1"
        queue.type="LinkedList" queue.filename="deliver" queue.saveOnShutdown="on" queue.size="20000")
}}
input(type="imfile" file="{log}" tag="web" freshStartTail="off" ruleset="deliver")
"#,
            state = state.display(),
            log = work.log().display(),
        ),
    )?;
    let mut command = Command::new(program);
    command
        .arg("-n")
        .arg("-f")
        .arg(configuration)
        .arg("-i")
        .arg(state.join("pid"));
    Ok(command)
}
