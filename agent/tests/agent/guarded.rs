//! What other processes of a pod that shares its process namespace can read of the agent.

use std::{
    io::{Error, Result},
    process::Command,
};

use nix::unistd::geteuid;

use crate::pod::Pod;

/// Root, as in a pod: starts the agent without capabilities, and then looks at it as root of another container without
/// `SYS_PTRACE` does.
const SCRIPT: &str = r#"
powerless="setpriv --bounding-set=-all --inh-caps=-all --"
as_another() { $powerless "$@" >/dev/null 2>&1; }
$powerless sleep 60 & other=$!
SECRET=hunter2 $powerless "$0" "$@" 2>/dev/null & agent=$!
trap 'kill $agent $other' EXIT
# Whoever looks can read a process that is not guarded.
tries=0
until as_another cat /proc/$other/environ; do
  tries=$((tries + 1))
  [ $tries -lt 500 ] || { echo "no process can be read"; exit 1; }
  sleep 0.01
done
tries=0
while as_another cat /proc/$agent/environ; do
  tries=$((tries + 1))
  [ $tries -lt 500 ] || { echo "its variables can be read"; exit 1; }
  sleep 0.01
done
if as_another cat /proc/$agent/maps; then echo "its memory can be read"; exit 1; fi
as_another ls /proc/$other/root/ || { echo "no files can be read"; exit 1; }
if as_another ls /proc/$agent/root/; then echo "its files can be read"; exit 1; fi
as_another cat /proc/$other/fd/0 || { echo "no open file can be read"; exit 1; }
if as_another cat /proc/$agent/fd/0; then echo "its open files can be read"; exit 1; fi
# It runs, and it is only the right that is missing.
grep -q hunter2 /proc/$agent/environ || { echo "the agent does not run"; exit 1; }
"#;

#[test]
fn no_other_process_of_the_same_user_reads_its_memory_its_variables_or_its_files() -> Result<()> {
    let pod = Pod::new()?;
    let mut shell = if geteuid().is_root() {
        Command::new("sh")
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "sh"]);
        unshare
    };
    let output = pod.arguments(shell.args(["-c", SCRIPT]), &[]).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(Error::other(said.concat()))
}
