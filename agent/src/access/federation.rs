//! Microsoft Entra Workload ID: a token is given for that of the pod's service account (Azure: "Use Microsoft Entra Workload ID with
//! AKS", Microsoft identity platform: "OAuth 2.0 client credentials flow", "Access token request with a federated credential").

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Denied, Question, form, web_identity::read_token};

/// What Azure's own webhook tells every container.
const ENV_CLIENT: &str = "AZURE_CLIENT_ID";
const ENV_TENANT: &str = "AZURE_TENANT_ID";
const ENV_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const ENV_AUTHORITY: &str = "AZURE_AUTHORITY_HOST";

/// Who gives tokens, unless the webhook names that of another cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com/";

/// What the token is for: blobs in every cloud, as far as its roles go.
const SCOPE: &str = "https://storage.azure.com/.default";

/// A managed identity or an application, and what is shown for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Federation {
    client: String,
    tenant: String,
    token_file: PathBuf,
    authority: String,
}

impl Federation {
    /// The identity of the pod's service account, if it has one.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            client: variable(ENV_CLIENT)?,
            tenant: variable(ENV_TENANT)?,
            token_file: variable(ENV_TOKEN_FILE)?.into(),
            authority: variable(ENV_AUTHORITY).unwrap_or_else(|| AUTHORITY.to_owned()),
        })
    }

    /// How a token is asked for.
    pub(super) fn question(&self) -> Result<Question, Denied> {
        let token = read_token(&self.token_file, ENV_TOKEN_FILE)?;
        let authority = self.authority.trim_end_matches('/');
        let uri = format!("{authority}/{}/oauth2/v2.0/token", self.tenant);
        let uri = uri.parse().map_err(|_| {
            Denied::hold(format!("{ENV_AUTHORITY} and {ENV_TENANT} make no address"))
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form::TYPE));
        let body = form::encode(&[
            ("grant_type", "client_credentials"),
            ("client_id", &self.client),
            ("scope", SCOPE),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &token),
        ]);
        Ok(Question {
            method: Method::POST,
            uri,
            headers,
            body: body.into(),
            shown: token.into_bytes(),
            is_near: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_asked_for_as_microsoft_documents_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "a.b_c-d").unwrap();
        let identity = Federation::of(|name: &str| match name {
            ENV_CLIENT => Some("c".to_owned()),
            ENV_TENANT => Some("t".to_owned()),
            ENV_TOKEN_FILE => file.to_str().map(str::to_owned),
            _ => None,
        });
        let question = identity.unwrap().question().ok().unwrap();
        assert_eq!(
            question.uri,
            "https://login.microsoftonline.com/t/oauth2/v2.0/token"
        );
        assert_eq!(
            question.body,
            "grant_type=client_credentials&client_id=c&scope=https%3A%2F%2Fstorage.azure.com%2F.default&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b_c-d"
        );
        assert!(Federation::of(|_| None).is_none());
    }
}
