//! What was archived so far of each run of a container, and the record that says that this is all. Sends nothing.

use std::sync::Arc;

use katonic_log_config::archive::{Completeness, FORMAT, Folder, Top, chain};
use serde::{Deserialize, Serialize};

pub use katonic_log_config::archive::Spot;

use crate::pod::Pod;

/// What a route has archived.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Ledger {
    /// How many objects the store has acknowledged.
    pub objects: u64,
    /// What is known of each run.
    pub runs: Vec<Run>,
    /// Runs that are being read and of which nothing was archived yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Start>,
}

/// How reading a run began.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Start {
    /// Name of the container.
    pub container: Arc<str>,
    /// How often the container had been restarted.
    pub restart: u32,
    /// Whether it began with the run; none: nobody has seen what came before.
    pub begins: Option<bool>,
}

/// One run of a container, from its start to its next restart.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Run {
    /// Name of the container.
    pub container: Arc<str>,
    /// How often the container had been restarted.
    pub restart: u32,
    /// Where its objects stand, below the sink's prefix. It stays, also when the pod's labels change.
    pub folder: String,
    /// How many objects there are.
    pub objects: u64,
    /// How many records they hold.
    pub lines: u64,
    /// How many bytes they hold, before compression.
    pub bytes: u64,
    /// How many records the policy's filters left out.
    pub dropped: u64,
    /// How many records, at least, were gone before they could be archived.
    pub lost: u64,
    /// See [`chain`].
    pub chain: String,
    /// Where archiving began.
    pub first: Spot,
    /// Where the last object ends.
    pub last: Spot,
    /// Whether the run begins where the archive does; none: nobody has seen what came before.
    #[serde(default)]
    pub begins: Option<bool>,
    /// Whether the container was started again afterwards, as far as the completeness record says.
    #[serde(default)]
    pub followed: bool,
    /// Whether the completeness record is in the store and says all this.
    pub recorded: bool,
}

/// What comes to a run with an object, or with what was read without one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addition {
    /// Records.
    pub lines: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// Records that were left out.
    pub dropped: u64,
    /// Records that were gone.
    pub lost: u64,
}

impl Ledger {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A run.
    pub fn run(&self, container: &str, restart: u32) -> Option<&Run> {
        let is_it = |run: &&Run| &*run.container == container && run.restart == restart;
        self.runs.iter().find(is_it)
    }

    /// Notes how reading a run begins, the first time it does.
    pub fn begin(&mut self, container: &Arc<str>, restart: u32, begins: Option<bool>) {
        let is_it = |start: &Start| start.container == *container && start.restart == restart;
        if self.run(container, restart).is_none() && !self.starts.iter().any(is_it) {
            self.starts.push(Start {
                container: Arc::clone(container),
                restart,
                begins,
            });
        }
    }

    /// How reading a run began of which nothing was archived yet, if that is known.
    pub fn start(&self, container: &str, restart: u32) -> Option<&Start> {
        let is_it = |start: &&Start| &*start.container == container && start.restart == restart;
        self.starts.iter().find(is_it)
    }

    /// Takes over what a run has become.
    pub fn put(&mut self, run: Run) {
        let is_other =
            |start: &Start| start.container != run.container || start.restart != run.restart;
        self.starts.retain(is_other);
        let is_it =
            |known: &&mut Run| known.container == run.container && known.restart == run.restart;
        match self.runs.iter_mut().find(is_it) {
            Some(known) => *known = run,
            None => self.runs.push(run),
        }
    }
}

impl Run {
    /// A run of which nothing was archived, and of which that begins here.
    pub fn new(
        container: &Arc<str>,
        restart: u32,
        folder: String,
        first: Spot,
        begins: Option<bool>,
    ) -> Self {
        Self {
            container: Arc::clone(container),
            restart,
            folder,
            objects: 0,
            lines: 0,
            bytes: 0,
            dropped: 0,
            lost: 0,
            chain: String::new(),
            last: first.clone(),
            first,
            begins,
            followed: false,
            recorded: false,
        }
    }

    /// Whether it is of an execution whose id was not known when its first object was cut.
    pub fn is_unidentified(&self) -> bool {
        matches!(
            Folder::parse(&self.folder),
            Some(Folder {
                top: Top::Unidentified(_),
                ..
            })
        )
    }

    /// With what was read and is in no object.
    #[must_use]
    pub fn with(mut self, addition: Addition) -> Self {
        let Addition {
            lines,
            bytes,
            dropped,
            lost,
        } = addition;
        self.lines += lines;
        self.bytes += bytes;
        self.dropped += dropped;
        self.lost += lost;
        self.recorded = false;
        self
    }

    /// With one more object, which ends here.
    #[must_use]
    pub fn with_object(self, addition: Addition, sha256: [u8; 32], last: Spot) -> Self {
        let chain = chain(&self.chain, &sha256);
        Self {
            objects: self.objects + 1,
            chain,
            last,
            ..self.with(addition)
        }
    }

    /// The completeness record: by it a reader can prove that nothing is missing.
    ///
    /// # Errors
    /// None for what these types can hold.
    pub fn record(&self, pod: &Pod, execution_id: Option<&str>) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec(&Completeness {
            format: FORMAT,
            execution_id: execution_id.map(str::to_owned),
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            container: self.container.to_string(),
            restart: self.restart,
            complete: self.lost == 0,
            objects: self.objects,
            lines: self.lines,
            bytes: self.bytes,
            dropped: self.dropped,
            lost: self.lost,
            begins: self.begins,
            followed: Some(self.followed),
            first: self.first.clone(),
            last: self.last.clone(),
            sha256_chain: self.chain.clone(),
        })?;
        json.push(b'\n');
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::bundle::hex;
    use sha2::{Digest, Sha256};

    use super::*;

    fn run() -> Run {
        let first = Spot {
            file: "00".into(),
            offset: 0,
        };
        Run::new(&"run".into(), 0, "folder/".into(), first, Some(true))
    }

    #[test]
    fn each_object_adds_to_the_totals_and_to_the_chain() {
        let addition = Addition {
            lines: 2,
            bytes: 30,
            ..Addition::default()
        };
        let spot = |offset| Spot {
            file: "00".into(),
            offset,
        };
        let one = run().with_object(addition, [1; 32], spot(10));
        let two = one.clone().with_object(addition, [2; 32], spot(20));
        assert_eq!((two.objects, two.lines, two.bytes), (2, 4, 60));
        assert_eq!(two.last.offset, 20);
        assert_eq!(two.chain, chain(&one.chain, &[2; 32]));
        // As `printf %s 0101… | sha256sum` has it.
        assert_eq!(one.chain, hex(&Sha256::digest("01".repeat(32))));
        let other = run().with_object(addition, [2; 32], spot(10));
        let swapped = other.with_object(addition, [1; 32], spot(20));
        assert_ne!(swapped.chain, two.chain, "the order counts");
    }

    #[test]
    fn how_a_run_began_is_kept_until_something_of_it_is_archived() {
        let mut ledger = Ledger::default();
        ledger.begin(&"run".into(), 0, Some(true));
        ledger.begin(&"run".into(), 0, None);
        let begins = |ledger: &Ledger| ledger.start("run", 0).map(|start| start.begins);
        assert_eq!(begins(&ledger), Some(Some(true)), "the first time counts");
        let json = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
        ledger.put(run());
        ledger.begin(&"run".into(), 0, None);
        assert_eq!(begins(&ledger), None, "its run knows");
        // As an agent wrote it that knew nothing of this.
        let older = r#"{"objects":1,"runs":[{"container":"run","restart":0,"folder":"f/","objects":1,"lines":1,"bytes":1,"dropped":0,
            "lost":0,"chain":"","first":{"file":"a","offset":0},"last":{"file":"a","offset":1},"recorded":false}]}"#;
        let older: Ledger = serde_json::from_str(older).unwrap();
        assert_eq!(older.runs[0].begins, None);
    }

    #[test]
    fn a_run_of_which_something_was_lost_is_not_called_complete() {
        let record = |run: Run| -> serde_json::Value {
            let json = run.record(&Pod::default(), Some("63d1")).unwrap();
            serde_json::from_slice(&json).unwrap()
        };
        let whole = record(run());
        assert_eq!(
            (&whole["complete"], &whole["lines"]),
            (&true.into(), &0.into())
        );
        assert_eq!(whole["execution_id"], "63d1");
        assert_eq!(
            (&whole["begins"], &whole["followed"]),
            (&true.into(), &false.into())
        );
        let unseen = Run {
            begins: None,
            followed: true,
            ..run()
        };
        let unseen = record(unseen);
        assert_eq!(unseen.get("begins"), None, "nobody knows");
        assert_eq!(unseen["followed"], true);
        let lost = Addition {
            lost: 1,
            ..Addition::default()
        };
        assert_eq!(record(run().with(lost))["complete"], false);
    }
}
