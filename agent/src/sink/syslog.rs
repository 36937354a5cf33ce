//! A syslog server and what it takes to reach it. Opens no connection.

use std::path::Path;

use katonic_log_config::{Syslog, SyslogTransport};

use super::Trust;
use crate::credential::CredentialError;

/// A syslog server with its credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What carries messages there.
    pub carrier: Carrier,
}

/// What carries messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
    /// A connection that is encrypted.
    Tls(Trust),
}

impl Receiver {
    /// Puts a server and its credentials together.
    ///
    /// # Errors
    /// When a credential is missing.
    pub fn resolve(sink: &Syslog, credentials: &Path) -> Result<Self, CredentialError> {
        Ok(Self {
            host: sink.host.as_str().to_owned(),
            port: sink.port.get(),
            carrier: match &sink.transport {
                SyslogTransport::Udp => Carrier::Udp,
                SyslogTransport::Tcp => Carrier::Tcp,
                SyslogTransport::Tls(tls) => Carrier::Tls(Trust::resolve(tls, credentials)?),
            },
        })
    }

    /// The address for people.
    pub fn address(&self) -> String {
        let scheme = match self.carrier {
            Carrier::Udp => "udp",
            Carrier::Tcp => "tcp",
            Carrier::Tls(_) => "tls",
        };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}
