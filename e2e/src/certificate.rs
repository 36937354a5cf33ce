//! Certificates as the operator makes them for itself, at any time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::certificate::{Generation, validity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// An authority and its certificate for this host, as if they had been made at that time.
///
/// # Errors
/// When they cannot be made, before 1970 for example.
pub fn made(at: Timestamp, host: &str) -> Result<Generation> {
    let (start, end) = validity(at);
    let epoch = date_time_ymd(1970, 1, 1);
    let time = |time: Timestamp| -> Result<_> {
        Ok(epoch + Duration::from_secs(u64::try_from(time.as_second())?))
    };
    let (start, end) = (time(start)?, time(end)?);
    let within = |mut parameters: CertificateParams| {
        (parameters.not_before, parameters.not_after) = (start, end);
        parameters
    };
    let mut authority = within(CertificateParams::default());
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("made {at}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let server = within(CertificateParams::new([host.to_owned()])?);
    let server = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    let key = key.serialize_pem();
    Generation::new(&authority_pem, &server.pem(), key.as_bytes(), host)
        .context("an authority that does not vouch for its certificate")
}
