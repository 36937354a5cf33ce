//! Every target over its kept corpus, and over changes of it. `FUZZ_CASES` says over how many, `FUZZ_SEED` over which:
//! without it they are the same each time, so that the same code gets the same verdict.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's own files and values are what they are said to be"
)]

use std::{fs, path::Path};

use katonic_log_fuzz::{TARGETS, Target};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};

/// How many changes of each corpus are tried, unless `FUZZ_CASES` says otherwise.
const CASES: u32 = 1000;

/// Which changes are tried, unless `FUZZ_SEED` says otherwise.
const SEED: u64 = 1;

/// One change of some bytes; places and lengths are parts of what there is.
#[derive(Clone, Debug)]
enum Change {
    Flip(u16, u8),
    Set(u16, u8),
    Insert(u16, Vec<u8>),
    Delete(u16, u8),
    Repeat(u16, u8, u8),
    /// A piece of another file of the corpus.
    Splice(u16, usize, u16, u8),
    Cut(u16),
}

fn changes(files: usize) -> impl Strategy<Value = Vec<Change>> {
    let word = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..8),
        proptest::sample::select(
            [
                &b"\n"[..],
                b"\r\n",
                b"\0",
                b"\xff",
                b"\xc3",
                b"\xe2\x82",
                b"\xed\xa0\x80",
                b"\"",
                b"\\",
                b"]",
                b"{",
                b"}",
                b"[",
                b",",
                b":",
                b" ",
                b"null",
                b"-0",
                b"1e999",
                b"18446744073709551616",
                b"9223372036854775808",
                b"\\ud800",
                b"\\u0000",
                b"stdout P ",
                b"stderr F ",
                b"9999-12-31T23:59:59Z",
                b"0000-01-01T00:00:00+23:59",
                b"\tat ",
                b"Caused by: ",
                b"panic: ",
                b"(?i)",
                b"\\b",
                b"*",
            ]
            .map(<[u8]>::to_vec)
            .to_vec()
        ),
    ];
    let change = prop_oneof![
        2 => any::<(u16, u8)>().prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => any::<(u16, u8)>().prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (any::<u16>(), word).prop_map(|(at, word)| Change::Insert(at, word)),
        2 => any::<(u16, u8)>().prop_map(|(at, length)| Change::Delete(at, length)),
        1 => any::<(u16, u8, u8)>().prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        3 => (any::<u16>(), 0..files, any::<(u16, u8)>())
            .prop_map(|(at, file, (from, length))| Change::Splice(at, file, from, length)),
        1 => any::<u16>().prop_map(Change::Cut),
    ];
    proptest::collection::vec(change, 1..6)
}

fn apply(bytes: &mut Vec<u8>, change: &Change, corpus: &[Vec<u8>]) {
    let place = |at: u16, length: usize| usize::from(at) * length / usize::from(u16::MAX);
    let range = |at: u16, length: u8, all: usize| {
        let from = place(at, all);
        from..all.min(from + usize::from(length))
    };
    match change {
        Change::Flip(at, bit) => {
            let at = place(*at, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Change::Set(at, new) => {
            let at = place(*at, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *new;
            }
        }
        Change::Insert(at, word) => {
            let at = place(*at, bytes.len());
            bytes.splice(at..at, word.iter().copied());
        }
        Change::Delete(at, length) => {
            bytes.drain(range(*at, *length, bytes.len()));
        }
        Change::Repeat(at, length, times) => {
            let range = range(*at, *length, bytes.len());
            let piece = bytes[range.clone()].repeat(usize::from(times % 16));
            bytes.splice(range.end..range.end, piece);
        }
        Change::Splice(at, file, from, length) => {
            let other = &corpus[*file];
            let at = place(*at, bytes.len());
            let piece = other[range(*from, *length, other.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        Change::Cut(at) => bytes.truncate(place(*at, bytes.len())),
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let files = fs::read_dir(&directory).unwrap_or_else(|_| panic!("no corpus for {name}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_target_holds_for_its_corpus() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        let guided = format!("../fuzz_targets/{name}.rs");
        let guided = Path::new(env!("CARGO_MANIFEST_DIR")).join(guided);
        assert!(guided.exists(), "{}", guided.display());
        target(b"");
        for bytes in &corpus {
            target(bytes);
        }
    }
}

fn changed(name: &str) {
    let (_, target): (_, Target) = TARGETS
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap();
    let corpus = corpus(name);
    let cases = std::env::var("FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let seed = std::env::var("FUZZ_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (0..corpus.len(), changes(corpus.len()));
    let tried = runner.run(&strategy, |(file, changes)| {
        let mut bytes = corpus[file].clone();
        for change in &changes {
            apply(&mut bytes, change, &corpus);
        }
        target(&bytes);
        Ok::<(), TestCaseError>(())
    });
    if let Err(TestError::Fail(reason, (file, changes))) = tried {
        let mut bytes = corpus[file].clone();
        for change in &changes {
            apply(&mut bytes, change, &corpus);
        }
        panic!(
            "{reason}; the least bytes that show it, for the corpus: {:?}",
            bytes.escape_ascii().to_string()
        );
    }
    tried.unwrap();
}

macro_rules! changed {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                changed(stringify!($name));
            }
        )*

        #[test]
        fn no_target_is_forgotten() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

changed! {
    bundle cri cursors filters multiline new_relic objects otlp reader splunk syslog
}
