//! What a sink did not get: counts it, and lets another sink begin where the worst of several has stopped.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use katonic_log_config::Sink;

use super::{Losses, Route, Source, track::Track};
use crate::{
    assemble::{FileNumber, Record},
    cursor::{Place, Position, Progress, RouteKey},
    files::{Files, LogFile},
};

/// What became of records that a sink did not get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Remains {
    /// Another sink has them.
    pub fallback: u64,
    /// Nobody has them.
    pub lost: u64,
    /// About how many bytes there was no time to count the records of that nobody has: in each file at least one, which counts
    /// as lost.
    pub uncounted_bytes: u64,
}

/// How far a sink has come in each file.
#[derive(Debug)]
struct Reach(HashMap<FileNumber, Place>);

impl Reach {
    /// As far as it has everything of a file.
    fn end_of(&self, file: FileNumber) -> u64 {
        let end = |place: &Place| {
            if place.done {
                u64::MAX
            } else {
                place.position.start()
            }
        };
        self.0.get(&file).map_or(0, end)
    }

    fn covers(&self, record: &Record<'_>) -> bool {
        self.0.get(&record.file).is_some_and(|place| {
            place.done || record.offset < place.position.resume(record.stream.index())
        })
    }
}

impl Route {
    /// A route to the fallback of a policy, which begins in each file where the first of its sinks has stopped.
    pub fn fallback(sinks: &[&Self], fallback: &Sink, files: &Files) -> Option<Self> {
        let first = sinks.first()?;
        let key = RouteKey {
            policy_uid: first.key.policy_uid.clone(),
            sink: fallback.name.clone(),
        };
        let reaches: Vec<Reach> = sinks.iter().map(|sink| sink.reach(files)).collect();
        let lowest = |file: &LogFile| {
            let places = reaches.iter().filter_map(|reach| reach.0.get(&file.number));
            // What no sink is to get is not the fallback's either.
            places
                .copied()
                .reduce(Place::lower)
                .unwrap_or_else(|| Place::done_at(file.length()))
        };
        let progress = Progress {
            files: files
                .iter()
                .map(|file| (file.key.clone(), lowest(file)))
                .collect(),
            ..Progress::default()
        };
        let policy = first.policy.borrow().clone();
        let processing = Rc::clone(&first.processing.borrow());
        let route = Self::new(key, policy, processing, fallback.clone(), progress);
        route.passed.replace(first.passed.borrow().clone());
        route.is_fallback.set(true);
        Some(route)
    }

    /// Counts what is not acknowledged as lost, but for what the fallback has acknowledged; not longer than `until`.
    pub fn give_up(
        &self,
        source: &Source,
        fallback: Option<&Self>,
        until: Instant,
    ) -> (Losses, Remains) {
        let losses = self.sync(source);
        let reach = fallback.map(|fallback| fallback.reach(&source.files.borrow()));
        let mut remains = Remains::default();
        let tracks = self.tracks.borrow();
        let unshown = self.for_each_unsent(source, &tracks, Some(until), |_, record| {
            let reach = reach.as_ref().zip(record);
            if reach.is_some_and(|(reach, record)| reach.covers(record)) {
                remains.fallback += 1;
            } else {
                remains.lost += 1;
            }
        });
        let mut dropped = unshown.dropped;
        for (number, from) in unshown.rest {
            let reached = reach.as_ref().map_or(0, |reach| reach.end_of(number));
            let length = tracks.iter().find(|track| track.file.number == number);
            let length = length.map_or(0, |track| track.file.length());
            let uncounted = length.saturating_sub(from.max(reached));
            // Of what the fallback has of it the number is not known either.
            remains.fallback += u64::from(reached > from);
            remains.lost += u64::from(uncounted > 0);
            remains.uncounted_bytes += uncounted;
        }
        remains.lost += self.in_object_alone(&tracks);
        let mut parked = self.parked.borrow_mut();
        let declined = parked.values_mut().map(|place| place.declined.take());
        dropped += declined.flatten().sum::<u64>();
        // It is not known which ones the fallback has refused: rather told as lost than as delivered.
        let refused = fallback.map_or(0, |fallback| fallback.counts().rejected);
        let refused = refused.min(remains.fallback);
        remains.fallback -= refused;
        remains.lost += refused;
        self.count(|counts| {
            counts.lost += remains.lost;
            counts.fallback += remains.fallback;
            counts.dropped += dropped;
        });
        remains.lost += losses.records();
        (losses, remains)
    }

    /// Counts files that never could be opened as one record each; gives their number. They are given by container;
    /// no name stands for any.
    pub fn lose_unopened(&self, source: &Source, containers: &[String]) -> u64 {
        let policy = self.policy.borrow();
        let labels = source.labels.borrow();
        let of_policy = containers
            .iter()
            .filter(|container| container.is_empty() || policy.takes(&labels, container));
        let lost = of_policy.count() as u64;
        self.count(|counts| counts.lost += lost);
        lost
    }

    /// What the policy names for what its sinks cannot deliver before the pod ends.
    pub fn fallback_sink(&self) -> Option<Sink> {
        self.policy.borrow().fallback.clone()
    }

    /// About how many bytes are not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        let tracks = self.tracks.borrow();
        let of = |length: u64, position: Position| length.saturating_sub(position.start());
        tracks
            .iter()
            .map(|track| of(track.file.length(), track.committed))
            .sum()
    }

    /// Takes down what there is that is not acknowledged, for [`Self::lag`]; about once a second.
    pub fn look(&self, now: Instant) {
        for track in self.tracks.borrow_mut().iter_mut() {
            let acknowledged = track.committed.start();
            track.age.look(now, track.file.length(), acknowledged);
        }
    }

    /// For how long the oldest byte that is not acknowledged has been in its file, as far as that was looked at.
    pub fn lag(&self, now: Instant) -> Duration {
        let tracks = self.tracks.borrow();
        let of = |track: &Track| track.age.of_oldest(now, track.committed.start());
        tracks.iter().map(of).max().unwrap_or_default()
    }

    fn reach(&self, files: &Files) -> Reach {
        let tracks = self.tracks.borrow();
        let parked = self.parked.borrow();
        let reading = tracks
            .iter()
            .map(|track| (track.file.number, track.place(false)));
        let parked = parked
            .iter()
            .filter_map(|(key, place)| Some((files.find(key)?.number, *place)));
        Reach(parked.chain(reading).collect())
    }
}
