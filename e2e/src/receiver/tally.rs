//! Counts numbered lines: what came once, twice, late or not at all. It does not care where they came from.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
};

use super::{Record, record::Source};

/// What came of the lines `line 000001 of 020000` to `line 020000 of 020000` of one writer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// How many lines there should be, as the lines themselves say; 0 when none came.
    pub expected: usize,
    /// Different numbers that came.
    pub unique: usize,
    /// Numbers that did not come.
    pub missing: usize,
    /// Lines that came again.
    pub duplicates: usize,
    /// Those of the duplicates that came with the id that the line had the first time.
    pub identified: usize,
    /// Lines whose id another line had before.
    pub ambiguous: usize,
    /// Lines that came for the first time after one with a higher number.
    pub out_of_order: usize,
    /// Lines without a number, or with one that cannot be.
    pub unnumbered: usize,
}

impl Tally {
    /// Counts the lines of one writer.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut tally = Self::default();
        let mut seen: HashMap<usize, &str> = HashMap::new();
        let mut ids: HashMap<&str, usize> = HashMap::new();
        let mut highest = 0;
        for record in records {
            let Some((number, total)) = sequence_number(&record.line) else {
                tally.unnumbered += 1;
                continue;
            };
            tally.expected = tally.expected.max(total);
            let id = record.id();
            match seen.entry(number) {
                Entry::Occupied(first) => {
                    tally.duplicates += 1;
                    tally.identified += usize::from(!id.is_empty() && *first.get() == id);
                }
                Entry::Vacant(place) => {
                    place.insert(id);
                    tally.out_of_order += usize::from(number < highest);
                }
            }
            if !id.is_empty() {
                tally.ambiguous += usize::from(*ids.entry(id).or_insert(number) != number);
            }
            highest = highest.max(number);
        }
        tally.unique = seen.len();
        tally.missing = tally.expected.saturating_sub(tally.unique);
        tally
    }

    /// Counts the lines of each writer on its own: a writer is one stream of one container.
    pub fn by_source<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<Source, Self> {
        let mut sources: BTreeMap<Source, Vec<&Record>> = BTreeMap::new();
        for record in records {
            sources.entry(record.source()).or_default().push(record);
        }
        sources
            .into_iter()
            .map(|(source, records)| (source, Self::of(records)))
            .collect()
    }

    /// Whether all of `lines` came, no matter how often.
    pub fn is_complete(&self, lines: usize) -> bool {
        self.expected == lines && self.missing == 0
    }

    /// Whether a reader can tell every duplicate by its id, and no two lines are taken for one.
    pub fn duplicates_are_told_by_id(&self) -> bool {
        self.identified == self.duplicates && self.ambiguous == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            unique,
            missing,
            duplicates,
            identified,
            ambiguous,
            out_of_order,
            unnumbered,
        } = self;
        write!(
            formatter,
            "{unique} of {expected} lines, {missing} missing, {duplicates} duplicates ({identified} told by their \
             ids), {ambiguous} with another line's id, {out_of_order} out of order, {unnumbered} without a number"
        )
    }
}

/// The number of a line and how many there are: `line 000123 of 020000`, with anything after it.
pub fn sequence_number(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("line") {
        return None;
    }
    let number = words.next()?.parse().ok()?;
    if words.next() != Some("of") {
        return None;
    }
    let total = words.next()?.parse().ok()?;
    (1..=total).contains(&number).then_some((number, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(numbers: &[usize]) -> Vec<Record> {
        numbers
            .iter()
            .map(|number| Record {
                line: format!("line {number:06} of 000005 x"),
                ..Record::default()
            })
            .collect()
    }

    #[test]
    fn what_is_missing_comes_again_or_late_is_counted() {
        let tally = Tally::of(&records(&[1, 4, 3, 3, 1]));
        let expected = Tally {
            expected: 5,
            unique: 3,
            missing: 2,
            duplicates: 2,
            out_of_order: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
        assert!(!tally.is_complete(5));
        assert!(Tally::of(&records(&[1, 2, 3, 4, 5, 5])).is_complete(5));
    }

    #[test]
    fn a_duplicate_is_told_by_the_id_that_it_had_before() {
        let mut all = records(&[1, 2, 2, 3, 3, 4, 4]);
        for (record, id) in all.iter_mut().zip(["a", "b", "b", "c", "d", "a", "a"]) {
            record.fields.insert("record_id".to_owned(), id.into());
        }
        let tally = Tally::of(&all);
        assert_eq!(
            (tally.duplicates, tally.identified, tally.ambiguous),
            (3, 2, 2)
        );
        assert!(!tally.duplicates_are_told_by_id());
        assert!(Tally::of(&all[..3]).duplicates_are_told_by_id());
        // Lines without ids cannot be told from lines that were written twice.
        assert!(!Tally::of(&records(&[1, 1])).duplicates_are_told_by_id());
    }

    #[test]
    fn only_numbers_that_can_be_are_numbers() {
        assert_eq!(
            sequence_number("line 000123 of 020000 and more"),
            Some((123, 20_000))
        );
        for line in [
            "",
            "line",
            "line 1 of",
            "line 0 of 5",
            "line 6 of 5",
            "a line 1 of 5",
        ] {
            assert_eq!(sequence_number(line), None, "{line:?}");
        }
    }

    #[test]
    fn writers_are_counted_apart() {
        let mut all = records(&[1, 2, 3, 4, 5]);
        for record in records(&[1, 2]) {
            let mut record = record;
            record.fields.insert("stream".to_owned(), "stderr".into());
            all.push(record);
        }
        let tallies = Tally::by_source(&all);
        let missing: Vec<_> = tallies.values().map(|tally| tally.missing).collect();
        assert_eq!(missing, [0, 3]);
    }
}
