use std::num::NonZeroU32;

use katonic_log_config::{MultilineRule, Pattern};
use proptest::prelude::*;

use super::*;
use crate::assemble::FileNumber;

fn multiline(rule: MultilineRule, max_bytes: u32) -> Multiline {
    let multiline = processing::Multiline {
        rule,
        timeout_ms: NonZeroU32::new(1000).unwrap(),
        max_bytes: NonZeroU32::new(max_bytes).unwrap(),
    };
    let rule = Rule::of_language(&multiline.rule, &Rc::default()).unwrap();
    Multiline::new(Rc::new(rule), &multiline)
}

fn first_line(pattern: &str) -> MultilineRule {
    MultilineRule::FirstLine(Pattern::try_from(pattern.to_owned()).unwrap())
}

fn line(stream: Stream, offset: u64, content: &[u8]) -> Record<'_> {
    Record {
        time: Timestamp {
            seconds: i64::try_from(offset).unwrap(),
            nanos: 0,
        },
        stream,
        file: FileNumber(1),
        offset,
        content,
        continues: false,
        continued: false,
        audit: None,
    }
}

/// What comes out: stream, offset, content and whether it goes on.
type Out = Vec<(Stream, u64, String, bool)>;

fn collect(out: &mut Out) -> impl FnMut(&Record<'_>) -> Taken {
    |record| {
        assert_eq!(
            record.time.seconds.unsigned_abs(),
            record.offset,
            "the time of its first line"
        );
        let text = String::from_utf8(record.content.to_vec()).unwrap();
        out.push((record.stream, record.offset, text, record.continues));
        Taken::Yes
    }
}

fn join(multiline: &Multiline, lines: &[(Stream, &str)]) -> Out {
    let mut joiner = Joiner::default();
    let mut out = Out::new();
    let joining = Joining {
        multiline,
        now: Instant::now(),
    };
    for (offset, (stream, content)) in (0..).zip(lines) {
        let line = line(*stream, offset, content.as_bytes());
        let taken = joiner.push(joining, &line, &mut collect(&mut out));
        assert_eq!(taken, Taken::Yes);
    }
    assert_eq!(joiner.flush(&mut collect(&mut out)), Taken::Yes);
    assert!(joiner.is_idle());
    out
}

/// Real output, the records that are expected of it one after the other with `%%` between them.
fn trace(rule: MultilineRule, records: &str) {
    let expected: Vec<&str> = records
        .split("%%\n")
        .map(|record| record.strip_suffix('\n').unwrap())
        .collect();
    let lines: Vec<(Stream, &str)> = expected
        .iter()
        .flat_map(|record| record.split('\n'))
        .map(|line| (Stream::Stderr, line))
        .collect();
    let joined = join(&multiline(rule, 1 << 20), &lines);
    let joined: Vec<&str> = joined.iter().map(|one| one.2.as_str()).collect();
    for (joined, expected) in joined.iter().zip(&expected) {
        assert_eq!(joined, expected);
    }
    assert_eq!(joined.len(), expected.len());
}

#[test]
fn a_java_stack_trace_is_one_record_with_its_causes() {
    trace(MultilineRule::Java, include_str!("traces/java.txt"));
}

#[test]
fn a_python_traceback_is_one_record_with_those_it_is_chained_to() {
    trace(MultilineRule::Python, include_str!("traces/python.txt"));
}

#[test]
fn a_go_panic_is_one_record_with_all_goroutines() {
    trace(MultilineRule::Go, include_str!("traces/go.txt"));
}

#[test]
fn a_node_error_is_one_record_with_causes_members_and_collected_errors() {
    trace(MultilineRule::Node, include_str!("traces/node.txt"));
}

/// Lines that no language's error has in it, and that rules which join whatever is indented get wrong.
#[test]
fn ordinary_lines_stay_records_of_their_own() {
    let lines = [
        "starting",
        "  - an item",
        "\tindented",
        "",
        "",
        "{",
        "  \"json\": true",
        "}",
        "print(x)",
        "a.b.c: value",
        "at last",
        "   at the end",
        "created by hand",
        "... 3 more",
        "During handling of the above exception, another exception occurred:",
        "[signal ",
        "Caused by an accident",
        "| table |",
        "\u{e9}\u{e8}: text",
    ]
    .map(|line| (Stream::Stdout, line));
    for rule in [
        MultilineRule::Java,
        MultilineRule::Python,
        MultilineRule::Go,
        MultilineRule::Node,
    ] {
        let joined = join(&multiline(rule.clone(), 1 << 20), &lines);
        assert_eq!(joined.len(), lines.len(), "{rule:?}");
    }
}

#[test]
fn the_streams_of_a_container_do_not_mix() {
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    let joined = join(
        &multiline(MultilineRule::Java, 1 << 20),
        &[
            (err, "java.lang.Error: x"),
            (out, "{\"json\": 1}"),
            (err, "\tat a.B.c(B.java:1)"),
            (out, "\tat no.trace(OfIts.own)"),
            (err, "\tat a.B.d(B.java:2)"),
            (out, "plain"),
        ],
    );
    let expected = [
        (out, 1, "{\"json\": 1}"),
        (out, 3, "\tat no.trace(OfIts.own)"),
        (out, 5, "plain"),
        (
            err,
            0,
            "java.lang.Error: x\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)",
        ),
    ];
    let expected = expected.map(|(stream, offset, text)| (stream, offset, text.to_owned(), false));
    assert_eq!(joined, expected);
}

#[test]
fn with_a_rule_of_ones_own_whatever_is_no_first_line_belongs_to_the_one_before() {
    let joined = join(
        &multiline(first_line(r"^\d{4}-\d\d-\d\d "), 1 << 20),
        &[
            (Stream::Stdout, "banner"),
            (Stream::Stdout, " of two lines"),
            (Stream::Stdout, "2026-11-23 ERROR failed"),
            (Stream::Stdout, "java.lang.Error: x"),
            (Stream::Stdout, "\tat a.B.c(B.java:1)"),
            (Stream::Stdout, "2026-11-23 INFO on"),
        ],
    );
    let texts: Vec<&str> = joined.iter().map(|one| one.2.as_str()).collect();
    let expected = [
        "banner\n of two lines",
        "2026-11-23 ERROR failed\njava.lang.Error: x\n\tat a.B.c(B.java:1)",
        "2026-11-23 INFO on",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn a_record_that_becomes_too_long_goes_on_in_the_next_one() {
    let lines: Vec<(Stream, &str)> = ["start", "12345", "1234", "x", "start"]
        .map(|line| (Stream::Stdout, line))
        .to_vec();
    let joined = join(&multiline(first_line("^start$"), 11), &lines);
    let shape: Vec<_> = joined
        .iter()
        .map(|one| (one.1, one.2.as_str(), one.3))
        .collect();
    assert_eq!(
        shape,
        [
            (0, "start\n12345", true),
            (2, "1234\nx", false),
            (4, "start", false)
        ]
    );
}

#[test]
fn pieces_of_a_line_longer_than_a_record_are_joined_to_nothing() {
    let multiline = multiline(first_line("^start"), 1 << 20);
    let joining = Joining {
        multiline: &multiline,
        now: Instant::now(),
    };
    let mut joiner = Joiner::default();
    let mut out = Out::new();
    for (offset, (content, continues)) in (0..).zip([
        ("start", false),
        ("piece", true),
        ("rest", false),
        ("other", false),
    ]) {
        let line = Record {
            continues,
            ..line(Stream::Stdout, offset, content.as_bytes())
        };
        let _ = joiner.push(joining, &line, &mut collect(&mut out));
    }
    let _ = joiner.flush(&mut collect(&mut out));
    let texts: Vec<_> = out.iter().map(|one| (one.2.as_str(), one.3)).collect();
    assert_eq!(
        texts,
        [
            ("start", false),
            ("piece", true),
            ("rest", false),
            ("other", false)
        ]
    );
}

#[test]
fn a_record_waits_for_its_next_line_no_longer_than_the_policy_says() {
    let multiline = multiline(MultilineRule::Go, 1 << 20);
    let start = Instant::now();
    let at = |millis| Joining {
        multiline: &multiline,
        now: start + Duration::from_millis(millis),
    };
    let mut joiner = Joiner::default();
    let mut out = Out::new();
    assert_eq!(joiner.due(&multiline), None);
    let _ = joiner.push(
        at(0),
        &line(Stream::Stderr, 0, b"panic: x"),
        &mut collect(&mut out),
    );
    let _ = joiner.push(
        at(900),
        &line(Stream::Stderr, 1, b""),
        &mut collect(&mut out),
    );
    let _ = joiner.push(
        at(950),
        &line(Stream::Stdout, 2, b"panic: y"),
        &mut collect(&mut out),
    );
    assert_eq!(
        joiner.due(&multiline),
        Some(start + Duration::from_millis(1900))
    );
    let _ = joiner.expire(at(1899), &mut collect(&mut out));
    assert_eq!(out, []);
    // A refused record is offered again.
    assert_eq!(joiner.expire(at(1900), &mut |_| Taken::No), Taken::No);
    let _ = joiner.expire(at(1900), &mut collect(&mut out));
    assert_eq!(out, [(Stream::Stderr, 0, "panic: x\n".to_owned(), false)]);
    let begin = Begin {
        file: FileNumber(1),
        offset: 2,
    };
    assert_eq!(joiner.open(), [Some(begin), None]);
}

fn any_rule() -> impl Strategy<Value = MultilineRule> {
    prop_oneof![
        Just(MultilineRule::Java),
        Just(MultilineRule::Python),
        Just(MultilineRule::Go),
        Just(MultilineRule::Node),
        Just(first_line("^[a-m]")),
    ]
}

/// Lines of the traces in any order, and others.
fn any_line() -> impl Strategy<Value = String> {
    let traces = [
        include_str!("traces/java.txt"),
        include_str!("traces/python.txt"),
        include_str!("traces/go.txt"),
        include_str!("traces/node.txt"),
    ];
    let lines: Vec<String> = traces
        .iter()
        .flat_map(|trace| trace.lines())
        .map(str::to_owned)
        .collect();
    prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "[a-z ]{0,9}",
    ]
}

proptest! {
    /// With any rule, whichever offers are refused on the way, each stream says what it said, line by line and in order,
    /// and each record has the place of its first line.
    #[test]
    fn what_goes_in_comes_out(
        rule in any_rule(),
        max_bytes in 1_u32..200,
        lines in proptest::collection::vec((any::<bool>(), any_line()), 0..60),
        refusals in proptest::collection::vec(any::<bool>(), 0..60),
    ) {
        let multiline = multiline(rule, max_bytes);
        let joining = Joining { multiline: &multiline, now: Instant::now() };
        let mut joiner = Joiner::default();
        let mut refusals = refusals.into_iter();
        let mut out: [Vec<(u64, String)>; 2] = Default::default();
        let mut expected: [Vec<(u64, String)>; 2] = Default::default();
        let mut take = |record: &Record<'_>| {
            if refusals.next().unwrap_or(false) {
                return Taken::No;
            }
            let text = String::from_utf8(record.content.to_vec()).unwrap();
            out[record.stream.index()].push((record.offset, text));
            Taken::Yes
        };
        for (offset, (stderr, content)) in (0..).zip(&lines) {
            let stream = Stream::ALL[usize::from(*stderr)];
            expected[stream.index()].push((offset, content.clone()));
            let line = line(stream, offset, content.as_bytes());
            while joiner.push(joining, &line, &mut take) == Taken::No {}
        }
        while joiner.flush(&mut take) == Taken::No {}
        for (out, expected) in out.iter().zip(&expected) {
            let mut expected = expected.iter();
            for (offset, text) in out {
                let mut offsets = Vec::new();
                for line in text.split('\n') {
                    let (offset, said) = expected.next().unwrap();
                    offsets.push(*offset);
                    prop_assert_eq!(line, said);
                }
                prop_assert_eq!(*offset, offsets[0]);
                // Only a line that is longer by itself exceeds the limit.
                prop_assert!(offsets.len() == 1 || text.len() <= max_bytes as usize);
            }
            prop_assert_eq!(expected.next(), None);
        }
    }
}
