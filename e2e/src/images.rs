//! The images of this product and of the tests, built without a container engine: a static program in an empty image,
//! as an OCI archive that `ctr`, `docker load`, `podman load`, `skopeo` and `kind load image-archive` take.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cluster::progress::Progress,
    program::{self, workspace},
};

pub mod archive;

/// The name of the image that the tests' pods run; also the node's pause image.
pub const WORKLOAD: &str = concat!("localhost/katonic-e2e-workload:", env!("CARGO_PKG_VERSION"));
/// The name of the agent's image.
pub const AGENT: &str = concat!("localhost/katonic-log-agent:", env!("CARGO_PKG_VERSION"));
/// The name of the operator's image.
pub const OPERATOR: &str = concat!("localhost/katonic-logging:", env!("CARGO_PKG_VERSION"));

/// What the agent's image may weigh, in bytes: every node pulls it, every pod waits for it.
const AGENT_LIMIT: u64 = 12 << 20;

/// An image that can be built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The sidecar.
    Agent,
    /// The operator.
    Operator,
    /// What the tests' pods run.
    Workload,
}

impl Image {
    /// Every image.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Operator, Self::Workload];

    /// Its full name with tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => AGENT,
            Self::Operator => OPERATOR,
            Self::Workload => WORKLOAD,
        }
    }

    /// The program in it, which is also the archive's file name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Agent => "katonic-log-agent",
            Self::Operator => "katonic-logging",
            Self::Workload => "katonic-e2e-workload",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Agent => "katonic-log-agent",
            Self::Operator => "katonic-logging-operator",
            Self::Workload => "katonic-e2e-workload",
        }
    }

    /// The profile of Cargo that it is shipped with; also the name of the folder in which Cargo puts it.
    fn profile(self) -> &'static str {
        match self {
            Self::Agent | Self::Workload => "release",
            Self::Operator => "operator",
        }
    }

    fn contents(self) -> archive::Contents {
        archive::Contents {
            program: self.program(),
            mode: match self {
                // What a process cannot read, the kernel makes it run undumpable from its first instruction on: before it could
                // say so itself, root of another container could open its mounts (fs/exec.c, `would_dump`).
                Self::Agent => 0o111,
                Self::Operator | Self::Workload => 0o755,
            },
            // The kubelet's log files belong to root; the sidecar's own security context says the rest.
            user: match self {
                Self::Agent | Self::Workload => None,
                Self::Operator => Some("65532:65532"),
            },
            arguments: match self {
                Self::Agent | Self::Operator => &[],
                Self::Workload => &["pause"],
            },
            description: match self {
                Self::Agent => "Delivers the container logs of its own pod",
                Self::Operator => "Makes a cluster match its logging policies",
                Self::Workload => "What the pods of the tests run",
            },
        }
    }

    /// Where its archive is, once built.
    pub fn archive(self) -> PathBuf {
        target_directory()
            .join("images")
            .join(format!("{}.tar", self.program()))
    }

    /// Builds the program and its archive; returns the archive's path. Equal programs give equal bytes.
    ///
    /// # Errors
    /// With the end of what Cargo said, or when the agent's image is above 12 MiB.
    pub fn build(self) -> Result<PathBuf> {
        let program = self.executable()?;
        let archive = self.archive();
        if is_newer(&archive, &program) {
            return Ok(archive);
        }
        let folder = archive.parent().context("an archive without a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let program =
            fs::read(&program).with_context(|| format!("failed to read {}", program.display()))?;
        let bytes = archive::write(self.name(), &self.contents(), &program)?;
        let size = bytes.len() as u64;
        if self == Self::Agent && size > AGENT_LIMIT {
            bail!("the agent's image has {size} bytes, more than {AGENT_LIMIT}");
        }
        // Others may be reading the old one.
        let unfinished = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(folder)
            .context("failed to make a file for the archive")?;
        fs::write(unfinished.path(), &bytes).context("failed to write the archive")?;
        unfinished
            .persist(&archive)
            .with_context(|| format!("failed to write {}", archive.display()))?;
        Ok(archive)
    }

    /// Builds the program in it, at once when nothing has changed; returns its path.
    ///
    /// Each package by a Cargo of its own: in one call the features of all would be united.
    ///
    /// # Errors
    /// With the end of what Cargo said.
    pub fn executable(self) -> Result<PathBuf> {
        let triple = host_triple()?;
        // Beside the other builds, whose flags differ, so that neither makes the other start again.
        let target = target_directory().join("images/build");
        let home = home_of_cargo()?;
        let flags = [
            "-C target-feature=+crt-static".to_owned(),
            // Equal bytes wherever it is built, and no path of the builder in them.
            format!("--remap-path-prefix={}=/source", workspace().display()),
            format!("--remap-path-prefix={}=/cargo", home.display()),
        ];
        let progress = Progress::start(&format!("building {}, static", self.program()));
        let output = program::cargo()
            .args([
                "build",
                "--locked",
                "--profile",
                self.profile(),
                "--package",
                self.package(),
            ])
            .args(["--bin", self.program(), "--target", &triple, "--target-dir"])
            .arg(&target)
            .env("RUSTFLAGS", flags.join(" "))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .context("failed to run cargo")?;
        if !output.status.success() {
            progress.failed();
            bail!(
                "failed to build {}:\n{}",
                self.package(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        progress.done();
        Ok(target
            .join(triple)
            .join(self.profile())
            .join(self.program()))
    }
}

/// Whether the archive is newer than the program in it and than the program that writes it.
fn is_newer(archive: &Path, program: &Path) -> bool {
    let modified = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let Some(archive) = modified(archive) else {
        return false;
    };
    [Some(program.to_owned()), env::current_exe().ok()]
        .into_iter()
        .all(|source| {
            source
                .and_then(|path| modified(&path))
                .is_some_and(|source| archive > source)
        })
}

fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn home_of_cargo() -> Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))
        .context("failed to find Cargo's home: set CARGO_HOME or HOME")
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("failed to run rustc")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("failed to find the host's target in the output of rustc -vV")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containerfiles_make_the_same_images() {
        for (image, file) in [(Image::Agent, "agent"), (Image::Operator, "operator")] {
            let path = workspace().join(format!("manifests/images/Containerfile.{file}"));
            let text = fs::read_to_string(path).unwrap();
            let program = image.program();
            let entrypoint = format!("ENTRYPOINT [\"/{program}\"]");
            let (profile, package) = (image.profile(), image.package());
            let build = format!("--profile {profile} --package {package} --bin {program} --target");
            for line in [
                entrypoint,
                build,
                format!("/{profile}/{program}\" /{program}"),
                format!(
                    "COPY --from=build --chmod={:o} /{program} /{program}",
                    image.contents().mode
                ),
                "FROM scratch".to_owned(),
            ] {
                assert!(text.contains(&line), "Containerfile.{file} lacks {line}");
            }
            let user = text.lines().find_map(|line| line.strip_prefix("USER "));
            assert_eq!(user, image.contents().user);
        }
    }
}
