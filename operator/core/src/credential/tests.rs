//! What each kind of use asks of a credential, and what is said of one that does not fit.

use katonic_logging_crds::SecretKeyRef;

use super::*;

fn secret(key: &str) -> SecretKeyRef {
    SecretKeyRef {
        name: "sink".into(),
        key: key.into(),
    }
}

fn source(key: &str, usages: &[Usage]) -> CredentialSource {
    CredentialSource {
        secret: secret(key),
        usages: usages.iter().copied().collect(),
    }
}

fn resolve(usage: Usage, lookup: &Lookup) -> Result<Credential, Refusal> {
    super::resolve(&source("token", &[usage]), Some(lookup), "katonic-logging")
}

fn found(text: &str) -> Lookup {
    Lookup::Found(Credential::new(text.as_bytes().to_vec()))
}

/// A certificate and its key, PEM.
fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["agent.example.com".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

#[test]
fn a_line_break_at_the_end_is_no_part_of_a_token() {
    assert_eq!(
        resolve(Usage::Token, &found("abc\r\n")).unwrap().expose(),
        b"abc"
    );
}

#[test]
fn the_key_of_the_webhook_is_nobodys_token() {
    let mut source = source("tls.key", &[Usage::PrivateKey]);
    source.secret.name = names::WEBHOOK_CERTIFICATE.to_owned();
    let (_, key) = pair();
    let refused = super::resolve(&source, Some(&found(&key)), "katonic-logging");
    let (fault, message) = refused.unwrap_err();
    assert_eq!(fault, Fault::CredentialInvalid);
    assert!(message.ends_with("name another one"), "{message}");
}

#[test]
fn each_fault_names_secret_and_key() {
    for (lookup, fault) in [
        (Lookup::SecretMissing, Fault::SecretMissing),
        (Lookup::KeyMissing, Fault::SecretKeyMissing),
        (found(""), Fault::CredentialEmpty),
        (found(" \n"), Fault::CredentialEmpty),
        (found("a\u{e9}"), Fault::CredentialInvalid),
        (found("a\nb"), Fault::CredentialInvalid),
        (
            Lookup::Unreadable("forbidden".into()),
            Fault::SecretUnreadable,
        ),
    ] {
        let (actual, message) = resolve(Usage::Header, &lookup).unwrap_err();
        assert_eq!(actual, fault);
        assert!(message.contains("katonic-logging/sink"), "{message}");
    }
}

#[test]
fn each_use_takes_what_its_protocol_takes() {
    let (certificate, key) = pair();
    let cut_short = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let uuid = "11111111-2222-3333-4444-555555555555";
    // The key of RFC 7515, A.2.
    let rsa = include_str!("../../../../agent/config/testdata/rfc7515-a2.pem");
    let account = |private_key: &str, kind: &str| {
        serde_json::json!({"type": kind, "client_email": "logs@p.iam.gserviceaccount.com", "private_key": private_key,
            "token_uri": "https://oauth2.googleapis.com/token"})
        .to_string()
    };
    let service_account = account(rsa, "service_account");
    let with_other_key = account(&key, "service_account");
    let of_user = account(rsa, "authorized_user");
    let storage_key = format!("{}==", "a+/4".repeat(22).trim_end_matches("/4"));
    let connection_string = format!("AccountName=logs;AccountKey={storage_key}");
    for (usage, good, bad) in [
        (Usage::Header, vec!["Bearer abc"], vec!["a\nb", "\u{e9}"]),
        (
            Usage::Token,
            vec![uuid, "a/b+c="],
            vec!["Bearer abc", "a\nb"],
        ),
        (
            Usage::LogglyToken,
            vec![uuid],
            vec!["a/b", "a b", "a?b", "../a"],
        ),
        (
            Usage::Password,
            vec!["p\u{e4}ss w:rd"],
            vec!["a\nb", "a\0b"],
        ),
        (
            Usage::Authorities,
            vec![certificate.as_str()],
            vec![cut_short, no_certificate, "MIIB", key.as_str()],
        ),
        (
            Usage::Certificate,
            vec![certificate.as_str()],
            vec![cut_short, key.as_str()],
        ),
        (
            Usage::PrivateKey,
            vec![key.as_str()],
            vec![certificate.as_str(), "abc"],
        ),
        (
            Usage::HashKey,
            vec!["0123456789abcdef"],
            vec!["0123456789abcde", "0123456789abcde   \n"],
        ),
        (
            Usage::ServiceAccountKey,
            vec![service_account.as_str()],
            vec![with_other_key.as_str(), of_user.as_str(), rsa, "{}"],
        ),
        (
            Usage::StorageKey,
            vec![storage_key.as_str()],
            vec![connection_string.as_str(), "hunter2", &storage_key[1..]],
        ),
        (
            Usage::SasToken,
            vec!["?sv=2021-12-02&sp=c&sig=a%2Bb%3D", "sig=a&sv=2021-12-02"],
            vec![
                "https://logs.blob.core.windows.net/logs?sv=2021-12-02&sig=a",
                "sv=2021-12-02&sp=c",
                "sv=2021-12-02&sig=a b",
                "sv=2021-12-02&sig=",
            ],
        ),
    ] {
        for text in good {
            assert!(resolve(usage, &found(text)).is_ok(), "{usage:?} {text:?}");
        }
        for text in bad {
            let (fault, message) = resolve(usage, &found(text)).unwrap_err();
            assert_eq!(fault, Fault::CredentialInvalid, "{usage:?} {text:?}");
            assert!(!message.contains(text), "{message}");
        }
    }
}

#[test]
fn a_key_of_digests_may_have_any_bytes() {
    let bytes = Credential::new((128..=255).collect());
    assert!(resolve(Usage::HashKey, &Lookup::Found(bytes)).is_ok());
}

#[test]
fn a_credential_must_be_fit_for_all_of_its_uses() {
    let both = source("token", &[Usage::Header, Usage::LogglyToken]);
    assert!(super::resolve(&both, Some(&found("Bearer abc")), "n").is_err());
    assert!(super::resolve(&both, Some(&found("abc")), "n").is_ok());
}

#[test]
fn a_private_key_must_be_that_of_its_certificate() {
    let ((certificate, key), (_, another)) = (pair(), pair());
    let key_of = |key| CredentialKey::of_secret("sink", key).unwrap();
    let needs = Needs {
        sources: [
            (key_of("tls.crt"), source("tls.crt", &[Usage::Certificate])),
            (key_of("tls.key"), source("tls.key", &[Usage::PrivateKey])),
        ]
        .into(),
        pairs: [(key_of("tls.crt"), key_of("tls.key"))].into(),
    };
    let resolved = |key: &str| {
        let lookups = [
            (secret("tls.crt"), found(&certificate)),
            (secret("tls.key"), found(key)),
        ];
        Keyring::open([&needs], &lookups.into(), "katonic-logging").resolve(&needs)
    };
    assert_eq!(resolved(&key).1, []);
    let (_, refusals) = resolved(&another);
    let [(fault, message)] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    assert_eq!(*fault, Fault::CredentialInvalid);
    assert!(
        message.contains(
            "`tls.key` of Secret katonic-logging/sink is not that of its certificate `tls.crt`"
        ),
        "{message}"
    );
    // What is no key at all is told once, as that.
    let (_, refusals) = resolved("abc");
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].1.contains("no private key"), "{refusals:?}");
}

#[test]
fn a_credential_is_never_printed() {
    let lookup = found("hunter2");
    let needs = Needs {
        sources: [(
            CredentialKey::of_secret("sink", "token").unwrap(),
            source("token", &[Usage::Token]),
        )]
        .into(),
        ..Needs::default()
    };
    let lookups = [(secret("token"), lookup.clone())].into();
    let keyring = Keyring::open([&needs], &lookups, "n");
    let (values, _) = keyring.resolve(&needs);
    assert_eq!(values.len(), 1);
    let printed = format!(
        "{lookup:?} {:?} {keyring:?} {values:?}",
        resolve(Usage::LogglyToken, &found("hunter2/"))
    );
    assert!(!printed.contains("hunter2"), "{printed}");
}
