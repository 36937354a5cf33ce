//! Of several installations of the operator in one cluster one works: they would share policies and pods.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::names;

/// A namespace of this very time: another one may have its name later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Home {
    /// Its name.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

/// How this installation stands to the others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is the one.
    Ours,
    /// There is none.
    Free,
    /// There was one, and its namespace is no more.
    Abandoned,
    /// Another one is, in this namespace.
    Theirs(String),
}

/// The claim of this installation: a lease without an end, held by its namespace. It goes with the namespace, and not
/// before: an operator that is restarted, or down for a while, is still the one.
pub fn claim(home: &Home) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(names::CLAIM.to_owned()),
            namespace: Some(names::CLAIM_NAMESPACE.to_owned()),
            labels: Some(
                [(
                    names::MANAGED_BY_LABEL.to_owned(),
                    names::FIELD_MANAGER.to_owned(),
                )]
                .into(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                name: home.namespace.clone(),
                uid: home.uid.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(home.namespace.clone()),
            ..LeaseSpec::default()
        }),
    }
}

/// Who holds a claim; none when nobody does.
pub fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// How this installation stands to the claim as it is. `living` is the UID of the holder's namespace, if that exists.
pub fn standing(claim: Option<&Lease>, home: &Home, living: Option<&str>) -> Standing {
    let Some(claim) = claim else {
        return Standing::Free;
    };
    match holder(claim) {
        None => Standing::Abandoned,
        Some(holder) if holder == home.namespace => Standing::Ours,
        Some(holder) => {
            let mut owners = claim.metadata.owner_references.iter().flatten();
            let lives = owners.any(|owner| owner.name == holder && living == Some(&owner.uid));
            if lives {
                Standing::Theirs(holder.to_owned())
            } else {
                Standing::Abandoned
            }
        }
    }
}

/// Why this installation does nothing, and what to do about it.
pub fn refusal(home: &Home, holder: &str) -> String {
    format!(
        "the operator in namespace {holder} works in this cluster already, so the one in namespace {} does nothing: remove one of them, with its namespace; if namespace {holder} is to stay and has no operator any more, `kubectl -n {} delete lease {}`",
        home.namespace,
        names::CLAIM_NAMESPACE,
        names::CLAIM
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(namespace: &str) -> Home {
        Home {
            namespace: namespace.into(),
            uid: format!("uid-of-{namespace}"),
        }
    }

    #[test]
    fn a_claim_holds_as_long_as_the_namespace_of_its_holder() {
        let (first, second) = (home("first"), home("second"));
        let held = claim(&first);
        assert_eq!(standing(None, &second, None), Standing::Free);
        let stands = |home, living| standing(Some(&held), home, living);
        assert_eq!(stands(&first, Some("uid-of-first")), Standing::Ours);
        assert_eq!(
            stands(&second, Some("uid-of-first")),
            Standing::Theirs("first".into())
        );
        assert_eq!(stands(&second, None), Standing::Abandoned);
        assert_eq!(stands(&second, Some("a-later-one")), Standing::Abandoned);
        let mut nobodys = held.clone();
        nobodys.spec = None;
        assert_eq!(standing(Some(&nobodys), &second, None), Standing::Abandoned);
    }

    #[test]
    fn the_holder_of_a_claim_is_found_again() {
        assert_eq!(holder(&claim(&home("first"))), Some("first"));
    }
}
