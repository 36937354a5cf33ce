//! Which runs of a container are known, and which must have been between and after them. Reads no object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A run of a container of a pod, as it is called in messages.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Which {
    /// UID of the pod, which sets pods apart.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// How often it had been restarted.
    pub restart: u32,
}

impl fmt::Display for Which {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.pod, self.container)?;
        match self.restart {
            0 => Ok(()),
            restart => write!(formatter, " (restart {restart})"),
        }
    }
}

/// Runs of which nothing is there, though a later one of the same container is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Absent {
    /// The first of them.
    pub first: Which,
    /// The restart of the last of them.
    pub last: u32,
    /// The restart of the next one that is there.
    pub next: u32,
    /// Whether the container was archived by agents that tell of runs that print nothing.
    pub is_silence_told: bool,
}

impl fmt::Display for Absent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first, last, next, ..
        } = self;
        let Which { pod, container, .. } = first;
        let restarts = |first: u32, last: u32| {
            if first == last {
                format!("restart {first}")
            } else {
                format!("restarts {first} to {last}")
            }
        };
        let runs = |first: u32, last: u32| match (first, last) {
            (0, 0) => "its first run".to_owned(),
            (0, last) => format!("its first run and {}", restarts(1, last)),
            (first, last) => restarts(first, last),
        };
        let runs = runs(first.restart, *last);
        write!(
            formatter,
            "nothing of {runs} of {pod}/{container} is there, although restart {next} is: it was removed, or gone before it could be archived"
        )?;
        if self.is_silence_told {
            Ok(())
        } else {
            formatter.write_str(", or printed nothing, which older agents did not tell")
        }
    }
}

/// What is known of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    is_archived: bool,
    /// Whether its completeness record says that the container was started again; none: nobody says.
    followed: Option<bool>,
}

/// The runs of all containers.
#[derive(Clone, Debug, Default)]
pub struct Restarts(BTreeMap<(String, String), BTreeMap<u32, (String, Known)>>);

impl Restarts {
    fn known(&mut self, which: &Which) -> &mut Known {
        let key = (which.pod_uid.clone(), which.container.clone());
        let runs = self.0.entry(key).or_default();
        let new = || (which.pod.clone(), Known::default());
        &mut runs.entry(which.restart).or_insert_with(new).1
    }

    /// A run is in the archive; `followed` is what its completeness record says.
    pub fn archived(&mut self, which: &Which, followed: Option<bool>) {
        let known = self.known(which);
        known.is_archived = true;
        known.followed = known.followed.max(followed);
    }

    /// The pod has a run that is not in the archive.
    pub fn live(&mut self, which: &Which) {
        self.known(which);
    }

    /// Runs that are missing: agents archive the runs of a container one after the other, so before what is archived of a run
    /// something is of every run before it.
    pub fn absent(&self) -> Vec<Absent> {
        let mut absent = Vec::new();
        for ((pod_uid, container), runs) in &self.0 {
            let mut expected = 0;
            let is_silence_told = runs.values().any(|(_, known)| known.followed.is_some());
            for (restart, (pod, known)) in runs {
                if *restart > expected && known.is_archived {
                    absent.push(Absent {
                        first: Which {
                            pod_uid: pod_uid.clone(),
                            pod: pod.clone(),
                            container: container.clone(),
                            restart: expected,
                        },
                        last: restart - 1,
                        next: *restart,
                        is_silence_told,
                    });
                }
                expected = restart.saturating_add(1);
            }
        }
        absent
    }

    /// Runs that have begun, as the completeness record of the one before says, and of which nothing is there yet.
    pub fn awaited(&self) -> BTreeSet<Which> {
        let runs = self.0.iter().filter_map(|((pod_uid, container), runs)| {
            let (restart, (pod, known)) = runs.last_key_value()?;
            (known.followed == Some(true)).then(|| Which {
                pod_uid: pod_uid.clone(),
                pod: pod.clone(),
                container: container.clone(),
                restart: restart.saturating_add(1),
            })
        });
        runs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(restart: u32) -> Which {
        Which {
            pod_uid: "u-1".into(),
            pod: "run-1".into(),
            container: "run".into(),
            restart,
        }
    }

    fn restarts(archived: &[(u32, Option<bool>)], live: &[u32]) -> Restarts {
        let mut restarts = Restarts::default();
        for (restart, followed) in archived {
            restarts.archived(&which(*restart), *followed);
        }
        for restart in live {
            restarts.live(&which(*restart));
        }
        restarts
    }

    fn absent(archived: &[(u32, Option<bool>)], live: &[u32]) -> Vec<String> {
        let absent = restarts(archived, live).absent();
        absent.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_run_that_is_not_there_though_a_later_one_is_is_missing() {
        let (on, last) = (Some(true), Some(false));
        assert_eq!(
            absent(&[(0, on), (1, on), (2, last)], &[]),
            [] as [String; 0]
        );
        assert_eq!(
            absent(&[(0, on), (2, last)], &[]),
            [
                "nothing of restart 1 of run-1/run is there, although restart 2 is: it was removed, or gone before it could be archived"
            ]
        );
        assert_eq!(
            absent(&[(1, on), (5, last)], &[]),
            [
                "nothing of its first run of run-1/run is there, although restart 1 is: it was removed, or gone before it could be archived",
                "nothing of restarts 2 to 4 of run-1/run is there, although restart 5 is: it was removed, or gone before it could be archived",
            ]
        );
        assert!(
            absent(&[(3, last)], &[])[0]
                .starts_with("nothing of its first run and restarts 1 to 2")
        );
        assert!(
            absent(&[(0, None), (2, None)], &[])[0]
                .ends_with("or printed nothing, which older agents did not tell")
        );
    }

    #[test]
    fn what_only_the_pod_has_may_have_others_before_it_that_are_archived_later() {
        assert_eq!(absent(&[], &[7]), [] as [String; 0]);
        assert_eq!(absent(&[(0, Some(true))], &[2]), [] as [String; 0]);
        // A run that the pod still has is known, archived or not.
        assert_eq!(
            absent(&[(0, Some(true)), (2, None)], &[1]),
            [] as [String; 0]
        );
    }

    #[test]
    fn a_run_that_followed_and_is_not_there_is_awaited() {
        let awaited = |archived: &[(u32, Option<bool>)], live: &[u32]| {
            let awaited = restarts(archived, live).awaited();
            awaited.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(awaited(&[(0, Some(true))], &[]), ["run-1/run (restart 1)"]);
        assert_eq!(awaited(&[(0, Some(true))], &[1]), [] as [String; 0]);
        assert_eq!(awaited(&[(0, Some(false))], &[]), [] as [String; 0]);
        assert_eq!(awaited(&[(0, None)], &[]), [] as [String; 0]);
    }
}
