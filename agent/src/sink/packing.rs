//! How the records of a sink are put together: their form, what compresses them and how much a request holds. Packs
//! nothing.

use std::{num::NonZeroU32, time::Duration};

use katonic_log_config::{Batching, Compression, JsonFormat, Sink, Target};

use crate::{
    batch::Limits,
    encode::{Format, new_relic::MAX_MESSAGE, object::Dialect, splunk::Event},
};

/// Bytes of a body unless the policy says otherwise: what Splunk and New Relic ask for, and little memory.
const BODY: usize = 1_000_000;

/// Most bytes of a body where the vendor has no lower limit: OpenTelemetry's default for servers, and a bound on the
/// agent's memory.
const LARGEST_BODY: usize = 20 << 20;

/// How the records of a sink are put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Their form.
    pub format: Format,
    /// What compresses bodies.
    pub compression: Compression,
    /// What a body may hold.
    pub limits: Limits,
    /// A record that is older than this may be dropped by the sink, without a word.
    pub horizon: Option<Duration>,
}

impl Packing {
    /// As the sink's vendor and the policy say; of two limits the lower one.
    pub fn of(sink: &Sink) -> Self {
        Self {
            format: format(&sink.target),
            compression: compression(&sink.target),
            limits: limits(&sink.target, &sink.batch),
            horizon: match &sink.target {
                // New Relic: "Introduction to the Log API", limits.
                Target::NewRelic(_) => Some(Duration::from_hours(48)),
                _ => None,
            },
        }
    }
}

fn format(target: &Target) -> Format {
    match target {
        Target::Splunk(splunk) => Format::Splunk(Event {
            index: splunk.index.clone(),
            host: splunk.host.clone(),
            source: splunk.source.clone(),
            sourcetype: splunk.sourcetype.clone(),
        }),
        Target::Loggly(_) => Format::Object(Dialect::Loggly),
        Target::NewRelic(_) => Format::NewRelic,
        Target::Mixpanel(_) => Format::Mixpanel,
        Target::Syslog(syslog) => Format::Syslog(syslog.into()),
        Target::Otlp(otlp) => Format::Otlp(otlp.encoding),
        Target::Http(http) => Format::Object(Dialect::Any(http.format)),
        Target::ObjectStorage(_) => Format::Object(Dialect::Any(JsonFormat::Lines)),
    }
}

/// What the policy says, as far as the vendor documents it.
pub(super) fn compression(target: &Target) -> Compression {
    let wanted = target
        .connection()
        .map_or(Compression::None, |connection| connection.compression);
    match (target, wanted) {
        // Loggly documents no content coding, and would answer that all is well if it took one for plain text.
        (Target::Loggly(_), _) => Compression::None,
        // What is kept for ever should be read by everything.
        (Target::Splunk(_) | Target::NewRelic(_) | Target::Mixpanel(_), Compression::Zstd)
        | (Target::ObjectStorage(_), _) => Compression::Gzip,
        _ => wanted,
    }
}

fn limits(target: &Target, batch: &Batching) -> Limits {
    let vendors = match target {
        // Splunk's default for an event (`limits.conf`, `maxEventSize`).
        Target::Splunk(_) => Limits {
            bytes: LARGEST_BODY,
            single: 5 << 20,
            ..Limits::NONE
        },
        // Loggly: "HTTP/S Bulk Endpoint".
        Target::Loggly(_) => Limits {
            bytes: 5_000_000,
            single: 1_000_000,
            ..Limits::NONE
        },
        // New Relic: "Introduction to the Log API"; what is that small before compression is so after it.
        Target::NewRelic(_) => Limits {
            bytes: 1_000_000,
            single: 1_000_000,
            content: MAX_MESSAGE,
            ..Limits::NONE
        },
        // Mixpanel: "Import Events"; 2 MB is what an older edition says, and never too much.
        Target::Mixpanel(_) => Limits {
            bytes: 2_000_000,
            records: 2_000,
            ..Limits::NONE
        },
        // OpenTelemetry: "OpenTelemetry Protocol Specification", default size limit.
        Target::Otlp(_) => Limits {
            bytes: LARGEST_BODY,
            single: LARGEST_BODY,
            ..Limits::NONE
        },
        Target::Http(_) => Limits {
            bytes: LARGEST_BODY,
            ..Limits::NONE
        },
        // Not compressed, and nothing is gained by writing more at once.
        Target::Syslog(_) => Limits {
            bytes: 256 << 10,
            ..Limits::NONE
        },
        Target::ObjectStorage(sink) => {
            return Limits {
                bytes: number(sink.max_bytes),
                ..Limits::NONE
            };
        }
    };
    vendors.and(Limits {
        bytes: batch.max_bytes.map_or(BODY, number),
        records: batch.max_records.map_or(usize::MAX, number),
        ..Limits::NONE
    })
}

fn number(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use katonic_log_config::{CredentialKey, Endpoint, Loggly, NewRelic, NewRelicRegion, Splunk};

    use super::*;

    fn key() -> CredentialKey {
        CredentialKey::try_from("token".to_owned()).unwrap()
    }

    fn endpoint() -> Endpoint {
        Endpoint::try_from("https://example.com".to_owned()).unwrap()
    }

    fn limits_of(target: Target, max_bytes: u32) -> Limits {
        let mut sink = Sink::new("s", target);
        sink.batch.max_bytes = NonZeroU32::new(max_bytes);
        Packing::of(&sink).limits
    }

    #[test]
    fn the_lower_of_the_vendors_and_the_policys_limit_holds() {
        let loggly = || {
            Target::Loggly(Loggly {
                endpoint: endpoint(),
                token: key(),
                tags: Vec::new(),
                connection: katonic_log_config::Connection::default(),
            })
        };
        assert_eq!(limits_of(loggly(), 0).bytes, 1_000_000, "none: the default");
        assert_eq!(limits_of(loggly(), 4_000_000).bytes, 4_000_000);
        assert_eq!(limits_of(loggly(), 6_000_000).bytes, 5_000_000);
        assert_eq!(limits_of(loggly(), 1000).single, 1_000_000);
        let splunk = || Target::Splunk(Splunk::to(endpoint(), key()));
        assert_eq!(limits_of(splunk(), u32::MAX).bytes, LARGEST_BODY);
        let mut sink = Sink::new("s", splunk());
        sink.batch.max_records = NonZeroU32::new(7);
        assert_eq!(Packing::of(&sink).limits.records, 7);
    }

    #[test]
    fn only_a_sink_that_drops_old_records_has_a_horizon() {
        let new_relic = Target::NewRelic(NewRelic {
            region: NewRelicRegion::Eu,
            endpoint: None,
            license_key: key(),
            connection: katonic_log_config::Connection::default(),
        });
        let horizon = |target| Packing::of(&Sink::new("s", target)).horizon;
        assert_eq!(horizon(new_relic), Some(Duration::from_hours(48)));
        let splunk = Target::Splunk(Splunk::to(endpoint(), key()));
        assert_eq!(horizon(splunk), None);
    }
}
