//! What is done with lines on their way: joining them, filtering records.

use std::{cell::RefCell, num::NonZeroU32, path::Path, rc::Rc};

use katonic_log_agent::{
    assemble::{FileNumber, Record, Taken},
    cri::Stream,
    process::{
        Processing,
        filter::{RecordId, Scratch},
        multiline::Joiner,
        trail::Memory,
    },
    timestamp::Timestamp,
};
use katonic_log_config::{Filter, Multiline, MultilineRule, Pattern, Policy, Redact, Replacement};
use regex::bytes::{NoExpand, Regex};

use crate::input::Input;

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

fn joining(rule: MultilineRule, max_bytes: NonZeroU32) -> Processing {
    let mut policy = Policy::of_everything("p", "u", Vec::new());
    policy.multiline = Some(Multiline {
        rule,
        timeout_ms: NonZeroU32::MAX,
        max_bytes,
    });
    Processing::of(&policy).unwrap()
}

/// Joins lines up to the next one that matches.
pub(crate) fn first_line(text: &str) -> Processing {
    joining(MultilineRule::FirstLine(pattern(text)), NonZeroU32::MAX)
}

thread_local! {
    static RULES: [Processing; 5] = [
        joining(MultilineRule::Java, NonZeroU32::MAX),
        joining(MultilineRule::Python, NonZeroU32::MAX),
        joining(MultilineRule::Go, NonZeroU32::MAX),
        joining(MultilineRule::Node, NonZeroU32::MAX),
        joining(MultilineRule::FirstLine(pattern("^[a-m]")), NonZeroU32::new(64).unwrap()),
    ];
}

/// With any rule the records say what the lines said, in order, and are cut between lines only.
pub fn multiline(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rule = usize::from(input.byte());
    let refusals = input.number();
    let lines: Vec<&[u8]> = input.rest().split(|byte| *byte == b'\n').collect();
    RULES.with(|rules| {
        let processing = &rules[rule % rules.len()];
        let mut joiner = Joiner::default();
        let offers = RefCell::new(0_u32);
        let mut said: Vec<u8> = Vec::new();
        let mut take = |record: &Record<'_>| {
            let mut offers = offers.borrow_mut();
            *offers += 1;
            if refusals.rotate_left(*offers) % 4 == 1 && !offers.is_multiple_of(3) {
                return Taken::No;
            }
            said.extend_from_slice(record.content);
            said.push(b'\n');
            Taken::Yes
        };
        for (offset, content) in (0..).zip(&lines) {
            let line = Record {
                time: Timestamp::default(),
                stream: Stream::Stdout,
                file: FileNumber(1),
                offset,
                content,
                continues: false,
                continued: false,
                audit: None,
            };
            while joiner.push(processing.joining().unwrap(), &line, &mut take) == Taken::No {}
        }
        while joiner.flush(&mut take) == Taken::No {}
        assert_eq!(said.strip_suffix(b"\n").unwrap(), lines.join(&b'\n'));
        assert!(joiner.is_idle());
    });
}

/// A pattern of any bytes is compiled or refused; a redaction with it does what the library of regular expressions does
/// by itself, on bytes of any kind.
pub fn filters(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Ok(pattern) = Pattern::try_from(input.text()) else {
        return;
    };
    let with = input.text();
    let content = input.rest();
    let mut policy = Policy::of_everything("p", "u", Vec::new());
    policy.filters = vec![Filter::Redact(Redact {
        pattern: pattern.clone(),
        with: Replacement::Text(with.clone()),
    })];
    let Ok(processing) = Processing::of(&policy) else {
        assert!(pattern.compile().is_err());
        return;
    };
    let ready = Rc::new(processing).ready(Path::new("")).unwrap();
    let mut scratch = Scratch::default();
    let mut sieve = ready.sieve(&mut scratch, usize::MAX).unwrap();
    let record = Record {
        time: Timestamp::default(),
        stream: Stream::Stdout,
        file: FileNumber(1),
        offset: 0,
        content,
        continues: false,
        continued: false,
        audit: None,
    };
    let mut left = Vec::new();
    let id = RecordId { file: 0, offset: 0 };
    let taken = sieve.offer(&record, id, &mut Memory::default(), |record| {
        left = record.content.to_vec();
        Taken::Yes
    });
    assert_eq!(taken, Taken::Yes);
    let compiled = Regex::new(pattern.as_str()).unwrap();
    if !has_empty_matches(&compiled, content) && str::from_utf8(content).is_ok() {
        let expected = compiled.replace_all(content, NoExpand(with.as_bytes()));
        assert_eq!(left, *expected);
    }
}

fn has_empty_matches(pattern: &Regex, content: &[u8]) -> bool {
    pattern.find_iter(content).any(|found| found.is_empty())
}
