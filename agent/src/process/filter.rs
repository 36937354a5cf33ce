//! The steps that decide which records are sent and what is seen of them. Counts and encodes nothing.

use std::{collections::BTreeMap, ops::AddAssign, rc::Rc};

use katonic_log_config::{Audit, CredentialKey, Filter, Pattern, Policy, Replacement};
use ring::hmac;
use serde::Serialize;

pub use super::sample::RecordId;
use super::{
    Ready,
    audit::{self, Fault, Line, Verdict},
    pattern::Matcher,
    rate_limit::Passed,
    redact::{With, redact},
    sample::Share,
    trail::Memory,
};
use crate::{
    assemble::{Record, Taken},
    timestamp::Timestamp,
};

/// From this size on a buffer is not kept for the next batch.
const LARGE: usize = 64 << 10;

/// All filters of a policy, compiled.
#[derive(Debug, Default)]
pub(super) struct Filters {
    steps: Vec<Step>,
    hash_keys: Vec<CredentialKey>,
}

#[derive(Debug)]
enum Step {
    /// Before every other one.
    Audit(Audit),
    Drop(Rc<Matcher>),
    Keep(Rc<Matcher>),
    Redact(Rc<Matcher>, With),
    Sample(Option<Rc<Matcher>>, Share),
    RateLimit(u32),
}

/// What kind of filter dropped a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Other,
    Drop,
    Keep,
    Sample,
    RateLimit,
}

/// How many records were dropped, by kind of filter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// They are no audit events, or none that the policy wants.
    #[serde(skip_serializing_if = "is_zero")]
    pub other: u64,
    /// They match what is dropped.
    pub drop: u64,
    /// They do not match what is kept.
    pub keep: u64,
    /// They are not of the sample.
    pub sample: u64,
    /// There were too many of them in their second.
    pub rate_limit: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Buffers for filtering.
#[derive(Debug, Default)]
pub struct Scratch {
    text: Vec<u8>,
    next: Vec<u8>,
    shown: Vec<u8>,
}

/// Filters at work on one batch.
#[derive(Debug)]
pub struct Sieve<'a> {
    steps: &'a [Step],
    keys: &'a [hmac::Key],
    scratch: &'a mut Scratch,
    /// What was dropped so far.
    pub dropped: Dropped,
    /// What was meant as an audit event and is none, by reason; it is sent all the same.
    pub faults: BTreeMap<Fault, u64>,
    bytes: usize,
    /// So many bytes of dropped records are read at once.
    most: usize,
}

/// What a record has come to.
struct Passage<'a> {
    /// What is left of it, or what has dropped it.
    outcome: Result<Record<'a>, Kind>,
    /// How many rate limits it has passed.
    limits: usize,
    /// What it is to an audit policy; none: nothing was asked of it.
    verdict: Option<Verdict>,
}

impl Filters {
    /// Each step, with its pattern.
    ///
    /// # Errors
    /// Those of `matcher`: a step that is left out would show what it is there to hide.
    pub(super) fn new<E>(
        policy: &Policy,
        matcher: impl Fn(&Pattern) -> Result<Rc<Matcher>, E>,
    ) -> Result<Self, E> {
        let mut made = Self::default();
        made.steps.extend(policy.audit.clone().map(Step::Audit));
        for filter in &policy.filters {
            let step = match filter {
                Filter::Drop(pattern) => Step::Drop(matcher(pattern)?),
                Filter::Keep(pattern) => Step::Keep(matcher(pattern)?),
                Filter::Redact(redact) => {
                    Step::Redact(matcher(&redact.pattern)?, made.with(&redact.with))
                }
                Filter::Sample(sample) => {
                    let pattern = sample.pattern.as_ref().map(&matcher).transpose()?;
                    Step::Sample(pattern, sample.percent.into())
                }
                Filter::RateLimit(limit) => Step::RateLimit(limit.records_per_second.get()),
            };
            made.steps.push(step);
        }
        Ok(made)
    }

    fn with(&mut self, replacement: &Replacement) -> With {
        match replacement {
            Replacement::Text(text) => With::Text(text.clone().into_bytes()),
            Replacement::Hash(key) => {
                self.hash_keys.push(key.clone());
                With::Hash(self.hash_keys.len() - 1)
            }
        }
    }

    pub(super) fn hash_keys(&self) -> impl Iterator<Item = &CredentialKey> {
        self.hash_keys.iter()
    }
}

impl Ready {
    /// The filters at work, until they have dropped `most` bytes; none when there are no filters.
    pub fn sieve<'a>(&'a self, scratch: &'a mut Scratch, most: usize) -> Option<Sieve<'a>> {
        let steps = &self.processing.filters.steps;
        (!steps.is_empty()).then_some(Sieve {
            steps,
            keys: &self.keys,
            scratch,
            dropped: Dropped::default(),
            faults: BTreeMap::new(),
            bytes: 0,
            most,
        })
    }

    /// Whether it depends on earlier records what becomes of one, or where it stands.
    pub fn remembers(&self) -> bool {
        let steps = &self.processing.filters.steps;
        steps
            .iter()
            .any(|step| matches!(step, Step::Audit(_) | Step::RateLimit(_)))
    }
}

impl Sieve<'_> {
    /// Offers `take` what the filters leave of a record. One that they drop counts as taken.
    pub fn offer(
        &mut self,
        record: &Record<'_>,
        id: RecordId,
        memory: &mut Memory,
        take: impl FnOnce(&Record<'_>) -> Taken,
    ) -> Taken {
        if self.bytes >= self.most {
            return Taken::No;
        }
        let Passage {
            outcome,
            limits,
            verdict,
        } = pass(
            self.steps,
            self.keys,
            record,
            id,
            &memory.limits,
            &mut *self.scratch,
        );
        let Memory {
            limits: passed,
            trail,
        } = memory;
        let Timestamp { seconds, .. } = record.time;
        match outcome {
            Ok(mut left) => {
                left.audit = verdict.map(|verdict| trail.audited(&left, id, verdict));
                let taken = take(&left);
                // Otherwise it comes again, and counts then.
                if taken == Taken::Yes && limits > 0 {
                    passed.add(limits, seconds);
                }
                if taken == Taken::Yes
                    && let Some(audited) = left.audit
                {
                    trail.add(&left, audited);
                }
                if taken == Taken::Yes
                    && let Some(fault) = left.fault()
                {
                    *self.faults.entry(fault).or_default() += 1;
                }
                taken
            }
            Err(kind) => {
                if limits > 0 {
                    passed.add(limits, seconds);
                }
                if kind == Kind::RateLimit {
                    passed.exceed(seconds);
                }
                self.dropped.add(kind);
                self.bytes += record.content.len();
                Taken::Yes
            }
        }
    }
}

impl Drop for Sieve<'_> {
    fn drop(&mut self) {
        let Scratch { text, next, shown } = &mut *self.scratch;
        for buffer in [text, next, shown] {
            buffer.clear();
            buffer.shrink_to(LARGE);
        }
    }
}

fn pass<'a>(
    steps: &[Step],
    keys: &[hmac::Key],
    record: &Record<'a>,
    id: RecordId,
    passed: &Passed,
    scratch: &'a mut Scratch,
) -> Passage<'a> {
    let Scratch { text, next, shown } = scratch;
    let mut redacted = false;
    let mut limits = 0;
    let mut verdict = None;
    for step in steps {
        let content = if redacted { &text[..] } else { record.content };
        let dropped_by = match step {
            Step::Audit(audit) => match audit::read(record) {
                Line::Other => Some(Kind::Other),
                Line::Event(event) => {
                    verdict = Some(Verdict::Event);
                    (!audit.wants(&event.name)).then_some(Kind::Other)
                }
                Line::Faulty(fault) => {
                    verdict = Some(Verdict::Faulty(fault));
                    None
                }
            },
            Step::Drop(pattern) => pattern
                .is_match(visible(content, shown))
                .then_some(Kind::Drop),
            Step::Keep(pattern) => {
                (!pattern.is_match(visible(content, shown))).then_some(Kind::Keep)
            }
            Step::Sample(pattern, share) => (!share.takes(id)
                && pattern
                    .as_ref()
                    .is_none_or(|pattern| pattern.is_match(visible(content, shown))))
            .then_some(Kind::Sample),
            Step::RateLimit(most) => {
                if passed.records(limits, record.time.seconds) < *most {
                    limits += 1;
                    None
                } else {
                    Some(Kind::RateLimit)
                }
            }
            Step::Redact(pattern, with) => {
                let visible = visible(content, shown);
                if redact(pattern, with, keys, content, visible, next) {
                    std::mem::swap(text, next);
                    redacted = true;
                }
                None
            }
        };
        if let Some(kind) = dropped_by {
            return Passage {
                outcome: Err(kind),
                limits,
                verdict,
            };
        }
    }
    let content = if redacted { &text[..] } else { record.content };
    Passage {
        outcome: Ok(Record { content, ..*record }),
        limits,
        verdict,
    }
}

/// What patterns see: a byte that is not UTF-8 as a control character, because no class of characters has such a byte
/// in it, and what a pattern cannot see it cannot hide.
fn visible<'a>(content: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    /// U+001A, "substitute": one byte for one, so that places stay the same.
    const SUBSTITUTE: u8 = 0x1a;
    if str::from_utf8(content).is_ok() {
        return content;
    }
    buffer.clear();
    for chunk in content.utf8_chunks() {
        buffer.extend_from_slice(chunk.valid().as_bytes());
        buffer.resize(buffer.len() + chunk.invalid().len(), SUBSTITUTE);
    }
    buffer
}

impl Dropped {
    fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Other => &mut self.other,
            Kind::Drop => &mut self.drop,
            Kind::Keep => &mut self.keep,
            Kind::Sample => &mut self.sample,
            Kind::RateLimit => &mut self.rate_limit,
        } += 1;
    }

    /// Of all kinds.
    pub fn total(self) -> u64 {
        let Self {
            other,
            drop,
            keep,
            sample,
            rate_limit,
        } = self;
        other + drop + keep + sample + rate_limit
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.other += other.other;
        self.drop += other.drop;
        self.keep += other.keep;
        self.sample += other.sample;
        self.rate_limit += other.rate_limit;
    }
}

#[cfg(test)]
mod tests;
