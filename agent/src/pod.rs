//! The pod that the agent belongs to, as the downward API describes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// What does not change while the pod lives.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Node it runs on.
    pub node: String,
}

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// Those labels that are wanted.
pub fn only(labels: &Labels, wanted: &BTreeSet<String>) -> Labels {
    let mut kept = labels.clone();
    kept.retain(|label, _| wanted.contains(label));
    kept
}

/// Reads the labels from a downward API file; no file, no labels.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_labels(path: &Path) -> io::Result<Labels> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse_labels(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Labels::new()),
        Err(error) => Err(error),
    }
}

/// One `key="value"` a line (Kubernetes: "Downward API volume files"). The characters that a label's value can have
/// are never escaped.
fn parse_labels(text: &str) -> Labels {
    text.lines()
        .filter_map(|line| {
            let (key, quoted) = line.split_once('=')?;
            let value = quoted.strip_prefix('"')?.strip_suffix('"')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_the_kubelet_writes_them() {
        let labels = parse_labels(
            "app=\"web\"\nexample.com/execution-id=\"0123\"\nempty=\"\"\nnot a label\n",
        );
        let expected = [
            ("app", "web"),
            ("empty", ""),
            ("example.com/execution-id", "0123"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(labels, Labels::from(expected));
        let wanted = BTreeSet::from(["app".to_owned(), "other".to_owned()]);
        let kept = only(&labels, &wanted);
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), ["app"]);
        assert!(only(&labels, &BTreeSet::new()).is_empty());
    }
}
