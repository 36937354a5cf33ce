//! The kinds of sinks that are measured, each with the receiver that it needs.

use std::net::SocketAddr;

use katonic_log_config::{
    AppName, Compression, Connection, CredentialKey, Endpoint, Facility, HostName, Http,
    JsonFormat, Loggly, NewRelic, NewRelicRegion, Otlp, OtlpEncoding, Sink, Splunk, Syslog,
    SyslogTransport, Target, Tls,
};

use super::{
    Outcome,
    pod::{AUTHORITY, TOKEN},
    receiver::{Answer, Receiver, Wire},
};

/// A kind of sink in one of its forms.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As the figures name it.
    pub name: &'static str,
    wire: Wire,
    encrypted: bool,
    compression: Compression,
    target: fn(&Place) -> Outcome<Target>,
}

/// Where a receiver is and how it is spoken to.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: SocketAddr,
    encrypted: bool,
    compression: Compression,
}

/// HEC, when all is well.
pub const HEC: Wire = json("200 OK", r#"{"text":"Success","code":0}"#);

/// HEC over plain HTTP with gzip: what the budgets are about.
pub const SPLUNK: Kind = Kind::http("splunk", HEC, splunk);

/// OTLP in protobuf with gzip: what collectors speak among themselves.
pub const OTLP: Kind = Kind::http("otlp, protobuf", PROTOBUF, otlp_protobuf);

/// Every other kind and form.
pub const OTHERS: [Kind; 15] = [
    Kind::http("splunk, TLS", HEC, splunk).encrypted(),
    Kind::http("splunk, not compressed", HEC, splunk).with(Compression::None),
    Kind::http("http, JSON lines", json("200 OK", "{}"), json_lines),
    Kind::http("http, JSON lines, zstd", json("200 OK", "{}"), json_lines).with(Compression::Zstd),
    Kind::http("http, JSON array", json("200 OK", "{}"), json_array),
    Kind::http("loggly", json("200 OK", r#"{"response":"ok"}"#), loggly),
    Kind::http("newRelic", json("202 Accepted", ACCEPTED), new_relic),
    OTLP,
    Kind::http("otlp, protobuf, zstd", PROTOBUF, otlp_protobuf).with(Compression::Zstd),
    Kind::http("otlp, protobuf, not compressed", PROTOBUF, otlp_protobuf).with(Compression::None),
    Kind::http("otlp, JSON", json("200 OK", "{}"), otlp_json),
    Kind::http("otlp, JSON, zstd", json("200 OK", "{}"), otlp_json).with(Compression::Zstd),
    Kind::syslog("syslog, TCP", Wire::Tcp, |place| {
        syslog(place, SyslogTransport::Tcp)
    }),
    Kind::syslog("syslog, TLS", Wire::Tcp, |place| {
        syslog(place, SyslogTransport::Tls(tls()?))
    })
    .encrypted(),
    UDP,
];

/// The one kind whose lines may be lost on the way, and nobody knows.
pub const UDP: Kind = Kind::syslog("syslog, UDP", Wire::Udp, |place| {
    syslog(place, SyslogTransport::Udp)
});

const ACCEPTED: &str = r#"{"requestId":"0e6b9f4c-0001-b000-0000-01936c1b5c4f"}"#;

/// An OTLP server, when all is well.
pub const PROTOBUF: Wire = Wire::Http(Answer {
    status: "200 OK",
    media_type: "application/x-protobuf",
    body: "",
});

const fn json(status: &'static str, body: &'static str) -> Wire {
    Wire::Http(Answer {
        status,
        media_type: "application/json",
        body,
    })
}

impl Kind {
    const fn http(name: &'static str, wire: Wire, target: fn(&Place) -> Outcome<Target>) -> Self {
        Self {
            name,
            wire,
            encrypted: false,
            compression: Compression::Gzip,
            target,
        }
    }

    const fn syslog(name: &'static str, wire: Wire, target: fn(&Place) -> Outcome<Target>) -> Self {
        Self::http(name, wire, target)
    }

    const fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    const fn with(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// A receiver of this kind.
    pub fn receiver(&self) -> Outcome<Receiver> {
        Receiver::start(self.wire, self.encrypted)
    }

    /// A sink of this kind that sends to the receiver.
    pub fn sink(&self, name: &str, receiver: &Receiver) -> Outcome<Sink> {
        self.sink_at(name, receiver.address())
    }

    /// A sink of this kind that sends to this address.
    pub fn sink_at(&self, name: &str, address: SocketAddr) -> Outcome<Sink> {
        let place = Place {
            address,
            encrypted: self.encrypted,
            compression: self.compression,
        };
        Ok(Sink::new(name, (self.target)(&place)?))
    }

    /// Whether a line may be lost on the way without anybody's knowing.
    pub fn may_lose(&self) -> bool {
        self.wire == Wire::Udp
    }
}

impl Place {
    fn endpoint(&self) -> Outcome<Endpoint> {
        let scheme = if self.encrypted { "https" } else { "http" };
        Ok(Endpoint::try_from(format!("{scheme}://{}", self.address))?)
    }

    fn connection(&self) -> Outcome<Connection> {
        Ok(Connection {
            tls: if self.encrypted {
                tls()?
            } else {
                Tls::default()
            },
            compression: self.compression,
            ..Connection::default()
        })
    }
}

fn key(name: &str) -> Outcome<CredentialKey> {
    Ok(CredentialKey::try_from(name.to_owned())?)
}

fn tls() -> Outcome<Tls> {
    Ok(Tls {
        ca: Some(key(AUTHORITY)?),
        ..Tls::default()
    })
}

fn splunk(place: &Place) -> Outcome<Target> {
    let mut sink = Splunk::to(place.endpoint()?, key(TOKEN)?);
    sink.index = Some("platform".to_owned());
    sink.connection = place.connection()?;
    Ok(Target::Splunk(sink))
}

fn http(place: &Place, format: JsonFormat) -> Outcome<Target> {
    let mut sink = Http::to(place.endpoint()?);
    sink.format = format;
    sink.connection = place.connection()?;
    Ok(Target::Http(sink))
}

fn json_lines(place: &Place) -> Outcome<Target> {
    http(place, JsonFormat::Lines)
}

fn json_array(place: &Place) -> Outcome<Target> {
    http(place, JsonFormat::Array)
}

fn loggly(place: &Place) -> Outcome<Target> {
    Ok(Target::Loggly(Loggly {
        endpoint: place.endpoint()?,
        token: key(TOKEN)?,
        tags: Vec::new(),
        connection: place.connection()?,
    }))
}

fn new_relic(place: &Place) -> Outcome<Target> {
    Ok(Target::NewRelic(NewRelic {
        region: NewRelicRegion::Us,
        endpoint: Some(place.endpoint()?),
        license_key: key(TOKEN)?,
        connection: place.connection()?,
    }))
}

fn otlp(place: &Place, encoding: OtlpEncoding) -> Outcome<Target> {
    Ok(Target::Otlp(Otlp {
        endpoint: place.endpoint()?,
        encoding,
        headers: Vec::new(),
        connection: place.connection()?,
    }))
}

fn otlp_protobuf(place: &Place) -> Outcome<Target> {
    otlp(place, OtlpEncoding::Protobuf)
}

fn otlp_json(place: &Place) -> Outcome<Target> {
    otlp(place, OtlpEncoding::Json)
}

fn syslog(place: &Place, transport: SyslogTransport) -> Outcome<Target> {
    Ok(Target::Syslog(Syslog {
        host: HostName::try_from(place.address.ip().to_string())?,
        port: place.address.port().try_into()?,
        transport,
        facility: Facility::Local0,
        app_name: Some(AppName::try_from("nucleus".to_owned())?),
        enterprise_id: 32473.try_into()?,
        max_message_bytes: 8192.try_into()?,
    }))
}
