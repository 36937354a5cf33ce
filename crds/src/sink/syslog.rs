//! Syslog.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Tls;

/// A syslog server that takes RFC 5424.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"isIP(self.host) || self.host.matches('^[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?(\\.[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?)*\\.?$')", "host is not the name or address of a server: write it without scheme, credentials and port, for example siem.example.com; the port belongs into port"),
    validation = ("!has(self.tls) || self.transport == 'TLS'", "tls needs the transport TLS: set transport to TLS, or remove tls"),
    validation = ("!has(self.maxMessageBytes) || self.transport != 'UDP' || self.maxMessageBytes <= 65507", "a datagram holds at most 65507 bytes: lower maxMessageBytes, or set transport to TLS")
)]
pub struct SyslogSink {
    /// Name or address of the server, without scheme and port. Example: `siem.example.com`.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port of the server. Default: `6514` with TLS, `514` with TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// What carries the messages: `TLS` (RFC 5425), `TCP` (RFC 6587, octet counting) or `UDP` (RFC 5426). Syslog
    /// acknowledges nothing: with TLS and TCP, what was under way when a connection breaks is sent again and may be there
    /// twice; with UDP what is lost on the way stays lost. TCP and UDP send lines unencrypted, and the status warns.
    pub transport: SyslogTransport,
    /// How both sides prove who they are; with the transport `TLS` only. Default: the server's certificate is checked
    /// against the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Facility of every message: `kern`, `user`, `mail`, `daemon`, `auth`, `syslog`, `lpr`, `news`, `uucp`, `cron`, `authpriv`,
    /// `ftp`, `ntp`, `audit`, `alert`, `clock`, `local0` to `local7`. Default: `user`. Example: `local0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SyslogFacility")]
    pub facility: Option<SyslogFacility>,
    /// APP-NAME of every message: 1 to 48 visible ASCII characters. Default: the container's name.
    /// Example: `katonic-platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = ("self.matches('^[!-~]+$')", "is not an APP-NAME: use visible ASCII characters without blanks, for example katonic-platform"))]
    pub app_name: Option<String>,
    /// Private enterprise number (IANA) of your organisation: it stands behind the `@` of the structured data that says
    /// where a record comes from. Default: `32473`, which is set aside for examples (RFC 5612).
    #[serde(
        default,
        rename = "enterpriseID",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1))]
    pub enterprise_id: Option<i32>,
    /// Most bytes of a message, 480 to 1048576 (UDP: 65507); a longer line goes on in the next message. Every server takes
    /// 480, most take 2048, and with TLS 8192. Default: `2048` with UDP, `8192` with TCP and TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 480, max = 1_048_576))]
    pub max_message_bytes: Option<i32>,
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SyslogTransport {
    /// One message a datagram (RFC 5426).
    #[serde(rename = "UDP")]
    Udp,
    /// Octet counting (RFC 6587).
    #[serde(rename = "TCP")]
    Tcp,
    /// Octet counting inside TLS (RFC 5425).
    #[serde(rename = "TLS")]
    Tls,
}

/// Facilities (RFC 5424 §6.2.1), by the names that every syslog server has for them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the servers")]
pub enum SyslogFacility {
    Kern,
    User,
    Mail,
    Daemon,
    Auth,
    Syslog,
    Lpr,
    News,
    Uucp,
    Cron,
    Authpriv,
    Ftp,
    Ntp,
    Audit,
    Alert,
    Clock,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}
