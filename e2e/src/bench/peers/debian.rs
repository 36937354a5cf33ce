//! Peers that Debian packages: unpacked into the cache and never installed, because installing one system logger
//! removes the other and starts a service.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{binaries, prerequisites::on_path, progress::Progress};

const PACKAGES: [&str; 2] = ["syslog-ng-core", "syslog-ng-mod-http"];

/// A syslog-ng that can be started: none where it was named, is installed, or cannot be had.
pub(super) fn syslog_ng() -> Option<PathBuf> {
    let named = env::var_os("SYSLOG_NG").is_some_and(|named| !named.is_empty());
    if named || on_path("syslog-ng").is_some() || on_path("apt-get").is_none() {
        return None;
    }
    let progress = Progress::start("unpacking Debian's syslog-ng");
    match unpacked() {
        Ok(program) => {
            progress.done();
            Some(program)
        }
        Err(error) => {
            progress.failed();
            eprintln!("syslog-ng: {error:#}");
            None
        }
    }
}

fn unpacked() -> Result<PathBuf> {
    let folder = binaries::cache_directory()?.join("peers/syslog-ng");
    let start = folder.join("start");
    if start.is_file() {
        return Ok(start);
    }
    let root = folder.join("root");
    fs::create_dir_all(&root).with_context(|| format!("failed to make {}", root.display()))?;
    download(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let package = entry?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            run(Command::new("dpkg-deb").arg("-x").args([&package, &root]))?;
        }
    }
    let modules = modules(&root)?;
    let root = root.display();
    // What it is linked with lies beside it, and it has modules of its own.
    let script = format!(
        "#!/bin/sh\nlibraries=$(echo {root}/usr/lib/*-linux-gnu {root}/lib/*-linux-gnu | tr ' ' :)\n\
         export LD_LIBRARY_PATH={root}/usr/lib/syslog-ng:$libraries\n\
         exec {root}/usr/sbin/syslog-ng --module-path={} \"$@\"\n",
        modules.display()
    );
    let unfinished = folder.join("start.new");
    fs::write(&unfinished, script).context("failed to write how syslog-ng is started")?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
    run(Command::new(&unfinished).arg("--version"))?;
    fs::rename(&unfinished, &start)?;
    Ok(start)
}

/// The packages and those that they need and this machine lacks.
fn download(folder: &Path) -> Result<()> {
    if fetch(folder).is_ok() {
        return Ok(());
    }
    // The lists of packages are old, or were never there.
    run(Command::new("apt-get").arg("update"))?;
    fetch(folder)
}

fn fetch(folder: &Path) -> Result<()> {
    let simulated = Command::new("apt-get")
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(PACKAGES)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("failed to run apt-get")?;
    let said = String::from_utf8_lossy(&simulated.stdout);
    let mut packages: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .collect();
    if packages.is_empty() {
        packages.extend(PACKAGES);
    }
    run(Command::new("apt-get")
        .arg("download")
        .args(packages)
        .current_dir(folder))
}

/// `usr/lib/syslog-ng/<version>`.
fn modules(root: &Path) -> Result<PathBuf> {
    let folder = root.join("usr/lib/syslog-ng");
    fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.join("libhttp.so").is_file())
        .with_context(|| format!("failed to find modules in {}", folder.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let name = command.get_program().display();
    let output = output.with_context(|| format!("failed to run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", said.trim());
    Ok(())
}
