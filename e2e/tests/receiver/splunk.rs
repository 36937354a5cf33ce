//! Splunk's HTTP Event Collector.

use anyhow::Result;
use http::Method;
use katonic_logging_e2e::receiver::{
    Protocol, Receiver, Tally,
    splunk::{Acknowledgement, Indexing, Reply, Rules, Token},
};

use crate::client::{anywhere, gzip, request, send};

const TOKEN: &str = "3f1b5f0a-8a57-4c5e-9d0b-6f5a8f3b1c2d";
const CHANNEL: &str = "FE0ECFAD-13D5-401B-847D-77833BD77131";
const EVENT: &str = r#"{"event":"line 000001 of 000002","fields":{"stream":"stdout"}}"#;

async fn post(receiver: &Receiver, body: &[u8]) -> Result<(u16, String)> {
    let authorization = format!("Splunk {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let request = request(Method::POST, "/services/collector/event", &headers, body)?;
    send(receiver, request).await
}

async fn collector(rules: Rules) -> Result<Receiver> {
    Receiver::start(anywhere(), Protocol::Splunk(rules)).await
}

fn refusal(reply: Reply, event: Option<usize>) -> (u16, String) {
    (reply.status(), reply.body(event))
}

#[tokio::test]
async fn events_are_taken_as_concatenated_objects_plain_and_gzip() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let second = EVENT.replace("000001", "000002");
    let success = (200, r#"{"code":0,"text":"Success"}"#.to_owned());
    assert_eq!(
        post(&receiver, format!("{EVENT}\n{second}").as_bytes()).await?,
        success
    );
    let authorization = format!("Splunk {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-encoding", "gzip"),
    ];
    let again = request(Method::POST, "/services/collector", &headers, &gzip(EVENT)?)?;
    assert_eq!(send(&receiver, again).await?, success);
    let taken = receiver.received();
    let expected = Tally {
        expected: 2,
        unique: 2,
        duplicates: 1,
        ..Tally::default()
    };
    assert_eq!(Tally::of(&taken.records), expected);
    assert_eq!(taken.records[0].field("stream"), "stdout");
    assert_eq!(taken.answers(200), 2);
    Ok(())
}

#[tokio::test]
async fn a_sender_without_a_valid_token_is_refused_in_splunks_words() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    let disabled = Token {
        disabled: true,
        ..Token::default()
    };
    rules.tokens.insert("off".to_owned(), disabled);
    let receiver = collector(rules).await?;
    let cases = [
        (None, 401, r#"{"code":2,"text":"Token is required"}"#),
        (
            Some("Bearer x"),
            401,
            r#"{"code":3,"text":"Invalid authorization"}"#,
        ),
        (
            Some("Splunk x"),
            403,
            r#"{"code":4,"text":"Invalid token"}"#,
        ),
        (
            Some("Splunk off"),
            403,
            r#"{"code":1,"text":"Token disabled"}"#,
        ),
    ];
    for (authorization, status, body) in cases {
        let headers: Vec<_> = authorization
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        let request = request(
            Method::POST,
            "/services/collector/event",
            &headers,
            EVENT.as_bytes(),
        )?;
        assert_eq!(send(&receiver, request).await?, (status, body.to_owned()));
    }
    assert_eq!(receiver.received().records, []);
    Ok(())
}

#[tokio::test]
async fn the_first_event_that_splunk_does_not_take_is_named_and_nothing_is_taken() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_event_size = 200;
    let only_main = Token {
        indexes: ["main".to_owned()].into(),
        ..Token::default()
    };
    rules.tokens.insert(TOKEN.to_owned(), only_main);
    let receiver = collector(rules).await?;
    let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(200));
    let cases = [
        (r"{}", Reply::EventRequired, 1),
        (r#"{"event":null}"#, Reply::EventRequired, 1),
        (r#"{"event":""}"#, Reply::EventBlank, 1),
        (
            r#"{"event":"x","fields":{"a":{"b":1}}}"#,
            Reply::IndexedFields,
            1,
        ),
        (r#"{"event":"x","fields":["a"]}"#, Reply::IndexedFields, 1),
        (r#"{"event":"x","time":1.7e9}"#, Reply::IndexedFields, 1),
        (r#"{"event":"x","index":"other"}"#, Reply::IncorrectIndex, 2),
        (r#"{"event":"x","host":1}"#, Reply::InvalidDataFormat, 1),
        (r#"{"event":"x","tags":[]}"#, Reply::InvalidDataFormat, 1),
        (r#"{"event":"x"#, Reply::InvalidDataFormat, 1),
        (r#",{"event":"x"}"#, Reply::InvalidDataFormat, 1),
        (&long, Reply::InvalidDataFormat, 1),
    ];
    for (event, reply, number) in cases {
        let body = format!(r#"{{"event":"good","index":"main"}}{event}"#);
        assert_eq!(
            post(&receiver, body.as_bytes()).await?,
            refusal(reply, Some(number)),
            "{event}"
        );
    }
    let array = format!("[{EVENT}]");
    assert_eq!(
        post(&receiver, array.as_bytes()).await?,
        refusal(Reply::InvalidDataFormat, Some(0))
    );
    assert_eq!(receiver.received().records, []);
    receiver.change_rules(|rules| {
        if let Protocol::Splunk(rules) = rules {
            rules.names_event = false;
        }
    });
    assert_eq!(
        post(&receiver, b"{}").await?,
        refusal(Reply::EventRequired, None)
    );
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_empty_too_large_or_encoded_otherwise_are_refused() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_content_length = 100;
    let receiver = collector(rules).await?;
    assert_eq!(post(&receiver, b"").await?, refusal(Reply::NoData, None));
    assert_eq!(
        post(&receiver, b" \n ").await?,
        refusal(Reply::NoData, None)
    );
    let large = EVENT.repeat(2);
    assert_eq!(
        post(&receiver, large.as_bytes()).await?,
        refusal(Reply::TooLarge, None)
    );
    let authorization = format!("Splunk {TOKEN}");
    for (coding, body) in [
        ("gzip", EVENT.as_bytes()),
        ("gzip", &gzip(EVENT)?[..20]),
        ("deflate", EVENT.as_bytes()),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-encoding", coding),
        ];
        let request = request(Method::POST, "/services/collector/event", &headers, body)?;
        let answer = send(&receiver, request).await?;
        assert_eq!(answer, refusal(Reply::InvalidDataFormat, None), "{coding}");
    }
    assert_eq!(receiver.received().records, []);
    Ok(())
}

#[tokio::test]
async fn health_needs_no_token_and_other_paths_and_methods_are_none() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let ask = async |method, path| send(&receiver, request(method, path, &[], b"")?).await;
    let health = "/services/collector/health";
    assert_eq!(
        ask(Method::GET, health).await?,
        refusal(Reply::Healthy, None)
    );
    receiver.change_rules(|rules| {
        if let Protocol::Splunk(rules) = rules {
            rules.health = Reply::QueuesFull;
        }
    });
    assert_eq!(
        ask(Method::GET, health).await?,
        refusal(Reply::QueuesFull, None)
    );
    assert_eq!(ask(Method::GET, "/services/collector").await?.0, 405);
    assert_eq!(
        ask(Method::POST, "/").await?,
        refusal(Reply::NotFound, None)
    );
    Ok(())
}

/// A collector whose only token has acknowledgement.
async fn acknowledging(acknowledgement: Acknowledgement) -> Result<Receiver> {
    let mut rules = Rules::with_token(TOKEN);
    let token = Token {
        acknowledgement: Some(acknowledgement),
        ..Token::default()
    };
    rules.tokens.insert(TOKEN.to_owned(), token);
    collector(rules).await
}

/// A request with the token and, if there is one, the channel in its header.
async fn post_in(
    receiver: &Receiver,
    path: &str,
    channel: Option<&str>,
    body: &str,
) -> Result<(u16, String)> {
    let authorization = format!("Splunk {TOKEN}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(channel.map(|channel| ("x-splunk-request-channel", channel)));
    let request = request(Method::POST, path, &headers, body.as_bytes())?;
    send(receiver, request).await
}

const ACK: &str = "/services/collector/ack";

#[tokio::test]
async fn acknowledgement_is_said_once_when_the_test_says_that_it_is_indexed() -> Result<()> {
    let mut acknowledgement = Acknowledgement::new(Indexing::AtOnce);
    let exceptions = [
        (1, Indexing::AfterPolls(1)),
        (2, Indexing::Unsaid),
        (3, Indexing::Lost),
    ];
    acknowledgement.exceptions.extend(exceptions);
    let receiver = acknowledging(acknowledgement).await?;
    let event = "/services/collector/event";
    for id in 0..4 {
        assert_eq!(
            post_in(&receiver, event, Some(CHANNEL), EVENT).await?,
            (
                200,
                format!(r#"{{"ackId":{id},"code":0,"text":"Success"}}"#)
            )
        );
    }
    // What is lost on the way to the index is in no index.
    assert_eq!(receiver.inspect(|received| received.records.len()), 3);
    let ask = async |acks: &str| {
        // Some clients name the channel in the query.
        let path = format!("{ACK}?channel={CHANNEL}");
        post_in(&receiver, &path, None, &format!(r#"{{"acks":{acks}}}"#)).await
    };
    assert_eq!(
        ask("[0,1,2,3,9]").await?,
        (
            200,
            r#"{"acks":{"0":true,"1":false,"2":false,"3":false,"9":false}}"#.to_owned()
        )
    );
    assert_eq!(
        ask("[0,1]").await?,
        (200, r#"{"acks":{"0":false,"1":true}}"#.to_owned())
    );
    let pending = receiver.change_rules(|rules| {
        let Protocol::Splunk(rules) = rules else {
            return None;
        };
        let acknowledgement = rules.tokens.get_mut(TOKEN)?.acknowledgement.as_mut()?;
        let pending = acknowledgement.pending();
        acknowledgement.forget();
        Some(pending)
    });
    assert_eq!(pending, Some(2));
    let other = "00000000-0000-0000-0000-000000000001";
    for channel in [CHANNEL, other] {
        let (_, answer) = post_in(&receiver, event, Some(channel), EVENT).await?;
        assert!(answer.contains(r#""ackId":0"#), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn acknowledgement_needs_a_channel_and_a_token_that_has_it() -> Result<()> {
    let receiver = acknowledging(Acknowledgement::new(Indexing::AtOnce)).await?;
    let event = "/services/collector/event";
    let question = r#"{"acks":[0]}"#;
    for (path, body) in [(event, EVENT), (ACK, question)] {
        let missing = post_in(&receiver, path, None, body).await?;
        let invalid = post_in(&receiver, path, Some("1"), body).await?;
        assert_eq!(missing, refusal(Reply::ChannelMissing, None), "{path}");
        assert_eq!(invalid, refusal(Reply::InvalidChannel, None), "{path}");
    }
    for (body, reply) in [
        ("", Reply::NoData),
        ("[0]", Reply::InvalidDataFormat),
        (r#"{"acks":0}"#, Reply::InvalidDataFormat),
        (r#"{"acks":[-1]}"#, Reply::InvalidDataFormat),
    ] {
        let answer = post_in(&receiver, ACK, Some(CHANNEL), body).await?;
        assert_eq!(answer, refusal(reply, None), "{body}");
    }
    let unauthorized = request(Method::POST, ACK, &[], question.as_bytes())?;
    assert_eq!(
        send(&receiver, unauthorized).await?,
        refusal(Reply::TokenRequired, None)
    );
    assert_eq!(receiver.received().records, []);

    let without = collector(Rules::with_token(TOKEN)).await?;
    assert_eq!(
        post_in(&without, ACK, Some(CHANNEL), question).await?,
        refusal(Reply::AckDisabled, None)
    );
    // A channel is no harm to a token without acknowledgement.
    let taken = post_in(&without, event, Some(CHANNEL), EVENT).await?;
    assert_eq!(taken, (200, r#"{"code":0,"text":"Success"}"#.to_owned()));
    Ok(())
}
