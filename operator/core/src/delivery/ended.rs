//! Pods that have ended: whatever is sent with the token of one that is gone is a repetition, and counts nothing.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long one is remembered: for as long as a token is good that the kubelet has made, while the pod's object is there (Kubernetes:
/// "Managing Service Accounts"). One that somebody had made for longer counts nothing either: the pods' watch knows no pod that has ended.
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// So many are remembered at most; then the first is forgotten.
const REMEMBERED: usize = 65_536;

/// Pods that have ended, by their UIDs.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    uids: HashSet<Arc<str>>,
    by_time: VecDeque<(Timestamp, Arc<str>)>,
}

impl Ended {
    /// Whether this one has.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    /// It has.
    pub(super) fn insert(&mut self, uid: &str, now: Timestamp) {
        let uid: Arc<str> = uid.into();
        if self.uids.insert(uid.clone()) {
            self.by_time.push_back((now, uid));
        }
        while let Some((at, _)) = self.by_time.front()
            && (self.by_time.len() > REMEMBERED || now.duration_since(*at) > REMEMBERED_FOR)
        {
            if let Some((_, uid)) = self.by_time.pop_front() {
                self.uids.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_have_ended_are_remembered_for_an_hour_and_no_more_than_there_is_room_for() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut ended = Ended::default();
        ended.insert("first", at(0));
        ended.insert("first", at(1));
        ended.insert("second", at(3600));
        assert!(ended.has("first") && ended.has("second"));
        ended.insert("third", at(3601));
        assert!(!ended.has("first") && ended.has("second"));
        for number in 0..REMEMBERED {
            ended.insert(&number.to_string(), at(3602));
        }
        assert!(!ended.has("third") && ended.has("0"));
        assert_eq!(
            (ended.uids.len(), ended.by_time.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
