//! Reads a run of a container back from its archive: fetches objects piece by piece, unpacks them, and hands out their records
//! in order. Holds no more than a piece, and decides nothing about what is missing.

use std::{collections::VecDeque, io::Write as _, mem, ops::Range};

use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::archive::Completeness;
use katonic_logging_core::execution::{
    Damage, Proof, Run, Standing, Tail,
    catalogue::Object,
    line::{Record, label},
    proof::Content,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::{
    show::{Form, Rendered},
    store::{Error, Store},
};

/// Compressed bytes that are unpacked at once: some hundred KiB of records.
const STEP: usize = 16 << 10;

/// Most bytes of a record: an agent cuts lines at 1 MiB, and JSON writes a byte in up to six.
const LONGEST: usize = 16 << 20;

/// What all open runs may have fetched and not unpacked.
const BUDGET: u64 = 32 << 20;

/// Bounds of one piece.
const PIECE: Range<u64> = 64 << 10..4 << 20;

/// How many bytes are fetched at once while so many runs are open.
pub fn piece(open: usize) -> u64 {
    // One piece is unpacked while the next one comes.
    let share = BUDGET / (2 * open.max(1) as u64);
    share.clamp(PIECE.start, PIECE.end)
}

/// What is wanted of a run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The form of the output.
    pub form: Form,
    /// How the run is called in front of its lines, if it is not the only one.
    pub origin: Option<String>,
    /// Lines from before are left out, and objects that were stored before are not read.
    pub since: Option<Since>,
    /// Whether the last records are remembered, for the log of the running container.
    pub is_followed: bool,
}

/// A time from which on lines are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// The time of lines.
    pub lines: Timestamp,
    /// The same by the clock of the store, with room for clocks that differ.
    pub objects: Timestamp,
}

/// A run that is being read.
#[derive(Debug)]
pub struct Archived {
    store: Store,
    run: Run,
    wanted: Wanted,
    proof: Proof,
    tail: Tail,
    /// The object to be begun next.
    next: usize,
    object: Option<Unpacking>,
    /// Its lines are only counted.
    is_silent: bool,
    /// Objects that were passed over.
    passed: u64,
    /// Compressed bytes that were fetched.
    fetched: u64,
    head: Option<Rendered>,
}

/// An object that is being unpacked.
#[derive(Debug)]
struct Unpacking {
    index: usize,
    key: String,
    size: u64,
    /// Where the next piece begins.
    at: u64,
    coming: Option<JoinHandle<Result<Bytes, Error>>>,
    piece: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Where the next line begins in what the decoder has put out.
    start: usize,
    /// Up to where no end of a line was found.
    searched: usize,
    sha256: Sha256,
    lines: u64,
    bytes: u64,
    times: Option<(Timestamp, Timestamp)>,
    is_finished: bool,
}

impl Archived {
    /// A run of which nothing was read.
    pub fn new(store: Store, run: Run, record: Option<Completeness>, wanted: Wanted) -> Self {
        let proof = Proof::new(run.name.clone(), record);
        Self {
            store,
            proof,
            wanted,
            tail: Tail::default(),
            next: 0,
            object: None,
            is_silent: false,
            passed: 0,
            fetched: 0,
            head: None,
            run,
        }
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The last records.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Compressed bytes that were fetched since the last question.
    pub fn take_fetched(&mut self) -> u64 {
        mem::take(&mut self.fetched)
    }

    /// Takes over what was found of the same run in a later listing.
    pub fn adopt(&mut self, later: Self) {
        self.run = later.run;
        self.proof.adopt(later.proof);
    }

    /// From here on records are verified and not shown: they were shown as lines of the running container.
    pub fn silence(&mut self) {
        self.is_silent = true;
    }

    /// What was stored first may have expired.
    pub fn may_have_expired(&mut self) {
        self.proof.may_have_expired();
    }

    /// Notes a damage.
    pub fn note(&mut self, damage: Damage) {
        self.proof.note(damage);
    }

    /// Notes that something cannot be read.
    pub fn unreadable(&mut self, key: String, reason: String) {
        self.proof.unreadable(key, reason);
    }

    /// Takes the head away; [`Self::advance`] brings the next one.
    pub fn take_head(&mut self) -> Option<Rendered> {
        self.head.take()
    }

    /// Makes the next record the head, if it needs nothing from the store; `buffer` is where it is rendered.
    ///
    /// # Errors
    /// None; what is wrong with an object is noted.
    pub fn try_advance(&mut self, buffer: &mut Vec<u8>) -> bool {
        while let Some(object) = &mut self.object {
            let Some(line) = object.line() else {
                return false;
            };
            let bytes = object.decoder.get_ref();
            let line = &bytes[line];
            let record = match Record::read(line) {
                Ok(record) => record,
                Err(error) => {
                    let reason = format!("line {} is no record: {error}", object.lines);
                    self.give_up(reason);
                    continue;
                }
            };
            object.times = Some((
                object.times.map_or(record.time, |(first, _)| first),
                record.time,
            ));
            if self.wanted.is_followed {
                self.tail
                    .push(record.time, &record.message, record.continues());
            }
            let is_early = self
                .wanted
                .since
                .is_some_and(|since| record.time < since.lines);
            if self.is_silent || is_early {
                continue;
            }
            buffer.clear();
            match self.wanted.form {
                Form::Text => record.write_text(self.wanted.origin.as_deref(), buffer),
                Form::Json => {
                    buffer.extend_from_slice(line);
                    buffer.push(b'\n');
                }
            }
            self.head = Some(Rendered {
                time: record.time,
                bytes: mem::take(buffer),
            });
            return true;
        }
        false
    }

    /// Makes the next record the head; none at the end. `open` is how many runs are being read.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn advance(&mut self, buffer: &mut Vec<u8>, open: usize) -> Result<(), Error> {
        loop {
            if self.head.is_some() || self.try_advance(buffer) {
                return Ok(());
            }
            if self.object.is_none() {
                if self.next >= self.run.objects.len() {
                    return Ok(());
                }
                self.begin(open);
                continue;
            }
            self.fetch(open).await?;
        }
    }

    /// Begins the next object, or passes it over.
    fn begin(&mut self, open: usize) {
        let index = self.next;
        self.next += 1;
        let object = &self.run.objects[index];
        let is_old = |since: Since| object.stored < since.objects;
        if self.wanted.since.is_some_and(is_old) {
            self.passed += 1;
            self.proof.object(&object.range(), None);
            return;
        }
        let key = self.store.location.prefix.join(&self.run.key(object));
        let mut unpacking = Unpacking::new(index, key, object.size);
        unpacking.request(&self.store, piece(open));
        self.object = Some(unpacking);
    }

    /// Unpacks more of the object; at its end judges it.
    async fn fetch(&mut self, open: usize) -> Result<(), Error> {
        let Some(object) = &mut self.object else {
            return Ok(());
        };
        if object.piece.is_empty()
            && let Some(coming) = object.coming.take()
        {
            let piece = match coming.await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error @ (Error::Gone | Error::Unusable(_)))) => {
                    self.give_up(error.to_string());
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                // Only at the end of the process.
                Err(error) => {
                    self.give_up(error.to_string());
                    return Ok(());
                }
            };
            self.fetched += piece.len() as u64;
            object.sha256.update(&piece);
            object.piece = piece;
            object.request(&self.store, self::piece(open));
        }
        match object.unpack() {
            Ok(()) if object.is_over() => self.finish(),
            Ok(()) => {}
            Err(reason) => self.give_up(reason),
        }
        Ok(())
    }

    /// The object is read to its end.
    fn finish(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let content = Content {
            lines: object.lines,
            bytes: object.bytes,
            sha256: object.sha256.finalize().into(),
            times: object.times,
        };
        let range = self.run.objects[object.index].range();
        self.proof.object(&range, Some(&content));
    }

    /// The object cannot be read any further.
    fn give_up(&mut self, reason: String) {
        let Some(object) = self.object.take() else {
            return;
        };
        let range = self.run.objects[object.index].range();
        self.proof.unreadable(object.key, reason);
        self.proof.object(&range, None);
    }

    /// How many objects were passed over.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// How many records were read.
    pub fn lines(&self) -> u64 {
        self.proof.lines()
    }

    /// How many records were read, and what is known of the run.
    pub fn finish_proof(self) -> (u64, (Standing, Vec<Damage>)) {
        (self.proof.lines(), self.proof.finish())
    }
}

impl Unpacking {
    fn new(index: usize, key: String, size: u64) -> Self {
        Self {
            index,
            key,
            size,
            at: 0,
            coming: None,
            piece: Bytes::new(),
            decoder: MultiGzDecoder::new(Vec::new()),
            start: 0,
            searched: 0,
            sha256: Sha256::new(),
            lines: 0,
            bytes: 0,
            times: None,
            is_finished: false,
        }
    }

    /// Asks for the next piece, if there is one.
    fn request(&mut self, store: &Store, piece: u64) {
        if self.at >= self.size {
            return;
        }
        let range = self.at..self.size.min(self.at + piece);
        self.at = range.end;
        let (store, key) = (store.clone(), self.key.clone());
        self.coming = Some(tokio::spawn(async move { store.bytes(&key, range).await }));
    }

    /// Unpacks some of the piece.
    fn unpack(&mut self) -> Result<(), String> {
        // What was read is forgotten first.
        let unpacked = self.decoder.get_mut();
        unpacked.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let before = unpacked.len();
        if before > LONGEST {
            return Err(format!("line {} does not end", self.lines + 1));
        }
        let step = self.piece.len().min(STEP);
        let damaged = |error: std::io::Error| format!("it is no gzip: {error}");
        self.decoder
            .write_all(&self.piece[..step])
            .map_err(damaged)?;
        self.piece.advance(step);
        if self.piece.is_empty() && self.coming.is_none() && !self.is_finished {
            self.decoder.try_finish().map_err(damaged)?;
            self.is_finished = true;
        }
        self.bytes += (self.decoder.get_ref().len() - before) as u64;
        let is_cut = self.is_finished
            && self
                .decoder
                .get_ref()
                .last()
                .is_some_and(|last| *last != b'\n');
        if is_cut {
            return Err("its last line does not end".to_owned());
        }
        Ok(())
    }

    /// The next line that was unpacked, without its end.
    fn line(&mut self) -> Option<Range<usize>> {
        let unpacked = self.decoder.get_ref();
        let Some(length) = memchr::memchr(b'\n', &unpacked[self.searched..]) else {
            self.searched = unpacked.len();
            return None;
        };
        let line = self.start..self.searched + length;
        self.start = line.end + 1;
        self.searched = self.start;
        self.lines += 1;
        Some(line)
    }

    fn is_over(&self) -> bool {
        self.is_finished && self.start == self.decoder.get_ref().len()
    }
}

/// What is seen in the first record of a run.
#[derive(Clone, Debug, Default)]
pub struct First {
    /// Its time.
    pub time: Option<Timestamp>,
    /// The value of a label of its pod.
    pub label: Option<String>,
}

/// Looks at the first record of a run; what cannot be read is found again when the run is.
///
/// # Errors
/// When the store gives no answer.
pub async fn first(store: &Store, run: &Run, name: &str) -> Result<First, Error> {
    let mut objects: VecDeque<&Object> = run.objects.iter().collect();
    let Some(object) = objects.pop_front() else {
        return Ok(First::default());
    };
    let key = store.location.prefix.join(&run.key(object));
    let bytes = match store.bytes(&key, 0..object.size.min(PIECE.start)).await {
        Ok(bytes) => bytes,
        Err(Error::Gone | Error::Unusable(_)) => return Ok(First::default()),
        Err(error) => return Err(error),
    };
    let mut decoder = MultiGzDecoder::new(Vec::new());
    // An error is the end of what can be seen.
    let _ = decoder.write_all(&bytes).and_then(|()| decoder.flush());
    let unpacked = decoder.get_ref();
    let Some(end) = memchr::memchr(b'\n', unpacked) else {
        return Ok(First::default());
    };
    let line = &unpacked[..end];
    Ok(First {
        time: Record::read(line).ok().map(|record| record.time),
        label: label(line, name),
    })
}
