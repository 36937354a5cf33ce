//! Proves by names, contents and the completeness record of a run that nothing of it is missing, or says what is.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::{Completeness, FORMAT, Range, RunName, Spot, chain};

use super::restarts::Absent;

/// So much of what is wrong with a run is told one by one; of more the number is.
const TOLD: usize = 100;

/// What an object was found to hold.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Records.
    pub lines: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// SHA-256 of the object as it is stored.
    pub sha256: [u8; 32],
    /// Times of its first and its last record.
    pub times: Option<(Timestamp, Timestamp)>,
}

/// What is wrong with a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Damage {
    /// Part of the log is in no object.
    Missing(Missing),
    /// A number, or a range, is there a second time.
    Twice {
        /// The second object.
        key: String,
    },
    /// An object, or a completeness record, cannot be read.
    Unreadable {
        /// Which.
        key: String,
        /// Why not.
        reason: String,
    },
    /// The completeness record says something other than what is there.
    Contradiction {
        /// The record.
        key: String,
        /// What both say.
        reason: String,
    },
    /// Lines were gone before they could be archived.
    Lost {
        /// The completeness record, which says so.
        key: String,
        /// How many, at least.
        lines: u64,
    },
    /// The run had begun before the archive did.
    Late {
        /// The completeness record, which says so.
        key: String,
        /// Where the archive begins.
        first: Spot,
    },
    /// An object was deleted; its bucket keeps the version that it had.
    Deleted {
        /// Which.
        key: String,
        /// When.
        at: Timestamp,
    },
    /// Something else was put in place of an object; its bucket keeps the version before.
    Replaced {
        /// Which.
        key: String,
        /// How many versions there are.
        versions: u64,
        /// When the newest was stored.
        newest: Timestamp,
    },
    /// There is more that is wrong with a run.
    More {
        /// What the names of the run begin with.
        run: String,
        /// How much more.
        count: u64,
    },
    /// Nothing is there of whole runs.
    Absent(Absent),
    /// Between the archive and the log of the running container there may be lines that nobody has.
    Apart {
        /// What the names of the run begin with.
        run: String,
        /// The last archived line, and the first of the container.
        between: (Timestamp, Timestamp),
    },
}

/// Part of a log that is in no object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// What the names of the run begin with.
    pub run: String,
    /// How many objects are missing, and the number of the first; 0: none is, and yet a range is.
    pub objects: (u64, u64),
    /// From which byte on; none: from where the log begins.
    pub from: Option<Spot>,
    /// Up to which byte.
    pub to: Spot,
    /// The last line before, and the first line after it.
    pub between: (Option<Timestamp>, Option<Timestamp>),
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, first) = self.objects;
        match count {
            0 => {}
            1 => write!(formatter, "object {first:08} is missing, ")?,
            _ => write!(
                formatter,
                "objects {first:08} to {:08} are missing, ",
                first.saturating_add(count - 1)
            )?,
        }
        let to = &self.to;
        match &self.from {
            Some(from) if from.file == to.file => write!(
                formatter,
                "bytes {} to {} of log file {}",
                from.offset, to.offset, to.file
            )?,
            Some(from) => write!(
                formatter,
                "byte {} of log file {} to byte {} of log file {}",
                from.offset, from.file, to.offset, to.file
            )?,
            None => write!(
                formatter,
                "the beginning of the log to byte {} of log file {}",
                to.offset, to.file
            )?,
        }
        match self.between {
            (Some(before), Some(after)) => write!(formatter, ", between {before} and {after}")?,
            (Some(before), None) => write!(formatter, ", after {before}")?,
            (None, Some(after)) => write!(formatter, ", before {after}")?,
            (None, None) => {}
        }
        write!(formatter, ": {}", self.run)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(missing) => write!(formatter, "{missing}"),
            Self::Twice { key } => write!(
                formatter,
                "{key} holds what another object holds too: lines may be there twice"
            ),
            Self::Unreadable { key, reason } => write!(formatter, "{key} cannot be read: {reason}"),
            Self::Contradiction { key, reason } => {
                write!(formatter, "{key} is not true of what is there: {reason}")
            }
            Self::Lost { key, lines } => write!(
                formatter,
                "at least {lines} lines were lost before they could be archived, says {key}"
            ),
            Self::Late { key, first } => write!(
                formatter,
                "the log begins in the middle, at byte {} of log file {}: what came before was gone before it could be archived, says {key}",
                first.offset, first.file
            ),
            Self::Deleted { key, at } => write!(
                formatter,
                "{key} was deleted, at {at}: its versions are there behind a marker, which `aws s3api list-object-versions` shows"
            ),
            Self::Replaced {
                key,
                versions,
                newest,
            } => write!(
                formatter,
                "{key} was replaced: it has {versions} versions that differ, the newest of {newest}, and what is read is that one"
            ),
            Self::More { run, count } => {
                write!(
                    formatter,
                    "{count} more faults of this kind or another: {run}"
                )
            }
            Self::Absent(absent) => write!(formatter, "{absent}"),
            Self::Apart {
                run,
                between: (archived, running),
            } => write!(
                formatter,
                "lines between {archived}, the last in the archive, and {running}, the first that the pod still has, may be missing: {run}"
            ),
        }
    }
}

/// What is known of a run in the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Everything is there; so many records were left out by filters.
    Whole {
        /// Records that filters left out.
        dropped: u64,
        /// Whether the objects were read, all of them; otherwise names and numbers say so.
        is_read: bool,
        /// Whether it is known that the run begins where the archive does.
        is_from_beginning: bool,
        /// Whether the container was started again; none: an older agent has archived it.
        followed: Option<bool>,
    },
    /// It goes on, or its pod ended before everything was delivered.
    Open,
    /// Something is missing or wrong.
    Damaged,
}

/// Follows a run, object by object in the order of its log.
#[derive(Clone, Debug)]
pub struct Proof {
    name: RunName,
    record: Option<Completeness>,
    /// The number that the next object has.
    next: u64,
    /// How far each log file goes.
    ends: BTreeMap<String, u64>,
    last: Option<Spot>,
    chain: String,
    /// The chain after as many objects as the completeness record speaks of.
    chain_of_record: Option<String>,
    lines: u64,
    bytes: u64,
    /// Objects that were not read, or not to their end.
    unread: u64,
    newest: Option<Timestamp>,
    damages: Vec<Damage>,
    /// Damages that are not told one by one.
    more: u64,
    /// Whether objects before the first that is there may have expired.
    may_have_expired: bool,
}

impl Proof {
    /// A proof that has seen nothing.
    pub fn new(name: RunName, record: Option<Completeness>) -> Self {
        let mut damages = Vec::new();
        let record = record.filter(|record| {
            let is_known = record.format <= FORMAT;
            if !is_known {
                damages.push(Damage::Unreadable {
                    key: name.record(),
                    reason: format!(
                        "it has form {}, and this katonic-logging reads up to {FORMAT}: use a newer one",
                        record.format
                    ),
                });
            }
            is_known
        });
        let is_of_nothing = |record: &Completeness| record.objects == 0;
        Self {
            name,
            chain_of_record: record.as_ref().is_some_and(is_of_nothing).then(String::new),
            record,
            next: 0,
            ends: BTreeMap::new(),
            last: None,
            chain: String::new(),
            lines: 0,
            bytes: 0,
            unread: 0,
            newest: None,
            damages,
            more: 0,
            may_have_expired: false,
        }
    }

    /// What was stored first may have been kept for as long as it was to be, and is then no damage.
    pub fn may_have_expired(&mut self) {
        self.may_have_expired = true;
    }

    /// Takes over what another proof of the same run knows, which was begun later and has seen no object: a completeness record
    /// that was not there before.
    pub fn adopt(&mut self, later: Self) {
        self.more = self.more.saturating_add(later.more);
        for damage in later.damages {
            self.note(damage);
        }
        if let Some(record) = later.record {
            self.chain_of_record = (record.objects == self.next).then(|| self.chain.clone());
            self.record = Some(record);
        }
    }

    /// Notes what cannot be read.
    pub fn unreadable(&mut self, key: String, reason: String) {
        self.note(Damage::Unreadable { key, reason });
    }

    /// Notes another damage.
    pub fn note(&mut self, damage: Damage) {
        if self.damages.len() < TOLD {
            self.damages.push(damage);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// The next object; `content` is none when it was not read to its end.
    pub fn object(&mut self, range: &Range, content: Option<&Content>) {
        let first = content.and_then(|content| content.times);
        self.place(range, first.map(|(first, _)| first));
        if let Some((_, last)) = first {
            self.newest = Some(last);
        }
        match content {
            Some(content) => {
                self.lines = self.lines.saturating_add(content.lines);
                self.bytes = self.bytes.saturating_add(content.bytes);
                self.chain = chain(&self.chain, &content.sha256);
            }
            None => self.unread += 1,
        }
        let is_last = |record: &Completeness| record.objects == self.next;
        if self.record.as_ref().is_some_and(is_last) {
            self.chain_of_record = Some(self.chain.clone());
        }
    }

    /// Judges whether an object goes on where the one before it has ended.
    fn place(&mut self, range: &Range, first_line: Option<Timestamp>) {
        if self.may_have_expired && self.next == 0 && range.number > 0 {
            self.next = range.number;
            self.unread = self.unread.saturating_add(range.number);
            self.ends.insert(range.file.clone(), range.first);
        }
        let before = match self.ends.get(&range.file) {
            Some(end) => *end,
            // The archive may have begun in the middle of a log.
            None if self.next == 0 && range.number == 0 => match &self.record {
                Some(record) if record.first.file == range.file => record.first.offset,
                _ => range.first,
            },
            None => 0,
        };
        let missing_objects = range.number.saturating_sub(self.next);
        if range.number < self.next || range.first < before {
            let key = self.name.object(range);
            self.note(Damage::Twice { key });
        } else if missing_objects > 0 || range.first > before {
            self.note(Damage::Missing(Missing {
                run: self.name.to_string(),
                objects: (missing_objects, self.next),
                from: self.place_of_gap(range, missing_objects, before),
                to: Spot {
                    file: range.file.clone(),
                    offset: range.first,
                },
                between: (self.newest, first_line),
            }));
        }
        self.next = self.next.max(range.number.saturating_add(1));
        let end = self.ends.entry(range.file.clone()).or_default();
        *end = range.next.max(*end);
        self.last = Some(Spot {
            file: range.file.clone(),
            offset: range.next,
        });
    }

    fn place_of_gap(&self, range: &Range, missing_objects: u64, before: u64) -> Option<Spot> {
        let in_file = || Spot {
            file: range.file.clone(),
            offset: before,
        };
        if missing_objects == 0 || self.ends.contains_key(&range.file) {
            return Some(in_file());
        }
        let begin = || self.record.as_ref().map(|record| record.first.clone());
        self.last.clone().or_else(begin)
    }

    /// How many records were read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What the completeness record says of all that was seen.
    pub fn finish(mut self) -> (Standing, Vec<Damage>) {
        let Some(record) = self.record.take() else {
            let standing = if self.damages.is_empty() {
                Standing::Open
            } else {
                Standing::Damaged
            };
            return (standing, self.into_damages());
        };
        if self.may_have_expired && self.next == 0 {
            self.next = record.objects;
            self.unread = self.unread.saturating_add(record.objects);
        }
        if self.next < record.objects {
            self.note(Damage::Missing(Missing {
                run: self.name.to_string(),
                objects: (record.objects - self.next, self.next),
                from: self.last.clone().or_else(|| Some(record.first.clone())),
                to: record.last.clone(),
                between: (self.newest, None),
            }));
        }
        // What is missing or unreadable is told; that the sums differ then says nothing more.
        let is_whole = self.damages.is_empty() && self.unread == 0;
        if is_whole {
            self.compare(&record);
        }
        if record.lost > 0 || !record.complete {
            self.note(Damage::Lost {
                key: self.name.record(),
                lines: record.lost,
            });
        }
        if record.begins == Some(false) {
            self.note(Damage::Late {
                key: self.name.record(),
                first: record.first.clone(),
            });
        }
        let standing = if !self.damages.is_empty() {
            Standing::Damaged
        } else if self.next > record.objects {
            // A pod that went on after all has another record later.
            Standing::Open
        } else {
            Standing::Whole {
                dropped: record.dropped,
                is_read: self.unread == 0,
                is_from_beginning: record.begins == Some(true),
                followed: record.followed,
            }
        };
        (standing, self.into_damages())
    }

    fn into_damages(self) -> Vec<Damage> {
        let Self {
            name,
            mut damages,
            more,
            ..
        } = self;
        let run = name.to_string();
        damages.extend((more > 0).then_some(Damage::More { run, count: more }));
        damages
    }

    fn compare(&mut self, record: &Completeness) {
        let mut contradict = |reason: String| {
            self.damages.push(Damage::Contradiction {
                key: self.name.record(),
                reason,
            });
        };
        // A run that goes on may have come further before its record was seen.
        if let Some(chain) = &self.chain_of_record
            && *chain != record.sha256_chain
        {
            return contradict(format!(
                "the chain of its {} objects is {chain}, and it says {}: one of them is not what was stored",
                record.objects, record.sha256_chain
            ));
        }
        if self.next > record.objects {
            return;
        }
        for (what, there, said) in [
            ("lines", self.lines, record.lines),
            ("bytes", self.bytes, record.bytes),
        ] {
            if there != said {
                contradict(format!("there are {there} {what}, and it says {said}"));
            }
        }
        if let Some(last) = &self.last
            && *last != record.last
        {
            let Spot { file, offset } = &record.last;
            contradict(format!(
                "the last object ends at byte {} of log file {}, and it says at byte {offset} of {file}",
                last.offset, last.file
            ));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn name() -> RunName {
        RunName {
            folder: "executions/63d1/run-1_u-1/run/".into(),
            restart: 0,
            route: "aaaaaaaa".into(),
        }
    }

    fn range(number: u64, file: &str, first: u64, next: u64) -> Range {
        Range {
            number,
            file: file.into(),
            first,
            next,
        }
    }

    fn content(number: u64) -> Content {
        let second = i64::try_from(number).unwrap();
        let time = |more| Timestamp::from_second(1_800_000_000 + second * 10 + more).unwrap();
        Content {
            lines: 2,
            bytes: 30,
            sha256: [u8::try_from(number).unwrap(); 32],
            times: Some((time(0), time(5))),
        }
    }

    /// The record of a run with these objects.
    pub(crate) fn record(ranges: &[Range]) -> Completeness {
        let spot = |file: &str, offset| Spot {
            file: file.into(),
            offset,
        };
        let first = ranges.first();
        let last = ranges.last();
        Completeness {
            format: FORMAT,
            execution_id: Some("63d1".into()),
            namespace: "compute".into(),
            pod: "run-1".into(),
            pod_uid: "u-1".into(),
            container: "run".into(),
            restart: 0,
            complete: true,
            objects: ranges.len() as u64,
            lines: 2 * ranges.len() as u64,
            bytes: 30 * ranges.len() as u64,
            dropped: 0,
            lost: 0,
            begins: Some(true),
            followed: Some(false),
            first: first.map_or_else(|| spot("f", 0), |range| spot(&range.file, range.first)),
            last: last.map_or_else(|| spot("f", 0), |range| spot(&range.file, range.next)),
            sha256_chain: ranges.iter().fold(String::new(), |before, range| {
                chain(&before, &content(range.number).sha256)
            }),
            audit: None,
        }
    }

    fn log() -> Vec<Range> {
        vec![
            range(0, "f", 0, 100),
            range(1, "f", 100, 250),
            range(2, "g", 0, 50),
            range(3, "g", 50, 80),
        ]
    }

    fn judge(ranges: &[Range], record: Option<Completeness>) -> (Standing, Vec<String>) {
        let mut proof = Proof::new(name(), record);
        for range in ranges {
            proof.object(range, Some(&content(range.number)));
        }
        let (standing, damages) = proof.finish();
        (standing, damages.iter().map(ToString::to_string).collect())
    }

    const WHOLE: Standing = Standing::Whole {
        dropped: 0,
        is_read: true,
        is_from_beginning: true,
        followed: Some(false),
    };

    #[test]
    fn a_run_is_whole_when_names_contents_and_record_agree() {
        assert_eq!(judge(&log(), Some(record(&log()))), (WHOLE, vec![]));
        assert_eq!(judge(&log(), None), (Standing::Open, vec![]));
        assert_eq!(judge(&[], Some(record(&[]))), (WHOLE, vec![]));
        // A file whose beginning was left to another sink.
        let later = [range(0, "f", 40, 100), range(1, "f", 100, 250)];
        assert_eq!(judge(&later, Some(record(&later))), (WHOLE, vec![]));
        assert_eq!(judge(&later, None), (Standing::Open, vec![]));
    }

    #[test]
    fn a_run_whose_beginning_is_not_there_is_not_called_whole() {
        let later = [range(0, "g", 40, 100), range(1, "g", 100, 250)];
        let said = |begins| {
            let mut record = record(&later);
            record.begins = begins;
            judge(&later, Some(record))
        };
        let (standing, damages) = said(Some(false));
        assert_eq!(standing, Standing::Damaged);
        assert_eq!(
            damages,
            [
                "the log begins in the middle, at byte 40 of log file g: what came before was gone before it could be archived, says executions/63d1/run-1_u-1/run/0000-aaaaaaaa-complete.json"
            ]
        );
        let unknown = Standing::Whole {
            dropped: 0,
            is_read: true,
            is_from_beginning: false,
            followed: Some(false),
        };
        assert_eq!(said(None), (unknown, vec![]));
    }

    #[test]
    fn a_record_of_an_older_agent_is_read_and_leaves_open_how_the_run_began() {
        let mut json = serde_json::to_value(record(&log())).unwrap();
        let fields = json.as_object_mut().unwrap();
        assert!(fields.remove("begins").is_some() && fields.remove("followed").is_some());
        let older: Completeness = serde_json::from_value(json).unwrap();
        let unknown = Standing::Whole {
            dropped: 0,
            is_read: true,
            is_from_beginning: false,
            followed: None,
        };
        assert_eq!(judge(&log(), Some(older)), (unknown, vec![]));
    }

    #[test]
    fn which_range_is_missing_is_said_wherever_it_is() {
        let run = "executions/63d1/run-1_u-1/run/0000-aaaaaaaa";
        let missing = |gone: &[usize]| {
            let mut ranges = log();
            for index in gone.iter().rev() {
                ranges.remove(*index);
            }
            let (standing, damages) = judge(&ranges, Some(record(&log())));
            assert_eq!(standing, Standing::Damaged);
            assert_eq!(damages.len(), 1, "{damages:?}");
            damages.into_iter().next().unwrap()
        };
        assert_eq!(
            missing(&[1]),
            format!(
                "object 00000001 is missing, byte 100 of log file f to byte 0 of log file g, between 2027-01-15T08:00:05Z and 2027-01-15T08:00:20Z: {run}"
            )
        );
        assert_eq!(
            missing(&[0]),
            format!(
                "object 00000000 is missing, bytes 0 to 100 of log file f, before 2027-01-15T08:00:10Z: {run}"
            )
        );
        assert_eq!(
            missing(&[3]),
            format!(
                "object 00000003 is missing, bytes 50 to 80 of log file g, after 2027-01-15T08:00:25Z: {run}"
            )
        );
        assert_eq!(
            missing(&[1, 2]),
            format!(
                "objects 00000001 to 00000002 are missing, byte 100 of log file f to byte 50 of log file g, between 2027-01-15T08:00:05Z and 2027-01-15T08:00:30Z: {run}"
            )
        );
        assert_eq!(
            missing(&[0, 1, 2, 3]),
            format!(
                "objects 00000000 to 00000003 are missing, byte 0 of log file f to byte 80 of log file g: {run}"
            )
        );
        // Also before there is a record.
        let (_, damages) = judge(&[range(0, "f", 0, 100), range(2, "g", 0, 50)], None);
        assert!(
            damages[0].starts_with("object 00000001 is missing"),
            "{damages:?}"
        );
        let (_, damages) = judge(&[range(1, "f", 100, 150)], None);
        assert!(
            damages[0].contains("the beginning of the log to byte 100"),
            "{damages:?}"
        );
    }

    #[test]
    fn objects_that_have_expired_are_missed_in_the_middle_alone() {
        let judge = |ranges: &[Range]| {
            let mut proof = Proof::new(name(), Some(record(&log())));
            proof.may_have_expired();
            for range in ranges {
                proof.object(range, Some(&content(range.number)));
            }
            let (standing, damages) = proof.finish();
            (
                matches!(standing, Standing::Whole { is_read: false, .. }),
                damages.len(),
            )
        };
        assert_eq!(judge(&log()[1..]), (true, 0));
        assert_eq!(judge(&log()[3..]), (true, 0));
        assert_eq!(judge(&[]), (true, 0));
        assert_eq!(judge(&[log()[1].clone(), log()[3].clone()]), (false, 1));
        assert_eq!(judge(&log()[1..3]), (false, 1));
    }

    /// A listing has as many names as somebody likes to write.
    #[test]
    fn what_is_wrong_is_told_up_to_a_hundred_and_counted() {
        let mut proof = Proof::new(name(), None);
        for number in 0..1_000 {
            let at = 10 * number;
            proof.object(&range(2 * number, "f", 2 * at, 2 * at + 5), None);
        }
        let (standing, damages) = proof.finish();
        assert_eq!((standing, damages.len()), (Standing::Damaged, 101));
        assert_eq!(
            damages[100].to_string(),
            "899 more faults of this kind or another: executions/63d1/run-1_u-1/run/0000-aaaaaaaa"
        );
    }

    #[test]
    fn numbers_that_somebody_has_made_up_are_no_panic() {
        let mut proof = Proof::new(name(), Some(record(&log())));
        proof.object(&range(u64::MAX, "f", u64::MAX, 0), None);
        proof.object(&range(u64::MAX, "f", 0, u64::MAX), None);
        assert_eq!(proof.finish().0, Standing::Damaged);
        let mut record = record(&log());
        record.objects = u64::MAX;
        record.lost = u64::MAX;
        let (_, damages) = judge(&log(), Some(record));
        assert!(
            damages[0].contains("to 18446744073709551614 are missing"),
            "{damages:?}"
        );
    }

    #[test]
    fn ranges_that_do_not_join_are_damage_although_every_number_is_there() {
        let gap = [range(0, "f", 0, 100), range(1, "f", 120, 250)];
        let (_, damages) = judge(&gap, Some(record(&gap)));
        assert!(
            damages[0].starts_with("bytes 100 to 120 of log file f, between"),
            "{damages:?}"
        );
        let twice = [range(0, "f", 0, 100), range(0, "f", 0, 90)];
        let (_, damages) = judge(&twice, None);
        assert!(
            damages[0].ends_with("holds what another object holds too: lines may be there twice"),
            "{damages:?}"
        );
        let overlap = [range(0, "f", 0, 100), range(1, "f", 90, 120)];
        assert_eq!(judge(&overlap, None).0, Standing::Damaged);
    }

    #[test]
    fn a_record_that_is_not_true_is_told_apart_from_what_is_missing() {
        let refused = |change: fn(&mut Completeness)| {
            let mut record = record(&log());
            change(&mut record);
            let (standing, damages) = judge(&log(), Some(record));
            assert_eq!(standing, Standing::Damaged);
            assert_eq!(damages.len(), 1, "{damages:?}");
            damages.into_iter().next().unwrap()
        };
        assert!(
            refused(|record| record.sha256_chain.clear())
                .contains("the chain of its 4 objects is ")
        );
        assert!(refused(|record| record.lines += 1).contains("there are 8 lines, and it says 9"));
        assert!(
            refused(|record| record.bytes -= 1).contains("there are 120 bytes, and it says 119")
        );
        assert!(refused(|record| record.last.offset += 1).contains("ends at byte 80"));
        assert!(refused(|record| record.format += 1).contains("use a newer one"));
        let lost = refused(|record| {
            record.complete = false;
            record.lost = 7;
        });
        assert!(lost.starts_with("at least 7 lines were lost"), "{lost}");
    }

    #[test]
    fn a_run_that_goes_on_after_its_record_is_open() {
        let before = record(&log()[..2]);
        assert_eq!(
            judge(&log(), Some(before.clone())),
            (Standing::Open, vec![])
        );
        let mut other = before;
        other.sha256_chain.clear();
        assert_eq!(judge(&log(), Some(other)).0, Standing::Damaged);
    }

    #[test]
    fn a_record_that_comes_while_a_run_is_followed_proves_what_was_read_before() {
        let mut proof = Proof::new(name(), None);
        for range in &log()[..3] {
            proof.object(range, Some(&content(range.number)));
        }
        let mut early = proof.clone();
        early.adopt(Proof::new(name(), Some(record(&log()[..2]))));
        assert_eq!(early.finish(), (Standing::Open, vec![]));
        proof.adopt(Proof::new(name(), Some(record(&log()))));
        proof.object(&log()[3], Some(&content(3)));
        assert_eq!(proof.finish(), (WHOLE, vec![]));
    }

    #[test]
    fn what_was_not_read_is_judged_by_its_names() {
        let mut proof = Proof::new(name(), Some(record(&log())));
        for range in log() {
            proof.object(&range, None);
        }
        let standing = Standing::Whole {
            dropped: 0,
            is_read: false,
            is_from_beginning: true,
            followed: Some(false),
        };
        assert_eq!(proof.finish(), (standing, vec![]));
    }
}
