//! A small world of workloads, in which restarts take their course.

use proptest::prelude::*;

use super::*;
use crate::coverage::WorkloadKind;

const NAMESPACE: &str = "katonic-platform";

fn id(name: &str) -> Id {
    Id {
        namespace: NAMESPACE.into(),
        workload: Workload {
            kind: WorkloadKind::Deployment,
            name: name.into(),
        },
    }
}

fn healthy(name: &str) -> Observed {
    Observed {
        uid: format!("uid-of-{name}"),
        generation: 1,
        deleting: false,
        health: Health::Complete,
        numbers: Numbers {
            updated: 3,
            available: 3,
        },
        deadline: SignedDuration::from_mins(10),
        obstacle: None,
        restarted_by_us: None,
        in_our_rollout: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

struct World {
    wanted: BTreeSet<Id>,
    workloads: BTreeMap<Id, Observed>,
    in_force: BTreeMap<String, Option<Timestamp>>,
    window: Option<Window>,
    memory: Memory,
}

fn world(names: &[&str]) -> World {
    World {
        wanted: names.iter().map(|name| id(name)).collect(),
        workloads: names.iter().map(|name| (id(name), healthy(name))).collect(),
        in_force: [(NAMESPACE.to_owned(), Some(at(0)))].into(),
        window: None,
        memory: Memory::default(),
    }
}

impl World {
    fn decide(&mut self, seconds: i64) -> Decision {
        let facts = Facts {
            wanted: &self.wanted,
            workloads: &self.workloads,
            in_force: &self.in_force,
            window: self.window.as_ref(),
            now: at(seconds),
        };
        self.memory.decide(facts)
    }

    /// Decides, and carries out what was decided.
    fn step(&mut self, seconds: i64) -> Option<String> {
        let restart = self.decide(seconds).restart?;
        self.carry_out(&restart, seconds);
        Some(restart.id.workload.name)
    }

    fn carry_out(&mut self, restart: &Restart, seconds: i64) {
        let observed = self.workloads.get_mut(&restart.id).unwrap();
        observed.generation += 1;
        observed.health = Health::Progressing;
        observed.numbers.updated = 0;
        observed.restarted_by_us = Some(at(seconds));
        observed.in_our_rollout = true;
        let generation = observed.generation;
        self.memory.restarted(restart, generation, at(seconds));
    }

    fn observed(&mut self, name: &str) -> &mut Observed {
        self.workloads.get_mut(&id(name)).unwrap()
    }

    /// The pods of a workload have been replaced, and have the agent.
    fn finish(&mut self, name: &str) {
        *self.observed(name) = Observed {
            generation: self.workloads[&id(name)].generation,
            restarted_by_us: self.workloads[&id(name)].restarted_by_us,
            ..healthy(name)
        };
        self.wanted.remove(&id(name));
    }

    fn standing(&mut self, name: &str, seconds: i64) -> Standing {
        let decision = self.decide(seconds);
        decision.standing.get(&id(name)).unwrap().clone()
    }
}

#[test]
fn one_owner_is_restarted_after_the_other() {
    let mut world = world(&["a", "b", "c"]);
    assert_eq!(world.step(1).as_deref(), Some("a"));
    assert_eq!(world.step(2), None);
    assert_eq!(world.standing("a", 3), Standing::Restarting);
    assert_eq!(world.standing("b", 3), Standing::Queued);
    world.finish("a");
    assert_eq!(world.step(4).as_deref(), Some("b"));
    world.finish("b");
    assert_eq!(world.step(5).as_deref(), Some("c"));
    world.finish("c");
    let decision = world.decide(6);
    assert_eq!(
        (decision.restart, decision.standing),
        (None, BTreeMap::new())
    );
}

#[test]
fn what_is_seen_of_before_the_restart_does_not_count_as_healthy() {
    let mut world = world(&["a", "b"]);
    let restart = world.decide(1).restart.unwrap();
    // The watch still shows the first generation, all healthy.
    world.memory.restarted(&restart, 2, at(1));
    assert_eq!(world.step(2), None);
    assert_eq!(world.standing("a", 2), Standing::Restarting);
}

#[test]
fn the_first_that_does_not_become_healthy_stops_all_until_it_is() {
    let mut world = world(&["a", "b"]);
    world.step(1);
    let decision = world.decide(2);
    assert_eq!(decision.wake, Some(at(2 + 600)));
    assert_eq!(world.standing("a", 601), Standing::Restarting);
    assert_eq!(world.standing("a", 602), Standing::Stopped);
    assert_eq!(world.standing("b", 10_000), Standing::Queued);
    assert_eq!(world.step(10_001), None);
    world.finish("a");
    assert_eq!(world.step(10_002).as_deref(), Some("b"));
}

#[test]
fn progress_gives_more_time_and_a_pod_that_comes_and_goes_does_not() {
    let mut world = world(&["a"]);
    world.step(1);
    world.decide(1);
    world.observed("a").numbers.updated = 1;
    assert_eq!(world.standing("a", 500), Standing::Restarting);
    assert_eq!(world.standing("a", 1099), Standing::Restarting);
    for seconds in [700, 800, 900, 1000] {
        let available = &mut world.observed("a").numbers.available;
        *available = 5 - *available;
        world.decide(seconds);
    }
    assert_eq!(world.standing("a", 1100), Standing::Stopped);
}

#[test]
fn kubernetes_own_deadline_stops_too() {
    let mut world = world(&["a", "b"]);
    world.step(1);
    world.observed("a").health = Health::DeadlineExceeded;
    assert_eq!(world.standing("a", 2), Standing::Stopped);
    assert_eq!(world.step(3), None);
}

#[test]
fn an_owner_that_is_deleted_holds_nothing_up() {
    let mut world = world(&["a", "b"]);
    world.step(1);
    world.workloads.remove(&id("a"));
    assert_eq!(world.step(2).as_deref(), Some("b"));
}

#[test]
fn what_cannot_be_restarted_is_told_and_passed_over() {
    let mut world = world(&["a", "b", "c", "d"]);
    world.observed("a").obstacle = Some(Obstacle::Paused);
    world.observed("b").health = Health::Progressing;
    world.observed("c").deleting = true;
    assert_eq!(world.step(1).as_deref(), Some("d"));
    let paused = Standing::Obstructed(Obstacle::Paused);
    assert_eq!(world.standing("a", 2), paused);
    assert_eq!(world.standing("b", 2), Standing::Busy);
    assert!(!world.decide(2).standing.contains_key(&id("c")));
}

#[test]
fn an_owner_whose_new_pods_still_lack_the_agent_is_not_restarted_again() {
    let mut world = world(&["a"]);
    world.step(1);
    let still_wanted = world.wanted.clone();
    world.finish("a");
    world.wanted = still_wanted;
    assert_eq!(world.step(2), None);
    assert_eq!(world.decide(2).wake, Some(at(31)));
    let in_vain = Standing::InVain { restarted: at(1) };
    assert_eq!(world.standing("a", 31), in_vain);
    // Nor by an operator that starts anew: the cluster remembers.
    world.memory = Memory::default();
    assert_eq!(world.step(1000), None);
    assert_eq!(world.standing("a", 1000), in_vain);
    // Once something else is injected it is worth another try.
    world.in_force.insert(NAMESPACE.into(), Some(at(2000)));
    assert_eq!(world.step(2001).as_deref(), Some("a"));
}

#[test]
fn a_restart_that_somebody_takes_back_is_not_repeated() {
    let mut world = world(&["a"]);
    world.step(1);
    let still_wanted = world.wanted.clone();
    world.finish("a");
    world.observed("a").restarted_by_us = None;
    world.wanted = still_wanted;
    assert_eq!(world.step(100), None);
    assert_eq!(
        world.standing("a", 100),
        Standing::InVain { restarted: at(1) }
    );
}

#[test]
fn an_operator_that_starts_anew_waits_for_what_the_last_one_restarted() {
    let mut world = world(&["a", "b"]);
    world.step(1);
    world.wanted.remove(&id("a"));
    world.memory = Memory::default();
    assert_eq!(world.step(2), None);
    assert_eq!(world.standing("a", 3), Standing::Restarting);
    world.finish("a");
    assert_eq!(world.step(4).as_deref(), Some("b"));
}

#[test]
fn a_new_process_waits_for_the_last_of_several_unfinished_restarts() {
    let mut world = world(&["a", "b", "c"]);
    assert_eq!(world.step(1).as_deref(), Some("a"));
    world.in_force.insert(NAMESPACE.into(), Some(at(2)));
    world.memory = Memory::default();
    assert_eq!(world.step(3).as_deref(), Some("b"));
    world.memory = Memory::default();
    world.in_force.clear();
    assert_eq!(world.step(4), None);
    world.in_force.insert(NAMESPACE.into(), Some(at(2)));
    world.finish("a");
    assert_eq!(world.step(5), None);
    world.finish("b");
    assert_eq!(world.step(6).as_deref(), Some("c"));
}

#[test]
fn what_somebody_else_broke_after_our_restart_holds_nobody_up() {
    let mut world = world(&["b"]);
    let broken = Observed {
        health: Health::DeadlineExceeded,
        restarted_by_us: Some(at(1)),
        ..healthy("a")
    };
    world.workloads.insert(id("a"), broken);
    assert_eq!(world.step(1000).as_deref(), Some("b"));
}

#[test]
fn an_owner_whose_later_pods_lack_the_agent_is_restarted_again_if_the_first_restart_helped() {
    let mut world = world(&["a"]);
    assert_eq!(world.step(1).as_deref(), Some("a"));
    world.finish("a");
    // What is seen of the pods may be older than what is seen of their owner.
    assert_eq!(world.step(2), None);
    world.wanted.insert(id("a"));
    assert_eq!(
        world.standing("a", 32),
        Standing::InVain { restarted: at(1) }
    );
    world.wanted.clear();
    assert_eq!(world.step(33), None);
    // A pod was created while nothing injected it.
    world.wanted.insert(id("a"));
    assert_eq!(world.step(600).as_deref(), Some("a"));
}

#[test]
fn nothing_is_restarted_where_injection_is_not_in_force() {
    let mut world = world(&["a"]);
    world.in_force.clear();
    assert_eq!(world.step(1), None);
    assert_eq!(world.standing("a", 1), Standing::Busy);
}

#[test]
fn nothing_begins_while_the_window_is_closed() {
    let mut world = world(&["a", "b"]);
    // 1970-01-12T13:46:40Z is a Monday.
    let window = "{days: [Tuesday], from: '01:00', to: '02:00'}";
    world.window = Some(serde_saphyr::from_str(window).unwrap());
    let opens: Timestamp = "1970-01-13T01:00:00Z".parse().unwrap();
    let decision = world.decide(0);
    assert_eq!(decision.restart, None);
    assert_eq!(decision.wake, Some(opens));
    assert_eq!(decision.standing[&id("a")], Standing::Closed { opens });
    let open = opens.as_second() - at(0).as_second();
    assert_eq!(world.step(open).as_deref(), Some("a"));
    // It closes meanwhile: what has begun is followed, nothing else begins.
    assert_eq!(world.standing("a", open + 3600), Standing::Restarting);
    world.finish("a");
    assert_eq!(world.step(open + 3601), None);
}

#[test]
fn a_restart_that_is_refused_is_told_and_others_go_on() {
    let mut world = world(&["a", "b"]);
    let restart = world.decide(1).restart.unwrap();
    world.memory.refused(&restart, "no right".into(), at(1));
    assert_eq!(world.step(2).as_deref(), Some("b"));
    assert_eq!(world.standing("a", 3), Standing::Refused("no right".into()));
    world.finish("b");
    assert_eq!(world.step(61).as_deref(), Some("a"));
}

#[derive(Clone, Debug)]
enum Course {
    Finish(usize),
    FinishInVain(usize),
    Fail(usize),
    Pause(usize, bool),
    Delete(usize),
    Injection(bool),
    NewInjection,
    NewProcess,
    Refuse,
    Time(i64),
}

fn courses() -> impl Strategy<Value = Course> {
    let one = 0..4_usize;
    prop_oneof![
        4 => one.clone().prop_map(Course::Finish),
        1 => one.clone().prop_map(Course::FinishInVain),
        1 => one.clone().prop_map(Course::Fail),
        1 => (one.clone(), any::<bool>()).prop_map(|(one, paused)| Course::Pause(one, paused)),
        1 => one.prop_map(Course::Delete),
        1 => any::<bool>().prop_map(Course::Injection),
        1 => Just(Course::NewInjection),
        1 => Just(Course::NewProcess),
        1 => Just(Course::Refuse),
        3 => (1..900_i64).prop_map(Course::Time),
    ]
}

proptest! {
    /// Whatever happens: never two at a time, none that is paused, none where injection is not in force, and none twice
    /// for the same injection.
    #[test]
    fn never_two_at_a_time_and_never_one_twice(courses in prop::collection::vec(courses(), 1..60)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut world = world(&NAMES);
        let mut now = 1;
        let mut since = 0;
        let mut restarts: Vec<(String, i64)> = Vec::new();
        for course in courses {
            now += 1;
            match course {
                Course::Finish(one) if world.workloads.contains_key(&id(NAMES[one])) => world.finish(NAMES[one]),
                Course::FinishInVain(one) if world.workloads.contains_key(&id(NAMES[one])) => {
                    world.finish(NAMES[one]);
                    world.wanted.insert(id(NAMES[one]));
                }
                Course::Fail(one) => {
                    let observed = world.workloads.get_mut(&id(NAMES[one]));
                    if let Some(observed) = observed.filter(|one| one.health != Health::Complete) {
                        observed.health = Health::DeadlineExceeded;
                    }
                }
                Course::Pause(one, paused) => {
                    if let Some(observed) = world.workloads.get_mut(&id(NAMES[one])) {
                        observed.obstacle = paused.then_some(Obstacle::Paused);
                    }
                }
                Course::Delete(one) => {
                    world.workloads.remove(&id(NAMES[one]));
                }
                Course::Injection(true) => {
                    world.in_force.insert(NAMESPACE.into(), Some(at(since)));
                }
                Course::Injection(false) => world.in_force.clear(),
                Course::NewInjection => {
                    since = now;
                    world.in_force.insert(NAMESPACE.into(), Some(at(since)));
                    world.wanted = NAMES.iter().map(|name| id(name)).collect();
                }
                Course::NewProcess => world.memory = Memory::default(),
                Course::Time(seconds) => now += seconds,
                Course::Finish(_) | Course::FinishInVain(_) | Course::Refuse => {}
            }
            let refused = matches!(course, Course::Refuse);
            let decided = world.decide(now).restart;
            // One that has helped may be needed again.
            restarts.retain(|(name, at)| {
                let id = id(name);
                let has_helped = world.workloads.get(&id).is_some_and(|one| one.health == Health::Complete)
                    && !world.wanted.contains(&id)
                    && now >= at + GRACE.as_secs();
                !has_helped
            });
            let Some(restart) = decided else { continue };
            let name = restart.id.workload.name.clone();
            let unfinished: Vec<&Id> = world
                .workloads
                .iter()
                .filter(|(_, one)| one.health != Health::Complete && one.restarted_by_us >= Some(at(since)))
                .map(|(id, _)| id)
                .collect();
            prop_assert!(unfinished.is_empty(), "{name} while {unfinished:?}");
            prop_assert_eq!(world.workloads[&restart.id].obstacle, None);
            prop_assert!(world.in_force.contains_key(NAMESPACE));
            prop_assert!(restarts.iter().all(|(before, at)| *before != name || *at < since), "{name} twice");
            if refused {
                world.memory.refused(&restart, "no".into(), at(now));
            } else {
                world.carry_out(&restart, now);
                restarts.push((name, now));
            }
        }
    }
}
