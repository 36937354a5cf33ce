//! The object that is on its way, written down before it is sent: so the same bytes are sent again under the same name,
//! whatever happens to the agent, the node or the log file. Sends nothing.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use katonic_log_config::{ObjectLock, bundle::hex_digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::ledger::Run;
use crate::{
    batch::Spilled,
    cursor::{FileKey, Position, Progress, RouteKey},
};

/// Below the state directory.
const DIRECTORY: &str = "archive";

/// What is known of a written object.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Header {
    /// Its number among the objects of the route, from 1.
    pub number: u64,
    /// Its key, below the sink's prefix.
    pub key: String,
    /// Bytes of it.
    pub length: u64,
    /// SHA-256 of these.
    pub sha256: [u8; 32],
    /// Records in it.
    pub records: u64,
    /// What becomes of records that were read with those.
    pub dropped: u64,
    /// And of those that could not be read any more.
    pub lost: u64,
    /// How far each file is settled once the store has the object.
    pub settles: Vec<Settled>,
    /// Its run, with it.
    pub run: Run,
    /// How far the route had come before it.
    pub before: Progress,
    /// How it is locked; none: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Locked>,
}

/// How an object is locked, as it was decided when it was written down.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Locked {
    /// By whom, and for how long.
    pub lock: ObjectLock,
    /// From when on, in seconds since 1970.
    pub since: u64,
}

impl Locked {
    /// From now on.
    pub fn from(lock: ObjectLock, now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            lock,
            since: since.as_secs(),
        }
    }

    /// Until when: the same for the same object, unless that is over where the clock was wrong when it was written down.
    pub fn until(self, now: SystemTime) -> SystemTime {
        let days = Duration::from_hours(24).saturating_mul(self.lock.days.get());
        let until = UNIX_EPOCH + Duration::from_secs(self.since) + days;
        if until > now { until } else { now + days }
    }
}

/// How far a file is settled.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settled {
    /// The file.
    pub file: FileKey,
    /// How far.
    pub position: Position,
    /// Whether nothing of it is left.
    pub done: bool,
}

/// Why what was written down is not used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be read.
    #[error("failed to read the object that was written down: {0}")]
    Read(#[source] io::Error),
    /// It is not what was written.
    #[error("the object that was written down is damaged")]
    Damaged,
}

/// The place for one object of one route.
#[derive(Clone, Debug)]
pub struct Spool {
    directory: PathBuf,
    path: PathBuf,
}

impl Spool {
    /// That of a route.
    pub fn of(state_dir: &Path, route: &RouteKey) -> Self {
        let directory = state_dir.join(DIRECTORY);
        let name = hex_digest(format!("{}/{}", route.policy_uid, route.sink).as_bytes());
        Self {
            path: directory.join(format!("{name}.object")),
            directory,
        }
    }

    /// An empty file for the next object; what was written down before stays until [`Spool::commit`].
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(&self) -> io::Result<File> {
        fs::create_dir_all(&self.directory)?;
        File::create(self.temporary())
    }

    fn temporary(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// Lets the object be what is written down, and waits for the disk: from then on it survives a crash of the node.
    ///
    /// # Errors
    /// Those of the file system; then what was written down before still is.
    pub async fn commit(&self, spilled: Spilled, header: &Header) -> io::Result<()> {
        let mut file = spilled.file;
        file.write_all(&footer(header)?)?;
        let synced = spawn_blocking(move || file.sync_all()).await;
        synced.map_err(io::Error::other)??;
        fs::rename(self.temporary(), &self.path)?;
        self.sync().await
    }

    /// Makes sure that the name is on the disk.
    async fn sync(&self) -> io::Result<()> {
        let directory = File::open(&self.directory)?;
        let synced = spawn_blocking(move || directory.sync_all()).await;
        synced.map_err(io::Error::other)?
    }

    /// What is written down, if anything is.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn load(&self) -> Result<Option<Header>, SpoolError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SpoolError::Read(error)),
        };
        let header = read_footer(&mut file)?;
        file.rewind().map_err(SpoolError::Read)?;
        let mut digest = Sha256::new();
        let mut body = file.take(header.length);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let got = body.read(&mut buffer).map_err(SpoolError::Read)?;
            if got == 0 {
                break;
            }
            digest.update(&buffer[..got]);
        }
        if digest.finalize().as_slice() == header.sha256 {
            Ok(Some(header))
        } else {
            Err(SpoolError::Damaged)
        }
    }

    /// The file that begins with the object.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Forgets what is written down.
    pub fn clear(&self) {
        // What is left is not used: it has the number of an object that is acknowledged.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.temporary());
    }
}

/// Behind the object: its header as JSON, how long that is, and a digest of both.
fn footer(header: &Header) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(header)?;
    let length = bytes.len() as u64;
    bytes.extend(length.to_be_bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    Ok(bytes)
}

/// Length and digest.
const FIXED: usize = 8 + 32;

fn read_footer(file: &mut File) -> Result<Header, SpoolError> {
    let size = file.seek(SeekFrom::End(0)).map_err(SpoolError::Read)?;
    let mut read = |from_end: u64| {
        let start = size.checked_sub(from_end).ok_or(SpoolError::Damaged)?;
        file.seek(SeekFrom::Start(start))
            .map_err(SpoolError::Read)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(SpoolError::Read)?;
        Ok(bytes)
    };
    let fixed = read(FIXED as u64)?;
    let (length, _) = fixed.split_first_chunk::<8>().ok_or(SpoolError::Damaged)?;
    let length = u64::from_be_bytes(*length);
    let whole = length
        .checked_add(FIXED as u64)
        .filter(|whole| *whole <= size)
        .ok_or(SpoolError::Damaged)?;
    let bytes = read(whole)?;
    let (signed, digest) = bytes
        .split_at_checked(bytes.len().saturating_sub(32))
        .ok_or(SpoolError::Damaged)?;
    if Sha256::digest(signed).as_slice() != digest {
        return Err(SpoolError::Damaged);
    }
    let json = signed
        .get(..signed.len().saturating_sub(8))
        .unwrap_or_default();
    serde_json::from_slice(json).map_err(|_| SpoolError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{archive::ledger::Spot, cursor::Beginning};

    fn route() -> RouteKey {
        RouteKey {
            policy_uid: "p".into(),
            sink: "s".into(),
        }
    }

    fn header(content: &[u8]) -> Header {
        let first = Spot {
            file: "00".into(),
            offset: 0,
        };
        let file = FileKey {
            container: "run".into(),
            restart: 0,
            beginning: Beginning::of(b"x"),
        };
        Header {
            number: 1,
            key: "executions/1/a".into(),
            length: content.len() as u64,
            sha256: Sha256::digest(content).into(),
            records: 2,
            dropped: 0,
            lost: 0,
            settles: vec![Settled {
                file,
                position: Position::default(),
                done: true,
            }],
            run: Run::new(&"run".into(), 0, "f/".into(), first, Some(true)),
            before: Progress::default(),
            locked: None,
        }
    }

    async fn write(spool: &Spool, content: &[u8]) -> Header {
        let mut file = spool.begin().unwrap();
        file.write_all(content).unwrap();
        let header = header(content);
        let spilled = Spilled {
            file,
            length: header.length,
            sha256: header.sha256,
        };
        spool.commit(spilled, &header).await.unwrap();
        header
    }

    #[tokio::test]
    async fn what_was_written_down_is_read_back_until_the_next_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::of(directory.path(), &route());
        assert!(matches!(spool.load(), Ok(None)));
        let header = write(&spool, b"one").await;
        assert_eq!(spool.load().unwrap(), Some(header.clone()));
        let _half = spool.begin().unwrap();
        assert_eq!(
            spool.load().unwrap(),
            Some(header),
            "half of another one changes nothing"
        );
        let header = write(&spool, b"").await;
        assert_eq!(spool.load().unwrap(), Some(header));
        spool.clear();
        assert!(matches!(spool.load(), Ok(None)));
    }

    #[tokio::test]
    async fn a_damaged_object_is_never_taken_for_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::of(directory.path(), &route());
        write(&spool, b"some bytes").await;
        let whole = fs::read(&spool.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&spool.path, &whole[..length]).unwrap();
            assert!(matches!(spool.load(), Err(SpoolError::Damaged)), "{length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&spool.path, &flipped).unwrap();
            assert!(matches!(spool.load(), Err(SpoolError::Damaged)), "{at}");
        }
    }

    #[test]
    fn an_object_is_locked_until_the_same_time_whenever_it_is_sent() {
        let lock = ObjectLock {
            mode: katonic_log_config::LockMode::Compliance,
            days: 2.try_into().unwrap(),
        };
        let day = |days: u64| UNIX_EPOCH + Duration::from_hours(24 * days);
        let locked = Locked::from(lock, day(100));
        for sent in [100, 101] {
            assert_eq!(locked.until(day(sent)), day(102));
        }
        assert_eq!(locked.until(day(500)), day(502), "the clock was wrong");
    }
}
