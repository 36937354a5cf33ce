//! What the machine itself must bring: names precisely what is missing and, as root on a Debian, installs it.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Tier, binaries::cache_directory, progress::Progress};

/// Something that is not built from a module directory.
struct Prerequisite {
    /// As a person would look for it.
    what: &'static str,
    /// The Debian package that has it; none where Debian's is too old.
    package: Option<&'static str>,
    present: fn() -> bool,
}

const GO: Prerequisite = Prerequisite {
    what: "go, 1.26 or newer (https://go.dev/dl/), to build Kubernetes and the OpenTelemetry Collector",
    package: None,
    present: || on_path("go").is_some(),
};
const COMPILER: Prerequisite = Prerequisite {
    what: "gcc, to build runc",
    package: Some("gcc"),
    present: || on_path("gcc").is_some(),
};
const PKG_CONFIG: Prerequisite = Prerequisite {
    what: "pkg-config, to build runc",
    package: Some("pkg-config"),
    present: || on_path("pkg-config").is_some(),
};
const LIBSECCOMP: Prerequisite = Prerequisite {
    what: "the headers of libseccomp, to build runc",
    package: Some("libseccomp-dev"),
    present: || {
        Command::new("pkg-config")
            .args(["--exists", "libseccomp"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    },
};
const IP: Prerequisite = Prerequisite {
    what: "ip, to set up the node's network",
    package: Some("iproute2"),
    present: || on_path("ip").is_some(),
};
const NFT: Prerequisite = Prerequisite {
    what: "nft, for kube-proxy",
    package: Some("nftables"),
    present: || on_path("nft").is_some(),
};
const NSENTER: Prerequisite = Prerequisite {
    what: "nsenter and mount, to enter the node's network and for the kubelet",
    package: Some("util-linux"),
    present: || on_path("nsenter").is_some() && on_path("mount").is_some(),
};

const RSYSLOG: Prerequisite = Prerequisite {
    what: "rsyslogd, a receiver of syslog",
    package: Some("rsyslog"),
    present: || on_path("rsyslogd").is_some(),
};
const RSYSLOG_TLS: Prerequisite = Prerequisite {
    what: "rsyslog's TLS driver for OpenSSL",
    package: Some("rsyslog-openssl"),
    present: has_rsyslog_tls,
};

const FAKETIME: Prerequisite = Prerequisite {
    what: "libfaketime, to set the clock of one program",
    package: Some("libfaketime"),
    present: || library_of_faketime().is_some(),
};

fn library_of_faketime() -> Option<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    [multiarch.as_str(), "/usr/lib64", "/usr/lib"]
        .iter()
        .map(|libraries| Path::new(libraries).join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file())
}

/// Whether rsyslog's module directory, which is another on each distribution, has the driver.
fn has_rsyslog_tls() -> bool {
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    [multiarch.as_str(), "/usr/lib64", "/usr/lib"]
        .iter()
        .any(|libraries| Path::new(libraries).join("rsyslog/lmnsd_ossl.so").is_file())
}

/// Sees to what building the missing programs needs.
pub fn for_building(with_runc: bool) -> Result<()> {
    if with_runc {
        provide(&[GO, COMPILER, PKG_CONFIG, LIBSECCOMP])
    } else {
        provide(&[GO])
    }
}

/// Sees to what running a cluster of this tier needs.
pub fn for_running(tier: Tier) -> Result<()> {
    if tier == Tier::Node {
        provide(&[IP, NFT, NSENTER])
    } else {
        Ok(())
    }
}

/// Sees to what a network of its own needs.
pub(super) fn for_network() -> Result<()> {
    provide(&[IP])
}

/// Sees to rsyslog with TLS, and says where it is.
///
/// # Errors
/// Names what the machine lacks.
pub fn rsyslog() -> Result<PathBuf> {
    provide(&[RSYSLOG, RSYSLOG_TLS])?;
    on_path("rsyslogd").context("failed to find rsyslogd")
}

/// Sees to the library that sets the clock of one program, and says where it is.
///
/// # Errors
/// Names what the machine lacks.
pub fn faketime() -> Result<PathBuf> {
    provide(&[FAKETIME])?;
    library_of_faketime().context("failed to find libfaketime.so.1")
}

fn provide(prerequisites: &[Prerequisite]) -> Result<()> {
    let missing = || {
        prerequisites
            .iter()
            .filter(|prerequisite| !(prerequisite.present)())
    };
    let packages = || -> Vec<&str> {
        missing()
            .filter_map(|prerequisite| prerequisite.package)
            .collect()
    };
    let can_install = nix::unistd::geteuid().is_root() && on_path("apt-get").is_some();
    if can_install && !packages().is_empty() {
        // Two processes may want the same package: the second waits here and finds it installed.
        let _lock = lock()?;
        let packages = packages();
        if !packages.is_empty() {
            install(&packages)?;
        }
    }
    let names: Vec<String> = missing()
        .map(|prerequisite| match prerequisite.package {
            Some(package) => format!("{} (Debian: apt-get install {package})", prerequisite.what),
            None => prerequisite.what.to_owned(),
        })
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks:\n  {}", names.join("\n  "))
}

fn lock() -> Result<File> {
    let directory = cache_directory()?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make {}", directory.display()))?;
    let lock = File::create(directory.join(".apt-get.lock"))
        .context("failed to make the lock of apt-get")?;
    lock.lock().context("failed to lock apt-get")?;
    Ok(lock)
}

fn install(packages: &[&str]) -> Result<()> {
    let progress = Progress::start(&format!("installing {} with apt-get", packages.join(", ")));
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    for arguments in [&["update"][..], &install] {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .context("failed to run apt-get")?;
        if !output.status.success() {
            progress.failed();
            bail!(
                "apt-get {} failed:\n{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    progress.done();
    Ok(())
}

/// The first file of this name in `PATH`, and in the system folders, which are missing from many users' `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
