//! How sinks are reached, and the credentials for it.

use katonic_log_config as config;
use katonic_log_config::{ClientCertificate, CredentialKey, Endpoint, HostName};
use katonic_logging_crds as api;
use katonic_logging_crds::{SecretKeyRef, connection::TIMEOUT};

use super::{CredentialSource, Management, Needs, Reader, Told, Usage};

/// Keys of a Secret of the type `kubernetes.io/tls` (Kubernetes: "TLS Secrets").
const CERTIFICATE_KEY: &str = "tls.crt";
const PRIVATE_KEY_KEY: &str = "tls.key";

/// What comes of a sink besides what the agents are told.
#[derive(Default)]
pub(super) struct Findings {
    pub needs: Needs,
    pub warnings: Vec<String>,
    pub delivered_means: Option<&'static str>,
    pub management: Option<Management>,
}

impl Reader {
    pub(super) fn endpoint(
        &mut self,
        path: String,
        text: &str,
        findings: &mut Findings,
    ) -> Result<Endpoint, Told> {
        let endpoint = self.take(path, Endpoint::try_from(text.to_owned()))?;
        if endpoint.is_plain_text() {
            findings.warnings.push("http:// sends credentials and lines unencrypted: use https:// where the server has it".into());
        }
        Ok(endpoint)
    }

    pub(super) fn credential(
        &mut self,
        path: String,
        secret: &SecretKeyRef,
        usage: Usage,
        needs: &mut Needs,
    ) -> Result<CredentialKey, Told> {
        let key = self.take(path, CredentialKey::of_secret(&secret.name, &secret.key))?;
        let source = needs.sources.entry(key.clone());
        let source = source.or_insert_with(|| CredentialSource {
            secret: secret.clone(),
            usages: [].into(),
        });
        source.usages.insert(usage);
        Ok(key)
    }

    pub(super) fn connection(
        &mut self,
        path: &str,
        connection: &api::HttpConnection,
        compression: config::Compression,
        findings: &mut Findings,
    ) -> Result<config::Connection, Told> {
        let tls = self.tls(&format!("{path}.tls"), connection.tls.as_ref(), findings);
        let proxy = self.proxy(path, connection, findings);
        let timeout_ms = connection
            .timeout
            .as_ref()
            .map(|text| self.milliseconds(format!("{path}.timeout"), text, TIMEOUT))
            .transpose();
        Ok(config::Connection {
            tls: tls?,
            proxy: proxy?,
            compression,
            timeout_ms: timeout_ms?,
        })
    }

    fn proxy(
        &mut self,
        path: &str,
        connection: &api::HttpConnection,
        findings: &mut Findings,
    ) -> Result<Option<config::Proxy>, Told> {
        let Some(url) = &connection.proxy_url else {
            if connection.proxy_basic_auth.is_some() {
                return Err(self.violation(format!("{path}.proxyBasicAuth"), "needs a proxyURL"));
            }
            return Ok(None);
        };
        let url_path = format!("{path}.proxyURL");
        let url = self.take(url_path.clone(), Endpoint::try_from(url.clone()));
        let basic = connection
            .proxy_basic_auth
            .as_ref()
            .map(|basic| {
                self.basic(
                    &format!("{path}.proxyBasicAuth"),
                    basic,
                    &mut findings.needs,
                )
            })
            .transpose();
        let (url, basic) = (url?, basic?);
        if !url.is_plain_text() {
            return Err(self.violation(
                url_path,
                "a proxy is asked without TLS: let it begin with http://; what is sent to an https:// sink is encrypted inside",
            ));
        }
        Ok(Some(config::Proxy { url, basic }))
    }

    pub(super) fn basic(
        &mut self,
        path: &str,
        basic: &api::BasicAuth,
        needs: &mut Needs,
    ) -> Result<config::BasicAuth, Told> {
        let password = self.credential(
            format!("{path}.passwordSecretRef"),
            &basic.password_secret_ref,
            Usage::Password,
            needs,
        );
        // RFC 7617 §2: a colon would end the name. Not repeated: what stands behind it may be the password.
        let username = &basic.username;
        if username.is_empty() || username.contains(|one: char| one == ':' || one.is_control()) {
            return Err(self.violation(
                format!("{path}.username"),
                "must not be empty and takes no colon and no control characters: the password belongs into passwordSecretRef",
            ));
        }
        Ok(config::BasicAuth {
            username: username.clone(),
            password: password?,
        })
    }

    pub(super) fn headers(
        &mut self,
        path: &str,
        headers: Option<&Vec<api::HttpHeader>>,
        findings: &mut Findings,
    ) -> Result<Vec<config::Header>, Told> {
        let headers: Vec<_> = headers
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, header)| {
                self.header(&format!("{path}.headers[{index}]"), header, findings)
            })
            .collect();
        headers.into_iter().collect()
    }

    fn header(
        &mut self,
        path: &str,
        header: &api::HttpHeader,
        findings: &mut Findings,
    ) -> Result<config::Header, Told> {
        let name = self.take(
            format!("{path}.name"),
            config::HeaderName::try_from(header.name.clone()),
        );
        let value = match (&header.value, &header.value_secret_ref) {
            (Some(value), None) => {
                if sounds_secret(&header.name) {
                    findings.warnings.push(format!(
                        "the header {} sounds like a credential and stands in the policy for all to read: put its value into a Secret and name that in valueSecretRef",
                        header.name
                    ));
                }
                Ok(config::HeaderValue::Literal(value.clone()))
            }
            (None, Some(secret)) => self
                .credential(
                    format!("{path}.valueSecretRef"),
                    secret,
                    Usage::Header,
                    &mut findings.needs,
                )
                .map(config::HeaderValue::Credential),
            _ => Err(self.violation(path, "a header has exactly one of value and valueSecretRef")),
        };
        Ok(config::Header {
            name: name?,
            value: value?,
        })
    }

    pub(super) fn tls(
        &mut self,
        path: &str,
        tls: Option<&api::Tls>,
        findings: &mut Findings,
    ) -> Result<config::Tls, Told> {
        let Some(tls) = tls else {
            return Ok(config::Tls::default());
        };
        let insecure_skip_verify = tls.insecure_skip_verify.unwrap_or(false);
        if insecure_skip_verify {
            findings.warnings.push(
                "insecureSkipVerify lets whoever stands between read credentials and lines".into(),
            );
        }
        let needs = &mut findings.needs;
        let ca = tls
            .ca_secret_ref
            .as_ref()
            .map(|secret| {
                self.credential(
                    format!("{path}.caSecretRef"),
                    secret,
                    Usage::Authorities,
                    needs,
                )
            })
            .transpose();
        let client_certificate = tls
            .client_certificate_secret_ref
            .as_ref()
            .map(|secret| {
                self.client_certificate(
                    &format!("{path}.clientCertificateSecretRef"),
                    secret,
                    needs,
                )
            })
            .transpose();
        let server_name = tls
            .server_name
            .as_ref()
            .map(|name| {
                self.take(
                    format!("{path}.serverName"),
                    HostName::try_from(name.clone()),
                )
            })
            .transpose();
        Ok(config::Tls {
            ca: ca?,
            client_certificate: client_certificate?,
            server_name: server_name?,
            insecure_skip_verify,
        })
    }

    fn client_certificate(
        &mut self,
        path: &str,
        secret: &api::CertificateSecretRef,
        needs: &mut Needs,
    ) -> Result<ClientCertificate, Told> {
        let mut of = |key: &str, usage| {
            let secret = SecretKeyRef {
                name: secret.name.clone(),
                key: key.to_owned(),
            };
            self.credential(path.to_owned(), &secret, usage, needs)
        };
        let certificate = of(CERTIFICATE_KEY, Usage::Certificate)?;
        let private_key = of(PRIVATE_KEY_KEY, Usage::PrivateKey)?;
        needs.pairs.insert(certificate.clone(), private_key.clone());
        Ok(ClientCertificate {
            certificate,
            private_key,
        })
    }
}

/// The first parameter of an address that is called like a credential.
pub(super) fn secret_parameter(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    let names = query.split('&').map(|parameter| {
        parameter
            .split_once('=')
            .map_or(parameter, |(name, _)| name)
    });
    names.into_iter().find(|name| sounds_secret(name))
}

/// Whether a name is that of a credential, as vendors call theirs.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "auth", "password"]
        .iter()
        .any(|word| name.contains(word))
}
