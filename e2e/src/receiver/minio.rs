//! MinIO as a store of objects: the real one, a child of the test with a port and a data folder of its own.
//!
//! What the agent has put there is read back with MinIO's root user; the agent itself has users that a test makes, each
//! with exactly one policy.

mod request;
mod rights;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

pub use request::Answer;
use request::Connector;
pub use rights::{documented_policy, documented_roles};

use super::{
    Archived, Authority, openid,
    port::{self, HERE},
};
use crate::{
    child::Program,
    cluster::{
        binaries::{Binaries, Binary},
        skip,
    },
    eventually::eventually,
};

/// How long a start or an end may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A user of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Access key id.
    pub id: String,
    /// Secret access key; of a test, so it may be shown.
    pub secret: String,
}

/// A running MinIO. Dropping it ends it.
#[derive(Debug)]
pub struct Minio {
    executable: PathBuf,
    maker: PathBuf,
    program: Option<Program>,
    address: IpAddr,
    port: u16,
    root: User,
    connector: Connector,
    /// Further variables.
    environment: Vec<(&'static str, String)>,
    /// After the program, so that it is there as long as the program is.
    folder: TempDir,
}

impl Minio {
    /// Starts it, built first where that was not done yet, and waits until it answers. With an authority it shows a
    /// certificate of it.
    pub async fn start(authority: Option<&Authority>) -> Result<Self> {
        Self::start_at(HERE, authority).await
    }

    /// As [`Self::start`], on another address of this machine, or of the network that it is started in.
    pub async fn start_at(address: IpAddr, authority: Option<&Authority>) -> Result<Self> {
        let binaries = spawn_blocking(find).await??;
        Self::start_from(&binaries, address, authority, Vec::new()).await
    }

    /// As [`Self::start_or_skip`], and gives keys for the tokens of service accounts of this issuer, which must be there: for
    /// tokens for this audience whose claim `policy` names a user whose policy they have.
    pub async fn start_for_tokens_or_skip(issuer: &str, audience: &str) -> Result<Option<Self>> {
        let environment = vec![
            (
                "MINIO_IDENTITY_OPENID_CONFIG_URL",
                format!("{issuer}{}", openid::DISCOVERY),
            ),
            ("MINIO_IDENTITY_OPENID_CLIENT_ID", audience.to_owned()),
        ];
        Self::find_or_skip(None, environment).await
    }

    /// As [`Self::start`]; none, and the calling test counted as skipped, where it cannot be built.
    pub async fn start_or_skip(authority: Option<&Authority>) -> Result<Option<Self>> {
        Self::find_or_skip(authority, Vec::new()).await
    }

    async fn find_or_skip(
        authority: Option<&Authority>,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Option<Self>> {
        match spawn_blocking(find).await? {
            Ok(binaries) => Self::start_from(&binaries, HERE, authority, environment)
                .await
                .map(Some),
            Err(reason) => skip(&format!("{reason:#}")).map(|()| None),
        }
    }

    async fn start_from(
        binaries: &Binaries,
        address: IpAddr,
        authority: Option<&Authority>,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let folder =
            TempDir::with_prefix("katonic-minio-").context("failed to make a folder for MinIO")?;
        for name in ["data", "certificates"] {
            std::fs::create_dir(folder.path().join(name)).context("failed to make a folder")?;
        }
        let mut minio = Self {
            executable: binaries.path(Binary::Minio)?.to_owned(),
            maker: binaries.path(Binary::MinioUser)?.to_owned(),
            program: None,
            address,
            port: port::free()?,
            root: User {
                id: "root-of-the-test".to_owned(),
                secret: "not-a-secret-at-all".to_owned(),
            },
            connector: Connector::new(authority)?,
            environment,
            folder,
        };
        if let Some(authority) = authority {
            let identity = authority.server(address)?;
            for (name, pem) in [
                ("public.crt", identity.certificate_pem()),
                ("private.key", identity.key_pem()),
            ] {
                let path = minio.folder.path().join("certificates").join(name);
                std::fs::write(path, pem).context("failed to write a certificate for MinIO")?;
            }
        }
        minio.start_again().await?;
        Ok(minio)
    }

    /// Starts it after its end, on the same port and with the same data.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.program.is_none(), "MinIO runs already");
        let path = |name: &str| self.folder.path().join(name);
        let address = self.address().to_string();
        let console = SocketAddr::from((HERE, port::free()?)).to_string();
        let program = Program::start(&self.executable, &path("output"), |command| {
            command
                .arg("server")
                .args(["--quiet", "--anonymous", "--address", &address])
                .args(["--console-address", &console])
                .arg("--certs-dir")
                .arg(path("certificates"))
                .arg(path("data"))
                .env("MINIO_ROOT_USER", &self.root.id)
                .env("MINIO_ROOT_PASSWORD", &self.root.secret)
                // It would ask the internet for a newer version, and offer a web interface.
                .env("MINIO_UPDATE", "off")
                .env("MINIO_BROWSER", "off")
                // Whatever disk the test's folder is on.
                .env("MINIO_CI_CD", "1")
                .envs(self.environment.iter().cloned());
        })?;
        self.program = Some(program);
        let started = eventually("MinIO answers", LIMIT, async || {
            TcpStream::connect(self.address()).context("failed to connect")?;
            let answer = self.request(&Method::GET, "/", "", Bytes::new()).await?;
            ensure!(answer.status == 200, "it answers {}", answer.status);
            Ok(Some(()))
        })
        .await;
        started.with_context(|| format!("it said: {}", self.said().unwrap_or_default()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (self.address, self.port).into()
    }

    /// Its base address.
    pub fn url(&self) -> String {
        let scheme = if self.connector.is_secure() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address())
    }

    /// The user who may do everything.
    pub fn root(&self) -> &User {
        &self.root
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().context("MinIO does not run")?.kill()
    }

    /// SIGSTOP: it answers nothing any more.
    pub fn pause(&self) -> Result<()> {
        let program = self.program.as_ref();
        program.context("MinIO does not run")?.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        let program = self.program.as_ref();
        program.context("MinIO does not run")?.resume()
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, name: &str) -> Result<()> {
        let path = format!("/{name}");
        self.expect(&Method::PUT, &path, "", Bytes::new()).await?;
        Ok(())
    }

    /// Makes a bucket that can lock its objects, which keeps versions too.
    pub async fn make_bucket_with_lock(&self, name: &str) -> Result<()> {
        let path = format!("/{name}");
        let request = request::Request {
            user: &self.root,
            method: &Method::PUT,
            path: &path,
            query: "",
            body: Bytes::new(),
            headers: &[("x-amz-bucket-object-lock-enabled", "true")],
            time: SystemTime::now(),
        };
        let answer = self.connector.send(self.address(), request).await?;
        expected(&Method::PUT, &path, answer)?;
        Ok(())
    }

    /// The lifecycle rules of a bucket as they are written; none where it has none.
    pub async fn lifecycle(&self, bucket: &str) -> Result<Option<String>> {
        let path = format!("/{bucket}");
        let answer = self
            .request(&Method::GET, &path, "lifecycle=", Bytes::new())
            .await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let answer = expected(&Method::GET, &path, answer)?;
        Ok(Some(String::from_utf8(answer.body.to_vec())?))
    }

    /// Replaces the lifecycle rules of a bucket by these, each a whole `Rule`.
    pub async fn set_lifecycle(&self, bucket: &str, rules: &str) -> Result<()> {
        let path = format!("/{bucket}");
        let text = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        self.expect(&Method::PUT, &path, "lifecycle=", text.into())
            .await?;
        Ok(())
    }

    /// Stores an object.
    pub async fn put(&self, bucket: &str, key: &str, content: Bytes) -> Result<()> {
        let path = format!("/{bucket}/{key}");
        self.expect(&Method::PUT, &path, "", content).await?;
        Ok(())
    }

    /// Makes a user with this policy and no other; of one that there is already, the password is another one then.
    pub async fn user(&self, id: &str, secret: &str, policy: &Value) -> Result<User> {
        let wanted = json!({
            "endpoint": self.address().to_string(),
            "secure": self.connector.is_secure(),
            "rootUser": self.root.id,
            "rootPassword": self.root.secret,
            "user": id,
            "password": secret,
            "policy": policy,
        });
        let maker = self.maker.clone();
        let make = move || -> Result<()> {
            let mut child = Command::new(&maker)
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("failed to start the maker of users")?;
            let mut stdin = child.stdin.take().context("no standard input")?;
            stdin
                .write_all(wanted.to_string().as_bytes())
                .context("failed to say what is wanted")?;
            drop(stdin);
            let output = child
                .wait_with_output()
                .context("failed to wait for the user")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "failed to make a user: {said}");
            Ok(())
        };
        spawn_blocking(make).await??;
        Ok(User {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// The keys below a prefix, sorted.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = BTreeMap::from([
                ("list-type", "2".to_owned()),
                ("prefix", request::encode_value(prefix)),
            ]);
            if let Some(token) = &token {
                query.insert("continuation-token", request::encode_value(token));
            }
            let query: Vec<String> = query
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let path = format!("/{bucket}");
            let answer = self
                .expect(&Method::GET, &path, &query.join("&"), Bytes::new())
                .await?;
            let text = String::from_utf8(answer.body.to_vec())?;
            keys.extend(request::elements(&text, "Key"));
            token = request::elements(&text, "NextContinuationToken").pop();
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    /// The content of an object.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Bytes> {
        let path = format!("/{bucket}/{key}");
        let answer = self.expect(&Method::GET, &path, "", Bytes::new()).await?;
        Ok(answer.body)
    }

    /// Everything below a prefix, by key.
    pub async fn objects(&self, bucket: &str, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let mut objects = BTreeMap::new();
        for key in self.keys(bucket, prefix).await? {
            let content = self.object(bucket, &key).await?;
            objects.insert(key, content);
        }
        Ok(objects)
    }

    /// The archive below a prefix.
    pub async fn archived(&self, bucket: &str, prefix: &str) -> Result<Archived> {
        Archived::read(self.objects(bucket, prefix).await?)
    }

    /// A request of the root user, whatever comes of it.
    pub async fn request(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Result<Answer> {
        self.request_as(&self.root, method, path, query, body).await
    }

    /// A request of any user, whatever comes of it.
    pub async fn request_as(
        &self,
        user: &User,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let request = request::Request {
            user,
            method,
            path,
            query,
            body,
            headers: &[],
            time: SystemTime::now(),
        };
        self.connector.send(self.address(), request).await
    }

    /// A request of the root user whose clock says this.
    pub async fn request_at(
        &self,
        time: SystemTime,
        method: &Method,
        path: &str,
    ) -> Result<Answer> {
        let request = request::Request {
            user: &self.root,
            method,
            path,
            query: "",
            body: Bytes::new(),
            headers: &[],
            time,
        };
        self.connector.send(self.address(), request).await
    }

    /// The key that it gives for a token of a service account, as the agent of EKS Pod Identity would say it.
    pub async fn given_for(&self, token: &str) -> Result<Value> {
        let form =
            format!("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken={token}");
        let answer = self.connector.post(self.address(), form).await?;
        let text = String::from_utf8(answer.body.to_vec())?;
        let one = |name: &str| {
            let found = request::elements(&text, name).pop();
            found.with_context(|| format!("no {name} in {text}"))
        };
        Ok(json!({
            "AccessKeyId": one("AccessKeyId")?,
            "SecretAccessKey": one("SecretAccessKey")?,
            "Token": one("SessionToken")?,
            "AccountId": "123456789012",
            "Expiration": one("Expiration")?,
        }))
    }

    async fn expect(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let answer = self.request(method, path, query, body).await?;
        expected(method, path, answer)
    }

    /// What it says of itself.
    pub fn said(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join("output"))
            .context("failed to read what MinIO said")
    }
}

/// The answer, if it is one of success.
fn expected(method: &Method, path: &str, answer: Answer) -> Result<Answer> {
    if !(200..300).contains(&answer.status) {
        let said = String::from_utf8_lossy(&answer.body);
        bail!("{method} {path}: HTTP {}: {said}", answer.status);
    }
    Ok(answer)
}

fn find() -> Result<Binaries> {
    Binaries::find(&[Binary::Minio, Binary::MinioUser])
}
