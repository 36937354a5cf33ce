//! The programs that a cluster is made of, and a receiver: finds each one, or builds it from its Go module directory. Starts none of them.
//!
//! Looked for in this order: `KUBEBUILDER_ASSETS`, `PATH` (where the version fits), the cache; what is in none of them
//! is built into the cache, once, even when several test processes ask at the same time.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use self::program::Module;
use super::{Minor, Tier, prerequisites, progress::Progress};

mod program;

pub use program::Binary;

/// Where built programs are kept between runs: `KATONIC_E2E_CACHE`, else `katonic-logging` in the user's cache folder.
pub fn cache_directory() -> Result<PathBuf> {
    if let Some(directory) = env::var_os("KATONIC_E2E_CACHE") {
        return Ok(directory.into());
    }
    let caches = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))
        .context("failed to find a cache folder: set KATONIC_E2E_CACHE, XDG_CACHE_HOME or HOME")?;
    Ok(caches.join("katonic-logging"))
}

impl Binary {
    /// A program of `PATH` is used only where its version cannot change what a test sees: same major and minor.
    ///
    /// Never for the node's programs: Debian's containerd 1.6 loses the end of short containers' logs.
    fn on_path(self) -> Result<Option<PathBuf>> {
        let arguments: &[&str] = match self {
            Self::Etcd | Self::KubeApiserver | Self::OldestKubeApiserver => &["--version"],
            Self::Kubectl => &["version", "--client"],
            _ => return Ok(None),
        };
        let Some(path) = prerequisites::on_path(self.name()) else {
            return Ok(None);
        };
        let version = self.version()?;
        let minor = version
            .rsplit_once('.')
            .map_or(version.as_str(), |(minor, _patch)| minor);
        let Ok(output) = Command::new(&path)
            .args(arguments)
            .env_remove("KUBECONFIG")
            .output()
        else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let fits = text.split_whitespace().any(|word| {
            word.trim_start_matches('v')
                .strip_prefix(minor)
                .is_some_and(|patch| patch.starts_with('.'))
        });
        Ok(fits.then_some(path))
    }

    fn built(self) -> Result<PathBuf> {
        Ok(self.module().cache()?.join(self.name()))
    }
}

impl Module {
    /// Where this module's programs are kept: a name that changes with everything that goes into them.
    fn cache(&self) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        let main = self.source().join("main.go");
        let files = ["go.mod", "go.sum"].map(|file| self.source().join(file));
        for path in files.iter().chain(main.is_file().then_some(&main)) {
            hash.update(
                fs::read(path).with_context(|| format!("failed to read {}", path.display()))?,
            );
        }
        hash.update(format!(
            "{:?} {} {}",
            self.arguments(""),
            self.cgo,
            env::consts::ARCH
        ));
        let digest = hash
            .finalize()
            .iter()
            .take(6)
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
        Ok(cache_directory()?
            .join("bin")
            .join(format!("{}-{digest}", self.directory)))
    }
}

/// Where each program of a tier is.
#[derive(Clone, Debug)]
pub struct Binaries(BTreeMap<Binary, PathBuf>);

impl Binaries {
    /// Finds the programs of a tier and builds those that are missing, with progress on the terminal. The API server
    /// is that of the minor.
    ///
    /// Building all of them takes about ten minutes on two cores, once; finding them takes milliseconds.
    ///
    /// # Errors
    /// Names what the machine lacks (Go, a compiler, a library), or shows the end of what the Go compiler said.
    pub fn of(tier: Tier, minor: Minor) -> Result<Self> {
        prerequisites::for_running(tier)?;
        let wanted = Binary::of(tier).iter().map(|&binary| match binary {
            Binary::KubeApiserver => Binary::api_server(minor),
            other => other,
        });
        Self::find(&wanted.collect::<Vec<_>>())
    }

    /// Finds these programs and builds those that are missing.
    ///
    /// # Errors
    /// As [`Binaries::of`].
    pub fn find(binaries: &[Binary]) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for &binary in binaries {
            match locate(binary)? {
                Some(path) => {
                    found.insert(binary, path);
                }
                None => missing.push(binary),
            }
        }
        if !missing.is_empty() {
            prerequisites::for_building(missing.iter().any(|binary| binary.module().cgo))?;
            let total = missing.len();
            for (index, binary) in missing.into_iter().enumerate() {
                found.insert(
                    binary,
                    build(binary, &format!("({} of {total})", index + 1))?,
                );
            }
        }
        Ok(Self(found))
    }

    /// The path of a program.
    ///
    /// # Errors
    /// When it is not among those asked for.
    pub fn path(&self, binary: Binary) -> Result<&Path> {
        self.0
            .get(&binary)
            .map(PathBuf::as_path)
            .with_context(|| format!("{} was not asked for", binary.name()))
    }
}

fn locate(binary: Binary) -> Result<Option<PathBuf>> {
    // Assets are of one version, and who names them has chosen it.
    if binary != Binary::OldestKubeApiserver
        && let Some(assets) = env::var_os("KUBEBUILDER_ASSETS")
    {
        let path = Path::new(&assets).join(binary.name());
        if path.is_file() {
            return Ok(Some(path));
        }
    }
    if let Some(path) = binary.on_path()? {
        return Ok(Some(path));
    }
    let built = binary.built()?;
    Ok(built.is_file().then_some(built))
}

fn build(binary: Binary, position: &str) -> Result<PathBuf> {
    let module = binary.module();
    let target = binary.built()?;
    let directory = module.cache()?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make {}", directory.display()))?;
    // Two processes may want the same program: the second waits here and finds it done.
    let lock = File::create(directory.join(".lock"))
        .context("failed to make the lock of the build cache")?;
    lock.lock().context("failed to lock the build cache")?;
    if target.is_file() {
        return Ok(target);
    }
    let version = binary.version()?;
    let progress = Progress::start(&format!("building {} {version} {position}", binary.name()));
    let unfinished = directory.join(format!(".{}.unfinished", binary.name()));
    let output = Command::new("go")
        .args(module.arguments(&version))
        .arg("-o")
        .arg(&unfinished)
        .arg(binary.package())
        .current_dir(module.source())
        .env("CGO_ENABLED", if module.cgo { "1" } else { "0" })
        .stdin(Stdio::null())
        .output()
        .context("failed to run go")?;
    if !output.status.success() {
        progress.failed();
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!(
            "failed to build {} {version} in {}:\n{tail}",
            binary.name(),
            module.source().display()
        );
    }
    fs::rename(&unfinished, &target)
        .with_context(|| format!("failed to move {} into place", target.display()))?;
    progress.done();
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_version_and_a_place_in_the_cache() {
        for binary in Binary::ALL {
            let version = binary.version().unwrap();
            assert!(
                version.split('.').count() == 3,
                "{}: {version}",
                binary.name()
            );
            assert!(binary.built().unwrap().ends_with(binary.name()));
        }
    }

    #[test]
    fn a_tier_includes_the_programs_of_the_tier_below() {
        assert!(Binary::of(Tier::Controllers).starts_with(Binary::of(Tier::ApiServer)));
        assert!(Binary::of(Tier::Node).starts_with(Binary::of(Tier::Controllers)));
        let others = [
            Binary::OldestKubeApiserver,
            Binary::OtelCollector,
            Binary::Minio,
            Binary::MinioUser,
            Binary::Promtool,
            Binary::Promql,
            Binary::Helm,
            Binary::Health,
        ];
        assert!(Binary::ALL.ends_with(&others));
        assert_eq!(
            Binary::of(Tier::Node).len() + others.len(),
            Binary::ALL.len()
        );
    }
}
