//! `katonic-logging status --watch`: shows the policies again whenever something of them changes.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::{
    Candidate, audit,
    overview::{Overview, PolicyView, change::changes, text::text},
};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy};
use kube::{Api, Client, core::DeserializeGuard, runtime::watcher::Config};

use super::{
    Error, palette,
    policies::{audit_policy, audit_view, logging_policy},
    print,
};
use crate::{
    args::Output,
    cache::{Cache, Change, Signal},
};

/// Changes that come so close together are shown at once.
const GATHER: Duration = Duration::from_millis(200);

/// Puts the cursor of a terminal at its top left corner, and what is below it away (ECMA-48, CUP and ED).
const AFRESH: &str = "\x1b[H\x1b[J";

struct Watched {
    logging: Cache<Candidate>,
    audit: Cache<audit::Candidate>,
}

/// Shows the policies of these names, all if none is named, until nobody reads any more.
pub async fn watch(client: &Client, names: &[String], output: Output) -> Result<(), Error> {
    let signal = Arc::new(Signal::default());
    let watched = Watched {
        logging: Cache::watch(
            Api::<DeserializeGuard<LoggingPolicy>>::all(client.clone()),
            Config::default(),
            signal.clone(),
            |policy, _| logging_policy(policy),
            |_, _| Change::Plan,
        ),
        audit: Cache::watch(
            Api::<DeserializeGuard<AuditPolicy>>::all(client.clone()),
            Config::default(),
            signal.clone(),
            |policy, _| audit_policy(policy),
            |_, _| Change::Plan,
        ),
    };
    let is_terminal = std::io::stdout().is_terminal() && output == Output::Text;
    let mut shown: Option<Overview> = None;
    let mut complaint = None;
    loop {
        signal.changed(GATHER).await;
        if !watched.logging.is_settled() || !watched.audit.is_settled() {
            continue;
        }
        let error = watched.logging.error().or_else(|| watched.audit.error());
        if error.is_some() && error != complaint {
            super::complain(&format!(
                "the policies cannot be followed at present: {}",
                error.as_deref().unwrap_or_default()
            ));
        }
        complaint = error;
        let overview = watched.overview(names);
        if shown.as_ref() == Some(&overview) {
            continue;
        }
        let now = Timestamp::now();
        let rendered = match output {
            Output::Text if is_terminal => {
                format!("{AFRESH}{}", text(&overview, palette(), now))
            }
            Output::Text => {
                let before = shown.clone().unwrap_or_default();
                let time = Timestamp::from_second(now.as_second()).unwrap_or(now);
                let lines = changes(&before, &overview).into_iter();
                let lines: Vec<String> = lines.map(|line| format!("{time} {line}\n")).collect();
                lines.concat()
            }
            // One document a line, as `kubectl get --watch -o json` separates them.
            Output::Json => serde_json::to_string(&overview)
                .map(|json| json + "\n")
                .map_err(|error| Error::output(&error))?,
            Output::Yaml => {
                let yaml = serde_saphyr::to_string(&overview);
                format!("---\n{}", yaml.map_err(|error| Error::output(&error))?)
            }
        };
        if !print(&rendered)? {
            return Ok(());
        }
        shown = Some(overview);
    }
}

impl Watched {
    fn overview(&self, names: &[String]) -> Overview {
        let is_asked = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
        let logging = self.logging.all().unwrap_or_default().into_values();
        let logging = logging.filter(|one| is_asked(&one.name));
        let audit = self.audit.all().unwrap_or_default().into_values();
        let audit = audit.filter(|one| is_asked(&one.name));
        let logging = logging.map(|one| PolicyView::of(&one));
        let views = logging.chain(audit.map(|one| audit_view(&one)));
        Overview {
            policies: views.map(PolicyView::mended).collect(),
            pods: None,
        }
    }
}
