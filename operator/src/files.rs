//! Files with policies and what stands beside them, for the commands that talk to no cluster: what they take, how it is read, and how they end.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use katonic_logging_core::{
    lint::{Source, Surroundings, finding::shown},
    names,
};

/// What is read.
#[derive(Clone, Debug, clap::Args)]
pub struct FilesArgs {
    /// Files with manifests in YAML or JSON, folders of such files, or - for stdin.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Secret that the cluster has already, in the operator's namespace; may be repeated.
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// The installation: installation.yaml, or the ConfigMap that holds it; otherwise its ConfigMap is looked for among the files.
    #[arg(long, value_name = "FILE")]
    pub installation: Option<PathBuf>,
    /// Namespace of the operator, and of the Secrets that policies name.
    #[arg(short, long, default_value = names::OPERATOR_NAMESPACE)]
    pub namespace: String,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stdin was to be two things.
    #[error(
        "stdin can be the installation or a file with policies, and not both: name a file for one of them"
    )]
    StdinTwice,
    /// A file cannot be read.
    #[error(
        "{} cannot be read: {source}: name a file or a folder that there is, or - for stdin",
        shown(name)
    )]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// How a command ends with it.
    pub fn code(&self) -> u8 {
        match self {
            Self::StdinTwice => 2,
            Self::Unreadable { .. } => 3,
        }
    }
}

impl FilesArgs {
    /// Reads all of it.
    ///
    /// # Errors
    /// When something of it cannot be read.
    pub fn read(&self) -> Result<(Vec<Source>, Surroundings), Error> {
        let stdin = Path::new("-");
        if self.installation.as_deref() == Some(stdin)
            && self.files.iter().any(|file| file == stdin)
        {
            return Err(Error::StdinTwice);
        }
        let surroundings = Surroundings {
            namespace: self.namespace.clone(),
            secrets: self.secrets.iter().cloned().collect(),
            installation: self.installation.as_deref().map(read_file).transpose()?,
        };
        Ok((sources(&self.files)?, surroundings))
    }
}

/// Says why nothing more is done.
pub fn stopped(code: u8, error: &dyn fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}

/// What came of printing.
///
/// # Errors
/// How the command ends where it failed; not where whoever reads has read enough and closes the pipe.
pub fn printed(printing: io::Result<()>) -> Result<(), ExitCode> {
    match printing {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(stopped(3, &format!("failed to write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Every file that is named, once, in the order in which they are named; those of folders in the order of their names.
fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            folder(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let name = paths.first().map(|path| path.display().to_string());
        return Err(Error::Unreadable {
            name: name.unwrap_or_default(),
            source: io::Error::other("there is no .yaml, .yml or .json file in it"),
        });
    }
    let mut seen = BTreeSet::new();
    // By whichever way it was come to.
    files.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    files.iter().map(|file| read_file(file)).collect()
}

fn folder(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Unreadable {
        name: path.display().to_string(),
        source,
    };
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link to a folder may lead back.
        if entry.file_type().map_err(failed)?.is_dir() {
            folder(&path, files)?;
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        // A link that leads nowhere cannot be read, and that is told.
        if matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir() {
            files.push(path);
        }
    }
    Ok(())
}

/// A file, or stdin.
fn read_file(file: &Path) -> Result<Source, Error> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        ("stdin".to_owned(), read.map(|_| bytes))
    } else {
        (file.display().to_string(), fs::read(file))
    };
    match bytes {
        Ok(bytes) => Ok(Source { name, bytes }),
        Err(source) => Err(Error::Unreadable { name, source }),
    }
}
