//! The OCI archive: one program in one layer, as bytes that depend on nothing but the program and its settings.
//!
//! Format: OCI image layout 1.0 in a tar, <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use std::{fmt::Write as _, io::Write as _};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// What the image holds and how it runs.
#[derive(Clone, Copy, Debug)]
pub struct Contents {
    /// File name of the program, at the root of the image; the entry point.
    pub program: &'static str,
    /// What may be done with it, as `chmod` has it.
    pub mode: u32,
    /// Arguments where the pod names none.
    pub arguments: &'static [&'static str],
    /// `uid:gid` where the pod names none.
    pub user: Option<&'static str>,
    /// What it is, in a few words.
    pub description: &'static str,
}

/// The archive of an image with this name, such as `localhost/katonic-logging:0.1.0`.
///
/// # Errors
/// Only if memory cannot be written.
pub fn write(name: &str, contents: &Contents, program: &[u8]) -> Result<Vec<u8>> {
    let layer = tar(&[(contents.program.to_owned(), contents.mode, program)])?;
    let compressed = compress(&layer)?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let mut settings = json!({
        "Entrypoint": [format!("/{}", contents.program)],
        "Labels": {
            "org.opencontainers.image.description": contents.description,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.version": tag,
        },
    });
    if !contents.arguments.is_empty() {
        settings["Cmd"] = json!(contents.arguments);
    }
    if let Some(user) = contents.user {
        settings["User"] = json!(user);
    }
    let platform = json!({"architecture": architecture(), "os": "linux"});
    let configuration = json!({
        "architecture": platform["architecture"],
        "os": platform["os"],
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", configuration.as_bytes()),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip", &compressed)],
    })
    .to_string();
    let mut described = blob(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.as_bytes(),
    );
    described["platform"] = platform;
    // containerd goes by the first, skopeo and podman by the second.
    described["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    })
    .to_string();
    let path = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
    tar(&[
        (
            "oci-layout".to_owned(),
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        ),
        ("index.json".to_owned(), 0o644, index.as_bytes()),
        (path(manifest.as_bytes()), 0o644, manifest.as_bytes()),
        (
            path(configuration.as_bytes()),
            0o644,
            configuration.as_bytes(),
        ),
        (path(&compressed), 0o644, &compressed),
    ])
}

fn blob(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// As the OCI specification names it: after Go.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(bytes)
        .context("failed to compress the layer")?;
    encoder.finish().context("failed to compress the layer")
}

/// A tar without times, owners or the order of a file system.
fn tar(files: &[(String, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        builder
            .append_data(&mut header, path, *bytes)
            .with_context(|| format!("failed to archive {path}"))?;
    }
    builder.into_inner().context("failed to finish an archive")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const CONTENTS: Contents = Contents {
        program: "program",
        mode: 0o111,
        arguments: &["run"],
        user: Some("65532:65532"),
        description: "A program",
    };

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), bytes)
            })
            .collect()
    }

    #[test]
    fn every_blob_lies_at_its_digest_and_is_referred_to() {
        let archive = write("localhost/program:1", &CONTENTS, b"machine code").unwrap();
        let files = files(&archive);
        let blobs: Vec<_> = files
            .iter()
            .filter(|(path, _)| path.starts_with("blobs/sha256/"))
            .collect();
        assert_eq!(blobs.len(), 3);
        let everything: String = files
            .iter()
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        for (path, bytes) in blobs {
            assert_eq!(*path, format!("blobs/{}", digest(bytes).replace(':', "/")));
            assert!(
                everything.contains(&digest(bytes)),
                "nothing refers to {path}"
            );
        }
    }

    #[test]
    fn the_program_has_the_mode_that_it_is_to_have() {
        let archive = write("localhost/program:1", &CONTENTS, b"machine code").unwrap();
        let files = files(&archive);
        let layer = files.iter().find_map(|(_, bytes)| {
            let mut layer = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut layer).ok().map(|_| layer)
        });
        let layer = layer.unwrap();
        let mut layer = tar::Archive::new(layer.as_slice());
        let entry = layer.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o111);
    }

    #[test]
    fn equal_programs_give_equal_bytes() {
        let archive = || write("localhost/program:1", &CONTENTS, b"machine code").unwrap();
        assert_eq!(archive(), archive());
        assert_ne!(
            archive(),
            write("localhost/program:1", &CONTENTS, b"other code").unwrap()
        );
    }

    #[test]
    fn the_index_carries_the_name_that_containerd_gives_the_image() {
        let archive = write("localhost/program:1", &CONTENTS, b"machine code").unwrap();
        let files = files(&archive);
        let (_, index) = files.iter().find(|(path, _)| path == "index.json").unwrap();
        let index: Value = serde_json::from_slice(index).unwrap();
        let annotations = &index["manifests"][0]["annotations"];
        assert_eq!(
            annotations["io.containerd.image.name"],
            "localhost/program:1"
        );
    }
}
