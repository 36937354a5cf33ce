//! What containers wrote, as the runtime has it in its files, beside what arrived.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
};

use anyhow::{Context as _, Result, ensure};
use katonic_logging_e2e::receiver::{Record, tally::sequence_number};

/// The log file of a container, opened while it was there: what the kubelet deletes with the pod can still be read.
#[derive(Debug)]
pub struct LogFile(File);

impl LogFile {
    /// Takes the file.
    pub fn new(file: File) -> Self {
        Self(file)
    }

    /// The numbers of the lines in it, in their order. Short lines are never in parts.
    pub fn numbers(&self) -> Result<Vec<usize>> {
        let mut text = String::new();
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)
            .context("failed to read a log file")?;
        let number = |line: &str| {
            let mut fields = line.splitn(4, ' ').skip(3);
            let line = fields.next().context("a line without text")?;
            let (number, _) = sequence_number(line).context("a line without a number")?;
            Ok(number)
        };
        // Of a line that is being written there may be a part.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().map(number).collect()
    }
}

/// What became of the lines of one writer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivered {
    /// How many lines are in the file.
    pub written: usize,
    /// Those that did not arrive, in order.
    pub missing: Vec<usize>,
    /// Lines that arrived again.
    pub duplicates: usize,
    /// Lines that arrived for the first time after one with a higher number.
    pub out_of_order: usize,
    /// Lines that arrived and are not in the file.
    pub unwritten: usize,
}

impl Delivered {
    /// Compares.
    pub fn of(written: &[usize], records: &[Record]) -> Self {
        let expected: BTreeSet<usize> = written.iter().copied().collect();
        let mut arrived: BTreeMap<usize, usize> = BTreeMap::new();
        let mut delivered = Self {
            written: expected.len(),
            missing: Vec::new(),
            duplicates: 0,
            out_of_order: 0,
            unwritten: 0,
        };
        let mut highest = 0;
        for record in records {
            let number = sequence_number(&record.line).map_or(0, |(number, _)| number);
            delivered.unwritten += usize::from(!expected.contains(&number));
            let times = arrived.entry(number).or_default();
            *times += 1;
            delivered.duplicates += usize::from(*times > 1);
            delivered.out_of_order += usize::from(*times == 1 && number < highest);
            highest = highest.max(number);
        }
        delivered.missing = expected
            .into_iter()
            .filter(|number| !arrived.contains_key(number))
            .collect();
        delivered
    }

    /// Every line of the file arrived, once and in order.
    pub fn exactly(&self, lines: usize) -> Result<()> {
        let once = Self {
            written: lines,
            missing: Vec::new(),
            duplicates: 0,
            out_of_order: 0,
            unwritten: 0,
        };
        ensure!(*self == once, "of {lines} lines: {self}");
        Ok(())
    }
}

impl fmt::Display for Delivered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            written,
            missing,
            duplicates,
            out_of_order,
            unwritten,
        } = self;
        let (first, last) = (missing.first(), missing.last());
        write!(
            formatter,
            "{written} in the file, {} of them missing ({first:?} to {last:?}), {duplicates} duplicates, {out_of_order} out \
             of order, {unwritten} that were not written",
            missing.len()
        )
    }
}

#[test]
fn what_is_missing_comes_again_or_was_never_written_is_counted() {
    let record = |number: usize| Record {
        line: format!("line {number:06} of 000009"),
        ..Record::default()
    };
    let arrived = [1, 3, 2, 2, 9].map(record);
    let expected = Delivered {
        written: 4,
        missing: vec![4],
        duplicates: 1,
        out_of_order: 1,
        unwritten: 1,
    };
    let delivered = Delivered::of(&[1, 2, 3, 4], &arrived);
    assert_eq!(delivered, expected);
    assert!(delivered.exactly(4).is_err());
    assert!(
        Delivered::of(&[1, 2], &[1, 2].map(record))
            .exactly(2)
            .is_ok()
    );
}
