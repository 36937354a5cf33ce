//! What an archive holds, read as its documentation says: names, objects, completeness records. Corrects nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use katonic_log_config::bundle::hex_digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::receiver::{Record, json};

/// Everything below a prefix.
#[derive(Debug, Default)]
pub struct Archived {
    /// Objects, by key.
    pub objects: BTreeMap<String, Object>,
    /// Completeness records, by key.
    pub records: BTreeMap<String, Completeness>,
}

/// An object.
#[derive(Debug)]
pub struct Object {
    /// What all objects of its run begin with.
    pub run: String,
    /// Its number within the run.
    pub number: u64,
    /// The log file.
    pub file: String,
    /// The first byte of the log file that it covers, and the first that it does not.
    pub range: (u64, u64),
    /// Its records.
    pub records: Vec<Record>,
    /// How many bytes they are.
    pub bytes: u64,
    /// SHA-256 of it as it is stored, in hex.
    sha256: String,
}

/// What is said of a run once it is whole.
#[derive(Clone, Debug, Deserialize)]
pub struct Completeness {
    /// Version of its form.
    pub format: u32,
    /// Whether nothing was lost.
    pub complete: bool,
    /// Objects.
    pub objects: u64,
    /// Records.
    pub lines: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Records that filters left out.
    pub dropped: u64,
    /// Records that are gone.
    pub lost: u64,
    /// Where the archive begins.
    pub first: Spot,
    /// Where it ends.
    pub last: Spot,
    /// SHA-256 over all objects.
    pub sha256_chain: String,
    /// Where the run comes from.
    #[serde(flatten)]
    pub about: Map<String, Value>,
}

/// A place in a log file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Spot {
    /// The file.
    pub file: String,
    /// The byte.
    pub offset: u64,
}

impl Archived {
    /// Reads everything of an archive, by key.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn read(contents: BTreeMap<String, Bytes>) -> Result<Self> {
        let mut archived = Self::default();
        for (key, content) in contents {
            if key.ends_with("-complete.json") {
                let record = serde_json::from_slice(&content)
                    .with_context(|| format!("failed to read {key}"))?;
                archived.records.insert(key, record);
            } else {
                let object = Object::read(&key, &content)
                    .with_context(|| format!("failed to read {key}"))?;
                archived.objects.insert(key, object);
            }
        }
        Ok(archived)
    }

    /// All records in the order of their objects' names.
    pub fn lines(&self) -> impl Iterator<Item = &Record> {
        self.objects.values().flat_map(|object| &object.records)
    }

    /// Proves by each completeness record that nothing of its run is missing, and that every object has one; gives how
    /// many lines that are.
    ///
    /// # Errors
    /// What is missing.
    pub fn verify(&self) -> Result<u64> {
        let mut lines = 0;
        let mut recorded = BTreeSet::new();
        for (key, record) in &self.records {
            let run = key.trim_end_matches("-complete.json");
            recorded.insert(run);
            let objects: Vec<&Object> = self
                .objects
                .values()
                .filter(|object| object.run == run)
                .collect();
            verify(&objects, record).with_context(|| format!("{key}: {record:?}"))?;
            ensure!(record.complete, "{key} says that lines are lost");
            lines += record.lines;
        }
        for object in self.objects.values() {
            let run = object.run.as_str();
            ensure!(recorded.contains(run), "{run} has no completeness record");
        }
        Ok(lines)
    }
}

fn verify(objects: &[&Object], record: &Completeness) -> Result<()> {
    ensure!(record.format == 1, "another form");
    let mut chain = String::new();
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, object) in objects.iter().enumerate() {
        ensure!(object.number == place as u64, "no object {place}");
        let (first, next) = object.range;
        let before = match ends.get(object.file.as_str()) {
            Some(end) => *end,
            None if place == 0 => record.first.offset,
            None => 0,
        };
        ensure!(
            first == before,
            "bytes {before} to {first} of {} are missing",
            object.file
        );
        ends.insert(&object.file, next);
        chain = hex_digest(format!("{chain}{}", object.sha256).as_bytes());
    }
    ensure!(
        objects.len() as u64 == record.objects,
        "{} objects",
        objects.len()
    );
    ensure!(chain == record.sha256_chain, "the chain is {chain}");
    let sum = |of: fn(&Object) -> u64| objects.iter().map(|object| of(object)).sum::<u64>();
    ensure!(
        sum(|object| object.records.len() as u64) == record.lines,
        "other lines"
    );
    ensure!(sum(|object| object.bytes) == record.bytes, "other bytes");
    if let Some(object) = objects.last() {
        let last = Spot {
            file: object.file.clone(),
            offset: object.range.1,
        };
        ensure!(last == record.last, "it ends at {last:?}");
    }
    Ok(())
}

impl Object {
    /// `<restart>-<route>-<number>-<file>-<first>-<next>.ndjson.gz` below the folder of its container.
    fn read(key: &str, content: &[u8]) -> Result<Self> {
        let name = key.strip_suffix(".ndjson.gz").context("another name")?;
        let mut parts = name.rsplitn(5, '-');
        let mut part = || parts.next().context("a part of the name is missing");
        let (next, first, file, number, run) = (part()?, part()?, part()?, part()?, part()?);
        let mut text = String::new();
        MultiGzDecoder::new(content).read_to_string(&mut text)?;
        ensure!(text.ends_with('\n'), "the last line does not end");
        let record = |line: &str| {
            let members = serde_json::from_str(line)?;
            json::record(members).map_err(|(_, reason)| anyhow::anyhow!(reason))
        };
        Ok(Self {
            run: run.to_owned(),
            number: number.parse()?,
            file: file.to_owned(),
            range: (first.parse()?, next.parse()?),
            records: text.lines().map(record).collect::<Result<_>>()?,
            bytes: text.len() as u64,
            sha256: hex_digest(content),
        })
    }
}
