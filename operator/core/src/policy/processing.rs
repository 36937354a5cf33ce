//! What is done to each record: every pattern is compiled here once, as the agents will compile it.

use std::num::{NonZeroU8, NonZeroU32};

use katonic_log_config as config;
use katonic_log_config::{MultilineRule, Pattern, Percent, Replacement};
use katonic_logging_crds as api;
use katonic_logging_crds::processing::MULTILINE_TIMEOUT;

use super::{Needs, Processing, Reader, Told, Usage};

/// How long a record waits for its next line, in milliseconds: what a program writes in one go arrives well within it.
const TIMEOUT_MS: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// How long a record may become: the longest stack traces of a Java service fit.
const MAX_BYTES: NonZeroU32 = NonZeroU32::new(256 << 10).unwrap();

/// What stands in place of a match.
const REPLACEMENT: &str = "***";

impl Reader {
    pub(super) fn processing(&mut self, spec: &api::LoggingPolicySpec) -> Processing {
        let mut needs = Needs::default();
        let multiline = spec
            .multiline
            .as_ref()
            .and_then(|multiline| self.multiline(multiline).ok()?);
        let mut filters = Vec::new();
        for (index, filter) in spec.filters.iter().flatten().enumerate() {
            filters.extend(self.filter(&format!("spec.filters[{index}]"), filter, &mut needs));
        }
        // Each by itself can be used; an agent has them all.
        if let Err((index, error)) = config::processing::check(&filters)
            && filters.len() == spec.filters.iter().flatten().count()
        {
            let _: Told = self.violation(format!("spec.filters[{index}]"), error.to_string());
        }
        for (index, label) in spec.pod_labels.iter().flatten().enumerate() {
            self.label_key(&format!("spec.podLabels[{index}]"), label);
        }
        Processing {
            multiline,
            filters,
            parse: match spec.parse {
                None | Some(api::Parse::Text) => config::Parse::Text,
                Some(api::Parse::Json) => config::Parse::Json,
            },
            pod_labels: spec
                .pod_labels
                .as_ref()
                .map(|labels| labels.iter().cloned().collect()),
            needs,
        }
    }

    /// None: each line is a record.
    fn multiline(&mut self, multiline: &api::Multiline) -> Result<Option<config::Multiline>, Told> {
        let path = "spec.multiline";
        let rule = match (multiline.rule, &multiline.first_line) {
            (Some(api::MultilineRule::None), None) => return Ok(None),
            (Some(api::MultilineRule::Java), None) => Ok(MultilineRule::Java),
            (Some(api::MultilineRule::Python), None) => Ok(MultilineRule::Python),
            (Some(api::MultilineRule::Go), None) => Ok(MultilineRule::Go),
            (Some(api::MultilineRule::Node), None) => Ok(MultilineRule::Node),
            (None, Some(pattern)) => self
                .pattern(format!("{path}.firstLine"), pattern)
                .map(MultilineRule::FirstLine),
            _ => Err(self.violation(path, "multiline has exactly one of rule and firstLine")),
        };
        let timeout_ms = multiline
            .timeout
            .as_ref()
            .map(|text| self.milliseconds(format!("{path}.timeout"), text, MULTILINE_TIMEOUT))
            .transpose();
        let max_bytes = multiline
            .max_bytes
            .map(|bytes| self.positive(format!("{path}.maxBytes"), bytes))
            .transpose();
        Ok(Some(config::Multiline {
            rule: rule?,
            timeout_ms: timeout_ms?.unwrap_or(TIMEOUT_MS),
            max_bytes: max_bytes?.unwrap_or(MAX_BYTES),
        }))
    }

    fn filter(
        &mut self,
        path: &str,
        filter: &api::Filter,
        needs: &mut Needs,
    ) -> Result<config::Filter, Told> {
        let api::Filter {
            drop,
            keep,
            redact,
            sample,
            rate_limit,
        } = filter;
        match (drop, keep, redact, sample, rate_limit) {
            (Some(drop), None, None, None, None) => self
                .pattern(format!("{path}.drop.pattern"), &drop.pattern)
                .map(config::Filter::Drop),
            (None, Some(keep), None, None, None) => self
                .pattern(format!("{path}.keep.pattern"), &keep.pattern)
                .map(config::Filter::Keep),
            (None, None, Some(redact), None, None) => self
                .redact(&format!("{path}.redact"), redact, needs)
                .map(config::Filter::Redact),
            (None, None, None, Some(sample), None) => self
                .sample(&format!("{path}.sample"), sample)
                .map(config::Filter::Sample),
            (None, None, None, None, Some(limit)) => {
                let path = format!("{path}.rateLimit.recordsPerSecond");
                let records_per_second = self.positive(path, limit.records_per_second)?;
                Ok(config::Filter::RateLimit(config::RateLimit {
                    records_per_second,
                }))
            }
            _ => Err(self.violation(
                path,
                "a filter is exactly one step: set one of drop, keep, redact, sample, rateLimit",
            )),
        }
    }

    fn redact(
        &mut self,
        path: &str,
        redact: &api::Redact,
        needs: &mut Needs,
    ) -> Result<config::Redact, Told> {
        let pattern = self.pattern(format!("{path}.pattern"), &redact.pattern);
        let with = match (&redact.replacement, &redact.hash_key_secret_ref) {
            (text, None) => Ok(Replacement::Text(
                text.clone().unwrap_or_else(|| REPLACEMENT.to_owned()),
            )),
            (None, Some(secret)) => self
                .credential(
                    format!("{path}.hashKeySecretRef"),
                    secret,
                    Usage::HashKey,
                    needs,
                )
                .map(Replacement::Hash),
            (Some(_), Some(_)) => {
                Err(self.violation(path, "keep one of replacement and hashKeySecretRef"))
            }
        };
        Ok(config::Redact {
            pattern: pattern?,
            with: with?,
        })
    }

    fn sample(&mut self, path: &str, sample: &api::Sample) -> Result<config::Sample, Told> {
        let pattern = sample
            .pattern
            .as_ref()
            .map(|pattern| self.pattern(format!("{path}.pattern"), pattern))
            .transpose();
        let percent = u8::try_from(sample.percent)
            .ok()
            .and_then(NonZeroU8::new)
            .and_then(|number| Percent::try_from(number).ok());
        let percent = percent.ok_or_else(|| {
            self.violation(
                format!("{path}.percent"),
                format!("{} is not a percentage: use 1 to 100", sample.percent),
            )
        });
        Ok(config::Sample {
            pattern: pattern?,
            percent: percent?,
        })
    }

    /// A regular expression that every agent can compile.
    fn pattern(&mut self, path: String, text: &str) -> Result<Pattern, Told> {
        let compiled = Pattern::try_from(text.to_owned())
            .and_then(|pattern| pattern.compile().map(|_| pattern));
        self.take(path, compiled)
    }
}
