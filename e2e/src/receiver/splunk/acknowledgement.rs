//! Indexer acknowledgement of one token: which ids a channel was given and when each counts as indexed. Reads no event.
//!
//! Source: Splunk "About HTTP Event Collector Indexer Acknowledgment".

use std::collections::BTreeMap;

use http::Uri;
use serde_json::{Map, Value};

use super::Reply;
use crate::receiver::Request;

/// When what was taken counts as indexed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Indexing {
    /// The first question is answered with yes.
    AtOnce,
    /// So many questions are answered with no before.
    AfterPolls(u32),
    /// It is indexed and never said so: a sender that sends it again makes a duplicate.
    Unsaid,
    /// It is lost on the way to the index: what is not sent again is missing.
    Lost,
}

/// The acknowledgement that a token has.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// For the requests that come from now on.
    pub indexing: Indexing,
    /// For the requests that get these ids, instead.
    pub exceptions: BTreeMap<u64, Indexing>,
    channels: BTreeMap<Channel, Ids>,
}

/// What a channel was given.
#[derive(Clone, Debug, Default)]
struct Ids {
    next: u64,
    /// Ids that were not yet answered with yes.
    pending: BTreeMap<u64, Indexing>,
}

/// The GUID of a client, in lower case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Channel(String);

/// What a request gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Issued {
    pub(super) id: u64,
    /// Whether its events reach the index.
    pub(super) is_kept: bool,
}

impl Channel {
    /// The channel that a request names, in its header or its query.
    pub(super) fn of(request: &Request<'_>) -> Result<Option<Self>, Reply> {
        let header = match request.headers.get("x-splunk-request-channel") {
            Some(value) => Some(value.to_str().map_err(|_| Reply::InvalidChannel)?),
            None => in_query(request.uri),
        };
        let Some(text) = header else { return Ok(None) };
        if !is_guid(text) {
            return Err(Reply::InvalidChannel);
        }
        Ok(Some(Self(text.to_ascii_lowercase())))
    }
}

fn in_query(uri: &Uri) -> Option<&str> {
    let parameters = uri.query()?.split('&');
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, value)| (name == "channel").then_some(value))
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Acknowledgement {
    /// Acknowledgement without channels yet.
    pub fn new(indexing: Indexing) -> Self {
        Self {
            indexing,
            exceptions: BTreeMap::new(),
            channels: BTreeMap::new(),
        }
    }

    /// Forgets all channels, as Splunk does when it starts again: ids begin from 0, and earlier ones are unknown.
    pub fn forget(&mut self) {
        self.channels.clear();
    }

    /// How many ids were given and not yet answered with yes.
    pub fn pending(&self) -> usize {
        self.channels.values().map(|ids| ids.pending.len()).sum()
    }

    pub(super) fn issue(&mut self, channel: Channel) -> Issued {
        let ids = self.channels.entry(channel).or_default();
        let id = ids.next;
        ids.next += 1;
        let indexing = *self.exceptions.get(&id).unwrap_or(&self.indexing);
        ids.pending.insert(id, indexing);
        Issued {
            id,
            is_kept: indexing != Indexing::Lost,
        }
    }

    /// The body of the answer to `{"acks":[0,1,…]}`.
    ///
    /// What was answered with yes once is forgotten, and no for ever after, like an id that was never given.
    pub(super) fn answer(&mut self, channel: &Channel, body: &[u8]) -> Result<String, Reply> {
        if body.is_empty() {
            return Err(Reply::NoData);
        }
        let asked = read_question(body).ok_or(Reply::InvalidDataFormat)?;
        let mut unknown = Ids::default();
        let ids = self.channels.get_mut(channel).unwrap_or(&mut unknown);
        let mut answers = Map::new();
        for id in asked {
            let is_indexed = match ids.pending.get_mut(&id) {
                Some(Indexing::AtOnce | Indexing::AfterPolls(0)) => {
                    ids.pending.remove(&id);
                    true
                }
                Some(Indexing::AfterPolls(left)) => {
                    *left -= 1;
                    false
                }
                Some(Indexing::Unsaid | Indexing::Lost) | None => false,
            };
            answers.insert(id.to_string(), is_indexed.into());
        }
        Ok(Value::from(Map::from_iter([("acks".to_owned(), answers.into())])).to_string())
    }
}

/// The ids of `{"acks":[0,1,…]}`, if it is that and nothing else.
fn read_question(body: &[u8]) -> Option<Vec<u64>> {
    let mut question: BTreeMap<String, Vec<u64>> = serde_json::from_slice(body).ok()?;
    let asked = question.remove("acks")?;
    question.is_empty().then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel(name.to_owned())
    }

    #[test]
    fn each_channel_counts_its_ids_and_is_told_once() {
        let mut acknowledgement = Acknowledgement::new(Indexing::AtOnce);
        acknowledgement
            .exceptions
            .insert(1, Indexing::AfterPolls(1));
        acknowledgement.exceptions.insert(2, Indexing::Lost);
        let issued: Vec<_> = (0..3)
            .map(|_| acknowledgement.issue(channel("a")))
            .map(|issued| (issued.id, issued.is_kept))
            .collect();
        assert_eq!(issued, [(0, true), (1, true), (2, false)]);
        assert_eq!(acknowledgement.issue(channel("b")).id, 0);
        let mut ask = |acks: &str| {
            acknowledgement.answer(&channel("a"), format!(r#"{{"acks":{acks}}}"#).as_bytes())
        };
        assert_eq!(
            ask("[0,1,2]"),
            Ok(r#"{"acks":{"0":true,"1":false,"2":false}}"#.to_owned())
        );
        assert_eq!(
            ask("[0,1,2,7]"),
            Ok(r#"{"acks":{"0":false,"1":true,"2":false,"7":false}}"#.to_owned())
        );
        assert_eq!(ask("0"), Err(Reply::InvalidDataFormat));
        assert_eq!(ask("[\"0\"]"), Err(Reply::InvalidDataFormat));
        assert_eq!(ask("[],\"x\":[]"), Err(Reply::InvalidDataFormat));
        assert_eq!(acknowledgement.pending(), 2);
        acknowledgement.forget();
        assert_eq!(acknowledgement.issue(channel("a")).id, 0);
    }

    #[test]
    fn a_channel_is_a_guid() {
        assert!(is_guid("FE0ECFAD-13D5-401B-847D-77833BD77131"));
        for text in [
            "",
            "fe0ecfad13d5401b847d77833bd77131",
            "fe0ecfad-13d5-401b-847d-77833bd7713g",
        ] {
            assert!(!is_guid(text), "{text:?}");
        }
    }
}
