//! Which form of each policy an agent applies, and why not the one in the bundle. Applies none.

use katonic_log_config::{
    Unsupported,
    report::{Refused, RefusedReason, shortened},
};

use crate::{
    pod::Labels,
    process::{Processing, Waits, shelf::Unfit},
};

/// What is in force of a policy that selects the pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// UID of the policy.
    pub uid: String,
    /// Revision of the form that is in force; none: no form is, or the bundle says none.
    pub revision: Option<String>,
    /// Why that is not the form in the bundle.
    pub refused: Option<Refused>,
}

impl Standing {
    /// The form in the bundle is applied, or waits for room beside older policies.
    pub fn applied(uid: &str, revision: Option<&String>, processing: &Processing) -> Self {
        let waits = processing.waits() == Some(Waits::ForRoom);
        Self {
            uid: uid.to_owned(),
            revision: revision.filter(|_| !waits).cloned(),
            refused: waits.then(|| refused(&Unfit::NoRoom)),
        }
    }

    /// What was in force before stays so.
    pub fn unfit(uid: &str, unfit: &Unfit, before: &[Self]) -> Self {
        let before = before.iter().find(|standing| standing.uid == uid);
        Self {
            uid: uid.to_owned(),
            revision: before.and_then(|before| before.revision.clone()),
            refused: Some(refused(unfit)),
        }
    }

    /// A policy that the agent does not understand, if it is or may be for a pod with these labels.
    pub fn unsupported(unsupported: &Unsupported, labels: &Labels) -> Option<Self> {
        let selector = unsupported.selector.as_ref();
        let may_select = selector.is_none_or(|selector| selector.matches(labels));
        let uid = unsupported.uid.as_ref().filter(|_| may_select)?;
        Some(Self {
            uid: uid.clone(),
            revision: None,
            refused: Some(Refused {
                reason: RefusedReason::UnsupportedByAgent,
                message: shortened(&unsupported.reason),
            }),
        })
    }
}

fn refused(unfit: &Unfit) -> Refused {
    Refused {
        reason: match unfit {
            Unfit::NoRoom => RefusedReason::NoRoom,
            // The operator has compiled it, so it knows more.
            Unfit::Pattern { .. } => RefusedReason::UnsupportedByAgent,
        },
        message: shortened(&unfit.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::{Pattern, Selector};

    use super::*;

    fn revision(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_policy_that_waits_for_a_container_is_in_force_and_one_that_waits_for_room_is_not() {
        let of = |waits| Standing::applied("u", Some(&revision("2")), &Processing::waiting(waits));
        let waits = of(Waits::ForContainer);
        assert_eq!(
            (waits.revision.as_deref(), waits.refused),
            (Some("2"), None)
        );
        let waits = of(Waits::ForRoom);
        assert_eq!(waits.revision, None);
        let refused = waits.refused.unwrap();
        assert_eq!(refused.reason, RefusedReason::NoRoom);
        assert!(refused.message.contains("6 MiB"), "{refused:?}");
    }

    #[test]
    fn the_form_that_stays_is_told_with_why_the_new_one_does_not_apply() {
        let before = Standing {
            uid: "u".to_owned(),
            revision: Some(revision("1")),
            refused: None,
        };
        let stays = Standing::unfit("u", &Unfit::NoRoom, &[before]);
        assert_eq!(stays.revision.as_deref(), Some("1"));
        assert_eq!(stays.refused.unwrap().reason, RefusedReason::NoRoom);
        let error = Pattern::try_from("(".to_owned())
            .unwrap()
            .compile()
            .unwrap_err();
        let part = "filters[0]".to_owned();
        let new = Standing::unfit("u", &Unfit::Pattern { part, error }, &[]);
        assert_eq!(new.revision, None);
        let refused = new.refused.unwrap();
        assert_eq!(refused.reason, RefusedReason::UnsupportedByAgent);
        assert!(refused.message.starts_with("filters[0]: "), "{refused:?}");
    }

    #[test]
    fn a_policy_that_is_not_understood_is_told_where_it_may_be_meant() {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let of = |uid: Option<&str>, selector| {
            let unsupported = Unsupported {
                policy: "p".to_owned(),
                uid: uid.map(str::to_owned),
                selector,
                reason: "x".repeat(1000),
            };
            Standing::unsupported(&unsupported, &labels)
        };
        let selecting = |app: &str| Selector {
            match_labels: [("app".to_owned(), app.to_owned())].into(),
            ..Selector::default()
        };
        let told = of(Some("u"), Some(selecting("web"))).unwrap();
        let refused = told.refused.unwrap();
        assert_eq!(refused.reason, RefusedReason::UnsupportedByAgent);
        assert_eq!(refused.message.chars().count(), 200);
        assert_eq!(told.revision, None);
        assert!(of(Some("u"), None).is_some(), "it may be");
        assert_eq!(of(Some("u"), Some(selecting("other"))), None);
        assert_eq!(of(None, None), None, "of nobody knows which");
    }
}
