use super::*;
use crate::lint::tree::Path;

fn read(text: &str) -> (Vec<Document>, Vec<(usize, usize, String)>) {
    let (documents, unreadable) = documents(text);
    let unreadable = unreadable
        .into_iter()
        .map(|one| (one.at.line, one.at.column, one.message));
    (documents, unreadable.collect())
}

#[test]
fn every_part_has_its_place() {
    let text = "# a comment\nspec:\n  sinks:\n  - name: ä\n    http: {url: 'https://h', tls: {}}\n";
    let (documents, unreadable) = read(text);
    assert_eq!(unreadable, []);
    let tree = &documents[0].tree;
    for (path, line, column) in [
        ("spec", 2, 1),
        ("spec.sinks", 3, 3),
        ("spec.sinks[0]", 4, 5),
        ("spec.sinks[0].name", 4, 11),
        ("spec.sinks[0].http.url", 5, 17),
        ("spec.sinks[0].http.tls", 5, 30),
        // What is not there is missing where it would be.
        ("spec.sinks[0].http.tls.serverName", 5, 30),
        ("spec.sinks[7]", 3, 3),
    ] {
        assert_eq!(
            tree.spot(&Path::parse(path)),
            Spot { line, column },
            "{path}"
        );
    }
}

#[test]
fn several_documents_are_read_and_empty_ones_are_passed_over() {
    let (documents, unreadable) = read("---\n# nothing\n---\na: 1\n---\n\n---\nb: 2\n...\n");
    assert_eq!(unreadable, []);
    let json: Vec<String> = documents
        .iter()
        .map(|one| one.tree.to_json().to_string())
        .collect();
    assert_eq!(json, [r#"{"a":1}"#, r#"{"b":2}"#]);
    assert_eq!(documents[1].tree.at, Spot { line: 8, column: 1 });
}

#[test]
fn json_is_read_as_well() {
    let (documents, unreadable) = read("{\n\t\"a\": [1, \"b\", null]\n}\n");
    assert_eq!(unreadable, []);
    assert_eq!(
        documents[0].tree.to_json(),
        serde_json::json!({"a": [1, "b", null]})
    );
}

#[test]
fn a_tab_in_the_indentation_is_shown_where_it_stands() {
    for text in ["spec:\n\tsinks: []\n", "spec:\n  a: 1\n \tb: 2\n"] {
        let (_, unreadable) = read(text);
        let line = text.lines().position(|line| line.contains('\t')).unwrap() + 1;
        let (at, column, message) = &unreadable[0];
        assert_eq!(*at, line);
        assert_eq!(
            text.lines().nth(line - 1).unwrap().chars().nth(column - 1),
            Some('\t')
        );
        assert!(message.contains("write blanks instead"), "{message}");
    }
}

#[test]
fn a_field_that_stands_twice_is_told_with_both_places() {
    let (documents, unreadable) = read("a: 1\nb: 2\na: 3\n");
    let message = "field `a` stands here a second time, first in line 1: keep one of them";
    assert_eq!(unreadable, [(3, 1, message.to_owned())]);
    assert_eq!(documents.len(), 1);
}

#[test]
fn anchors_stand_for_what_they_name() {
    let (documents, unreadable) =
        read("base: &base {a: 1, b: 2}\nsame: *base\nmore:\n  <<: *base\n  c: 3\n");
    assert_eq!(unreadable, []);
    let json = documents[0].tree.to_json();
    assert_eq!(json["same"], serde_json::json!({"a": 1, "b": 2}));
    assert_eq!(json["more"], serde_json::json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(
        documents[0].tree.spot(&Path::parse("same.a")).line,
        1,
        "what an alias stands for is where it is written"
    );
}

#[test]
fn what_is_written_beside_a_merged_object_wins_as_kubectl_has_it() {
    let (documents, unreadable) = read("base: &base {a: 1}\nmore:\n  <<: *base\n  a: 3\n");
    assert_eq!(unreadable, []);
    let json = documents[0].tree.to_json();
    assert_eq!(json["more"], serde_json::json!({"a": 3}));
}

#[test]
fn aliases_do_not_lead_deeper_than_a_document_may_be() {
    // Each anchor holds the one before it, a hundred values deeper.
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
    let text = format!(
        "a: &a {}\nb: &b {}\nc: &c {}\n",
        nested("1"),
        nested("*a"),
        nested("*b")
    );
    let (_, unreadable) = read(&text);
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    assert!(
        unreadable[0].2.contains("more than 256 values deep"),
        "{unreadable:?}"
    );
}

#[test]
fn comments_may_stand_anywhere() {
    let (documents, unreadable) =
        read("# a\na: # b\n# c\n- 1 # d\n# e\n- {b: 2} # f\nc: |\n  # text\n# g\n");
    assert_eq!(unreadable, []);
    let expected = serde_json::json!({"a": [1, {"b": 2}], "c": "# text\n"});
    assert_eq!(documents[0].tree.to_json(), expected);
}

#[test]
fn aliases_that_would_fill_the_memory_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        let items = vec![format!("*a{before}"); 10].join(", ");
        text.extend([format!("a{level}: &a{level} [{items}]\n")]);
    }
    let (documents, unreadable) = read(&text);
    assert_eq!(documents, []);
    assert!(
        unreadable[0].2.contains("write out what they name"),
        "{unreadable:?}"
    );
    let (documents, unreadable) = read("a: &a [*a]\n---\nb: 1\n");
    assert_eq!(
        (documents.len(), unreadable.len()),
        (1, 1),
        "{unreadable:?}"
    );
}

#[test]
fn what_is_no_yaml_is_told_and_the_next_document_is_read() {
    let (documents, unreadable) = read("a: [1, 2\n---\nb: 1\n---\nc: 'x\n");
    assert_eq!(documents.len(), 1, "{documents:?}");
    assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    assert!(
        unreadable[0].2.starts_with("this is not YAML: "),
        "{unreadable:?}"
    );
}

#[test]
fn a_message_repeats_nothing_of_a_file() {
    for text in [
        "token: hunter2: hunter2\n",
        "a: 'hunter2\n",
        "a: \"\\q hunter2\"\n",
        "@hunter2\n",
        "a: *hunter2\n",
    ] {
        let (_, unreadable) = read(text);
        assert!(!unreadable.is_empty(), "{text}");
        assert!(
            unreadable.iter().all(|one| !one.2.contains("hunter2")),
            "{unreadable:?}"
        );
    }
}

#[test]
fn a_template_is_told_as_one() {
    let (_, unreadable) = read("metadata:\n  name: {{ .Release.Name }}-logs\n");
    assert!(unreadable[0].2.contains("helm template"), "{unreadable:?}");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let (documents, unreadable) = read(&"[".repeat(100_000));
    assert_eq!(documents, []);
    assert_eq!(unreadable.len(), 1);
}
