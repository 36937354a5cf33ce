//! Writes the custom resource definitions into the directory that is named: `crdgen manifests/crds`.

use std::{env, error::Error, fs, path::PathBuf};

use katonic_logging_crds::manifest;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: crdgen DIRECTORY")?;
    fs::create_dir_all(&directory)?;
    for (name, yaml) in manifest::files()? {
        fs::write(directory.join(name), yaml)?;
    }
    Ok(())
}
