//! What is taken for a report: of any version, and of no more than its size.

use katonic_log_config::report::MAX_SIZE;

use super::{World, agents_token, pod};

#[tokio::test]
async fn reports_of_older_and_newer_agents_are_taken_and_what_is_none_is_refused() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let web = pod(&world.installed, "web").await;
    let token = agents_token(&world.installed, &web).await;
    let newer = r#"{"agent": "9.0.0", "uptime": 5, "mood": "fine", "policies": [{"uid": "u", "revision": "r", "karma": 7,
        "refused": {"reason": "TooLoud", "message": "hush"},
        "sinks": [{"name": "s", "state": "Enlightened", "path": {"noble": 8}}, {"name": "t", "state": "Delivering"}]}]}"#;
    let full = format!("{{}}{}", " ".repeat(MAX_SIZE - 2));
    for body in ["{}", newer, &full] {
        let answer = reporter.send(Some(&token), body.as_bytes()).await;
        assert_eq!(answer.unwrap().interval(), 60);
    }
    for body in [
        &b""[..],
        b"hello",
        b"[]",
        b"{",
        b"{\"uptime\": -1}",
        b"{\"policies\": {}}",
        b"{\"agent\": \"\xff\"}",
        b"{} {}",
    ] {
        let answer = reporter.send(Some(&token), body).await.unwrap();
        answer.is_refused(400, "this is no report: ");
    }
    for size in [MAX_SIZE + 1, 1 << 20] {
        let body = vec![b' '; size];
        let answer = reporter.send(Some(&token), &body).await.unwrap();
        answer.is_refused(413, "a report has at most 65536 bytes");
    }
    for (outcome, count) in [("accepted", 3), ("malformed", 8), ("too_large", 2)] {
        let name = format!(r#"katonic_logging_reports_total{{outcome="{outcome}"}}"#);
        assert_eq!(world.metric(&name).await, count, "{outcome}");
    }
    // Who has no token is not read at all.
    let answer = reporter.send(None, &vec![b' '; 1 << 20]).await.unwrap();
    answer.is_refused(401, "no token");
}
