//! Signs requests with AWS's own library. Sends nothing.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign as signed,
    },
    sign::v4::SigningParams,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use katonic_logging_core::credential::Credential;

/// Who gave the credentials, for the library's own messages.
const PROVIDER: &str = "managementSecretRef";

/// Why a request cannot be signed. Repeats nothing of a credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the access key of managementSecretRef is not UTF-8")]
    Key,
    #[error("the request cannot be signed: {0}")]
    Unsignable(String),
}

/// An access key.
pub struct AccessKey {
    pub id: Credential,
    pub secret: Credential,
}

/// Signs a request of S3 at this time, with its address and its headers as they are.
pub fn sign(
    request: &mut Request<Bytes>,
    key: &AccessKey,
    region: &str,
    time: SystemTime,
) -> Result<(), Error> {
    let text = |bytes: &[u8]| {
        let text = str::from_utf8(bytes.trim_ascii()).map_err(|_| Error::Key)?;
        Ok::<_, Error>(text.to_owned())
    };
    let id = text(key.id.expose())?;
    let secret = text(key.secret.expose())?;
    let unsignable = |error: &dyn std::error::Error| Error::Unsignable(error.to_string());
    let host = request
        .uri()
        .authority()
        .map(|host| host.as_str().to_owned());
    let host =
        HeaderValue::try_from(host.unwrap_or_default()).map_err(|error| unsignable(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let identity = Credentials::new(id, secret, None, None, PROVIDER).into();
    let mut settings = SigningSettings::default();
    // As S3 has it, unlike AWS's other services.
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| unsignable(&error))?
        .into();
    let headers = request.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.uri().to_string(),
        headers,
        SignableBody::Bytes(request.body()),
    );
    let signable = signable.map_err(|error| unsignable(&error))?;
    let (instructions, _) = signed(signable, &parameters)
        .map_err(|error| unsignable(&error))?
        .into_parts();
    let (added, _) = instructions.into_parts();
    for one in added {
        let name = HeaderName::from_static(one.name());
        let mut value = HeaderValue::try_from(one.value()).map_err(|error| unsignable(&error))?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(())
}
