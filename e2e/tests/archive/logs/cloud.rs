//! `katonic-logging logs` on Google Cloud Storage and Azure Blob Storage, played strictly by their documents: it was not run against
//! the real ones.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result};
use katonic_log_config::Store;
use katonic_logging_e2e::{
    program,
    receiver::{
        Protocol, Receiver, Tally,
        azure::{self, Principal},
        gcs::{self, Account},
        objects::Bucket,
    },
    simulated::{
        Load,
        load::numbered_line,
        policy::{self, SAS_TOKEN_FILE, SERVICE_ACCOUNT_FILE},
    },
};
use tempfile::TempDir;

use super::{Said, archive_in, command, pod_named, whole};
use crate::{BUCKET, CONTAINER, EXECUTION, cloud::Cloud, end, execution, start};

const ACCOUNT: &str = "platformlogs";
const AGENT: &str = "agent@katonic.iam.gserviceaccount.com";
const READER: &str = "reader@katonic.iam.gserviceaccount.com";

/// 64 bytes, which nobody's account has.
const KEY: &str =
    "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjJodW50ZXIyMQ==";
const OTHER_KEY: &str =
    "aHVudGVyM2h1bnRlcjNodW50ZXIzaHVudGVyM2h1bnRlcjNodW50ZXIzaHVudGVyM2h1bnRlcjNodW50ZXIzMQ==";

/// For the container: that of the agents may create blobs, that of a reader list and read them.
const OF_AGENTS: &str =
    "sv=2021-12-02&se=2036-01-01T00%3A00%3A00Z&sr=c&sp=c&sig=aHVudGVyMg%2Bx%2Fy%3D";
const OF_READERS: &str =
    "sv=2021-12-02&se=2036-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig=aHVudGVyMw%2Bx%2Fy%3D";

/// What must stand in no output: parts of keys, signatures and tokens.
const SECRETS: [&str; 6] = [
    "aHVudGVy",
    "PRIVATE KEY",
    "ya29.",
    "eyJ",
    "of-the-reader",
    "sig=",
];

/// What the documentation gives to a reader at this vendor.
fn rights(vendor: &str) -> Result<Vec<String>> {
    let path = program::workspace().join("docs/object-storage.md");
    let documentation = fs::read_to_string(path)?;
    let marker = format!("<!-- rights of the readers at {vendor} -->\n\n```text\n");
    let (_, rest) = documentation
        .split_once(&marker)
        .context("the documentation has no rights of the readers")?;
    let (rights, _) = rest.split_once("```").context("they do not end")?;
    Ok(rights.lines().map(str::to_owned).collect())
}

/// A vendor's store with an archive, and somebody who reads it.
struct Library {
    cloud: Cloud,
    /// What names the store on the command line.
    named: Vec<&'static str>,
    /// Who reads.
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

fn google(protocol: &mut Protocol) -> Option<&mut gcs::Rules> {
    match protocol {
        Protocol::Gcs(rules) => Some(rules),
        _ => None,
    }
}

fn account(protocol: &mut Protocol) -> Option<&mut azure::Rules> {
    match protocol {
        Protocol::Azure(rules) => Some(rules),
        _ => None,
    }
}

fn bucket(protocol: &mut Protocol) -> Option<&mut Bucket> {
    protocol.bucket(BUCKET)
}

fn google_store(url: &str) -> Result<Store> {
    policy::gcs(url, BUCKET)
}

fn azure_store(url: &str) -> Result<Store> {
    policy::azure(&format!("{url}/{ACCOUNT}"), ACCOUNT, BUCKET, true)
}

/// A reader of Google's with what the documentation gives, below the prefix that its condition names.
fn reader_of_google(key: &str) -> Result<Account> {
    let mut reader = Account::reader(key, "logs/executions/");
    reader.permissions = rights("Google")?.into_iter().collect();
    Ok(reader)
}

/// A reader of Azure's with what the documentation gives.
fn reader_of_azure(secret: &str) -> Result<Principal> {
    let below = "Microsoft.Storage/storageAccounts/";
    let actions = rights("Azure")?.into_iter();
    Ok(Principal {
        tenant: "tenant-1".to_owned(),
        client: "client-1".to_owned(),
        secret: secret.to_owned(),
        actions: actions
            .map(|action| action.trim_start_matches(below).to_owned())
            .collect(),
    })
}

impl Library {
    fn of(cloud: Cloud, named: Vec<&'static str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(
            folder.path().join("ca.crt"),
            cloud.authority.certificate_pem(),
        )?;
        Ok(Self {
            cloud,
            named,
            environment: Vec::new(),
            folder,
        })
    }

    /// A bucket of Google's, which a service account reads.
    async fn google() -> Result<Self> {
        let mut rules = gcs::Rules::new(&[BUCKET], AGENT, Account::creator("1", "logs/"));
        rules
            .accounts
            .insert(READER.to_owned(), reader_of_google("2")?);
        let cloud = Cloud::start(Protocol::Gcs(rules), bucket, google_store).await?;
        let url = cloud.receiver.url();
        cloud.receiver.change_rules(|protocol| {
            google(protocol).map(|rules| rules.audience = format!("{url}/token"))
        });
        let cloud = cloud.with(
            SERVICE_ACCOUNT_FILE,
            gcs::key_file(&url, AGENT, "1"),
            "ya29.",
        );
        let mut library = Self::of(cloud, vec!["--gcs-bucket", BUCKET])?;
        library.read_by_key_file(READER, "2")?;
        Ok(library)
    }

    fn read_by_key_file(&mut self, email: &str, key: &str) -> Result<()> {
        let path = self.folder.path().join("key.json");
        fs::write(&path, gcs::key_file(&self.cloud.receiver.url(), email, key))?;
        let path = path.display().to_string();
        self.environment = vec![("GOOGLE_APPLICATION_CREDENTIALS", path)];
        Ok(())
    }

    /// A container of Azure's, which a shared access signature reads.
    async fn azure() -> Result<Self> {
        let mut rules = azure::Rules::new(ACCOUNT, KEY, &[BUCKET]);
        rules.in_path = true;
        rules.signatures = [(OF_AGENTS, "c"), (OF_READERS, "rl")]
            .map(|(signature, permissions)| (signature.to_owned(), permissions.to_owned()))
            .into();
        rules.principal = Some(Box::new(reader_of_azure("of-the-reader")?));
        let cloud = Cloud::start(Protocol::Azure(rules), bucket, azure_store).await?;
        let cloud = cloud.with(SAS_TOKEN_FILE, OF_AGENTS.to_owned(), "aHVudGVyMg");
        let named = vec!["--azure-account", ACCOUNT, "--azure-container", BUCKET];
        let mut library = Self::of(cloud, named)?;
        library.environment = vec![("AZURE_STORAGE_SAS_TOKEN", format!("?{OF_READERS}\n"))];
        Ok(library)
    }

    /// Somebody else reads.
    fn read_by(&mut self, environment: &[(&'static str, &str)]) {
        self.environment = environment
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
    }

    fn read_by_principal(&mut self, secret: &str) {
        let url = format!("{}/", self.cloud.receiver.url());
        self.read_by(&[
            ("AZURE_TENANT_ID", "tenant-1"),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_CLIENT_SECRET", secret),
            ("AZURE_AUTHORITY_HOST", &url),
        ]);
    }

    fn receiver(&self) -> &Receiver {
        &self.cloud.receiver
    }

    fn change_google(&self, change: impl FnOnce(&mut gcs::Rules)) {
        self.receiver()
            .change_rules(|protocol| google(protocol).map(change));
    }

    fn change_azure<T>(&self, change: impl FnOnce(&mut azure::Rules) -> T) -> Option<T> {
        self.receiver()
            .change_rules(|protocol| account(protocol).map(change))
    }

    fn endpoint(&self) -> String {
        let url = self.receiver().url();
        if self.named.contains(&"--azure-account") {
            format!("{url}/{ACCOUNT}")
        } else {
            url
        }
    }

    /// What the command says of the execution; no credential is in it.
    async fn logs(&self, flags: &[&str]) -> Result<Said> {
        self.logs_at(&self.endpoint(), flags).await
    }

    async fn logs_at(&self, endpoint: &str, flags: &[&str]) -> Result<Said> {
        let ca = self.folder.path().join("ca.crt").display().to_string();
        let mut arguments = vec![EXECUTION, "--endpoint", endpoint, "--prefix", "logs"];
        arguments.extend(["--ca-file", &ca]);
        arguments.extend(&self.named);
        arguments.extend(flags);
        let mut command = command(&arguments, None).await?;
        let environment = self.environment.iter();
        command.envs(environment.map(|(name, value)| (*name, value)));
        let said = Said::of_command(command).await?;
        for secret in SECRETS {
            assert!(!said.stderr.contains(secret), "{secret} in {}", said.stderr);
        }
        Ok(said)
    }

    /// A pod with so many lines, each an object, and with its completeness record; gives the objects' keys.
    async fn archived(&self, name: &str, lines: usize) -> Result<Vec<String>> {
        let mut pod = pod_named(name);
        let keys = archive_in(self.receiver(), &mut pod, 1..=lines, lines, 1).await?;
        pod.record(self.receiver()).await?;
        Ok(keys)
    }

    /// How many pages of listings were answered.
    fn pages(&self) -> usize {
        let listings = ["/platform%2Dlogs", "/platformlogs/platform-logs"];
        self.receiver().inspect(|received| {
            let answered = received.answered.iter();
            answered
                .filter(|answered| listings.contains(&answered.path.as_str()))
                .count()
        })
    }
}

/// The whole way: agents of two pods, and a reader.
async fn what_agents_have_archived_is_read_back(library: Library) -> Result<()> {
    const LINES: usize = 2_000;
    let mut pods = Vec::new();
    for _ in 0..2 {
        let mut pod = execution()?;
        library.cloud.mount(&mut pod, 1_000_000, 100)?;
        let agent = start(&pod).await?;
        let load = Load::start(pod.container(CONTAINER, 100_000)?, LINES, 2_000.try_into()?);
        pods.push((pod, agent, load));
    }
    let mut uids = Vec::new();
    for (pod, agent, load) in pods {
        load.finish().await?;
        end(agent, &pod).await?;
        uids.push(pod.uid.clone());
    }
    let said = library.logs(&["-o", "json"]).await?;
    let verified = "verified: 4,000 lines, complete (2 pods, 2 runs)";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    let records = said.records()?;
    let times: Vec<_> = records.iter().map(|record| &record["time"]).collect();
    assert!(times.is_sorted_by_key(|time| time.as_str()), "out of order");
    for uid in uids {
        let of_pod = records.iter().filter(|record| record["pod_uid"] == *uid);
        let lines: Vec<&str> = of_pod
            .filter_map(|record| record["message"].as_str())
            .collect();
        let expected: Vec<String> = (1..=LINES).map(|n| numbered_line(n, LINES)).collect();
        assert_eq!(lines, expected);
    }
    let ids: BTreeSet<_> = records
        .iter()
        .map(|record| record["record_id"].as_str())
        .collect();
    assert_eq!(ids.len(), 2 * LINES, "a record came twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_have_archived_at_google_is_read_back_in_time_order_and_verified() -> Result<()>
{
    what_agents_have_archived_is_read_back(Library::google().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_have_archived_at_azure_is_read_back_in_time_order_and_verified() -> Result<()>
{
    what_agents_have_archived_is_read_back(Library::azure().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_googles_is_read_to_its_last_page() -> Result<()> {
    const LINES: usize = 1_200;
    let library = Library::google().await?;
    library.archived("run-1", LINES).await?;
    library.archived("run-2", LINES).await?;
    let said = library.logs(&["-o", "json"]).await?;
    let verified = "verified: 2,400 lines, complete (2 pods, 2 runs)";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    assert_eq!(said.tally("run-1")?, whole(LINES));
    // 2,402 objects, at most 1,000 of them on a page.
    assert_eq!(library.pages(), 3);
    Ok(())
}

/// Azure's pages may be shorter than they could be, and the first one empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_azures_is_read_to_its_last_page() -> Result<()> {
    const LINES: usize = 250;
    let library = Library::azure().await?;
    library.change_azure(|rules| rules.page = Some(100));
    library.archived("run-1", LINES).await?;
    library.archived("run-2", LINES).await?;
    let said = library.logs(&["-o", "json"]).await?;
    let verified = "verified: 500 lines, complete (2 pods, 2 runs)";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    assert_eq!(said.tally("run-2")?, whole(LINES));
    // 502 objects, and a page with none.
    assert_eq!(library.pages(), 7);
    Ok(())
}

async fn what_was_deleted_by_hand_is_missed(library: Library) -> Result<()> {
    let keys = library.archived("run-1", 30).await?;
    library.cloud.look(|bucket| bucket.delete(&keys[7]));
    let said = library.logs(&["-o", "json"]).await?;
    said.fails(4, "object 00000007 is missing, bytes ");
    assert_eq!(said.verdict().0, "not complete: 29 lines read, 1 fault");
    let tally = Tally {
        unique: 29,
        missing: 1,
        ..whole(30)
    };
    assert_eq!(said.tally("run-1")?, tally);
    let said = library.logs(&["--container", "other"]).await?;
    said.fails(5, "below logs/executions/63d16b3ebe3729589c5bd9d8/ in ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_googles_that_was_deleted_by_hand_is_missed() -> Result<()> {
    what_was_deleted_by_hand_is_missed(Library::google().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_azures_that_was_deleted_by_hand_is_missed() -> Result<()> {
    what_was_deleted_by_hand_is_missed(Library::azure().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_at_google_is_named() -> Result<()> {
    let library = Library::google().await?;
    library.archived("run-1", 3).await?;
    for (permission, words) in [
        (
            "storage.objects.list",
            "the store refuses to list the archive: allow these credentials storage.objects.list on gs://platform-logs/logs/executions/*",
        ),
        (
            "storage.objects.get",
            "the store refuses to give an object: allow these credentials storage.objects.get on gs://platform-logs/logs/executions/*",
        ),
    ] {
        let mut reader = reader_of_google("2")?;
        assert!(reader.permissions.remove(permission));
        library.change_google(|rules| {
            rules.accounts.insert(READER.to_owned(), reader);
        });
        let said = library.logs(&[]).await?;
        said.fails(1, words);
        assert!(said.stdout.is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_googles_agents_can_only_write() -> Result<()> {
    let mut library = Library::google().await?;
    library.archived("run-1", 3).await?;
    library.read_by_key_file(AGENT, "1")?;
    let said = library.logs(&[]).await?;
    said.fails(1, "storage.objects.list");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whom_google_does_not_know_is_told_what_to_do() -> Result<()> {
    let mut library = Library::google().await?;
    library.archived("run-1", 3).await?;
    library.read_by_key_file(READER, "of-another-time")?;
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "the store does not take these credentials (AuthenticationRequired): set GOOGLE_APPLICATION_CREDENTIALS to the key file of a reader's service account",
    );
    library.read_by(&[("GOOGLE_BEARER_TOKEN", "ya29.of-another-time")]);
    let said = library.logs(&[]).await?;
    said.fails(1, "run `gcloud auth application-default login`");
    let path = library.folder.path().join("key.json");
    fs::write(
        &path,
        "{\"type\": \"service_account\", \"private_key\": \"of-the-reader\"}",
    )?;
    let path = path.display().to_string();
    library.read_by(&[("GOOGLE_APPLICATION_CREDENTIALS", &path)]);
    let said = library.logs(&[]).await?;
    said.fails(1, "is neither the key file of a service account nor what");
    let key = gcs::key_file("https://127.0.0.1", READER, "2").replace("MII", "MIII");
    library.read_by(&[("GOOGLE_SERVICE_ACCOUNT_KEY", &key)]);
    let said = library.logs(&[]).await?;
    said.fails(1, "private_key in the key file is no RSA key in PEM");
    // Nobody listens there.
    library.read_by(&[("GCE_METADATA_HOST", "127.0.0.1:9")]);
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "there are no credentials for the store: set GOOGLE_APPLICATION_CREDENTIALS",
    );
    Ok(())
}

/// Without TLS: nobody tells a machine who it is with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_account_of_a_machine_of_googles_reads() -> Result<()> {
    let mut library = Library::google().await?;
    let mut rules = gcs::Rules::new(&[BUCKET], READER, reader_of_google("2")?);
    rules.of_pods = Some(READER.to_owned());
    let here = "127.0.0.1:0".parse()?;
    library.cloud.receiver = Receiver::start(here, Protocol::Gcs(rules)).await?;
    library.archived("run-1", 3).await?;
    let machine = library.receiver().address().to_string();
    library.read_by(&[("GCE_METADATA_HOST", &machine)]);
    let said = library.logs(&[]).await?;
    assert_eq!(
        said.verdict(),
        ("verified: 3 lines, complete", Some(0)),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_at_azure_reads_the_same() -> Result<()> {
    let mut library = Library::azure().await?;
    library.archived("run-1", 3).await?;
    let token = library.change_azure(azure::Rules::log_in);
    let token = token.context("it is Azure")?;
    let az = library.folder.path().join("az");
    let said_by_az = format!(
        "{{\"accessToken\": \"{token}\", \"expiresOn\": \"2036-01-01 00:00:00.000000\", \"subscription\": \"s\", \"tenant\": \"t\", \"tokenType\": \"Bearer\"}}"
    );
    fs::write(&az, format!("#!/bin/sh\necho '{said_by_az}'\n"))?;
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755))?;
    let folder = library.folder.path().display().to_string();
    for who in ["a signature", "a key", "a principal", "az"] {
        match who {
            "a key" => library.read_by(&[("AZURE_STORAGE_KEY", KEY)]),
            "a principal" => library.read_by_principal("of-the-reader"),
            "az" => library.read_by(&[("PATH", &folder)]),
            _ => {}
        }
        let said = library.logs(&[]).await?;
        let verified = ("verified: 3 lines, complete", Some(0));
        assert_eq!(said.verdict(), verified, "{who}: {said:?}");
    }
    fs::write(
        &az,
        "#!/bin/sh\necho 'Please run az login: eyJ0' >&2\nexit 1\n",
    )?;
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "the store does not take these credentials (az account get-access-token has failed): set AZURE_STORAGE_SAS_TOKEN",
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whom_azure_does_not_know_is_told_what_to_do() -> Result<()> {
    let mut library = Library::azure().await?;
    library.archived("run-1", 3).await?;
    let unknown = "the store does not take these credentials (AuthenticationFailed): set AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY, or";
    library.read_by(&[("AZURE_STORAGE_ACCOUNT_KEY", OTHER_KEY)]);
    library.logs(&[]).await?.fails(1, unknown);
    let over = OF_READERS.replace("2036", "2020");
    library.change_azure(|rules| rules.signatures.insert(over.clone(), "rl".to_owned()));
    library.read_by(&[("AZURE_STORAGE_SAS_TOKEN", &over)]);
    library.logs(&[]).await?.fails(1, unknown);
    library.read_by_principal("of-the-reader-once");
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "the store does not take these credentials (invalid_client AADSTS7000215): set",
    );
    library.read_by(&[("AZURE_STORAGE_KEY", "of-the-reader!")]);
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "AZURE_STORAGE_KEY is no key of a storage account in Base64",
    );
    library.read_by(&[("AZURE_CLIENT_SECRET", "of-the-reader")]);
    let said = library.logs(&[]).await?;
    said.fails(1, "need AZURE_TENANT_ID and AZURE_CLIENT_ID beside them");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_at_azure_is_named() -> Result<()> {
    let mut library = Library::azure().await?;
    library.archived("run-1", 3).await?;
    for (permissions, words) in [
        (
            "r",
            "the store refuses to list the archive: allow these credentials Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read in a role, or l in a shared access signature, on the container `platform-logs` of the storage account `platformlogs`",
        ),
        (
            "l",
            "the store refuses to give an object: allow these credentials Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read in a role, or r in a shared access signature,",
        ),
    ] {
        let signature = (OF_READERS.to_owned(), permissions.to_owned());
        library.change_azure(|rules| rules.signatures = [signature].into());
        let said = library.logs(&[]).await?;
        said.fails(1, words);
        assert!(said.stdout.is_empty());
    }
    library.read_by_principal("of-the-reader");
    library.change_azure(|rules| {
        if let Some(principal) = &mut rules.principal {
            principal.actions.clear();
        }
    });
    let said = library.logs(&[]).await?;
    said.fails(1, "the store refuses to list the archive");
    // The agents' own signature can only write.
    library
        .change_azure(|rules| rules.signatures = [(OF_AGENTS.to_owned(), "c".to_owned())].into());
    library.read_by(&[("AZURE_STORAGE_SAS_TOKEN", OF_AGENTS)]);
    let said = library.logs(&[]).await?;
    said.fails(1, "the store refuses to list the archive");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_or_a_container_that_is_not_there_is_said() -> Result<()> {
    let library = Library::google().await?;
    library.change_google(|rules| rules.buckets.clear());
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "there is no bucket `platform-logs` at https://127.0.0.1:",
    );
    said.fails(
        1,
        "correct --gcs-bucket, or blob_storage.logs in the installation",
    );
    let library = Library::azure().await?;
    library.change_azure(|rules| rules.containers.clear());
    let said = library.logs(&[]).await?;
    said.fails(
        1,
        "there is no container `platform-logs` of the storage account `platformlogs` at https://127.0.0.1:",
    );
    said.fails(
        1,
        "correct --azure-container, or blob_storage.logs in the installation",
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_named_once_and_with_what_belongs_to_it() -> Result<()> {
    let nobody = PathBuf::from("/nonexistent").display().to_string();
    for (code, words, arguments) in [
        (
            2,
            "--azure-account <ACCOUNT>",
            vec!["--azure-container", "logs"],
        ),
        (
            2,
            "--azure-container <CONTAINER>",
            vec!["--azure-account", ACCOUNT],
        ),
        (
            2,
            "cannot be used with",
            vec!["--bucket", BUCKET, "--gcs-bucket", BUCKET],
        ),
        (
            2,
            "cannot be used with",
            vec!["--gcs-bucket", BUCKET, "--region", "eu-central-1"],
        ),
        (
            2,
            "cannot be used with",
            vec!["--bucket", BUCKET, "--azure-account", ACCOUNT],
        ),
        (
            2,
            "is not the name of a bucket",
            vec!["--gcs-bucket", "Not A Bucket"],
        ),
        (
            2,
            "is not the name of a storage account",
            vec!["--azure-account", "Not.One", "--azure-container", "logs"],
        ),
        (
            1,
            "--prefix has a part that ends with a dot, which Azure does not take: remove the dot",
            vec![
                "--azure-account",
                ACCOUNT,
                "--azure-container",
                "logs",
                "--prefix",
                "a.",
            ],
        ),
        (
            1,
            "/nonexistent cannot be read",
            vec!["--gcs-bucket", BUCKET, "--ca-file", &nobody],
        ),
    ] {
        let arguments: Vec<&str> = [EXECUTION].into_iter().chain(arguments).collect();
        let mut command = command(&arguments, None).await?;
        command.env("GOOGLE_BEARER_TOKEN", "ya29.of-nobody");
        Said::of_command(command).await?.fails(code, words);
    }
    Ok(())
}
