use super::*;

fn surroundings() -> Surroundings {
    Surroundings {
        namespace: names::OPERATOR_NAMESPACE.to_owned(),
        secrets: ["splunk", "agents"].map(str::to_owned).into(),
        installation: None,
    }
}

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    }
}

fn linted(text: &str) -> Outcome {
    lint(&[source("a.yaml", text)], &surroundings())
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.findings.iter().map(ToString::to_string).collect()
}

/// A policy with this spec, whose first line is line 5.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: logging.katonic.ai/v1alpha1\nkind: LoggingPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn audit(spec: &str) -> String {
    policy("events", spec).replace("LoggingPolicy", "AuditPolicy")
}

const SINKS: &str =
    "[{name: s, splunk: {endpoint: 'https://h:8088', tokenSecretRef: {name: splunk, key: token}}}]";

fn good(name: &str) -> String {
    policy(name, &format!("{{sinks: {SINKS}}}"))
}

const INSTALLATION: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: katonic-logging-installation, namespace: katonic-logging}\ndata:\n  installation.yaml: |\n    namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}\n    logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}\n";

#[test]
fn nothing_is_said_of_a_good_policy() {
    let outcome = linted(&good("a"));
    assert_eq!(lines(&outcome), Vec::<String>::new());
    assert_eq!(outcome.counts.policies, 1);
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_to_write() {
    for (spec, expected) in [
        (
            "{sinks: [{name: s, splunk: {endpont: 'https://h', endpoint: 'https://h', tokenSecretRef: {name: splunk, key: t}}}]}",
            "a.yaml:5:35: error: spec.sinks[0].splunk.endpont: there is no such field: did you mean `endpoint`? [unknown-field]",
        ),
        ("{}", "a.yaml:5:1: error: spec.sinks: is missing: write it"),
        (
            "{sinks: []}",
            "a.yaml:5:8: error: spec.sinks: has too few items: write at least 1",
        ),
        (
            "{sinks: 3}",
            "a.yaml:5:15: error: spec.sinks: must be a list and is a number: write each item behind `- `",
        ),
        (
            "{planes: [platform], sinks: []}",
            "a.yaml:5:17: error: spec.planes[0]: is none of Platform, Compute: did you mean `Platform`? [schema]",
        ),
        (
            "{suspend: 'true', sinks: []}",
            "a.yaml:5:17: error: spec.suspend: must be true or false and is text: write it without quotes",
        ),
        (
            "{sinks: [{name: s, syslog: {host: h, port: 99999}}]}",
            "error: spec.sinks[0].syslog.port: 99999 is out of range: write 1 to 65535 [schema]",
        ),
        (
            "{sinks: [{name: s, http: {url: 'https://h'}}, {name: s, http: {url: 'https://h'}}]}",
            "a.yaml:5:53: error: spec.sinks[1]: has the same name as an item before: give each its own [duplicate-item]",
        ),
        (
            "{sinks: [{name: s, http: {url: 'https://h:99999'}}]}",
            "error: spec.sinks[0].http: url is not a URL: write for example",
        ),
        (
            "{filters: [{drop: {pattern: '(' }}], sinks: [{name: s, http: {url: 'https://h'}}]}",
            "a.yaml:5:35: error: spec.filters[0].drop.pattern: ",
        ),
        (
            "{sinks: [{name: s, http: {url: 'http://h'}}]}",
            "warning: spec.sinks[0]: http:// sends credentials and lines unencrypted: use https://",
        ),
    ] {
        let told = lines(&linted(&policy("a", spec)));
        assert!(
            told.iter().any(|line| line.contains(expected)),
            "{spec}: {told:#?}"
        );
    }
}

#[test]
fn a_null_means_what_no_field_means() {
    let outcome = linted(&policy(
        "a",
        &format!("{{suspend: null, fallback: ~, sinks: {SINKS}}}"),
    ));
    assert_eq!(lines(&outcome), Vec::<String>::new());
}

#[test]
fn what_is_no_policy_of_this_version_is_told() {
    for (text, expected) in [
        (
            good("a").replace("v1alpha1", "v1beta2"),
            "a.yaml:2:13: error: this program knows v1alpha1 of logging.katonic.ai, and not v1beta2",
        ),
        (
            good("a").replace("LoggingPolicy", "LogingPolicy"),
            "a.yaml:3:7: error: there is no such kind: did you mean `LoggingPolicy`?",
        ),
        (
            good("a").replace("kind: LoggingPolicy\n", ""),
            "a.yaml:2:1: error: kind is missing: write kind: AuditPolicy or kind: LoggingPolicy",
        ),
        (
            good("a").replace("apiVersion: logging.katonic.ai/v1alpha1\n", ""),
            "a.yaml:2:1: error: apiVersion is missing: write apiVersion: logging.katonic.ai/v1alpha1",
        ),
        (
            "hello world\n".to_owned(),
            "a.yaml:1:1: error: this is a word or a text and no object",
        ),
        (
            good("a").replace("{name: a}", "{}"),
            "error: metadata.name: is missing",
        ),
        (
            good("a") + "status: {}\n",
            "a.yaml:6:1: warning: status: is written by the operator alone",
        ),
        (
            good("a").replace("{name: a}", "{name: a, namespace: b}"),
            "warning: metadata.namespace: means nothing",
        ),
        (
            good("a") + "specs: {}\n",
            "a.yaml:6:1: error: specs: there is no such field: did you mean `spec`?",
        ),
    ] {
        let told = lines(&linted(&text));
        assert!(
            told.iter().any(|line| line.contains(expected)),
            "{text}: {told:#?}"
        );
    }
}

#[test]
fn other_kinds_are_passed_over_and_counted() {
    let text = format!(
        "{}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{anything: [1]}}\n---\nreplicas: 3\nimage: {{tag: x}}\n---\n- op: add\n",
        good("a")
    );
    let outcome = linted(&text);
    assert_eq!(lines(&outcome), Vec::<String>::new());
    let Counts {
        files,
        policies,
        others,
        not_objects,
    } = outcome.counts;
    assert_eq!((files, policies, others, not_objects), (1, 1, 1, 2));
    let outcome = linted("replicas: 3\n");
    assert!(
        lines(&outcome)[0].contains("warning: there is no AuditPolicy and no LoggingPolicy here"),
        "{outcome:?}"
    );
}

#[test]
fn items_of_a_list_are_looked_at() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: logging.katonic.ai/v1alpha1\n  kind: LoggingPolicy\n  metadata: {name: a}\n  spec: {sinks: []}\n";
    let outcome = linted(text);
    assert_eq!(outcome.counts.policies, 1);
    assert!(
        lines(&outcome)[0].starts_with("a.yaml:7:10: error: spec.sinks: "),
        "{outcome:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    let source = Source {
        name: "logo.png".to_owned(),
        bytes: b"a: b\nc\xff\x00".to_vec(),
    };
    let told = lines(&lint(&[source], &surroundings()));
    assert!(
        told[0].starts_with("logo.png:2:2: error: this is not YAML: it holds bytes"),
        "{told:?}"
    );
    assert_eq!(told.len(), 1);
}

#[test]
fn a_file_of_ten_megabytes_is_read_and_a_policy_that_no_cluster_takes_is_refused() {
    let text = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata:\n  text: |\n{}",
        "    a line of text\n".repeat(550_000)
    );
    assert!(text.len() > 10_000_000);
    assert_eq!(
        lines(&linted(&format!("{text}{}", good("a")))),
        Vec::<String>::new()
    );
    let filters = "{drop: {pattern: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}, ".repeat(20_000);
    let told = lines(&linted(&policy(
        "a",
        &format!("{{sinks: {SINKS}, filters: [{filters}]}}"),
    )));
    assert!(
        told.iter()
            .any(|line| line.contains("bytes, which no cluster takes: divide it")),
        "{}",
        told.len()
    );
}

#[test]
fn a_policy_that_stands_twice_is_told_with_both_places() {
    let sources = [
        source("a.yaml", &good("a")),
        source("b.yaml", &format!("{}{}", good("b"), good("a"))),
    ];
    let told = lines(&lint(&sources, &surroundings()));
    assert_eq!(
        told,
        [
            "b.yaml:9:18: error: LoggingPolicy a stands in these files a second time, first in a.yaml:4: remove one of them, or give it another name [duplicate-object]"
        ]
    );
}

#[test]
fn a_secret_that_is_not_among_the_files_is_a_warning() {
    let text = good("a").replace("name: splunk, key", "name: other, key");
    let told = lines(&linted(&text));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("warning: spec.sinks[0].splunk.tokenSecretRef.name: Secret katonic-logging/other is not among these files"), "{told:?}");
    for maker in [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\nstringData: {token: abc}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: other, namespace: katonic-logging}\ndata: {token: YWJj}\n",
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: other}\n",
        "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: x}\nspec: {target: {name: other}}\n",
    ] {
        assert_eq!(
            lines(&linted(&format!("{text}---\n{maker}"))),
            Vec::<String>::new(),
            "{maker}"
        );
    }
}

#[test]
fn what_a_secret_holds_is_looked_at_and_never_told() {
    let text = good("a").replace("name: splunk, key", "name: other, key");
    for (secret, expected) in [
        (
            "metadata: {name: other}\nstringData: {tokn: abc}\n",
            "has no key `token`: add it",
        ),
        (
            "metadata: {name: other}\nstringData: {token: ''}\n",
            "is empty: give it a value",
        ),
        (
            "metadata: {name: other}\nstringData: {token: 'Splunk hunter2'}\n",
            "is no token: store it alone",
        ),
        (
            "metadata: {name: other}\ndata: {token: 'hunter2 '}\n",
            "is not Base64",
        ),
        (
            "metadata: {name: other}\nstringData: {token: 12}\n",
            "must be text: put it in quotes",
        ),
        (
            "metadata: {name: other, namespace: default}\nstringData: {token: abc}\n",
            "is in namespace default in these files",
        ),
    ] {
        let told = lines(&linted(&format!(
            "{text}---\napiVersion: v1\nkind: Secret\n{secret}"
        )));
        assert!(
            told.iter().any(|line| line.contains(expected)),
            "{secret}: {told:#?}"
        );
        assert!(
            told.iter().all(|line| !line.contains("hunter2")),
            "{told:#?}"
        );
    }
}

fn archive(name: &str, retention: &str, prefix: &str, keeper: &str) -> String {
    policy(
        name,
        &format!(
            "{{retention: {retention}, sinks: [{{name: s, objectStorage: {{s3: {{bucket: bbb, region: eu-central-1, prefix: {prefix}, credentialsSecretRef: {{name: agents}}, managementSecretRef: {{name: {keeper}}}}}}}}}]}}"
        ),
    )
}

#[test]
fn policies_that_ask_different_things_of_one_place_are_told() {
    let text = archive("a", "90d", "logs", "splunk") + &archive("b", "365d", "logs", "splunk");
    let told = lines(&linted(&text));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains(
            "warning: spec.sinks[0]: keeps logs for 90 days in bucket bbb, below logs/application"
        ),
        "{told:#?}"
    );
    assert!(
        told[0].contains("where LoggingPolicy b keeps them for 365 days: the longest holds"),
        "{told:#?}"
    );
    for other in [
        archive("b", "90d", "logs", "splunk"),
        archive("b", "365d", "other", "splunk"),
    ] {
        let text = archive("a", "90d", "logs", "splunk") + &other;
        assert_eq!(lines(&linted(&text)), Vec::<String>::new(), "{other}");
    }
    let mut around = surroundings();
    around.secrets.insert("keeper".to_owned());
    let text = archive("a", "90d", "one", "splunk") + &archive("b", "90d", "other", "keeper");
    let told = lines(&lint(&[source("a.yaml", &text)], &around));
    assert!(
        told[0].contains("looks after bucket bbb with other credentials than LoggingPolicy a"),
        "{told:#?}"
    );
}

#[test]
fn the_installation_is_looked_at_and_says_what_policies_may_ask_for() {
    let event = audit("{events: [ModelCreatd]}");
    assert_eq!(lines(&linted(&event)), Vec::<String>::new());
    let told = lines(&linted(&format!("{event}{INSTALLATION}")));
    assert_eq!(
        told,
        [
            "a.yaml:5:17: error: spec.events[0]: the platform has no audit event `ModelCreatd`: did you mean `ModelCreated`? [installation]"
        ]
    );
    let of_platform = policy(
        "a",
        "{logs: Execution, sinks: [{name: s, objectStorage: {installation: true}}]}",
    );
    assert_eq!(lines(&linted(&of_platform)), Vec::<String>::new());
    let told = lines(&linted(&format!("{of_platform}{INSTALLATION}")));
    assert!(
        told[0].contains("error: spec.sinks[0].objectStorage.installation: "),
        "{told:?}"
    );
    let told = lines(&linted(&format!(
        "{}{}",
        good("a"),
        INSTALLATION.replace("katonic-compute", "katonic-platform")
    )));
    assert!(
        told[0].contains("each plane needs a namespace of its own"),
        "{told:?}"
    );
    let told = lines(&linted(&format!(
        "{}{}",
        good("a"),
        INSTALLATION.replace("installation.yaml: |", "other.yaml: |")
    )));
    assert!(told[0].contains("has no key installation.yaml"), "{told:?}");
}

#[test]
fn the_installation_may_be_a_file_of_its_own() {
    let event = audit("{events: [ModelCreatd]}");
    let lines: Vec<&str> = INSTALLATION.lines().skip(6).map(str::trim).collect();
    let bare = lines.join("\n");
    for text in [INSTALLATION.to_owned(), bare] {
        let around = Surroundings {
            installation: Some(source("installation.yaml", &text)),
            ..surroundings()
        };
        let outcome = lint(&[source("a.yaml", &event)], &around);
        assert_eq!(outcome.count(Severity::Error), 1, "{outcome:#?}");
    }
}

#[test]
fn the_definitions_of_another_version_are_told() {
    for (name, yaml) in manifest::files().unwrap() {
        let text = format!("{}---\n{yaml}", good("a"));
        assert_eq!(lines(&linted(&text)), Vec::<String>::new(), "{name}");
        let newer = text.replace("name: v1alpha1", "name: v1beta1");
        let told = lines(&linted(&newer));
        assert!(
            told[0].contains("warning: this definition is of another version"),
            "{told:?}"
        );
    }
}

#[test]
fn an_annotation_that_acknowledges_nothing_is_told() {
    let text = good("a").replace(
        "{name: a}",
        "{name: a, annotations: {logging.katonic.ai/acknowledge-retention: 30 days}}",
    );
    let told = lines(&linted(&text));
    assert!(
        told[0].contains("acknowledge-retention means nothing as it is written"),
        "{told:?}"
    );
}

#[test]
fn the_names_of_rules_are_different_from_each_other() {
    let ids: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    assert!(Rule::ALL.iter().all(|rule| rule.asks().ends_with('.')));
}

#[test]
fn policies_that_nobody_would_read_are_told() {
    let wrong_group = good("a").replace("logging.katonic.ai/", "logging.katonik.ai/");
    let no_version = good("a").replace("logging.katonic.ai/v1alpha1", "logging.katonic.ai");
    for text in [wrong_group, no_version] {
        let told = lines(&linted(&text));
        assert!(
            told[0].contains("error: a LoggingPolicy of this apiVersion is none of katonic-logging's, and is passed over: if that is meant, write apiVersion: logging.katonic.ai/v1alpha1 [kind]"),
            "{told:?}"
        );
    }
    let somebody_elses = good("a").replace("logging.katonic.ai/", "policies.example.com/");
    assert!(
        lines(&linted(&somebody_elses))[0].contains("warning: a LoggingPolicy of this apiVersion")
    );
    let item = "{apiVersion: logging.katonic.ai/v1alpha1, kind: AuditPolicy, metadata: {name: a}, spec: {}}";
    let told = lines(&linted(&format!("- {item}\n")));
    assert!(
        told[0].contains("no cluster reads a list as an object"),
        "{told:?}"
    );
    let told = lines(&linted(
        "apiVersion: v1\nkind: List\nitems:\n- {metadata: {name: a}}\n",
    ));
    assert!(
        told[0].contains("says no apiVersion or no kind: write both"),
        "{told:?}"
    );
    // Those of a List of policies need not say it.
    let told = lines(&linted(
        "apiVersion: logging.katonic.ai/v1alpha1\nkind: AuditPolicyList\nitems:\n- {metadata: {nam: a}, spec: {}}\n",
    ));
    assert!(
        told.iter().any(|line| line.contains("metadata.nam: ")),
        "{told:?}"
    );
}

#[test]
fn a_status_and_metadata_of_wrong_types_are_told_as_what_they_are() {
    let with = |field: &str| {
        good("a").replace(
            "metadata: {name: a}",
            &format!("metadata: {{name: a, {field}}}"),
        )
    };
    let status = format!("{}status: {{conditions: [{{type: x}}]}}\n", good("a"));
    let told = linted(&status);
    assert_eq!(
        told.count(finding::Severity::Error),
        0,
        "{:?}",
        lines(&told)
    );
    for field in ["generation: hunter2", "finalizers: hunter2"] {
        let told = lines(&linted(&with(field)));
        assert!(
            told[0].contains("error: metadata: has a value that is not of its field's type"),
            "{told:?}"
        );
        assert!(
            !told.iter().any(|line| line.contains("hunter2")),
            "{told:?}"
        );
    }
}
