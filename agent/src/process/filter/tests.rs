use std::{fs, num::NonZeroU8, num::NonZeroU32, rc::Rc};

use katonic_log_config::{Pattern, Percent, Policy, RateLimit, Redact, Sample};
use proptest::prelude::*;

use super::*;
use crate::{
    assemble::{FileNumber, MAX_RECORD},
    cri::Stream,
    process::Processing,
};

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

fn replace(found: &str, text: &str) -> Filter {
    Filter::Redact(Redact {
        pattern: pattern(found),
        with: Replacement::Text(text.to_owned()),
    })
}

fn hash(found: &str, key: &str) -> Filter {
    Filter::Redact(Redact {
        pattern: pattern(found),
        with: Replacement::Hash(CredentialKey::try_from(key.to_owned()).unwrap()),
    })
}

fn sample(found: Option<&str>, percent: u8) -> Filter {
    Filter::Sample(Sample {
        pattern: found.map(pattern),
        percent: Percent::try_from(NonZeroU8::new(percent).unwrap()).unwrap(),
    })
}

fn limit(records: u32) -> Filter {
    Filter::RateLimit(RateLimit {
        records_per_second: NonZeroU32::new(records).unwrap(),
    })
}

fn record(second: i64, offset: u64, content: &[u8]) -> Record<'_> {
    Record {
        time: Timestamp {
            seconds: second,
            nanos: 0,
        },
        stream: Stream::Stdout,
        file: FileNumber(1),
        offset,
        content,
        continues: false,
        continued: false,
        audit: None,
    }
}

/// Ready with two keys, `one` and `other`.
fn ready(filters: Vec<Filter>) -> Ready {
    let directory = tempfile::tempdir().unwrap();
    for (name, key) in [
        ("one", "key number one of two"),
        ("other", "another key, as long"),
    ] {
        fs::write(directory.path().join(name), key).unwrap();
    }
    let mut policy = Policy::of_everything("p", "u", Vec::new());
    policy.filters = filters;
    let processing = Rc::new(Processing::of(&policy).unwrap());
    processing.ready(directory.path()).unwrap()
}

/// What is left of records of one second, and what was dropped.
fn filter(filters: Vec<Filter>, contents: &[&[u8]]) -> (Vec<Vec<u8>>, Dropped) {
    let ready = ready(filters);
    let mut scratch = Scratch::default();
    let mut sieve = ready.sieve(&mut scratch, usize::MAX).unwrap();
    let mut out = Vec::new();
    let mut passed = Memory::default();
    for (offset, content) in (0..).zip(contents) {
        let id = RecordId { file: 7, offset };
        let taken = sieve.offer(&record(1, offset, content), id, &mut passed, |left| {
            out.push(left.content.to_vec());
            Taken::Yes
        });
        assert_eq!(taken, Taken::Yes);
    }
    let dropped = sieve.dropped;
    (out, dropped)
}

fn texts(filters: Vec<Filter>, contents: &[&str]) -> Vec<String> {
    let contents: Vec<&[u8]> = contents.iter().map(|text| text.as_bytes()).collect();
    let (out, _) = filter(filters, &contents);
    out.into_iter()
        .map(|text| String::from_utf8(text).unwrap())
        .collect()
}

#[test]
fn filters_act_in_their_order() {
    let lines = ["GET /healthz", "WARN user bob", "INFO user eve", "ERROR on"];
    let filters = vec![
        Filter::Drop(pattern("GET /healthz")),
        replace("user (bob|eve)", "user $1"),
        Filter::Keep(pattern(r"WARN|ERROR|\$1")),
        // Sees what the step before has left.
        Filter::Drop(pattern("eve")),
    ];
    let expected = ["WARN user $1", "INFO user $1", "ERROR on"];
    assert_eq!(texts(filters, &lines), expected);
}

#[test]
fn every_kind_counts_what_it_drops() {
    let filters = vec![
        Filter::Drop(pattern("a")),
        Filter::Keep(pattern("^[^b]")),
        sample(Some("c"), 1),
        limit(2),
    ];
    let contents: [&[u8]; 8] = [b"a", b"b", b"c", b"c", b"d", b"d", b"d", b"d"];
    let (out, dropped) = filter(filters, &contents);
    assert_eq!(out, [b"d", b"d"]);
    let expected = Dropped {
        other: 0,
        drop: 1,
        keep: 1,
        sample: 2,
        rate_limit: 2,
    };
    assert_eq!((dropped, dropped.total()), (expected, 6));
}

#[test]
fn a_match_is_replaced_by_the_text_as_it_is_or_by_nothing() {
    let ssn = r"\b\d{3}-\d{2}-\d{4}\b";
    let line = ["of 123-45-6789 and 987-65-4321."];
    assert_eq!(
        texts(vec![replace(ssn, "$0 ${x} \\1")], &line),
        ["of $0 ${x} \\1 and $0 ${x} \\1."]
    );
    assert_eq!(texts(vec![replace(ssn, "")], &line), ["of  and ."]);
    // What is nothing hides nothing.
    assert_eq!(texts(vec![replace("x*", "-")], &["axxb"]), ["a-b"]);
}

#[test]
fn a_keyed_hash_shows_that_matches_are_equal_and_nothing_more() {
    let lines = ["user=bob", "user=eve", "user=bob"];
    let one = texts(vec![hash(r"\w+$", "one")], &lines);
    let other = texts(vec![hash(r"\w+$", "other")], &lines);
    assert_eq!(one[0], one[2]);
    assert_ne!(one[0], one[1]);
    assert_ne!(one[0], other[0]);
    // RFC 2104, as `openssl dgst -sha256 -hmac 'key number one of two'` says.
    assert_eq!(one[0], "user=hmac:75dea317f89381ac");
    // Each step has its own key.
    let both = texts(vec![hash("bob", "one"), hash("eve", "other")], &lines);
    assert_eq!((&both[0], &both[1]), (&one[0], &other[1]));
}

#[test]
fn bytes_that_are_not_utf8_survive_and_hide_nothing() {
    let content = b"\xff secret=a\xfeb\xffc \xe2\x82 end";
    let (out, _) = filter(vec![replace(r"secret=\S+", "***")], &[content]);
    assert_eq!(out, [b"\xff *** \xe2\x82 end"]);
    let (out, _) = filter(vec![replace("end$", "."), replace("^.", "<")], &[content]);
    assert_eq!(out, [b"< secret=a\xfeb\xffc \xe2\x82 ."]);
    let (out, _) = filter(vec![Filter::Drop(pattern("a.b"))], &[content]);
    assert_eq!(out, [b""; 0]);
}

#[test]
fn a_record_of_several_lines_is_one_text() {
    let trace = "java.lang.Error: token=abc\n\tat a.B.c(B.java:1)\ntoken=def";
    let filters = vec![replace(r"token=\w+", "token=*")];
    assert_eq!(
        texts(filters, &[trace]),
        ["java.lang.Error: token=*\n\tat a.B.c(B.java:1)\ntoken=*"]
    );
    assert_eq!(
        texts(vec![Filter::Drop(pattern("^token"))], &[trace]),
        [trace]
    );
    assert_eq!(
        texts(vec![Filter::Drop(pattern("(?m)^token"))], &[trace]),
        [""; 0]
    );
}

#[test]
fn a_replacement_cannot_make_a_record_grow_without_end() {
    let content = vec![b'x'; MAX_RECORD];
    let (out, _) = filter(vec![replace("x", &"y".repeat(256))], &[&content]);
    assert!(out[0].len() < 2 * MAX_RECORD + 1024, "{}", out[0].len());
    assert!(out[0].ends_with(b"[katonic-log-agent: line cut]"));
    assert!(!out[0][..MAX_RECORD].contains(&b'x'));
}

#[test]
fn a_sample_of_some_leaves_the_others_alone() {
    let lines: Vec<String> = (0..1000)
        .map(|number| {
            format!(
                "{} {number}",
                if number % 2 == 0 { "DEBUG" } else { "WARN" }
            )
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let out = texts(vec![sample(Some("DEBUG"), 20)], &lines);
    let debug = out.iter().filter(|line| line.starts_with("DEBUG")).count();
    assert_eq!(out.len() - debug, 500);
    assert!((60..140).contains(&debug), "{debug}");
    assert_eq!(out, texts(vec![sample(Some("DEBUG"), 20)], &lines));
}

#[test]
fn a_rate_limit_counts_what_was_taken_by_the_seconds_of_the_log() {
    let ready = ready(vec![Filter::Drop(pattern("noise")), limit(2)]);
    let mut scratch = Scratch::default();
    let mut sieve = ready.sieve(&mut scratch, usize::MAX).unwrap();
    let mut passed = Memory::default();
    let mut offer = |second, content: &[u8], taken| {
        let mut offered = false;
        let record = record(second, 0, content);
        let answer = sieve.offer(
            &record,
            RecordId { file: 0, offset: 0 },
            &mut passed,
            |_| {
                offered = true;
                taken
            },
        );
        (offered, answer)
    };
    let (yes, no) = (Taken::Yes, Taken::No);
    // What a full batch refuses comes again, and counts once.
    for _ in 0..5 {
        assert_eq!(offer(1, b"x", no), (true, no));
    }
    assert_eq!(offer(1, b"x", yes), (true, yes));
    // What another filter has dropped before does not count.
    assert_eq!(offer(1, b"noise", yes), (false, yes));
    assert_eq!(offer(1, b"x", yes), (true, yes));
    assert_eq!(offer(1, b"x", yes), (false, yes));
    assert_eq!(offer(2, b"x", yes), (true, yes));
    // The first second's record, late.
    assert_eq!(offer(1, b"x", yes), (false, yes));
    assert_eq!(sieve.dropped.rate_limit, 2);
}

#[test]
fn others_have_their_turn_when_very_much_is_dropped() {
    let ready = ready(vec![Filter::Drop(pattern("x"))]);
    let mut scratch = Scratch::default();
    let mut sieve = ready.sieve(&mut scratch, 10).unwrap();
    let mut taken = 0;
    let id = RecordId { file: 0, offset: 0 };
    while sieve.offer(&record(1, 0, b"xxxx"), id, &mut Memory::default(), |_| {
        Taken::Yes
    }) == Taken::Yes
    {
        taken += 1;
    }
    assert_eq!((taken, sieve.dropped.drop), (3, 3));
}

#[test]
fn without_filters_there_is_no_sieve() {
    let mut scratch = Scratch::default();
    assert!(ready(Vec::new()).sieve(&mut scratch, usize::MAX).is_none());
}

proptest! {
    /// Nothing but the matches changes, whatever bytes stand around them.
    #[test]
    fn only_the_secret_is_replaced(
        parts in proptest::collection::vec(
            proptest::collection::vec(any::<u8>().prop_filter("no digit", |byte| !byte.is_ascii_digit()), 0..20), 1..5),
    ) {
        let content = parts.join(&b"4111111111111111"[..]);
        // Not `\d`, which is a digit of any script.
        let (out, _) = filter(vec![replace("[0-9]{16}", "<card>")], &[&content]);
        prop_assert_eq!(&out[0], &parts.join(&b"<card>"[..]));
    }
}
