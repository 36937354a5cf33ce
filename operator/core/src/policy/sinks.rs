//! Sinks: what the agents are told of each kind.

use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroU32},
};

use katonic_log_config as config;
use katonic_log_config::{
    AppName, ArchiveLayout, Compression, Endpoint, Facility, HostName, LogglyTag, Target,
};
use katonic_logging_crds as api;
use katonic_logging_crds::sink::{ACKNOWLEDGEMENT_TIMEOUT, FLUSH_INTERVAL, POLL_INTERVAL};

use super::{
    OfInstallation, Reader, Sink, Told, Usage,
    connection::{Findings, secret_parameter},
};

/// Loggly's own address (Loggly: "HTTP/S Bulk Endpoint").
const LOGGLY: &str = "https://logs-01.loggly.com";

/// Keys of a Secret with a service account of Mixpanel.
const ACCOUNT_NAME: &str = "username";
const ACCOUNT_SECRET: &str = "secret";

/// How often Splunk is asked what is indexed, in milliseconds.
const POLL_MS: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// How long Splunk has to index (Splunk: "About HTTP Event Collector Indexer Acknowledgment" advises five minutes).
const ACKNOWLEDGEMENT_MS: NonZeroU32 = NonZeroU32::new(5 * 60 * 1000).unwrap();

/// Ports of syslog: RFC 5426 §3.3 for UDP and the usual one for TCP; RFC 5425 §4.1 for TLS.
const SYSLOG_PORT: NonZeroU16 = NonZeroU16::new(514).unwrap();
const SYSLOG_TLS_PORT: NonZeroU16 = NonZeroU16::new(6514).unwrap();

/// What most servers take in a datagram (RFC 5426 §3.2), and in a message over TLS (RFC 5425 §4.3.1).
const DATAGRAM_BYTES: NonZeroU32 = NonZeroU32::new(2048).unwrap();
const MESSAGE_BYTES: NonZeroU32 = NonZeroU32::new(8192).unwrap();

/// No transport of syslog has an acknowledgement (RFC 5425, 5426, 6587): what the agent counts as delivered instead.
const DELIVERED_BY_UDP: &str = "syslog acknowledges nothing: delivered means sent, and not refused within 1 s; a datagram that is lost on the way is lost without a word";
const DELIVERED_BY_TCP: &str = "syslog acknowledges nothing: delivered means that the server's TCP has it and the connection lived on for 5 s; what the server loses later is lost without a word, and what was under way when a connection broke may be there twice";
const DELIVERED_BY_TLS: &str = "syslog acknowledges nothing, with TLS neither: delivered means that the server's TCP has it and the connection lived on for 5 s; what the server loses later is lost without a word, and what was under way when a connection broke may be there twice";

/// A number that is set aside for examples (RFC 5612): nobody's server gives it a meaning.
const ENTERPRISE: NonZeroU32 = NonZeroU32::new(32473).unwrap();

impl Reader {
    pub(super) fn sinks(
        &mut self,
        spec: &api::LoggingPolicySpec,
        layout: ArchiveLayout,
    ) -> (Vec<Sink>, Vec<OfInstallation>) {
        if spec.sinks.is_empty() {
            self.violation("spec.sinks", "is empty: a policy needs at least one sink");
        }
        let mut names = BTreeSet::new();
        let (mut sinks, mut of_installation) = (Vec::new(), Vec::new());
        for (index, sink) in spec.sinks.iter().enumerate() {
            let path = format!("spec.sinks[{index}]");
            if !names.insert(&sink.name) {
                self.violation(
                    format!("{path}.name"),
                    format!("`{}` is the name of an earlier sink", sink.name),
                );
            }
            let is_fallback = spec.fallback.as_ref() == Some(&sink.name);
            match self.of_installation(&path, index, sink, layout, is_fallback) {
                Some(archive) => of_installation.extend(archive),
                None => sinks.extend(self.sink(&path, sink, layout, is_fallback)),
            }
        }
        if let Some(fallback) = &spec.fallback {
            if !names.contains(fallback) {
                self.violation(
                    "spec.fallback",
                    format!("`{fallback}` is not the name of one of the sinks"),
                );
            } else if names.len() == 1 {
                self.violation(
                    "spec.fallback",
                    "gets only what the other sinks could not deliver: add another sink beside it",
                );
            }
        }
        (sinks, of_installation)
    }

    fn sink(
        &mut self,
        path: &str,
        sink: &api::Sink,
        layout: ArchiveLayout,
        is_fallback: bool,
    ) -> Result<Sink, Told> {
        let mut findings = Findings::default();
        let target = self.target(path, sink, layout, &mut findings);
        let batch = self.batch(&format!("{path}.batch"), sink.batch.as_ref());
        let (kind, target) = target?;
        Ok(Sink {
            kind,
            is_fallback,
            config: config::Sink {
                name: sink.name.clone(),
                target,
                batch: batch?,
            },
            needs: findings.needs,
            warnings: findings.warnings,
            delivered_means: findings.delivered_means,
            management: findings.management,
        })
    }

    fn target(
        &mut self,
        path: &str,
        sink: &api::Sink,
        layout: ArchiveLayout,
        findings: &mut Findings,
    ) -> Result<(&'static str, Target), Told> {
        let api::Sink {
            splunk,
            loggly,
            new_relic,
            syslog,
            otlp,
            http,
            object_storage,
            mixpanel,
            ..
        } = sink;
        if let Some(mixpanel) = mixpanel {
            let alone = api::Sink {
                name: sink.name.clone(),
                mixpanel: Some(mixpanel.clone()),
                batch: sink.batch.clone(),
                ..api::Sink::default()
            };
            if *sink == alone && layout == ArchiveLayout::Audit {
                let target = self.mixpanel(&format!("{path}.mixpanel"), mixpanel, findings)?;
                return Ok(("mixpanel", Target::Mixpanel(target)));
            }
            if layout != ArchiveLayout::Audit {
                return Err(self.violation(
                    format!("{path}.mixpanel"),
                    "takes events and no log lines: name it in an AuditPolicy",
                ));
            }
        }
        match (splunk, loggly, new_relic, syslog, otlp, http, object_storage) {
            (Some(sink), None, None, None, None, None, None) => {
                let target = self.splunk(&format!("{path}.splunk"), sink, findings)?;
                Ok(("splunk", Target::Splunk(target)))
            }
            (None, Some(sink), None, None, None, None, None) => {
                let target = self.loggly(&format!("{path}.loggly"), sink, findings)?;
                Ok(("loggly", Target::Loggly(target)))
            }
            (None, None, Some(sink), None, None, None, None) => {
                let target = self.new_relic(&format!("{path}.newRelic"), sink, findings)?;
                Ok(("newRelic", Target::NewRelic(target)))
            }
            (None, None, None, Some(sink), None, None, None) => {
                let target = self.syslog(&format!("{path}.syslog"), sink, findings)?;
                Ok(("syslog", Target::Syslog(target)))
            }
            (None, None, None, None, Some(sink), None, None) => {
                let target = self.otlp(&format!("{path}.otlp"), sink, findings)?;
                Ok(("otlp", Target::Otlp(target)))
            }
            (None, None, None, None, None, Some(sink), None) => {
                let target = self.http(&format!("{path}.http"), sink, findings)?;
                Ok(("http", Target::Http(target)))
            }
            (None, None, None, None, None, None, Some(archive)) => {
                let path = format!("{path}.objectStorage");
                let target = self.object_storage(&path, archive, layout, findings)?;
                if sink.batch.is_some() {
                    return Err(self.violation(
                        path,
                        "an object is no request: say how large and how old it may become in objects, and remove batch",
                    ));
                }
                Ok(("objectStorage", Target::ObjectStorage(target)))
            }
            _ => Err(self.violation(
                path,
                "a sink has exactly one kind: set one of splunk, loggly, newRelic, syslog, otlp, http, objectStorage",
            )),
        }
    }

    fn batch(&mut self, path: &str, batch: Option<&api::Batch>) -> Result<config::Batching, Told> {
        let Some(batch) = batch else {
            return Ok(config::Batching::default());
        };
        let max_bytes = batch
            .max_bytes
            .map(|bytes| self.positive(format!("{path}.maxBytes"), bytes))
            .transpose();
        let max_records = batch
            .max_records
            .map(|records| self.positive(format!("{path}.maxRecords"), records))
            .transpose();
        let flush_ms = batch
            .flush_interval
            .as_ref()
            .map(|text| self.milliseconds(format!("{path}.flushInterval"), text, FLUSH_INTERVAL))
            .transpose();
        Ok(config::Batching {
            max_bytes: max_bytes?,
            max_records: max_records?,
            flush_ms: flush_ms?,
        })
    }

    fn splunk(
        &mut self,
        path: &str,
        sink: &api::SplunkSink,
        findings: &mut Findings,
    ) -> Result<config::Splunk, Told> {
        let endpoint = self.endpoint(format!("{path}.endpoint"), &sink.endpoint, findings);
        let token = self.credential(
            format!("{path}.tokenSecretRef"),
            &sink.token_secret_ref,
            Usage::Token,
            &mut findings.needs,
        );
        let acknowledgement = sink
            .acknowledgement
            .as_ref()
            .map(|acknowledgement| {
                self.acknowledgement(&format!("{path}.acknowledgement"), acknowledgement)
            })
            .transpose();
        let connection = self.connection(path, &sink.connection, gzip(sink.compression), findings);
        findings.management = self.manages_splunk(path, sink, findings)?;
        let (endpoint, acknowledgement) = (endpoint?, acknowledgement?);
        if acknowledgement.is_some() && is_splunk_cloud(&endpoint) {
            findings.warnings.push(
                "Splunk Cloud acknowledges indexing to Firehose alone: remove acknowledgement unless your stack has it".into(),
            );
        }
        Ok(config::Splunk {
            index: sink.index.clone(),
            host: sink.host.clone(),
            source: sink.source.clone(),
            sourcetype: sink.sourcetype.clone(),
            acknowledgement,
            connection: connection?,
            ..config::Splunk::to(endpoint, token?)
        })
    }

    fn acknowledgement(
        &mut self,
        path: &str,
        acknowledgement: &api::SplunkAcknowledgement,
    ) -> Result<config::Acknowledgement, Told> {
        let poll_ms = acknowledgement
            .poll_interval
            .as_ref()
            .map(|text| self.milliseconds(format!("{path}.pollInterval"), text, POLL_INTERVAL))
            .transpose();
        let timeout_ms = acknowledgement
            .timeout
            .as_ref()
            .map(|text| self.milliseconds(format!("{path}.timeout"), text, ACKNOWLEDGEMENT_TIMEOUT))
            .transpose();
        let acknowledgement = config::Acknowledgement {
            poll_ms: poll_ms?.unwrap_or(POLL_MS),
            timeout_ms: timeout_ms?.unwrap_or(ACKNOWLEDGEMENT_MS),
        };
        if acknowledgement.poll_ms >= acknowledgement.timeout_ms {
            return Err(self.violation(path, "pollInterval must be shorter than timeout"));
        }
        Ok(acknowledgement)
    }

    fn loggly(
        &mut self,
        path: &str,
        sink: &api::LogglySink,
        findings: &mut Findings,
    ) -> Result<config::Loggly, Told> {
        let endpoint = sink.endpoint.as_deref().unwrap_or(LOGGLY);
        let endpoint = self.endpoint(format!("{path}.endpoint"), endpoint, findings);
        let token = self.credential(
            format!("{path}.tokenSecretRef"),
            &sink.token_secret_ref,
            Usage::LogglyToken,
            &mut findings.needs,
        );
        let tags: Vec<_> = sink
            .tags
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, tag)| {
                self.take(
                    format!("{path}.tags[{index}]"),
                    LogglyTag::try_from(tag.clone()),
                )
            })
            .collect();
        let connection = self.connection(path, &sink.connection, Compression::None, findings);
        Ok(config::Loggly {
            endpoint: endpoint?,
            token: token?,
            tags: tags.into_iter().collect::<Result<_, _>>()?,
            connection: connection?,
        })
    }

    fn new_relic(
        &mut self,
        path: &str,
        sink: &api::NewRelicSink,
        findings: &mut Findings,
    ) -> Result<config::NewRelic, Told> {
        let endpoint = sink
            .endpoint
            .as_ref()
            .map(|endpoint| self.endpoint(format!("{path}.endpoint"), endpoint, findings))
            .transpose();
        let license_key = self.credential(
            format!("{path}.licenseKeySecretRef"),
            &sink.license_key_secret_ref,
            Usage::Token,
            &mut findings.needs,
        );
        let connection = self.connection(path, &sink.connection, gzip(sink.compression), findings);
        findings.management = self.manages_new_relic(path, sink, findings)?;
        Ok(config::NewRelic {
            region: match sink.region {
                None | Some(api::NewRelicRegion::Us) => config::NewRelicRegion::Us,
                Some(api::NewRelicRegion::Eu) => config::NewRelicRegion::Eu,
                Some(api::NewRelicRegion::FedRamp) => config::NewRelicRegion::FedRamp,
            },
            endpoint: endpoint?,
            license_key: license_key?,
            connection: connection?,
        })
    }

    fn mixpanel(
        &mut self,
        path: &str,
        sink: &api::MixpanelSink,
        findings: &mut Findings,
    ) -> Result<config::Mixpanel, Told> {
        let endpoint = sink
            .endpoint
            .as_ref()
            .map(|endpoint| self.endpoint(format!("{path}.endpoint"), endpoint, findings))
            .transpose();
        let credential = match (
            &sink.project_token_secret_ref,
            &sink.service_account_secret_ref,
            &sink.project_id,
        ) {
            (Some(token), None, None) => self
                .credential(
                    format!("{path}.projectTokenSecretRef"),
                    token,
                    Usage::Token,
                    &mut findings.needs,
                )
                .map(config::MixpanelCredential::ProjectToken),
            (None, Some(account), Some(project))
                if !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                let mut part = |key: &str, usage| {
                    let secret = api::SecretKeyRef {
                        name: account.name.clone(),
                        key: key.to_owned(),
                    };
                    let path = format!("{path}.serviceAccountSecretRef");
                    self.credential(path, &secret, usage, &mut findings.needs)
                };
                let username = part(ACCOUNT_NAME, Usage::Token);
                let secret = part(ACCOUNT_SECRET, Usage::Password);
                username.and_then(|username| {
                    Ok(config::MixpanelCredential::ServiceAccount {
                        username,
                        secret: secret?,
                        project_id: project.clone(),
                    })
                })
            }
            _ => Err(self.violation(
                path,
                "is shown exactly one credential: set projectTokenSecretRef, or serviceAccountSecretRef with the digits of projectId",
            )),
        };
        let connection = self.connection(path, &sink.connection, gzip(sink.compression), findings);
        Ok(config::Mixpanel {
            region: match sink.region {
                None | Some(api::MixpanelRegion::Us) => config::MixpanelRegion::Us,
                Some(api::MixpanelRegion::Eu) => config::MixpanelRegion::Eu,
                Some(api::MixpanelRegion::In) => config::MixpanelRegion::In,
            },
            endpoint: endpoint?,
            credential: credential?,
            connection: connection?,
        })
    }

    fn syslog(
        &mut self,
        path: &str,
        sink: &api::SyslogSink,
        findings: &mut Findings,
    ) -> Result<config::Syslog, Told> {
        // Its words are our own: a user who writes `name:password@host` here must not find it in a status.
        let host = HostName::try_from(sink.host.clone()).map_err(|_| {
            self.violation(
                format!("{path}.host"),
                "is not the name or address of a server: write it without scheme, credentials and port",
            )
        });
        let port = sink.port.map(|port| {
            let read = u16::try_from(port).ok().and_then(NonZeroU16::new);
            read.ok_or_else(|| {
                let message = format!("{port} is not a port: use 1 to 65535");
                self.violation(format!("{path}.port"), message)
            })
        });
        let port = port.transpose();
        let app_name = sink
            .app_name
            .as_ref()
            .map(|name| self.take(format!("{path}.appName"), AppName::try_from(name.clone())))
            .transpose();
        let enterprise_id = sink
            .enterprise_id
            .map(|id| self.positive(format!("{path}.enterpriseID"), id))
            .transpose();
        let max_message_bytes = sink
            .max_message_bytes
            .map(|bytes| self.positive(format!("{path}.maxMessageBytes"), bytes))
            .transpose();
        if sink.tls.is_some() && sink.transport != api::SyslogTransport::Tls {
            self.violation(format!("{path}.tls"), "needs the transport TLS");
        }
        findings.delivered_means = Some(match sink.transport {
            api::SyslogTransport::Udp => DELIVERED_BY_UDP,
            api::SyslogTransport::Tcp => DELIVERED_BY_TCP,
            api::SyslogTransport::Tls => DELIVERED_BY_TLS,
        });
        let (transport, default_port, default_bytes) = match sink.transport {
            api::SyslogTransport::Udp => {
                findings.warnings.push(
                    "UDP loses datagrams without a word and sends lines unencrypted: use the transport TLS where the server has it".into(),
                );
                (config::SyslogTransport::Udp, SYSLOG_PORT, DATAGRAM_BYTES)
            }
            api::SyslogTransport::Tcp => {
                findings.warnings.push(
                    "plain TCP sends lines unencrypted: use the transport TLS where the server has it".into(),
                );
                (config::SyslogTransport::Tcp, SYSLOG_PORT, MESSAGE_BYTES)
            }
            api::SyslogTransport::Tls => {
                let tls = self.tls(&format!("{path}.tls"), sink.tls.as_ref(), findings)?;
                (
                    config::SyslogTransport::Tls(tls),
                    SYSLOG_TLS_PORT,
                    MESSAGE_BYTES,
                )
            }
        };
        Ok(config::Syslog {
            host: host?,
            port: port?.unwrap_or(default_port),
            transport,
            facility: sink.facility.map_or(Facility::User, facility),
            app_name: app_name?,
            enterprise_id: enterprise_id?.unwrap_or(ENTERPRISE),
            max_message_bytes: max_message_bytes?.unwrap_or(default_bytes),
        })
    }

    fn otlp(
        &mut self,
        path: &str,
        sink: &api::OtlpSink,
        findings: &mut Findings,
    ) -> Result<config::Otlp, Told> {
        let endpoint = self.endpoint(format!("{path}.endpoint"), &sink.endpoint, findings);
        let headers = self.headers(path, sink.headers.as_ref(), findings);
        let connection = self.connection(
            path,
            &sink.connection,
            compression(sink.compression),
            findings,
        );
        Ok(config::Otlp {
            endpoint: endpoint?,
            encoding: match sink.encoding {
                None | Some(api::OtlpEncoding::Protobuf) => config::OtlpEncoding::Protobuf,
                Some(api::OtlpEncoding::Json) => config::OtlpEncoding::Json,
            },
            headers: headers?,
            connection: connection?,
        })
    }

    fn http(
        &mut self,
        path: &str,
        sink: &api::HttpSink,
        findings: &mut Findings,
    ) -> Result<config::Http, Told> {
        let url = self.endpoint(format!("{path}.url"), &sink.url, findings);
        if let Some(name) = secret_parameter(&sink.url) {
            findings.warnings.push(format!(
                "the parameter {name} of the url sounds like a credential and stands in the policy for all to read: send it as a header with valueSecretRef if the server takes it there"
            ));
        }
        let headers = self.headers(path, sink.headers.as_ref(), findings);
        let authorization = self.authorization(path, sink, findings);
        let connection = self.connection(
            path,
            &sink.connection,
            compression(sink.compression),
            findings,
        );
        Ok(config::Http {
            method: match sink.method {
                None | Some(api::HttpMethod::Post) => config::HttpMethod::Post,
                Some(api::HttpMethod::Put) => config::HttpMethod::Put,
            },
            format: match sink.format {
                None | Some(api::JsonFormat::Lines) => config::JsonFormat::Lines,
                Some(api::JsonFormat::Array) => config::JsonFormat::Array,
            },
            headers: headers?,
            authorization: authorization?,
            connection: connection?,
            ..config::Http::to(url?)
        })
    }

    fn authorization(
        &mut self,
        path: &str,
        sink: &api::HttpSink,
        findings: &mut Findings,
    ) -> Result<Option<config::Authorization>, Told> {
        let is_authorization =
            |header: &api::HttpHeader| header.name.eq_ignore_ascii_case("authorization");
        let in_header = sink.headers.iter().flatten().any(is_authorization);
        let needs = &mut findings.needs;
        match (&sink.basic_auth, &sink.bearer_token_secret_ref, in_header) {
            (None, None, _) => Ok(None),
            (Some(basic), None, false) => self
                .basic(&format!("{path}.basicAuth"), basic, needs)
                .map(|basic| Some(config::Authorization::Basic(basic))),
            (None, Some(secret), false) => {
                let path = format!("{path}.bearerTokenSecretRef");
                self.credential(path, secret, Usage::Token, needs)
                    .map(|token| Some(config::Authorization::Bearer(token)))
            }
            _ => Err(self.violation(
                path,
                "basicAuth, bearerTokenSecretRef and a header Authorization say the same: keep one of them",
            )),
        }
    }
}

/// Whether it is an address of Splunk Cloud.
pub(crate) fn is_splunk_cloud(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    host.to_ascii_lowercase().ends_with(".splunkcloud.com")
}

fn gzip(compression: Option<api::GzipOrNone>) -> Compression {
    match compression {
        None | Some(api::GzipOrNone::Gzip) => Compression::Gzip,
        Some(api::GzipOrNone::None) => Compression::None,
    }
}

fn compression(compression: Option<api::Compression>) -> Compression {
    match compression {
        None | Some(api::Compression::Gzip) => Compression::Gzip,
        Some(api::Compression::Zstd) => Compression::Zstd,
        Some(api::Compression::None) => Compression::None,
    }
}

fn facility(facility: api::SyslogFacility) -> Facility {
    use api::SyslogFacility as Api;
    match facility {
        Api::Kern => Facility::Kern,
        Api::User => Facility::User,
        Api::Mail => Facility::Mail,
        Api::Daemon => Facility::Daemon,
        Api::Auth => Facility::Auth,
        Api::Syslog => Facility::Syslog,
        Api::Lpr => Facility::Lpr,
        Api::News => Facility::News,
        Api::Uucp => Facility::Uucp,
        Api::Cron => Facility::Cron,
        Api::Authpriv => Facility::Authpriv,
        Api::Ftp => Facility::Ftp,
        Api::Ntp => Facility::Ntp,
        Api::Audit => Facility::Audit,
        Api::Alert => Facility::Alert,
        Api::Clock => Facility::Clock,
        Api::Local0 => Facility::Local0,
        Api::Local1 => Facility::Local1,
        Api::Local2 => Facility::Local2,
        Api::Local3 => Facility::Local3,
        Api::Local4 => Facility::Local4,
        Api::Local5 => Facility::Local5,
        Api::Local6 => Facility::Local6,
        Api::Local7 => Facility::Local7,
    }
}
