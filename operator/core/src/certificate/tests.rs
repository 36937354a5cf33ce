//! The clock is stepped; certificates are real.

use k8s_openapi::jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::*;

const PUBLISHED: SignedDuration = Peer::ApiServer.patience();
const HOST: &str = "katonic-logging-webhook.katonic-logging.svc";

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// As the shell makes them.
fn generation(now: Timestamp, host: &str) -> Generation {
    let (not_before, not_after) = validity(now);
    let time =
        |time: Timestamp| time::OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap();
    let valid = |mut parameters: CertificateParams| {
        parameters.not_before = time(not_before);
        parameters.not_after = time(not_after);
        parameters
    };
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = valid(CertificateParams::default());
    authority
        .distinguished_name
        .push(DnType::CommonName, now.to_string());
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = valid(CertificateParams::new([host.to_owned()]).unwrap());
    let leaf = leaf
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .unwrap();
    Generation::new(
        &authority_pem,
        &leaf.pem(),
        key.serialize_pem().as_bytes(),
        host,
    )
    .unwrap()
}

/// A cluster as far as certificates go: what is seen of a change comes later in places.
struct World {
    now: Timestamp,
    secret: BTreeMap<String, ByteString>,
    published: Option<String>,
    /// What the controller has seen of that.
    seen: Option<Published>,
    /// What each API server trusts, the last of them last.
    api_servers: [Option<String>; 2],
    /// What each replica shows.
    replicas: [Option<String>; 2],
    switches: usize,
}

impl Certificates {
    fn is_changing(&self) -> bool {
        self.next.is_some()
    }
}

impl World {
    fn new(now: Timestamp) -> Self {
        Self {
            now,
            secret: BTreeMap::new(),
            published: None,
            seen: None,
            api_servers: [None, None],
            replicas: [None, None],
            switches: 0,
        }
    }

    /// One pass of the controller: it acts once for what is due, and publishes.
    fn controller(&mut self) {
        let mut certificates = Certificates::read(&self.secret, HOST);
        self.seen = Published::see(self.seen.take(), self.published.as_deref(), self.now);
        let published = self.seen.as_ref();
        loop {
            certificates = match certificates.due(published, Peer::ApiServer, self.now) {
                Due::Nothing(until) => {
                    assert!(until > self.now, "it would never rest");
                    break;
                }
                Due::Issue => {
                    let made = generation(self.now, HOST);
                    certificates.with(made, published, self.now)
                }
                Due::Switch => {
                    self.switches += 1;
                    certificates.switched(self.now)
                }
            };
        }
        self.secret = certificates.data();
        self.published = certificates.ca_bundle(self.now);
    }

    fn api_server_sees(&mut self, index: usize) {
        self.api_servers[index] = self.published.clone();
    }

    fn replica_sees(&mut self, index: usize) {
        let certificate = self.secret.get(CERTIFICATE);
        self.replicas[index] = certificate.map(|pem| String::from_utf8(pem.0.clone()).unwrap());
    }

    fn every_certificate_in_use_is_trusted(&self, when: &str) {
        for trusted in &self.api_servers {
            for shown in &self.replicas {
                let (trusted, shown) = (trusted.as_deref().unwrap(), shown.as_deref().unwrap());
                assert!(
                    is_trusted(trusted, shown, HOST, self.now),
                    "{when} at {}",
                    self.now
                );
            }
        }
    }
}

#[test]
fn through_two_years_of_rotations_every_certificate_in_use_is_trusted() {
    let mut world = World::new(start());
    world.controller();
    for index in [0, 1] {
        world.api_server_sees(index);
        world.replica_sees(index);
    }
    world.every_certificate_in_use_is_trusted("at first");
    let end = later(start(), hours(2 * 365 * 24));
    let mut round = 0;
    while world.now < end {
        round += 1;
        world.controller();
        world.every_certificate_in_use_is_trusted("before anybody has seen what was written");
        // This kubelet is as fast as can be, the other one so slow that its replica shows for days what it had.
        world.replica_sees(0);
        world.every_certificate_in_use_is_trusted("before an API server has seen it");
        world.api_server_sees(0);
        world.every_certificate_in_use_is_trusted("before the other API server has seen it");
        // For half a minute at most.
        if round % 4 == 0 || !Certificates::read(&world.secret, HOST).is_changing() {
            world.api_server_sees(1);
        }
        if round % 10 == 0 {
            world.replica_sees(1);
        }
        world.every_certificate_in_use_is_trusted("in the end");
        let step = if Certificates::read(&world.secret, HOST).is_changing() {
            SignedDuration::from_secs(7)
        } else {
            hours(12)
        };
        world.now = later(world.now, step);
    }
    // Once every sixty days, not counting the first one.
    assert_eq!(world.switches, 12);
    let held = Certificates::read(&world.secret, HOST);
    assert!(held.previous.len() <= 1, "{held:?}");
}

#[test]
fn the_authority_is_published_before_its_certificate_serves() {
    let mut world = World::new(start());
    world.controller();
    let first = world.published.clone().unwrap();
    world.now = later(start(), RENEW_AFTER);
    let seen = |authorities: &str, now| Published::see(None, Some(authorities), now);
    let before = seen(&first, start());
    let certificates = Certificates::read(&world.secret, HOST);
    assert_eq!(
        certificates.due(before.as_ref(), Peer::ApiServer, world.now),
        Due::Issue
    );
    let made = generation(world.now, HOST);
    let certificates = certificates.with(made.clone(), before.as_ref(), world.now);
    let second = certificates.ca_bundle(world.now).unwrap();
    assert!(second.starts_with(&first) && second.contains(made.authority.pem.trim_end()));
    // However long it takes: as long as it is not published, nothing switches, and then a minute later.
    let much_later = later(world.now, hours(5 * 24));
    assert!(matches!(
        certificates.due(before.as_ref(), Peer::ApiServer, much_later),
        Due::Nothing(_)
    ));
    let published = Published::see(before, Some(second.as_str()), much_later);
    let soon = later(much_later, SignedDuration::from_secs(59));
    let then = later(much_later, PUBLISHED);
    let due = |now| certificates.due(published.as_ref(), Peer::ApiServer, now);
    assert_eq!(due(soon), Due::Nothing(then));
    assert_eq!(due(then), Due::Switch);
    // A controller that starts anew does not know since when.
    let anew = seen(&second, soon);
    assert_eq!(
        certificates.due(anew.as_ref(), Peer::ApiServer, then),
        Due::Nothing(later(soon, PUBLISHED))
    );
    let switched = certificates.switched(then);
    assert_eq!(switched.serving, Some(made));
    // The former authority is trusted until what it signed has expired, and is gone then.
    let both = switched.ca_bundle(then).unwrap();
    assert!(both.contains(first.trim_end()));
    let expiry = not_after(first.as_bytes()).unwrap();
    let both = seen(&both, then);
    assert!(
        matches!(switched.due(both.as_ref(), Peer::ApiServer, then), Due::Nothing(until) if until == expiry)
    );
    assert!(
        !switched
            .ca_bundle(expiry)
            .unwrap()
            .contains(first.trim_end())
    );
}

#[test]
fn what_is_published_is_as_old_as_it_was_seen_and_no_younger_for_a_clock_that_is_set_back() {
    let see = |before, authorities, now| Published::see(before, Some(authorities), now);
    let first = see(None, "a", start());
    let again = see(first.clone(), "a", later(start(), hours(1)));
    assert_eq!(again, first);
    let other = see(first.clone(), "b", later(start(), hours(1)));
    assert_eq!(other.unwrap().since, later(start(), hours(1)));
    let back = start() - hours(9);
    assert_eq!(see(first.clone(), "a", back).unwrap().since, back);
    assert_eq!(Published::see(first, None, start()), None);
}

#[test]
fn agents_have_longer_and_every_place_where_they_are_told_counts() {
    let certificates = Certificates::default().with(generation(start(), HOST), None, start());
    let first = certificates.ca_bundle(start()).unwrap();
    let renewed = later(start(), RENEW_AFTER);
    let certificates = certificates.with(generation(renewed, HOST), None, renewed);
    let both = certificates.ca_bundle(renewed).unwrap();
    let due =
        |published: &Option<Published>, now| certificates.due(published.as_ref(), Peer::Agent, now);
    // One namespace has it and the other has not, or is told of nobody at all.
    let halfway = Published::see(None, [both.as_str(), first.as_str()], renewed);
    let elsewhere = Published::see(None, [both.as_str(), ""], renewed);
    let much_later = later(renewed, hours(24));
    for published in [&halfway, &elsewhere] {
        assert!(matches!(due(published, much_later), Due::Nothing(_)));
    }
    let everywhere = Published::see(halfway, [both.as_str(), both.as_str()], much_later);
    let soon = later(much_later, SignedDuration::from_secs(599));
    let then = later(much_later, SignedDuration::from_mins(10));
    assert_eq!(due(&everywhere, soon), Due::Nothing(then));
    assert_eq!(due(&everywhere, then), Due::Switch);
    // Whoever was told of it anywhere goes on trusting it when the Secret is made anew.
    let elsewhere = Published::see(None, [first.as_str(), ""], start());
    let anew = Certificates::default().with(generation(renewed, HOST), elsewhere.as_ref(), renewed);
    assert!(anew.ca_bundle(renewed).unwrap().contains(first.trim_end()));
}

#[test]
fn where_nobody_is_told_of_the_webhook_nothing_is_waited_for() {
    let certificates = Certificates::default();
    assert_eq!(certificates.due(None, Peer::ApiServer, start()), Due::Issue);
    let certificates = certificates.with(generation(start(), HOST), None, start());
    assert!(matches!(
        certificates.due(None, Peer::ApiServer, start()),
        Due::Nothing(_)
    ));
    let renewed = later(start(), RENEW_AFTER);
    let certificates = certificates.with(generation(renewed, HOST), None, renewed);
    assert_eq!(
        certificates.due(None, Peer::ApiServer, renewed),
        Due::Switch
    );
}

#[test]
fn a_deleted_secret_is_made_anew_and_replicas_that_have_the_old_one_stay_trusted() {
    let mut world = World::new(start());
    world.controller();
    world.replica_sees(0);
    world.now = later(start(), hours(1));
    world.secret.clear();
    world.controller();
    world.replica_sees(1);
    world.api_server_sees(0);
    world.api_server_sees(1);
    assert_ne!(world.replicas[0], world.replicas[1]);
    world.every_certificate_in_use_is_trusted("after the Secret was deleted");
}

#[test]
fn a_controller_that_was_away_for_a_year_makes_a_new_one() {
    let mut world = World::new(start());
    world.controller();
    world.now = later(start(), hours(365 * 24));
    // It publishes the next authority, and sees that.
    world.controller();
    world.controller();
    world.now = later(world.now, PUBLISHED);
    world.controller();
    for index in [0, 1] {
        world.api_server_sees(index);
        world.replica_sees(index);
    }
    world.every_certificate_in_use_is_trusted("a year later");
}

#[test]
fn what_is_in_the_secret_and_does_not_fit_is_as_if_it_were_not_there() {
    let good = Certificates::default().with(generation(start(), HOST), None, start());
    assert_eq!(Certificates::read(&good.data(), HOST), good);
    let other = Certificates::default().with(generation(start(), HOST), None, start());
    let spoilt = |change: &dyn Fn(&mut BTreeMap<String, ByteString>)| {
        let mut data = good.data();
        change(&mut data);
        Certificates::read(&data, HOST).serving
    };
    assert_eq!(spoilt(&|data| drop(data.remove("tls.key"))), None);
    assert_eq!(
        spoilt(&|data| drop(data.insert("tls.crt".into(), ByteString(vec![255])))),
        None
    );
    for key in ["tls.key", "ca.crt", "tls.crt"] {
        let foreign = other.data()[key].clone();
        assert_eq!(
            spoilt(&|data| drop(data.insert(key.into(), foreign.clone()))),
            None,
            "{key}"
        );
    }
    assert_eq!(
        Certificates::read(&good.data(), "another.katonic-logging.svc").serving,
        None
    );
}

#[test]
fn no_key_is_printed() {
    let made = generation(start(), HOST);
    let key = String::from_utf8(made.key.expose().to_vec()).unwrap();
    let line = key.lines().nth(1).unwrap();
    let certificates = Certificates::default().with(made.clone(), None, start());
    assert!(!format!("{made:?} {certificates:?}").contains(line));
}
