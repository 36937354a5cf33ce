//! Names of log files. Opens none.

use std::fmt;

/// Order of the generations of one run of a container; the live one is the last.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Generation {
    /// Renamed by rotation; the kubelet appends a time that sorts as text.
    Rotated(Box<str>),
    /// Being written.
    Live,
}

/// The name of a log file: `<restart>.log`, `<restart>.log.<time>` once it was rotated, and `<restart>.log.<time>.gz`
/// once it was compressed (Kubernetes: `pkg/kubelet/logs/container_log_manager.go`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name {
    /// How often the container had been restarted.
    pub(super) restart: u32,
    pub(super) generation: Generation,
    /// Whether it is compressed.
    pub(super) packed: bool,
}

impl Name {
    /// Takes a name apart; none for what is no log file, or not yet: `.tmp` is being compressed.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (restart, rest) = name.split_once(".log")?;
        let restart = restart.parse().ok()?;
        if rest.is_empty() {
            return Some(Self {
                restart,
                generation: Generation::Live,
                packed: false,
            });
        }
        let rest = rest.strip_prefix('.')?;
        let (time, packed) = match rest.strip_suffix(".gz") {
            Some(time) => (time, true),
            None => (rest, false),
        };
        let is_time = !time.is_empty()
            && time
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-');
        is_time.then(|| Self {
            restart,
            generation: Generation::Rotated(time.into()),
            packed,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.log", self.restart)?;
        if let Generation::Rotated(time) = &self.generation {
            write!(formatter, ".{time}")?;
        }
        formatter.write_str(if self.packed { ".gz" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_kubelet_writes_them() {
        for name in [
            "0.log",
            "12.log",
            "0.log.20261123-101010",
            "3.log.20261123-101010.gz",
        ] {
            assert_eq!(Name::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "0.log.20261123-101010.tmp",
            "0.log.gz",
            "0.log.",
            "x.log",
            "-1.log",
            "log",
            "0.logs",
            "0.log.20261123-101010.gz.tmp",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn generations_are_ordered_by_time_and_the_live_one_is_the_last() {
        let names = ["0.log.20261123-101010.gz", "0.log.20261123-101020", "0.log"];
        let generations: Vec<_> = names
            .iter()
            .filter_map(|name| Name::parse(name))
            .map(|name| name.generation)
            .collect();
        assert!(generations.is_sorted());
        assert_eq!(generations.len(), names.len());
    }
}
