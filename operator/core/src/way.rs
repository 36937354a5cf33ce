//! The way that pods are injected: by an admission policy of the API server, by the webhook, or, while one takes over from the
//! other, by both. Both look for the agent's container first, so that two ways never add it twice.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::names;

/// A way to inject pods.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// A `MutatingAdmissionPolicy`: from Kubernetes 1.36 on.
    AdmissionPolicy,
    /// A mutating webhook.
    Webhook,
}

impl Way {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::AdmissionPolicy => Self::Webhook,
            Self::Webhook => Self::AdmissionPolicy,
        }
    }

    /// As the installation names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdmissionPolicy => "AdmissionPolicy",
            Self::Webhook => "Webhook",
        }
    }
}

/// `logging.injection.mode` of the installation.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Mode {
    /// The admission policy where the API server has it, the webhook elsewhere.
    #[default]
    Auto,
    /// The admission policy.
    AdmissionPolicy,
    /// The webhook.
    Webhook,
}

/// What there is of the webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Webhook {
    /// Nobody knows yet.
    Unknown,
    /// Its Deployment is not there.
    NotInstalled,
    /// It is there, and has no certificate that API servers could trust.
    NoCertificate,
    /// It is there, and none of its pods is ready.
    NotReady,
    /// It can be asked.
    Ready,
}

/// What was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Situation {
    /// Whether the API server has admission policies; none while it does not say.
    pub policies_served: Option<bool>,
    /// The webhook.
    pub webhook: Webhook,
    /// The ways whose objects are in the cluster and ours.
    pub present: BTreeSet<Way>,
    /// The way that pods tried in a dry run were injected by, in each namespace and by it alone.
    pub in_force: Option<Way>,
    /// Whether that was written long enough ago for every API server to act on it: only one of them has answered.
    pub settled: bool,
}

/// What is to be done with the objects of a way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// They are to be as planned.
    Write,
    /// They stay as they are: too little is known, or nothing can be done.
    Leave,
    /// They go.
    Remove,
}

/// Why pods cannot be injected in the way that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// The installation wants an admission policy of an API server that has none.
    PoliciesUnserved,
    /// The webhook is not installed.
    WebhookNotInstalled,
    /// The webhook has no certificate.
    WebhookWithoutCertificate,
    /// No pod of the webhook is ready.
    WebhookNotReady,
    /// The webhook is ready, and API servers get no answer from it.
    WebhookUnreachable,
    /// The webhook is ready, and cert-manager has not told API servers whom to trust.
    WebhookUntrusted,
}

/// How pods are to be injected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// The way that is wanted.
    pub way: Way,
    /// What is to be done about the admission policy.
    pub admission_policy: Action,
    /// What is to be done about the webhook's configuration.
    pub webhook: Action,
    /// Why it does not work, and whether the other way goes on meanwhile.
    pub obstacle: Option<(Obstacle, bool)>,
    /// Whether the other way goes as soon as this one is in force on every API server.
    pub switching: bool,
}

impl Choice {
    /// Whether the way that is wanted can be put in force.
    pub fn is_written(&self) -> bool {
        let action = match self.way {
            Way::AdmissionPolicy => self.admission_policy,
            Way::Webhook => self.webhook,
        };
        action == Action::Write && self.obstacle.is_none()
    }
}

/// The way by which new pods get an agent: the one that is chosen, with what is wanted or with what was in force before; else the one by
/// which they were seen to, until its objects go. `acts`: whether the chosen one does; none where that could not be seen.
pub fn injecting(
    chosen: Way,
    acts: Option<bool>,
    before: Option<Way>,
    present: &BTreeSet<Way>,
) -> Option<Way> {
    if acts == Some(true) {
        return Some(chosen);
    }
    before.filter(|way| present.contains(way) && (acts.is_none() || *way != chosen))
}

/// Chooses. The former way goes only when the one that is wanted has been seen in force; while that cannot work, the former
/// one stays. `needed`: whether there are namespaces to inject.
///
/// With `Auto` the webhook stays beside the admission policy for as long as it is installed: of several API servers each creates
/// pods, and nothing says when the last one has been upgraded. None that has the policy asks it.
pub fn choose(mode: Mode, situation: &Situation, needed: bool) -> Choice {
    let way = wanted(mode, situation);
    let is_settled = situation.in_force == Some(way) && situation.settled;
    let stays = |one: Way| {
        let is_second = mode == Mode::Auto && one == Way::Webhook;
        let was_first = situation.present.contains(&one) && !is_settled;
        needed && (one == way || is_second || was_first)
    };
    let admission_policy = match situation.policies_served {
        Some(false) => Action::Leave,
        _ if stays(Way::AdmissionPolicy) => Action::Write,
        _ => Action::Remove,
    };
    let webhook = match situation.webhook {
        Webhook::NotInstalled => Action::Remove,
        _ if !stays(Way::Webhook) => Action::Remove,
        Webhook::Unknown | Webhook::NoCertificate => Action::Leave,
        Webhook::NotReady if !situation.present.contains(&Way::Webhook) => Action::Leave,
        Webhook::NotReady | Webhook::Ready => Action::Write,
    };
    let obstacle = obstacle(way, situation).filter(|_| needed).map(|obstacle| {
        let other = match way.other() {
            Way::AdmissionPolicy => admission_policy,
            Way::Webhook => webhook,
        };
        let goes_on =
            other == Action::Write && (way == Way::Webhook || situation.webhook == Webhook::Ready);
        (obstacle, goes_on)
    });
    let both = (admission_policy, webhook) == (Action::Write, Action::Write);
    Choice {
        way,
        admission_policy,
        webhook,
        obstacle,
        switching: both && obstacle.is_none() && mode != Mode::Auto,
    }
}

fn wanted(mode: Mode, situation: &Situation) -> Way {
    // What is there is taken for right until the API server says otherwise.
    let has_policies = situation
        .policies_served
        .unwrap_or_else(|| situation.present != BTreeSet::from([Way::Webhook]));
    match mode {
        Mode::Webhook => Way::Webhook,
        Mode::Auto if !has_policies => Way::Webhook,
        Mode::Auto | Mode::AdmissionPolicy => Way::AdmissionPolicy,
    }
}

fn obstacle(way: Way, situation: &Situation) -> Option<Obstacle> {
    match (way, situation.webhook) {
        (Way::AdmissionPolicy, _) => {
            (situation.policies_served == Some(false)).then_some(Obstacle::PoliciesUnserved)
        }
        (Way::Webhook, Webhook::NotInstalled) => Some(Obstacle::WebhookNotInstalled),
        (Way::Webhook, Webhook::NoCertificate) => Some(Obstacle::WebhookWithoutCertificate),
        (Way::Webhook, Webhook::NotReady) => Some(Obstacle::WebhookNotReady),
        (Way::Webhook, Webhook::Unknown | Webhook::Ready) => None,
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INSTALL: &str = "`kubectl apply --server-side -k manifests/webhook`";
        let (namespace, webhook) = (names::OPERATOR_NAMESPACE, names::WEBHOOK);
        match self {
            Self::PoliciesUnserved => write!(
                formatter,
                "logging.injection.mode of ConfigMap {} is AdmissionPolicy, and this API server has no MutatingAdmissionPolicy of admissionregistration.k8s.io/v1 (Kubernetes 1.36 and newer have): write Auto there, and install the webhook with {INSTALL}",
                names::INSTALLATION
            ),
            Self::WebhookNotInstalled => write!(
                formatter,
                "pods of this cluster are injected by a webhook, which is not installed: install it with {INSTALL}"
            ),
            Self::WebhookWithoutCertificate => write!(
                formatter,
                "the webhook has no certificate yet: see the log of Deployment {}",
                names::FIELD_MANAGER
            ),
            Self::WebhookNotReady => write!(
                formatter,
                "no pod of the webhook is ready: see `kubectl -n {namespace} describe pods -l {}={webhook}`",
                names::NAME_LABEL
            ),
            Self::WebhookUnreachable => write!(
                formatter,
                "the webhook is ready, and pods tried in a dry run come back without the agent: allow API servers to connect to TCP port 8443 of the pods of Deployment {namespace}/{webhook}, and see `failed calling webhook` in their log"
            ),
            Self::WebhookUntrusted => write!(
                formatter,
                "API servers trust no certificate of the webhook, because cert-manager has not filled in `caBundle` of MutatingWebhookConfiguration {}: see `kubectl -n {namespace} describe certificates`, and the log of cert-manager's cainjector",
                names::WEBHOOK_CONFIGURATION
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn situation(policies_served: bool, webhook: Webhook) -> Situation {
        Situation {
            policies_served: Some(policies_served),
            webhook,
            present: BTreeSet::new(),
            in_force: None,
            settled: true,
        }
    }

    fn actions(mode: Mode, situation: &Situation) -> (Action, Action) {
        let choice = choose(mode, situation, true);
        (choice.admission_policy, choice.webhook)
    }

    #[test]
    fn auto_takes_what_the_api_server_has() {
        let newest = situation(true, Webhook::NotInstalled);
        assert_eq!(
            actions(Mode::Auto, &newest),
            (Action::Write, Action::Remove)
        );
        let oldest = situation(false, Webhook::Ready);
        assert_eq!(actions(Mode::Auto, &oldest), (Action::Leave, Action::Write));
    }

    #[test]
    fn after_an_upgrade_the_webhook_stays_for_api_servers_without_policies_as_long_as_it_is_installed()
     {
        let mut upgraded = situation(true, Webhook::Ready);
        upgraded.present = [Way::AdmissionPolicy, Way::Webhook].into();
        upgraded.in_force = Some(Way::AdmissionPolicy);
        let choice = choose(Mode::Auto, &upgraded, true);
        assert_eq!(choice.way, Way::AdmissionPolicy);
        assert_eq!(
            (choice.admission_policy, choice.webhook),
            (Action::Write, Action::Write)
        );
        // Nothing remains to be done.
        assert!(!choice.switching);
        upgraded.webhook = Webhook::NotInstalled;
        assert_eq!(
            actions(Mode::Auto, &upgraded),
            (Action::Write, Action::Remove)
        );
    }

    #[test]
    fn an_operator_that_has_never_seen_an_old_api_server_asks_for_the_webhook_too() {
        let newest = situation(true, Webhook::Ready);
        assert_eq!(actions(Mode::Auto, &newest), (Action::Write, Action::Write));
    }

    #[test]
    fn a_way_goes_only_when_every_api_server_has_had_time_to_take_up_the_other_one() {
        for (mode, way) in [
            (Mode::AdmissionPolicy, Way::AdmissionPolicy),
            (Mode::Webhook, Way::Webhook),
        ] {
            let mut switching = situation(true, Webhook::Ready);
            switching.present = [Way::AdmissionPolicy, Way::Webhook].into();
            switching.in_force = Some(way);
            switching.settled = false;
            assert_eq!(actions(mode, &switching), (Action::Write, Action::Write));
            assert!(choose(mode, &switching, true).switching);
            switching.settled = true;
            let (policy, webhook) = actions(mode, &switching);
            let removed = if way == Way::Webhook { policy } else { webhook };
            assert_eq!(removed, Action::Remove, "{mode:?}");
        }
    }

    #[test]
    fn a_way_that_cannot_work_leaves_the_other_one_in_force() {
        let mut oldest = situation(false, Webhook::Ready);
        oldest.present = [Way::Webhook].into();
        oldest.in_force = Some(Way::Webhook);
        let choice = choose(Mode::AdmissionPolicy, &oldest, true);
        assert_eq!(
            (choice.admission_policy, choice.webhook),
            (Action::Leave, Action::Write)
        );
        assert_eq!(choice.obstacle, Some((Obstacle::PoliciesUnserved, true)));
        for (webhook, obstacle) in [
            (Webhook::NotInstalled, Obstacle::WebhookNotInstalled),
            (Webhook::NoCertificate, Obstacle::WebhookWithoutCertificate),
            (Webhook::NotReady, Obstacle::WebhookNotReady),
        ] {
            let mut newest = situation(true, webhook);
            newest.present = [Way::AdmissionPolicy].into();
            newest.in_force = Some(Way::AdmissionPolicy);
            let choice = choose(Mode::Webhook, &newest, true);
            assert_eq!(choice.admission_policy, Action::Write, "{webhook:?}");
            assert_ne!(choice.webhook, Action::Write, "{webhook:?}");
            assert_eq!(choice.obstacle, Some((obstacle, true)));
        }
    }

    #[test]
    fn a_webhook_that_is_down_for_a_while_stays_as_it_is() {
        let mut down = situation(false, Webhook::NotReady);
        down.present = [Way::Webhook].into();
        let choice = choose(Mode::Auto, &down, true);
        assert_eq!(choice.webhook, Action::Write);
        assert_eq!(choice.obstacle, Some((Obstacle::WebhookNotReady, false)));
        down.webhook = Webhook::Unknown;
        assert_eq!(actions(Mode::Auto, &down), (Action::Leave, Action::Leave));
    }

    #[test]
    fn without_a_policy_nothing_stays() {
        let mut both = situation(true, Webhook::Ready);
        both.present = [Way::AdmissionPolicy, Way::Webhook].into();
        let choice = choose(Mode::Auto, &both, false);
        assert_eq!(
            (choice.admission_policy, choice.webhook),
            (Action::Remove, Action::Remove)
        );
        both.policies_served = Some(false);
        assert_eq!(
            choose(Mode::Auto, &both, false).admission_policy,
            Action::Leave
        );
    }

    #[test]
    fn each_obstacle_says_what_to_do() {
        for (obstacle, says) in [
            (Obstacle::PoliciesUnserved, "write Auto there"),
            (
                Obstacle::WebhookNotInstalled,
                "kubectl apply --server-side -k manifests/webhook",
            ),
            (Obstacle::WebhookWithoutCertificate, "see the log"),
            (
                Obstacle::WebhookNotReady,
                "describe pods -l app.kubernetes.io/name=katonic-logging-webhook",
            ),
            (
                Obstacle::WebhookUnreachable,
                "allow API servers to connect to TCP port 8443",
            ),
            (
                Obstacle::WebhookUntrusted,
                "cert-manager has not filled in `caBundle`",
            ),
        ] {
            assert!(obstacle.to_string().contains(says), "{obstacle}");
        }
    }

    /// A cluster with one API server, as far as injection goes.
    #[derive(Clone, Debug)]
    struct Cluster {
        served: bool,
        webhook: Webhook,
        present: BTreeSet<Way>,
        in_force: Option<Way>,
        settled: bool,
    }

    impl Cluster {
        fn works(&self, way: Way) -> bool {
            let can = match way {
                Way::AdmissionPolicy => self.served,
                Way::Webhook => self.webhook == Webhook::Ready,
            };
            can && self.present.contains(&way)
        }

        fn pass(&mut self, mode: Mode, probed: bool) {
            let situation = Situation {
                policies_served: Some(self.served),
                webhook: self.webhook,
                present: self.present.clone(),
                in_force: self.in_force,
                settled: self.settled,
            };
            let choice = choose(mode, &situation, true);
            for (way, action) in [
                (Way::AdmissionPolicy, choice.admission_policy),
                (Way::Webhook, choice.webhook),
            ] {
                match action {
                    Action::Write => {
                        self.present.insert(way);
                    }
                    Action::Remove => {
                        self.present.remove(&way);
                    }
                    Action::Leave => {}
                }
            }
            self.in_force = (probed && self.works(choice.way)).then_some(choice.way);
        }
    }

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![
            Just(Mode::Auto),
            Just(Mode::AdmissionPolicy),
            Just(Mode::Webhook)
        ]
    }

    proptest! {
        /// Whatever the mode is changed to, and whatever the dry runs show: pods are injected after each pass if they were
        /// before it, and in the end one way is left.
        #[test]
        fn no_change_of_the_mode_leaves_pods_without_injection(
            steps in prop::collection::vec((mode(), any::<bool>(), any::<bool>()), 1..20),
            served in any::<bool>(),
        ) {
            let mut cluster = Cluster {
                served,
                webhook: Webhook::Ready,
                present: BTreeSet::new(),
                in_force: None,
                settled: true,
            };
            cluster.pass(Mode::Auto, true);
            let injects = |cluster: &Cluster| {
                cluster.works(Way::AdmissionPolicy) || cluster.works(Way::Webhook)
            };
            prop_assert!(injects(&cluster));
            for (mode, probed, settled) in steps {
                cluster.settled = settled;
                cluster.pass(mode, probed);
                prop_assert!(injects(&cluster), "{mode:?}: {cluster:?}");
            }
            cluster.settled = true;
            cluster.pass(Mode::Webhook, true);
            cluster.pass(Mode::Webhook, true);
            prop_assert_eq!(cluster.present, BTreeSet::from([Way::Webhook]));
        }

        /// However long the other API servers take.
        #[test]
        fn an_upgraded_cluster_keeps_its_webhook(
            probes in prop::collection::vec(any::<bool>(), 1..10),
        ) {
            let mut cluster = Cluster {
                served: false,
                webhook: Webhook::Ready,
                present: BTreeSet::new(),
                in_force: None,
                settled: true,
            };
            cluster.pass(Mode::Auto, true);
            cluster.served = true;
            for probed in probes {
                cluster.pass(Mode::Auto, probed);
                prop_assert!(cluster.works(Way::Webhook), "{cluster:?}");
                prop_assert!(cluster.works(Way::AdmissionPolicy), "{cluster:?}");
            }
        }
    }

    #[test]
    fn what_was_seen_to_act_does_until_its_objects_go_or_it_is_seen_not_to() {
        let (policy, webhook) = (Way::AdmissionPolicy, Way::Webhook);
        let both = BTreeSet::from([policy, webhook]);
        let none = BTreeSet::new();
        for (chosen, acts, before, present, expected) in [
            (policy, Some(true), None, &both, Some(policy)),
            (policy, Some(true), Some(webhook), &both, Some(policy)),
            // Nobody has seen anything yet.
            (policy, Some(false), None, &both, None),
            (policy, None, None, &both, None),
            // It was written anew, and acts no longer.
            (policy, Some(false), Some(policy), &both, None),
            // It could not be written: what was there still is.
            (policy, None, Some(policy), &both, Some(policy)),
            (policy, None, Some(policy), &none, None),
            // The other one goes on until this one acts.
            (policy, Some(false), Some(webhook), &both, Some(webhook)),
            (policy, Some(false), Some(webhook), &none, None),
        ] {
            let way = injecting(chosen, acts, before, present);
            assert_eq!(way, expected, "{chosen:?} {acts:?} {before:?} {present:?}");
        }
    }
}
