//! The operator's own certificates, those of the webhook and of the reports: when new ones are due, and which authorities have to be
//! trusted meanwhile by those who connect, API servers or agents.
//!
//! A generation is an authority and the one certificate that it has signed; its key is forgotten at once, so that no key is
//! kept anywhere that could sign another. Every renewal is therefore a change of authority, and goes like this:
//!
//! ```text
//!  issue     the next generation lies beside the serving one; its authority is published as well
//!  switch    it was seen published, and whoever connects has had time to see it too: the next one serves
//!  later     somebody may still show the former certificate, so its authority stays published until that has expired
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::{
    ByteString,
    jiff::{SignedDuration, Timestamp},
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use crate::credential::{self, Credential};

/// How long a certificate is valid.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How long one is used before the next is made: two thirds of its life, so that a month is left to mend what prevents it.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(60 * 24);

/// How much earlier than now a certificate begins: clocks of nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// Who connects, and so has to trust the authorities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// API servers, who are told by an object that they watch.
    ApiServer,
    /// Agents, who are told by a mounted Secret.
    Agent,
}

impl Peer {
    /// How long they have to see a new authority. API servers follow their own watch within a second or two; a kubelet needs a minute
    /// and a half for a mounted Secret (Kubernetes: "Secrets, Using Secrets as files"), and is late at times.
    pub const fn patience(self) -> SignedDuration {
        match self {
            Self::ApiServer => SignedDuration::from_mins(1),
            Self::Agent => SignedDuration::from_mins(10),
        }
    }
}

/// Keys of the Secret: authority, certificate and private key.
type Keys = [&'static str; 3];

/// The usual names (Kubernetes: type `kubernetes.io/tls`; `ca.crt` as cert-manager writes it).
const SERVING: Keys = ["ca.crt", CERTIFICATE, PRIVATE_KEY];
const NEXT: Keys = ["next-ca.crt", "next.crt", "next.key"];
const PREVIOUS: &str = "previous-ca.crt";

/// The file with the certificate that is shown.
pub const CERTIFICATE: &str = "tls.crt";

/// The file with its private key.
pub const PRIVATE_KEY: &str = "tls.key";

/// From when until when a certificate made now is valid.
pub fn validity(now: Timestamp) -> (Timestamp, Timestamp) {
    let end = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
    let start = now.saturating_sub(BACKDATED).unwrap_or(Timestamp::MIN);
    (start, end)
}

/// When the first of these certificates, as PEM, ceases to be valid.
pub fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    Some(period(&certificate)?.1)
}

fn period(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(validity.not_before)?, time(validity.not_after)?))
}

/// Whether a client that trusts these authorities takes this certificate for that of the host.
pub fn is_trusted(authorities: &str, certificate: &str, host: &str, at: Timestamp) -> bool {
    verify(authorities, certificate, host, at).is_some()
}

fn verify(authorities: &str, certificate: &str, host: &str, at: Timestamp) -> Option<()> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.ok()?).ok()?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let host = ServerName::try_from(host).ok()?;
    let seconds = u64::try_from(at.as_second()).ok()?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier
        .verify_server_cert(&certificate, &[], &host, &[], at)
        .ok()
        .map(drop)
}

/// The certificate of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Authority {
    pem: String,
    not_after: Timestamp,
}

impl Authority {
    /// Each of those in a text; what is none is passed over.
    fn all(pem: &str) -> Vec<Self> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        pem.split(BEGIN)
            .skip(1)
            .filter_map(|block| {
                let pem = format!("{BEGIN}{}\n", block.trim_end());
                let not_after = not_after(pem.as_bytes())?;
                Some(Self { pem, not_after })
            })
            .collect()
    }
}

/// An authority and the one certificate that it has signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generation {
    authority: Authority,
    certificate: String,
    key: Credential,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Generation {
    /// From PEM; none when these do not belong together, or are not for this host.
    pub fn new(authority: &str, certificate: &str, key: &[u8], host: &str) -> Option<Self> {
        let one = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let (not_before, not_after) = period(&one)?;
        verify(authority, certificate, host, not_before)?;
        if !credential::is_pair(certificate.as_bytes(), key) {
            return None;
        }
        let mut authorities = Authority::all(authority);
        let authority = authorities.pop().filter(|_| authorities.is_empty())?;
        Some(Self {
            authority,
            certificate: certificate.to_owned(),
            key: Credential::new(key.to_vec()),
            not_before,
            not_after,
        })
    }

    fn read(data: &BTreeMap<String, ByteString>, keys: Keys, host: &str) -> Option<Self> {
        let [authority, certificate, key] = keys.map(|key| data.get(key).map(|value| &value.0));
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
        Self::new(&text(authority?)?, &text(certificate?)?, key?, host)
    }

    fn issued(&self) -> Timestamp {
        later(self.not_before, BACKDATED)
    }

    fn renewed(&self) -> Timestamp {
        later(self.issued(), RENEW_AFTER)
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// What peers are told to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Published {
    /// What each place says where it is told.
    places: BTreeSet<String>,
    /// When all of them were first seen to say so. For how long they have done so before, nobody knows.
    since: Timestamp,
}

impl Published {
    /// What the places say that are seen now, after what was seen before; none where nobody is told anything.
    pub fn see<'a>(
        before: Option<Self>,
        places: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Option<Self> {
        let places: BTreeSet<String> = places.into_iter().map(str::to_owned).collect();
        if places.is_empty() {
            return None;
        }
        let before = before.filter(|before| before.places == places);
        Some(Self {
            places,
            // A clock that was set back must not make it wait.
            since: before.map_or(now, |before| before.since.min(now)),
        })
    }

    fn is_everywhere(&self, authority: &Authority) -> bool {
        let authority = authority.pem.trim_end();
        self.places.iter().all(|place| place.contains(authority))
    }

    fn authorities(&self) -> impl Iterator<Item = Authority> {
        self.places.iter().flat_map(|place| Authority::all(place))
    }
}

/// What is to be done about the certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing, until then at least.
    Nothing(Timestamp),
    /// The next generation has to be made.
    Issue,
    /// The next generation has to serve.
    Switch,
}

/// The certificates that there are.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Certificates {
    serving: Option<Generation>,
    next: Option<Generation>,
    /// Authorities of certificates that served before and have not expired.
    previous: Vec<Authority>,
}

impl Certificates {
    /// As the Secret holds them. What cannot be used, or is not for this host, is as if it were not there.
    pub fn read(data: &BTreeMap<String, ByteString>, host: &str) -> Self {
        let previous = data
            .get(PREVIOUS)
            .and_then(|pem| std::str::from_utf8(&pem.0).ok())
            .map(Authority::all);
        Self {
            serving: Generation::read(data, SERVING, host),
            next: Generation::read(data, NEXT, host),
            previous: previous.unwrap_or_default(),
        }
    }

    /// As the Secret should hold them.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &[u8]| {
            data.insert(key.to_owned(), ByteString(value.to_vec()));
        };
        for (generation, keys) in [(&self.serving, SERVING), (&self.next, NEXT)] {
            let Some(generation) = generation else {
                continue;
            };
            let [authority, certificate, key] = keys;
            put(authority, generation.authority.pem.as_bytes());
            put(certificate, generation.certificate.as_bytes());
            put(key, generation.key.expose());
        }
        if !self.previous.is_empty() {
            let all: String = self.previous.iter().map(|one| one.pem.as_str()).collect();
            put(PREVIOUS, all.as_bytes());
        }
        data
    }

    /// What peers have to trust now, as PEM; none while there is no certificate.
    pub fn ca_bundle(&self, now: Timestamp) -> Option<String> {
        self.serving.as_ref()?;
        let generations = [&self.serving, &self.next].into_iter().flatten();
        let previous = self.previous.iter().filter(|one| one.not_after > now);
        let mut all: Vec<&str> = Vec::new();
        for authority in generations.map(|one| &one.authority).chain(previous) {
            if !all.contains(&authority.pem.as_str()) {
                all.push(&authority.pem);
            }
        }
        Some(all.concat())
    }

    /// When the certificate that serves ceases to be valid.
    pub fn expires(&self) -> Option<Timestamp> {
        self.serving.as_ref().map(|serving| serving.not_after)
    }

    /// Whether one serves that is valid for some time still.
    pub fn serve(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|end| now < end)
    }

    /// The certificate that serves, as PEM, and its key.
    pub fn serving(&self) -> Option<(&str, &Credential)> {
        let serving = self.serving.as_ref()?;
        Some((&serving.certificate, &serving.key))
    }

    /// What is due. `published` is what these peers are told to trust, if they are told of the server at all.
    pub fn due(&self, published: Option<&Published>, peer: Peer, now: Timestamp) -> Due {
        let (Some(serving), next) = (&self.serving, &self.next) else {
            return Due::Issue;
        };
        let Some(next) = next.as_ref().filter(|next| now < next.renewed()) else {
            return if now < serving.renewed() {
                Due::Nothing(self.until(serving.renewed(), now))
            } else {
                Due::Issue
            };
        };
        let Some(published) = published else {
            return Due::Switch;
        };
        let seen = later(published.since, peer.patience());
        if !published.is_everywhere(&next.authority) {
            // It is about to be published; whoever does that says so.
            Due::Nothing(self.until(next.renewed(), now))
        } else if now < seen {
            Due::Nothing(seen)
        } else {
            Due::Switch
        }
    }

    /// The time, or that at which the next authority has to leave what is published.
    fn until(&self, time: Timestamp, now: Timestamp) -> Timestamp {
        let expiries = self.previous.iter().map(|one| one.not_after);
        expiries.filter(|one| *one > now).fold(time, Timestamp::min)
    }

    /// With a generation that was just made. Where none serves it serves at once, and what is published stays trusted: somebody
    /// may have deleted the Secret while others go on with what was in it.
    #[must_use]
    pub fn with(self, made: Generation, published: Option<&Published>, now: Timestamp) -> Self {
        if self.serving.is_some() {
            return Self {
                next: Some(made),
                ..self
            }
            .without_expired(now);
        }
        let mut previous = self.previous;
        for authority in published.into_iter().flat_map(Published::authorities) {
            if !previous.contains(&authority) {
                previous.push(authority);
            }
        }
        Self {
            serving: Some(made),
            next: None,
            previous,
        }
        .without_expired(now)
    }

    /// With the next generation serving.
    #[must_use]
    pub fn switched(self, now: Timestamp) -> Self {
        let Some(next) = self.next else {
            return self;
        };
        let mut previous = self.previous;
        previous.extend(self.serving.map(|serving| serving.authority));
        Self {
            serving: Some(next),
            next: None,
            previous,
        }
        .without_expired(now)
    }

    fn without_expired(mut self, now: Timestamp) -> Self {
        self.previous.retain(|one| one.not_after > now);
        self
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("expires", &self.expires())
            .field("next", &self.next.is_some())
            .field("previous", &self.previous.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
