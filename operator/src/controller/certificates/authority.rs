//! Makes certificates. When one is due is decided elsewhere.

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::certificate::{Generation, validity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library says no.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// A time that certificates cannot hold.
    #[error("failed to make a certificate for a time like this")]
    Time(#[from] time::error::ComponentRange),
    /// What was made is not what was wanted, which no input is known to cause.
    #[error("failed to make a certificate that its authority vouches for")]
    Unfit,
}

/// An authority and a certificate for this host of this server; the authority's key is forgotten here.
pub fn issue(server_name: &str, host: &str, now: Timestamp) -> Result<Generation, Error> {
    let (start, end) = validity(now);
    let within = |mut parameters: CertificateParams| {
        parameters.not_before = OffsetDateTime::from_unix_timestamp(start.as_second())?;
        parameters.not_after = OffsetDateTime::from_unix_timestamp(end.as_second())?;
        Ok::<_, Error>(parameters)
    };
    let mut authority = within(CertificateParams::default())?;
    // Told apart by their names: several may be trusted at a time.
    let name = format!("{server_name} {now}");
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut server = within(CertificateParams::new([host.to_owned()])?)?;
    server.distinguished_name.push(DnType::CommonName, host);
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    let key = key.serialize_pem();
    Generation::new(&authority_pem, &certificate.pem(), key.as_bytes(), host).ok_or(Error::Unfit)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;
    use katonic_logging_core::certificate::{CERTIFICATE, Certificates, is_trusted, not_after};

    use super::*;

    #[test]
    fn what_is_made_is_trusted_for_its_host_and_its_time() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let made = Certificates::default().with(issue("a", "a.b.svc", now).unwrap(), None, now);
        let authorities = made.ca_bundle(now).unwrap();
        let certificate = String::from_utf8(made.data()[CERTIFICATE].0.clone()).unwrap();
        let trusted = |host, at| is_trusted(&authorities, &certificate, host, at);
        assert!(trusted("a.b.svc", now));
        // A node's clock may be behind.
        assert!(trusted("a.b.svc", now - SignedDuration::from_mins(59)));
        assert!(!trusted("a.c.svc", now));
        let end = not_after(certificate.as_bytes()).unwrap();
        assert_eq!(end, now + SignedDuration::from_hours(90 * 24));
        assert!(!trusted("a.b.svc", end + SignedDuration::from_secs(1)));
    }

    #[test]
    fn an_address_can_be_a_host() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        assert!(issue("a", "127.0.0.1", now).is_ok());
    }
}
