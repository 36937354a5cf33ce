//! Compares the record of audit events with another copy: lines of a syslog file, or of an export as JSON.

use std::{collections::HashMap, fmt};

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::audit::Fingerprint;
use serde_json::Value;

use super::{Entry, finding::shown, query::Window};

/// How deep the id of a record may stand in an export: below `result`, `properties`, `fields` or `attributes`, most often.
const LEVELS: usize = 3;

/// The names of a record's id, of syslog's structured data and of all fields, and of OTLP.
const IDS: [&str; 2] = ["record_id", "log.record.uid"];

/// So many ids are told one by one; of more the number is.
const TOLD: usize = 100;

/// What a line of a copy says of a record.
#[derive(Clone, Debug)]
pub struct Told {
    /// The record's id.
    pub id: String,
    /// What it says; none where the copy has it in another form, or in parts.
    pub said: Option<Fingerprint>,
    /// When its line was written, if the copy says it.
    pub time: Option<Timestamp>,
}

impl Told {
    /// Reads a line of a copy; none where it names no record.
    pub fn read(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\n', '\r']);
        let json = line.trim();
        let json = json.strip_prefix('[').unwrap_or(json);
        let json = json.trim_end_matches([',', ']']);
        if !json.starts_with('{') {
            return Self::of_syslog(line);
        }
        if let Ok(entry) = Entry::read(json.as_bytes())
            && !entry.id.is_empty()
        {
            return Some(Self {
                said: Some(entry.fingerprint()),
                time: Some(entry.time),
                id: entry.id.into_owned(),
            });
        }
        let value: Value = serde_json::from_str(json).ok()?;
        let Some(id) = id_in(&value, LEVELS) else {
            return message_in(&value, LEVELS);
        };
        Some(Self {
            id,
            said: None,
            time: None,
        })
    }

    /// A message with its structured data, as RFC 5424 has it, whatever a server has put before it.
    fn of_syslog(line: &str) -> Option<Self> {
        const ID: &str = " record_id=\"";
        let element = line.find("[k8s@")?;
        let start = element + line[element..].find(ID)? + ID.len();
        let (id, rest) = line[start..].split_once('"')?;
        // What follows the id is two numbers of a part, or nothing.
        let (numbers, text) = rest.split_once(']')?;
        let is_whole = numbers.is_empty() && !text.trim().is_empty();
        let said = is_whole.then(|| Fingerprint::of(text));
        let header = &line[..element];
        let time = header.split(' ').find_map(|word| word.parse().ok());
        Some(Self {
            id: id.to_owned(),
            said,
            time,
        })
    }
}

fn id_in(value: &Value, levels: usize) -> Option<String> {
    let members = value.as_object()?;
    let own = IDS.iter().find_map(|name| members.get(*name)?.as_str());
    if let Some(id) = own {
        return Some(id.to_owned());
    }
    let levels = levels.checked_sub(1)?;
    members.values().find_map(|value| id_in(value, levels))
}

/// A message of syslog, or its structured data, among the values of an object, as servers have it that write JSON; whole, if it is
/// there.
fn message_in(value: &Value, levels: usize) -> Option<Told> {
    let values = value.as_object()?.values();
    let mut found: Option<Told> = None;
    for value in values {
        let told = match value {
            Value::String(text) => Told::of_syslog(text),
            value => levels
                .checked_sub(1)
                .and_then(|levels| message_in(value, levels)),
        };
        match told {
            Some(whole) if whole.said.is_some() => return Some(whole),
            told => found = found.or(told),
        }
    }
    found
}

/// The events of a record, small: some 60 bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Index {
    records: HashMap<Key, Known>,
}

/// The id of a record as numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Key {
    file: u64,
    offset: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    said: Fingerprint,
    is_found: bool,
}

/// What a copy and the record say of each other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Compared {
    /// Records that both have.
    pub both: u64,
    /// Ids of records that the copy lacks, and how many there are.
    pub missing: Few,
    /// Ids of what the copy alone has.
    pub only: Few,
    /// Ids of records that say something else there.
    pub different: Few,
    /// Lines of the copy that name no record.
    pub nameless: u64,
    /// Lines of the copy that are not in the record and do not say when they were written: perhaps outside of the time asked for.
    pub undated: u64,
    /// Lines that are there again: every sink but an archive may get a record twice.
    pub again: u64,
}

/// Some of many.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Few {
    /// The first of them.
    pub told: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Few {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(shown(id));
        }
    }
}

impl Key {
    /// Reads the id of a record: the log file, and where it begins in that.
    fn read(id: &str) -> Option<Self> {
        let (file, offset) = id.split_once('-')?;
        let key = Self {
            file: u64::from_str_radix(file, 16).ok()?,
            offset: offset.parse().ok()?,
        };
        (key.to_string() == id).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.file, self.offset)
    }
}

impl Index {
    /// A record that the copy is expected to have.
    pub fn add(&mut self, entry: &Entry<'_>) {
        // What no agent has written is told of as inserted.
        if let Some(key) = Key::read(&entry.id) {
            let known = Known {
                said: entry.fingerprint(),
                is_found: false,
            };
            self.records.insert(key, known);
        }
    }

    /// A line of the copy.
    pub fn compare(&mut self, line: &str, window: Window, compared: &mut Compared) {
        let Some(Told { id, said, time }) = Told::read(line) else {
            compared.nameless += u64::from(!line.trim().is_empty());
            return;
        };
        let known = Key::read(&id).and_then(|key| self.records.get_mut(&key));
        let Some(known) = known else {
            let is_everything = window.from.is_none() && window.to.is_none();
            match time {
                Some(time) if !window.holds(time) => {}
                None if !is_everything => compared.undated += 1,
                _ => compared.only.add(&id),
            }
            return;
        };
        if said.is_some_and(|said| said != known.said) {
            compared.different.add(&id);
        }
        if std::mem::replace(&mut known.is_found, true) {
            compared.again += 1;
        } else {
            compared.both += 1;
        }
    }

    /// The copy was read to its end.
    pub fn finish(self, compared: &mut Compared) {
        let records = self.records.into_iter();
        let missing = records.filter(|(_, known)| !known.is_found);
        let mut missing: Vec<Key> = missing.map(|(key, _)| key).collect();
        missing.sort_unstable();
        for key in missing {
            compared.missing.add(&key.to_string());
        }
    }
}

impl Compared {
    /// How much differs.
    pub fn differing(&self) -> u64 {
        self.missing.count + self.only.count + self.different.count
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::entry::tests::lines, *};

    const ID: &str = "00000000deadbeef-100";

    fn record(number: u64) -> String {
        lines(number)
            .remove(usize::try_from(number).unwrap() - 1)
            .replace("f00d-", "000000000000f00d-")
    }

    fn compare(records: &[String], copy: &[String], window: Window) -> Compared {
        let mut index = Index::default();
        for record in records {
            index.add(&Entry::read(record.as_bytes()).unwrap());
        }
        let mut compared = Compared::default();
        for line in copy {
            index.compare(line, window, &mut compared);
        }
        index.finish(&mut compared);
        compared
    }

    fn syslog(id: &str, after: &str, text: &str) -> String {
        format!(
            "<133>1 2026-11-30T09:12:02.500000Z tracker-1 event-tracker 0 ModelCreated [audit@32473 event=\"ModelCreated\" actor=\"[k8s\"][k8s@32473 pod=\"tracker-1\" record_id=\"{id}{after}\"] {text}"
        )
    }

    #[test]
    fn records_are_found_in_what_syslog_and_exports_have_of_them() {
        let told = |line: &str| Told::read(line).unwrap();
        let text = r#"{"audit":1,"a":"]"}"#;
        let message = told(&syslog(ID, "", text));
        assert_eq!(
            (&*message.id, message.said),
            (ID, Some(Fingerprint::of(text)))
        );
        assert_eq!(message.time, "2026-11-30T09:12:02.5Z".parse().ok());
        let part = told(&syslog(ID, "\" part=\"1\" parts=\"2", "half"));
        assert_eq!((&*part.id, part.said), (ID, None));
        for export in [
            format!(r#"{{"event":"ModelCreated","properties":{{"time":1,"record_id":"{ID}"}}}}"#),
            format!(r#"{{"preview":false,"result":{{"_raw":"x","record_id":"{ID}"}}}},"#),
            format!(r#"[{{"attributes":{{"log.record.uid":"{ID}"}},"message":"x"}}]"#),
        ] {
            let export = told(&export);
            assert_eq!((&*export.id, export.said), (ID, None));
        }
        // As a server has it that writes JSON.
        let data = format!(r#"[k8s@32473 record_id="{ID}"]"#);
        let stored = json!({"msgid": "ModelCreated", "data": data, "raw": syslog(ID, "", text)});
        assert_eq!(told(&stored.to_string()).said, Some(Fingerprint::of(text)));
        let stored = json!({"structured-data": data, "msg": text});
        assert_eq!(told(&stored.to_string()).said, None);
        for nothing in [
            "",
            "a line",
            "{}",
            "[1]",
            "{\"a\":",
            "[k8s@1 pod=\"x\"] text",
        ] {
            assert!(Told::read(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_a_copy_lacks_and_what_it_alone_has_is_named() {
        let records: Vec<String> = (1..=4).map(record).collect();
        assert_eq!(
            compare(&records, &records, Window::default()),
            Compared {
                both: 4,
                ..Compared::default()
            }
        );
        let mut copy = records.clone();
        copy[1] = copy[1].replace("ada", "eve");
        copy[2] = record(7);
        copy.push(copy[0].clone());
        copy.push("something else".to_owned());
        let compared = compare(&records, &copy, Window::default());
        assert_eq!(compared.missing.told, ["000000000000f00d-300"]);
        assert_eq!(compared.only.told, ["000000000000f00d-700"]);
        assert_eq!(compared.different.told, ["000000000000f00d-200"]);
        assert_eq!(
            (compared.both, compared.again, compared.nameless),
            (3, 1, 1)
        );
        assert_eq!(compared.differing(), 3);
    }

    #[test]
    fn of_a_copy_that_reaches_further_only_the_time_asked_for_counts() {
        let window = Window {
            from: "2026-11-30T09:12:02Z".parse().ok(),
            to: "2026-11-30T09:12:03Z".parse().ok(),
        };
        let records = [record(2)];
        let copy: Vec<String> = (1..=3).map(record).collect();
        assert_eq!(
            compare(&records, &copy, window),
            Compared {
                both: 1,
                ..Compared::default()
            }
        );
        let undated = [format!(r#"{{"properties":{{"record_id":"{ID}"}}}}"#)];
        let compared = compare(&[], &undated, window);
        assert_eq!((compared.undated, compared.differing()), (1, 0));
        let compared = compare(&[], &undated, Window::default());
        assert_eq!(compared.only.told, [ID]);
    }
}
