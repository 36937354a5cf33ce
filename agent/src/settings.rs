//! Flags and environment of the process; the defaults are those of the injected sidecar.

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use katonic_log_config::layout;

use crate::pod::Pod;

/// What the process is started with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The pod's log directory.
    pub log_dir: PathBuf,
    /// The mounted bundle Secret.
    pub bundle_dir: PathBuf,
    /// The downward API file with the pod's labels.
    pub labels_file: PathBuf,
    /// The mount of the token with which it reports.
    pub token_dir: PathBuf,
    /// Where cursors are saved.
    pub state_dir: PathBuf,
    /// Where the termination message goes.
    pub termination_log: PathBuf,
    /// Longest time that a line waits for others, once it was seen.
    pub flush: Duration,
    /// How many bytes of deleted log files are held open for a sink that does not take them.
    pub most_held: u64,
    /// Longest time between SIGTERM and the end.
    pub drain: Duration,
    /// The pod.
    pub pod: Pod,
}

/// With the 200 ms at which files are looked at, a line is on its way within a second.
const FLUSH: Duration = Duration::from_millis(750);

/// Five times what the kubelet keeps of a container's log by default.
const MOST_HELD: u64 = 256 << 20;

/// Below the 30 s that a pod is given by default; no pod is held up for longer.
const DRAIN: Duration = Duration::from_secs(25);

/// The part of a shorter grace period that is used.
const OF_GRACE_PERIOD: (u32, u32) = (5, 6);

/// The kubelet gives no container less (`minimumGracePeriodInSeconds`).
const LEAST_GRACE_PERIOD: u64 = 2;

/// Longest time for the end of a pod whose specification gives it so many seconds.
///
/// Its containers may have used some of them before the agent is told, and whoever deletes the pod may give it others.
fn drain(grace_period: &str) -> Duration {
    // One that is not known is the default. A negative one is taken for one second by the API server.
    let Ok(seconds) = grace_period.parse::<i64>() else {
        return DRAIN;
    };
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let (of, all) = OF_GRACE_PERIOD;
    let grace_period = Duration::from_secs(seconds.max(LEAST_GRACE_PERIOD));
    DRAIN.min(
        grace_period
            .checked_mul(of)
            .map_or(DRAIN, |part| part / all),
    )
}

impl Settings {
    /// Reads the flags and the environment; none when help was asked for.
    ///
    /// # Errors
    /// For a flag that does not exist or a value that is no number.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let variable = |name| env::var(name).unwrap_or_default();
        let mut settings = Self {
            log_dir: layout::LOG_DIR.into(),
            bundle_dir: layout::BUNDLE_DIR.into(),
            labels_file: layout::LABELS_FILE.into(),
            token_dir: layout::TOKEN_DIR.into(),
            state_dir: layout::STATE_DIR.into(),
            termination_log: layout::TERMINATION_LOG.into(),
            flush: FLUSH,
            most_held: MOST_HELD,
            drain: drain(&variable(layout::ENV_GRACE_PERIOD)),
            pod: Pod {
                namespace: variable(layout::ENV_NAMESPACE),
                name: variable(layout::ENV_POD),
                uid: variable(layout::ENV_POD_UID),
                node: variable(layout::ENV_NODE),
            },
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("log-dir") => settings.log_dir = parser.value()?.into(),
                Long("bundle-dir") => settings.bundle_dir = parser.value()?.into(),
                Long("labels-file") => settings.labels_file = parser.value()?.into(),
                Long("token-dir") => settings.token_dir = parser.value()?.into(),
                Long("state-dir") => settings.state_dir = parser.value()?.into(),
                Long("termination-log") => settings.termination_log = parser.value()?.into(),
                Long("flush-ms") => {
                    settings.flush = Duration::from_millis(parser.value()?.parse()?);
                }
                Long("most-held-bytes") => settings.most_held = parser.value()?.parse()?,
                Long("drain-seconds") => {
                    settings.drain = Duration::from_secs(parser.value()?.parse()?);
                }
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(settings))
    }

    /// What `--help` prints.
    pub fn help() -> String {
        format!(
            "katonic-log-agent {}: delivers the container logs of its own pod

  --log-dir DIR           the pod's log directory [{}]
  --bundle-dir DIR        the mounted bundle Secret [{}]
  --labels-file FILE      the pod's labels, from the downward API [{}]
  --token-dir DIR         the mounted token with which it reports to the operator [{}]
  --state-dir DIR         where cursors are saved [{}]
  --termination-log FILE  where the termination message goes [{}]
  --flush-ms N            longest wait of a line for others [{}]
  --most-held-bytes N     how much of deleted log files is kept for a sink that takes nothing [{}]
  --drain-seconds N       longest time from SIGTERM to the end [five sixths of the grace period, at most {}]

Environment: {}, {}, {}, {}, {}
",
            env!("CARGO_PKG_VERSION"),
            layout::LOG_DIR,
            layout::BUNDLE_DIR,
            layout::LABELS_FILE,
            layout::TOKEN_DIR,
            layout::STATE_DIR,
            layout::TERMINATION_LOG,
            FLUSH.as_millis(),
            MOST_HELD,
            DRAIN.as_secs(),
            layout::ENV_NAMESPACE,
            layout::ENV_POD,
            layout::ENV_POD_UID,
            layout::ENV_NODE,
            layout::ENV_GRACE_PERIOD,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Settings>, lexopt::Error> {
        Settings::read(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_defaults_are_those_of_the_sidecar() {
        let settings = read(&[]).unwrap().unwrap();
        assert_eq!(settings.log_dir, PathBuf::from(layout::LOG_DIR));
        assert_eq!(settings.token_dir, PathBuf::from(layout::TOKEN_DIR));
        assert!(settings.drain < Duration::from_secs(30));
    }

    #[test]
    fn a_shorter_grace_period_leaves_time_to_count() {
        let millis = |grace_period| drain(grace_period).as_millis();
        assert_eq!(["30", "600", "", "soon"].map(millis), [25_000; 4]);
        assert_eq!(millis("12"), 10_000);
        assert_eq!(["2", "1", "0", "-1"].map(millis), [1666; 4]);
        assert_eq!(millis(&i64::MAX.to_string()), 25_000);
    }

    #[test]
    fn flags_replace_them_and_mistakes_are_told() {
        let settings = read(&["--log-dir", "/x", "--flush-ms=5"]).unwrap().unwrap();
        assert_eq!(
            (settings.log_dir, settings.flush),
            (PathBuf::from("/x"), Duration::from_millis(5))
        );
        assert!(read(&["--help"]).unwrap().is_none());
        assert!(read(&["--flush-ms", "soon"]).is_err());
        assert!(read(&["--no-such-flag"]).is_err());
    }
}
