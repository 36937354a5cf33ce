//! `katonic-logging inject`: reads manifests, has the core change them, and prints them. Talks to no cluster.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use katonic_logging_core::{Installation, manifest, names, node::Node, sidecar::Sidecar};
use serde::Serialize as _;

/// What the command says of itself.
pub const ABOUT: &str = "\
Adds the log agent to manifests, as the API server would add it to their pods.

For clusters where nothing may change pods when they are created. Pods, and the pod templates of Deployments, \
StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs and CronJobs, get the agent; Lists are gone through; \
all else is printed as it was read. What was done to each object, and why one was left as it is, is said on stderr.

The order of fields stays as it is. Comments are lost, and text may be quoted in another way.

Exit codes: 0 when everything is printed, with or without the agent; 1 when something cannot be read or used, and then \
nothing is printed; 2 when the arguments are wrong.";

/// What is read and how it is printed.
#[derive(Clone, Debug, clap::Args)]
pub struct InjectArgs {
    /// File with manifests in YAML or JSON, folder of such files (.yaml, .yml, .json), or - for stdin; may be repeated.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
    /// The installation: installation.yaml, or the ConfigMap that holds it.
    #[arg(long, value_name = "FILE")]
    pub installation: Option<PathBuf>,
}

/// The form in which objects are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// Documents of YAML.
    Yaml,
    /// Objects in JSON, one after the other.
    Json,
}

/// Reads everything, changes it, and only then prints.
///
/// # Errors
/// Names the file and the place in it.
pub fn run(args: &InjectArgs) -> Result<()> {
    let installation = installation(args.installation.as_deref())?;
    let sidecar = Sidecar::new(&installation.agent).context("failed to make the log agent")?;
    let mut printed = String::new();
    let mut told = Vec::new();
    for file in files(&args.filename)? {
        let (name, text) = read(&file)?;
        let documents = documents(&text).with_context(|| format!("{name} cannot be read"))?;
        for (index, mut document) in documents.into_iter().enumerate() {
            if document == Node::Null {
                continue;
            }
            let all = manifest::inject(&mut document, &sidecar, &installation)
                .with_context(|| format!("{name}, document {} cannot be used", index + 1))?;
            told.extend(all.iter().map(|one| format!("{name}: {one}")));
            print(&document, args.output, &mut printed)
                .with_context(|| format!("{name}, document {} cannot be printed", index + 1))?;
        }
    }
    let mut stderr = io::stderr().lock();
    for line in told {
        writeln!(stderr, "{line}").context("failed to write to stderr")?;
    }
    io::stdout()
        .write_all(printed.as_bytes())
        .context("failed to write to stdout")
}

fn installation(file: Option<&Path>) -> Result<Installation> {
    let Some(file) = file else {
        bail!(
            "the log agent's image and the planes are not known: name the platform's {key} with --installation, or the ConfigMap that holds it, as this prints it: kubectl -n {namespace} get configmap {map} -o yaml",
            key = names::INSTALLATION_KEY,
            namespace = names::OPERATOR_NAMESPACE,
            map = names::INSTALLATION,
        );
    };
    let (name, text) = read(file)?;
    let documents = documents(&text).with_context(|| format!("{name} cannot be read"))?;
    let maps = documents
        .iter()
        .filter(|document| document.text("kind") == Some("ConfigMap"));
    let mut maps = maps.filter_map(|map| map.get("data"));
    let held = maps.find_map(|data| data.text(names::INSTALLATION_KEY));
    let is_object = documents
        .iter()
        .any(|document| document.get("kind").is_some());
    if is_object && held.is_none() {
        bail!(
            "{name} has no ConfigMap with the key {}",
            names::INSTALLATION_KEY
        );
    }
    Installation::validate(held.unwrap_or(&text), names::OPERATOR_NAMESPACE)
        .with_context(|| format!("{name} is no installation"))
}

/// Folders stand for their files, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = || format!("{} cannot be read", path.display());
        let entries = fs::read_dir(path).with_context(failed)?;
        let entries = entries.map(|entry| Ok(entry?.path()));
        let mut found: Vec<PathBuf> = entries.collect::<io::Result<_>>().with_context(failed)?;
        found.retain(|file| {
            let extension = file.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("yaml" | "yml" | "json")) && !file.is_dir()
        });
        if found.is_empty() {
            bail!("{} has no .yaml, .yml or .json file", path.display());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Its name, as messages have it, and its text.
fn read(file: &Path) -> Result<(String, String)> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin()
            .read_to_string(&mut text)
            .context("stdin cannot be read")?;
        return Ok(("stdin".to_owned(), text));
    }
    let name = file.display().to_string();
    let text = fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    Ok((name, text))
}

/// The documents of a file. Numbers and words are what they are for kubectl, which follows YAML 1.1.
fn documents(text: &str) -> Result<Vec<Node>> {
    if text.trim_start().starts_with('{') {
        // JSON is YAML too, but a file may hold several objects one after the other.
        let json: Result<Vec<Node>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(documents) = json {
            return Ok(documents);
        }
    }
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        // The lines around a mistake may hold a credential.
        with_snippet: false,
        // A manifest is somebody's own, and as large as it has to be.
        budget: None,
    };
    Ok(serde_saphyr::from_multiple_with_options(text, options)?)
}

fn print(document: &Node, output: Output, printed: &mut String) -> Result<()> {
    match output {
        Output::Yaml => printed.push_str(&self::document(document)?),
        Output::Json => {
            let mut bytes = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            document.serialize(&mut serializer)?;
            printed.push_str(&String::from_utf8(bytes)?);
            printed.push('\n');
        }
    }
    Ok(())
}

/// An object as a document of YAML.
///
/// # Errors
/// When it cannot be one, as of no manifest is known.
pub(crate) fn document(object: &impl serde::Serialize) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! {
        // Long text stays on its line: folding it helps nobody who compares.
        folded_wrap_chars: usize::MAX,
    };
    let yaml = serde_saphyr::to_string_with_options(object, options)?;
    Ok(format!("---\n{yaml}"))
}
