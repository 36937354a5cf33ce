//! What reads bytes that others wrote: log lines, log files, bundles, cursors.

use std::{collections::BTreeMap, io::Write, rc::Rc};

use flate2::{Compression, write::GzEncoder};
use katonic_log_agent::{
    assemble::{FileNumber, Taken},
    cri::{self as format, Line},
    cursor::{Position, State},
    process::Processing,
    reader::{AtEnd, Reached, ReadAt, Reader},
    sink::packing::Packing,
    timestamp::{TimeParser, Timestamp},
};
use katonic_log_config::Bundle;
use sha2::{Digest, Sha256};

use crate::{input::Input, processing::first_line};

/// A line of the CRI format means the same when it is written again, with or without a line before it.
pub fn cri(bytes: &[u8]) {
    let mut times = TimeParser::default();
    for raw in bytes.split(|byte| *byte == b'\n') {
        let parsed = format::parse(raw, &mut times);
        assert_eq!(parsed, format::parse(raw, &mut TimeParser::default()));
        let Some(line) = parsed else {
            continue;
        };
        assert!(raw.ends_with(line.content));
        let written = write(&line);
        assert_eq!(
            format::parse(&written, &mut times),
            Some(line),
            "{:?}",
            String::from_utf8_lossy(&written)
        );
    }
}

fn write(line: &Line<'_>) -> Vec<u8> {
    let mut written = Vec::new();
    line.time.write_rfc3339(&mut written);
    let tag = if line.partial { 'P' } else { 'F' };
    written.extend(format!(" {} {tag} ", line.stream.as_str()).bytes());
    written.extend_from_slice(line.content);
    written
}

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let offset =
            usize::try_from(offset).map_or(self.0.len(), |offset| offset.min(self.0.len()));
        let length = buffer.len().min(self.0.len() - offset);
        buffer[..length].copy_from_slice(&self.0[offset..offset + length]);
        Ok(length)
    }
}

/// A record as it came: its place and what it says.
type Seen = (u64, Vec<u8>);

/// A log file of any bytes gives each record once and in order, wherever reading stops, begins again at what is
/// acknowledged, or waits for more to be written; and no byte of a line is in two records or in none.
pub fn reader(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let joined = input.byte() % 2 == 1;
    let stops = input.number().to_le_bytes();
    let file = input.rest();
    let processing = Rc::new(if joined {
        first_line("^[a-m{]")
    } else {
        Processing::default()
    });
    let whole = read(&processing, file, &[], file.len());
    assert_eq!(
        whole,
        read(&processing, file, &stops, file.len()),
        "in pieces"
    );
    let half = usize::from(stops[0]) * file.len() / 256;
    assert_eq!(
        whole,
        read(&processing, file, &stops, half),
        "while it was written"
    );
    for stream in &whole {
        assert!(stream.is_sorted_by_key(|(offset, _)| *offset));
    }
    // Without joining, the content of each record stands in the file as it is, or in parts.
    if !joined {
        let records: usize = whole.iter().flatten().map(|(_, said)| said.len()).sum();
        assert!(records <= file.len());
    }
}

/// Reads a file of which first only a part is there, stopping after so many records each time.
fn read(processing: &Rc<Processing>, file: &[u8], stops: &[u8], part: usize) -> [Vec<Seen>; 2] {
    let mut out: [Vec<Seen>; 2] = Default::default();
    let mut position = Position::default();
    let mut stops = stops.iter().map(|stop| usize::from(stop % 8));
    let mut part = Some(part);
    loop {
        let mut left = stops.next().unwrap_or(usize::MAX);
        let mut reader = Reader::at(FileNumber(1), position, Timestamp::default());
        let (there, at_end) = match part {
            Some(part) if left != usize::MAX => (&file[..part], AtEnd::Wait),
            _ => (file, AtEnd::Flush),
        };
        let reached = reader.read(
            &Bytes(there),
            at_end,
            processing.joining(),
            &mut Vec::new(),
            |record| {
                if left == 0 {
                    return Taken::No;
                }
                left -= 1;
                assert_eq!(record.file, FileNumber(1));
                let said = record.content.to_vec();
                out[record.stream.index()].push((record.offset, said));
                Taken::Yes
            },
        );
        position = reader.position();
        assert!(position.start() <= position.next && position.next <= file.len() as u64);
        if reached.unwrap() == Reached::End {
            part = None;
            if at_end == AtEnd::Flush {
                assert_eq!(
                    position,
                    Position {
                        next: file.len() as u64,
                        open: [None; 2]
                    }
                );
                break;
            }
        }
    }
    out
}

/// A bundle of any bytes is read or refused; one that is read is the same when it is written again, and every policy
/// in it can be prepared or is refused as a whole.
pub fn bundle(bytes: &[u8]) {
    let _ = Bundle::decode(bytes);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).unwrap();
    let Ok(decoded) = Bundle::decode(&encoder.finish().unwrap()) else {
        return;
    };
    let again = Bundle::decode(&decoded.bundle.encode().unwrap()).unwrap();
    assert_eq!(again.bundle, decoded.bundle);
    assert_eq!(again.unsupported, []);
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    for policy in &decoded.bundle.policies {
        let _ = policy.takes(&labels, "web");
        let _ = Processing::of(policy);
        for sink in policy.sinks.iter().chain(&policy.fallback) {
            let _ = Packing::of(sink);
            assert!(
                sink.credentials()
                    .iter()
                    .all(|key| policy.credentials().contains(key))
            );
        }
    }
}

/// Cursors of any bytes are read or refused, and never believed without their digest; those that are read are the same
/// when they are saved again.
pub fn cursors(bytes: &[u8]) {
    let _ = State::decode(bytes);
    let mut sealed = Sha256::digest(bytes).to_vec();
    sealed.extend_from_slice(bytes);
    let Ok(state) = State::decode(&sealed) else {
        return;
    };
    let mut encoded = state.encode().unwrap();
    assert_eq!(State::decode(&encoded).unwrap(), state);
    for progress in state.cursors.values() {
        for (_, place) in &progress.files {
            assert!(place.position.start() <= place.position.next);
            assert_eq!(
                place.position.lower(place.position).start(),
                place.position.start()
            );
            let _ = (place.unread(), place.has_more());
        }
    }
    let last = encoded.len() - 1;
    encoded[last] ^= 1;
    assert!(State::decode(&encoded).is_err());
}
