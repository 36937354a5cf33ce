//! What the documentation shows is what is shipped, and what it points to is there.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page, by its path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = Path::new(folder).join(path.file_name().unwrap());
                pages.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    pages
}

/// A page without its blocks of code, and these with their language.
fn split(page: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut block: Option<(String, String)> = None;
    for line in page.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, &mut block) {
            (Some(language), None) => block = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(block.take()),
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => prose.extend([line, "\n"]),
        }
    }
    assert!(block.is_none(), "a block of code without an end");
    (prose, blocks)
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let mut anchor = String::new();
    for letter in heading.trim().to_lowercase().chars() {
        match letter {
            ' ' => anchor.push('-'),
            '-' | '_' => anchor.push(letter),
            other if other.is_alphanumeric() => anchor.push(other),
            _ => {}
        }
    }
    anchor
}

fn anchors(page: &str) -> BTreeSet<String> {
    let (prose, _) = split(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// What stands in the parentheses of links and pictures.
fn links(page: &str) -> Vec<String> {
    let (prose, _) = split(page);
    let ends = prose.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// A path without `..`, of which the root itself is the beginning.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(plain.pop(), "{} leads out", path.display()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut seen = 0;
    for (name, page) in &pages {
        for link in links(page) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => name.clone(),
                path => plain(&name.parent().unwrap().join(path)),
            };
            let shown = format!("{}: {link}", name.display());
            assert!(
                root().join(&target).exists(),
                "{shown}: there is no such file"
            );
            if !fragment.is_empty() {
                let text = pages
                    .get(&target)
                    .unwrap_or_else(|| panic!("{shown}: not a page"));
                assert!(anchors(text).contains(fragment), "{shown}: no such section");
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

/// Kind and spec of each policy of a text.
fn policies(yaml: &str) -> Vec<(String, Value)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let policies = documents.into_iter().filter_map(|one| {
        let kind = one["kind"].as_str()?;
        let is_ours = ["LoggingPolicy", "AuditPolicy"].contains(&kind);
        is_ours.then(|| (kind.to_owned(), one["spec"].clone()))
    });
    policies.collect()
}

#[test]
fn every_policy_of_the_documentation_is_a_sample() {
    let mut samples = Vec::new();
    for entry in fs::read_dir(root().join("manifests/samples")).unwrap() {
        samples.extend(policies(
            &fs::read_to_string(entry.unwrap().path()).unwrap(),
        ));
    }
    let mut seen = 0;
    for (name, page) in pages() {
        for (language, text) in split(&page).1 {
            if language == "yaml" && text.contains("kind: ") {
                for policy in policies(&text) {
                    let is_sample = samples.contains(&policy);
                    assert!(is_sample, "{}: in no sample:\n{text}", name.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_page_is_in_the_book() {
    let pages = pages();
    let summary = &pages[Path::new("docs/SUMMARY.md")];
    let in_the_book: BTreeSet<PathBuf> = links(summary).into_iter().map(PathBuf::from).collect();
    for name in pages
        .keys()
        .filter_map(|name| name.strip_prefix("docs").ok())
    {
        let is_there = in_the_book.contains(name) || name == Path::new("SUMMARY.md");
        assert!(
            is_there,
            "docs/{} is not in docs/SUMMARY.md",
            name.display()
        );
    }
}

/// Lines as the platform's services write them, and which of them a sample keeps.
#[test]
fn samples_that_keep_some_lines_keep_those() {
    for (sample, kept, left) in [
        (
            "nucleus-frontend-errors.yaml",
            &[
                r#"10.0.0.7 - - [30/Nov/2026:10:15:07 +0000] "GET /api/models HTTP/1.1" 500 1042 "-" "Mozilla/5.0""#,
                r#"10.0.0.7 - alice [30/Nov/2026:10:15:08 +0000] "POST /v4/jobs HTTP/2.0" 504 160 "-" "curl/8.5.0""#,
            ][..],
            &[
                r#"10.0.0.7 - - [30/Nov/2026:10:15:09 +0000] "GET /api/500 HTTP/1.1" 200 500 "-" "-""#,
                r#"10.0.0.7 - - [30/Nov/2026:10:15:09 +0000] "GET / HTTP/1.1" 401 512 "-" "-""#,
            ][..],
        ),
        (
            "keycloak-logins.yaml",
            &[
                r#"2026-11-30 10:15:07,113 WARN  [org.keycloak.events] (executor-thread-4) type="LOGIN_ERROR", realmId="platform", error="invalid_user_credentials""#,
                r"2026-11-30 10:15:07,113 INFO  [org.keycloak.events] (executor-thread-4) type=LOGIN, realmId=platform, userId=7",
                r#"2026-11-30 10:15:09,113 INFO  [org.keycloak.events] (executor-thread-4) type="LOGOUT", realmId="platform""#,
            ],
            &[
                r#"2026-11-30 10:15:07,113 WARN  [org.keycloak.events] (executor-thread-4) type="REFRESH_TOKEN_ERROR", realmId="platform""#,
                r"2026-11-30 10:15:07,113 INFO  [io.quarkus] (main) Keycloak started",
            ],
        ),
        (
            "cluster-autoscaler.yaml",
            &[
                "I1130 10:15:07.113124       1 orchestrator.go:185] Final scale-up plan: [{compute-gpu 1->2 (max: 8)}]",
                "I1130 10:15:07.113150       1 executor.go:147] Scale-up: setting group compute-gpu size to 2",
                "I1130 10:25:07.113150       1 actuator.go:161] Scale-down: removing empty node \"ip-10-0-0-7\"",
            ],
            &[
                "I1130 10:15:07.113124       1 static_autoscaler.go:274] Starting main loop",
                "I1130 10:15:07.113124       1 static_autoscaler.go:598] Scale down status: lastScaleUpTime=2026-11-30",
            ],
        ),
    ] {
        let text = fs::read_to_string(root().join("manifests/samples").join(sample)).unwrap();
        let spec = policies(&text).remove(0).1;
        let pattern = spec["filters"][0]["keep"]["pattern"].as_str().unwrap();
        let pattern = regex::Regex::new(pattern).unwrap();
        for line in kept {
            assert!(pattern.is_match(line), "{sample} loses {line}");
        }
        for line in left {
            assert!(!pattern.is_match(line), "{sample} keeps {line}");
        }
    }
}
