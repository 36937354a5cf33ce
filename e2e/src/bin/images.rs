//! Builds the images as OCI archives: all of them, or those named by their program.

use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use katonic_logging_e2e::images::Image;

fn main() -> Result<()> {
    let names: Vec<String> = env::args().skip(1).collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| Image::ALL.iter().all(|image| image.program() != *name))
    {
        let known = Image::ALL.map(Image::program).join(", ");
        bail!("no image has the program {unknown}; there are {known}");
    }
    for image in Image::ALL {
        if !names.is_empty() && !names.iter().any(|name| name == image.program()) {
            continue;
        }
        let archive = image.build()?;
        let size = fs::metadata(&archive)
            .context("failed to look at the archive")?
            .len();
        let mebibytes =
            f64::from(u32::try_from(size).context("an image above 4 GiB")?) / f64::from(1 << 20);
        println!(
            "{:40} {mebibytes:6.2} MiB  {}",
            image.name(),
            archive.display()
        );
    }
    Ok(())
}
