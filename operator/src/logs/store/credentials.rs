//! Who reads: what a Secret or the environment says, as each vendor's own tools name it. Where the store is, is said elsewhere.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use katonic_log_config::Endpoint;
use katonic_logging_core::{
    execution::location::Bucket,
    policy::{
        ACCESS_KEY_ID, CLIENT_ID, CLIENT_SECRET, SAS_TOKEN, SECRET_ACCESS_KEY, SERVICE_ACCOUNT_KEY,
        STORAGE_KEY, TENANT_ID,
    },
};
use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::Error;

/// What the environment can say of who reads in S3.
const OF_AMAZON: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// What it can say of Google's: a token, a key file itself, and where there is one.
const TOKEN_OF_GOOGLE: &str = "GOOGLE_BEARER_TOKEN";
const KEY_OF_GOOGLE: &str = "GOOGLE_SERVICE_ACCOUNT_KEY";
const FILES_OF_GOOGLE: [&str; 3] = [
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// What `gcloud auth application-default login` writes, in the folder of `gcloud` (Google: "How Application Default Credentials works").
const FILE_OF_GCLOUD: &str = "application_default_credentials.json";

/// What it can say of Azure's. `az` and clients of the storage service name a key differently.
const OF_AZURE: [(&str, AzureConfigKey); 12] = [
    ("AZURE_STORAGE_TOKEN", AzureConfigKey::Token),
    (STORAGE_KEY, AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_ACCOUNT_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_ACCESS_KEY", AzureConfigKey::AccessKey),
    (SAS_TOKEN, AzureConfigKey::SasKey),
    ("AZURE_STORAGE_SAS_KEY", AzureConfigKey::SasKey),
    (CLIENT_ID, AzureConfigKey::ClientId),
    (TENANT_ID, AzureConfigKey::AuthorityId),
    (CLIENT_SECRET, AzureConfigKey::ClientSecret),
    (FEDERATED_TOKEN_FILE, AzureConfigKey::FederatedTokenFile),
    (AUTHORITY_HOST, AzureConfigKey::AuthorityHost),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];
const FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
const USE_AZ: &str = "AZURE_USE_AZURE_CLI";

/// Where a machine of Amazon's or Azure's asks for its own identity, and one of Google's.
const MACHINE: &str = "169.254.169.254:80";
const MACHINE_OF_GOOGLE: &str = "metadata.google.internal";

/// Who reads.
pub enum Credentials {
    /// In S3.
    S3(Vec<(AmazonS3ConfigKey, String)>),
    /// At Google.
    Gcs(Vec<(GoogleConfigKey, String)>),
    /// At Azure.
    Azure(Vec<(AzureConfigKey, String)>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

/// What a Secret with the credentials of a reader has.
pub fn needs(bucket: &Bucket) -> &'static str {
    match bucket {
        Bucket::S3 { .. } => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a reader",
        Bucket::Gcs(_) => "key.json, the key file of a reader's service account",
        Bucket::Azure { .. } => {
            "AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, of a reader"
        }
    }
}

/// What somebody can do who is not known to the store.
pub fn remedy(bucket: &Bucket) -> &'static str {
    match bucket {
        Bucket::S3 { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of a reader, or name a Secret with --credentials-secret"
        }
        Bucket::Gcs(_) => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a reader's service account, run `gcloud auth application-default login`, or name a Secret with --credentials-secret"
        }
        Bucket::Azure { .. } => {
            "set AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET to those of a reader, run `az login`, or name a Secret with --credentials-secret"
        }
    }
}

impl Credentials {
    /// What a Secret has for such a store; `name` is how it is called in messages.
    ///
    /// # Errors
    /// When it has not what is needed.
    pub fn of_secret(
        bucket: &Bucket,
        data: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Self, Error> {
        let value = |key: &str| data.get(key).map(|value| value.trim().to_owned());
        let take = |key: &'static str| {
            value(key).ok_or_else(|| Error::Secret {
                name: name.to_owned(),
                key,
                needs: needs(bucket),
            })
        };
        match bucket {
            Bucket::S3 { .. } => Ok(Self::S3(vec![
                (AmazonS3ConfigKey::AccessKeyId, take(ACCESS_KEY_ID)?),
                (AmazonS3ConfigKey::SecretAccessKey, take(SECRET_ACCESS_KEY)?),
            ])),
            Bucket::Gcs(_) => {
                let file = take(SERVICE_ACCOUNT_KEY)?;
                let what = format!("{SERVICE_ACCOUNT_KEY} of Secret {name}");
                Ok(Self::Gcs(vec![key_file(&what, file, None)?]))
            }
            Bucket::Azure { .. } => {
                if let Some(signature) = value(SAS_TOKEN) {
                    return Ok(Self::Azure(vec![(AzureConfigKey::SasKey, signature)]));
                }
                if let Some(key) = value(STORAGE_KEY) {
                    return Ok(Self::Azure(vec![(AzureConfigKey::AccessKey, key)]));
                }
                if value(CLIENT_SECRET).is_none() {
                    take(SAS_TOKEN)?;
                }
                Ok(Self::Azure(vec![
                    (AzureConfigKey::AuthorityId, take(TENANT_ID)?),
                    (AzureConfigKey::ClientId, take(CLIENT_ID)?),
                    (AzureConfigKey::ClientSecret, take(CLIENT_SECRET)?),
                ]))
            }
        }
    }

    /// Who the environment says: what is set, what the vendor's own tool has of this person, or the machine's own identity.
    ///
    /// # Errors
    /// When it says nothing, or what it says is of no use.
    pub async fn of_environment(bucket: &Bucket) -> Result<Self, Error> {
        let said = |name: &str| env::var(name).ok();
        let (found, machine) = match bucket {
            Bucket::S3 { .. } => (amazon(&said), MACHINE.to_owned()),
            Bucket::Gcs(_) => (google(&said)?, machine_of_google(&said)),
            Bucket::Azure { .. } => (azure(&said)?, MACHINE.to_owned()),
        };
        if let Found::Nothing(_) = found {
            // To ask where nobody answers would take half a minute.
            let connected = timeout(Duration::from_secs(1), TcpStream::connect(machine)).await;
            if !matches!(connected, Ok(Ok(_))) {
                return Err(Error::NoCredentials(remedy(bucket)));
            }
        }
        Ok(found.into_credentials())
    }
}

/// What was found in the environment.
enum Found {
    Somebody(Credentials),
    /// Nobody; what there is may say which of the machine's identities is meant.
    Nothing(Credentials),
}

impl Found {
    fn into_credentials(self) -> Credentials {
        match self {
            Self::Somebody(credentials) | Self::Nothing(credentials) => credentials,
        }
    }
}

/// What a variable has; an empty one has nothing.
fn value(said: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    let value = said(name)?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

fn amazon(said: &dyn Fn(&str) -> Option<String>) -> Found {
    let found = OF_AMAZON.iter().filter_map(|name| {
        let key = name.to_ascii_lowercase().parse().ok()?;
        Some((key, value(said, name)?))
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        Found::Nothing(Credentials::S3(found))
    } else {
        Found::Somebody(Credentials::S3(found))
    }
}

fn google(said: &dyn Fn(&str) -> Option<String>) -> Result<Found, Error> {
    let somebody = |found| Ok(Found::Somebody(Credentials::Gcs(vec![found])));
    if let Some(token) = value(said, TOKEN_OF_GOOGLE) {
        return somebody((GoogleConfigKey::BearerToken, token));
    }
    if let Some(file) = value(said, KEY_OF_GOOGLE) {
        return somebody(key_file(KEY_OF_GOOGLE, file, None)?);
    }
    let named = FILES_OF_GOOGLE
        .iter()
        .find_map(|name| Some((*name, PathBuf::from(value(said, name)?))));
    let folder = || {
        let of_person = || Some(Path::new(&value(said, "HOME")?).join(".config/gcloud"));
        let folder = value(said, "CLOUDSDK_CONFIG").map(PathBuf::from);
        let path = folder.or_else(of_person)?.join(FILE_OF_GCLOUD);
        path.exists().then_some(("what gcloud has written", path))
    };
    let Some((what, path)) = named.or_else(folder) else {
        return Ok(Found::Nothing(Credentials::Gcs(Vec::new())));
    };
    let what = format!("{} ({what})", path.display());
    let file = fs::read_to_string(&path)
        .map_err(|error| Error::UnusableCredentials(format!("{what} cannot be read: {error}")))?;
    somebody(key_file(&what, file, Some(&path))?)
}

fn machine_of_google(said: &dyn Fn(&str) -> Option<String>) -> String {
    let host = value(said, "GCE_METADATA_HOST").unwrap_or_else(|| MACHINE_OF_GOOGLE.to_owned());
    if host.contains(':') {
        host
    } else {
        format!("{host}:80")
    }
}

/// What of a key file the store is told: itself, or where it is. Nothing of it is repeated in messages, as that of a parser might.
fn key_file(
    what: &str,
    file: String,
    path: Option<&Path>,
) -> Result<(GoogleConfigKey, String), Error> {
    let read: Value = serde_json::from_str(&file).unwrap_or_default();
    let has = |members: &[&str]| members.iter().all(|member| read[*member].is_string());
    match (read["type"].as_str(), path) {
        (Some("service_account"), _) if has(&["client_email", "private_key", "private_key_id"]) => {
            Ok((GoogleConfigKey::ServiceAccountKey, file))
        }
        (Some("authorized_user"), Some(path))
            if has(&["client_id", "client_secret", "refresh_token"]) =>
        {
            let path = path.display().to_string();
            Ok((GoogleConfigKey::ApplicationCredentials, path))
        }
        (_, Some(_)) => Err(Error::UnusableCredentials(format!(
            "{what} is neither the key file of a service account nor what `gcloud auth application-default login` writes"
        ))),
        (_, None) => Err(Error::UnusableCredentials(format!(
            "{what} is not the key file of a service account"
        ))),
    }
}

fn azure(said: &dyn Fn(&str) -> Option<String>) -> Result<Found, Error> {
    let found = OF_AZURE
        .iter()
        .filter_map(|(name, key)| Some((*key, value(said, name)?)));
    let mut found: Vec<(AzureConfigKey, String)> = found.collect();
    for (_, host) in found
        .iter_mut()
        .filter(|(key, _)| *key == AzureConfigKey::AuthorityHost)
    {
        // A secret is shown there.
        let endpoint = Endpoint::try_from(host.clone());
        if !endpoint.is_ok_and(|endpoint| !endpoint.is_plain_text()) {
            return Err(Error::UnusableCredentials(format!(
                "{AUTHORITY_HOST} is no address that begins with https://, for example https://login.microsoftonline.com"
            )));
        }
        *host = host.trim_end_matches('/').to_owned();
    }
    let has = |wanted: AzureConfigKey| found.iter().any(|(key, _)| *key == wanted);
    let is_named = has(AzureConfigKey::ClientId) && has(AzureConfigKey::AuthorityId);
    let is_proven = has(AzureConfigKey::ClientSecret) || has(AzureConfigKey::FederatedTokenFile);
    let is_shown = has(AzureConfigKey::Token)
        || has(AzureConfigKey::AccessKey)
        || has(AzureConfigKey::SasKey)
        || has(AzureConfigKey::MsiEndpoint);
    if is_proven && !is_named && !is_shown {
        return Err(Error::UnusableCredentials(format!(
            "{CLIENT_SECRET} and {FEDERATED_TOKEN_FILE} need {TENANT_ID} and {CLIENT_ID} beside them"
        )));
    }
    if is_shown || is_proven {
        return Ok(Found::Somebody(Credentials::Azure(found)));
    }
    let wants_az = value(said, USE_AZ).is_some_and(|value| {
        ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str())
    });
    let has_az = || {
        let path = value(said, "PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| folder.join("az").is_file())
    };
    // A person is asked before a machine.
    if wants_az || has_az() {
        let az = (AzureConfigKey::UseAzureCli, "true".to_owned());
        return Ok(Found::Somebody(Credentials::Azure(vec![az])));
    }
    Ok(Found::Nothing(Credentials::Azure(found)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        move |name| pairs.get(name).cloned()
    }

    fn of_google(pairs: &[(&str, &str)]) -> Result<Vec<(GoogleConfigKey, String)>, String> {
        let found = google(&variables(pairs)).map_err(|error| error.to_string())?;
        match found.into_credentials() {
            Credentials::Gcs(found) => Ok(found),
            other => panic!("{other:?}"),
        }
    }

    fn of_azure(pairs: &[(&str, &str)]) -> Result<Vec<(AzureConfigKey, String)>, String> {
        let found = azure(&variables(pairs)).map_err(|error| error.to_string())?;
        match found.into_credentials() {
            Credentials::Azure(found) => Ok(found),
            other => panic!("{other:?}"),
        }
    }

    fn service_account() -> String {
        json!({"type": "service_account", "client_email": "a@b", "private_key_id": "1", "private_key": "hunter2"})
            .to_string()
    }

    #[test]
    fn google_is_asked_with_what_googles_own_tools_would_use() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().to_str().unwrap();
        assert_eq!(of_google(&[("HOME", home_path)]), Ok(Vec::new()));
        let folder = home.path().join(".config/gcloud");
        fs::create_dir_all(&folder).unwrap();
        let login = folder.join(FILE_OF_GCLOUD);
        let written = json!({"type": "authorized_user", "client_id": "1", "client_secret": "2", "refresh_token": "3"});
        fs::write(&login, written.to_string()).unwrap();
        let of_login = (
            GoogleConfigKey::ApplicationCredentials,
            login.display().to_string(),
        );
        assert_eq!(
            of_google(&[("HOME", home_path)]),
            Ok(vec![of_login.clone()])
        );
        let elsewhere = folder.display().to_string();
        assert_eq!(
            of_google(&[("CLOUDSDK_CONFIG", &elsewhere)]),
            Ok(vec![of_login])
        );
        let key = home.path().join("key.json");
        fs::write(&key, service_account()).unwrap();
        let of_key = (GoogleConfigKey::ServiceAccountKey, service_account());
        let named = ("GOOGLE_APPLICATION_CREDENTIALS", key.to_str().unwrap());
        assert_eq!(
            of_google(&[("HOME", home_path), named]),
            Ok(vec![of_key.clone()])
        );
        let itself = service_account();
        assert_eq!(
            of_google(&[("GOOGLE_SERVICE_ACCOUNT_KEY", &itself)]),
            Ok(vec![of_key])
        );
        let token = (GoogleConfigKey::BearerToken, "ya29".to_owned());
        assert_eq!(
            of_google(&[named, ("GOOGLE_BEARER_TOKEN", "ya29\n")]),
            Ok(vec![token])
        );
    }

    #[test]
    fn a_key_file_of_google_that_is_none_is_said_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let named = [("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())];
        let missing = of_google(&named).unwrap_err();
        assert!(
            missing.contains("cannot be read: No such file"),
            "{missing}"
        );
        for file in [
            "hunter2".to_owned(),
            "\"hunter2\"".to_owned(),
            r#"{"type": "service_account", "private_key": "hunter2"}"#.to_owned(),
            r#"{"type": "external_account", "audience": "hunter2"}"#.to_owned(),
            r#"{"type": "authorized_user", "client_secret": "hunter2"}"#.to_owned(),
        ] {
            fs::write(&path, file).unwrap();
            let said = of_google(&named).unwrap_err();
            assert!(
                said.contains("is neither the key file of a service account nor what `gcloud auth application-default login` writes"),
                "{said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn azure_is_asked_with_what_azures_own_tools_would_use() {
        for name in [
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
        ] {
            let key = (AzureConfigKey::AccessKey, "a2V5".to_owned());
            assert_eq!(of_azure(&[(name, "a2V5\n")]), Ok(vec![key]), "{name}");
        }
        let signature = (AzureConfigKey::SasKey, "?sp=rl&sig=a".to_owned());
        let said = of_azure(&[("AZURE_STORAGE_SAS_TOKEN", "?sp=rl&sig=a")]);
        assert_eq!(said, Ok(vec![signature]));
        let principal = of_azure(&[
            ("AZURE_CLIENT_ID", "1"),
            ("AZURE_TENANT_ID", "2"),
            ("AZURE_CLIENT_SECRET", "3"),
            ("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn/"),
        ])
        .unwrap();
        let host = (
            AzureConfigKey::AuthorityHost,
            "https://login.chinacloudapi.cn".to_owned(),
        );
        assert!(principal.len() == 4 && principal.contains(&host));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(of_azure(&[("PATH", path)]), Ok(Vec::new()));
        let az = (AzureConfigKey::UseAzureCli, "true".to_owned());
        let wanted = of_azure(&[("PATH", path), ("AZURE_USE_AZURE_CLI", "True")]);
        assert_eq!(wanted, Ok(vec![az.clone()]));
        fs::write(folder.path().join("az"), "").unwrap();
        assert_eq!(of_azure(&[("PATH", path)]), Ok(vec![az]));
    }

    #[test]
    fn half_of_a_service_principal_and_a_server_without_tls_are_refused() {
        let half = of_azure(&[("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_CLIENT_ID", "1")]);
        let half = half.unwrap_err();
        assert!(
            half.contains("need AZURE_TENANT_ID and AZURE_CLIENT_ID beside them"),
            "{half}"
        );
        for host in ["http://login.example.com", "login.example.com"] {
            let plain = of_azure(&[("AZURE_AUTHORITY_HOST", host)]).unwrap_err();
            assert!(plain.contains("begins with https://"), "{plain}");
        }
    }

    #[test]
    fn a_secret_has_what_the_store_needs_or_it_is_said() {
        let google = Bucket::Gcs("logs".to_owned().try_into().unwrap());
        let azure = Bucket::Azure {
            account: "platformlogs".to_owned().try_into().unwrap(),
            container: "logs".to_owned().try_into().unwrap(),
        };
        let of = |bucket: &Bucket, pairs: &[(&str, &str)]| {
            let data = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let read = Credentials::of_secret(bucket, &data.collect(), "katonic-logging/reader");
            read.map_err(|error| error.to_string())
        };
        assert!(of(&google, &[("key.json", &service_account())]).is_ok());
        let said = of(&google, &[("key.json", "hunter2")]).unwrap_err();
        assert_eq!(
            said,
            "the credentials cannot be used: key.json of Secret katonic-logging/reader is not the key file of a service account"
        );
        let said = of(&google, &[]).unwrap_err();
        assert_eq!(
            said,
            "Secret katonic-logging/reader has no key key.json: it needs key.json, the key file of a reader's service account"
        );
        let both = [("AZURE_STORAGE_KEY", "a"), ("AZURE_STORAGE_SAS_TOKEN", "b")];
        let Ok(Credentials::Azure(found)) = of(&azure, &both) else {
            panic!("it has what is needed");
        };
        assert_eq!(found, [(AzureConfigKey::SasKey, "b".to_owned())]);
        let said = of(&azure, &[("AZURE_CLIENT_SECRET", "hunter2")]).unwrap_err();
        assert!(
            said.contains("has no key AZURE_TENANT_ID") && !said.contains("hunter2"),
            "{said}"
        );
        let said = of(&azure, &[]).unwrap_err();
        assert!(
            said.contains("has no key AZURE_STORAGE_SAS_TOKEN: it needs AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY, or"),
            "{said}"
        );
    }
}
