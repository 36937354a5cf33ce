//! Syslog.

use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::{HostName, Tls};

/// A syslog server that takes RFC 5424.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Syslog {
    /// Name or address of the server.
    pub host: HostName,
    /// Port.
    pub port: NonZeroU16,
    /// What carries the messages.
    pub transport: SyslogTransport,
    /// Facility of every message.
    pub facility: Facility,
    /// APP-NAME; none: the container's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<AppName>,
    /// Private enterprise number behind the `@` of our structured data (RFC 5424 §7.2.2).
    pub enterprise_id: NonZeroU32,
    /// Most bytes of a message; a longer line goes on in the next one.
    pub max_message_bytes: NonZeroU32,
}

/// What carries the messages.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SyslogTransport {
    /// One message a datagram (RFC 5426).
    Udp,
    /// Octet counting (RFC 6587 §3.4.1).
    Tcp,
    /// Octet counting inside TLS (RFC 5425).
    Tls(Tls),
}

/// Facilities (RFC 5424 §6.2.1), by their usual names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of RFC 5424")]
pub enum Facility {
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

impl SyslogTransport {
    pub(super) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Udp | Self::Tcp => None,
        }
    }
}

impl Facility {
    /// Its number (RFC 5424 §6.2.1, table 1).
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Name of a program as syslog has it: 1 to 48 printable ASCII characters (RFC 5424 §6.2.5).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AppName {
    type Error = InvalidAppName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if (1..=48).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(name))
        } else {
            Err(InvalidAppName(name))
        }
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0
    }
}

/// A text that the field APP-NAME cannot hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an APP-NAME: use 1 to 48 printable ASCII characters without blanks")]
pub struct InvalidAppName(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_cannot_shift_the_fields_behind_it() {
        for name in ["", "a b", "a\n", "ä", &"a".repeat(49)] {
            assert!(AppName::try_from(name.to_owned()).is_err(), "{name:?}");
        }
        assert!(AppName::try_from("katonic-platform".to_owned()).is_ok());
    }

    #[test]
    fn facilities_have_the_numbers_of_the_standard() {
        let codes = [
            Facility::Kern,
            Facility::User,
            Facility::Audit,
            Facility::Local0,
            Facility::Local7,
        ];
        assert_eq!(codes.map(Facility::code), [0, 1, 13, 16, 23]);
    }
}
