//! Reports of agents, as the controller looks after them: the address that agents are told, what leads to it, and the certificate.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::Reporting;
use katonic_logging_core::{
    certificate::Peer,
    delivery::{Asked, Fleet},
    names,
    reporting::{Place, Reach, Served, endpoint_slice, is_ours},
};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use super::{
    alarm::Alarm,
    apply::{self, Applier},
    certificates::{self, Keeper, Purpose},
    sources::{Owned, PlaneSources, Sources, named},
};
use crate::{
    args::ControllerArgs,
    cache::{Cache, Change, Seen, Signal, chain},
    health::Health,
    https::{Identity, IdentityError},
    reports::{self, Roster},
};

const SLICE: &str = "EndpointSlice";

/// When what could not be read or written is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// What pods report, and where they are told to. It receives reports until it is dropped.
pub struct Reports {
    fleet: Arc<Mutex<Fleet>>,
    roster: Arc<Roster>,
    receiving: Option<Receiving>,
}

/// What there is where reports are received.
struct Receiving {
    reach: Reach,
    /// What is seen of the cluster, where agents come by the Service.
    watched: Option<Watched>,
    slices: Api<EndpointSlice>,
    keeper: Keeper,
    identity: Arc<Identity>,
    /// The certificate that is shown, as PEM.
    shown: Option<String>,
    reporting: Option<Reporting>,
    alarm: Alarm,
    health: Arc<Health>,
    server: JoinHandle<()>,
}

/// What may go wrong.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    #[error("failed to show the certificate")]
    Show(#[source] IdentityError),
    #[error(transparent)]
    Write(#[from] apply::Error),
}

/// The Service that agents are told of, and what leads from it to this instance.
struct Watched {
    service: Cache<Served>,
    slice: Cache<Owned>,
}

impl Reports {
    /// Begins to receive, where it is known how agents get here.
    pub fn new(
        client: &Client,
        args: &ControllerArgs,
        signal: &Arc<Signal>,
        health: &Arc<Health>,
    ) -> Self {
        let fleet = Arc::new(Mutex::new(Fleet::default()));
        let roster = Arc::<Roster>::default();
        let place = args.pod_ip.map(|pod_ip| Place {
            namespace: args.namespace.clone(),
            pod_ip,
            port: args.report_address.port(),
        });
        let reach = match (&args.report_url, place) {
            (Some(url), _) => Some(Reach::Url(url.clone())),
            (None, place) => place.map(Reach::Service),
        };
        if reach.is_none() {
            tracing::info!(
                "agents do not report: neither the address of this pod (POD_IP) nor --report-url is given"
            );
        }
        let receiving = reach.map(|reach| {
            let identity = Arc::<Identity>::default();
            let server = tokio::spawn(reports::serve(
                client.clone(),
                args.report_address,
                identity.clone(),
                (fleet.clone(), roster.clone()),
                (signal.clone(), health.clone()),
            ));
            let purpose = Purpose {
                server: names::REPORTS,
                secret: names::REPORTS_CERTIFICATE,
                host: reach.host(),
                peer: Peer::Agent,
                shown_here: true,
            };
            let watched = match &reach {
                Reach::Service(_) => Some(Watched::begin(client, &args.namespace, signal)),
                Reach::Url(_) => None,
            };
            Receiving {
                reach,
                watched,
                slices: Api::namespaced(client.clone(), &args.namespace),
                keeper: Keeper::new(client.clone(), &args.namespace, purpose),
                identity,
                shown: None,
                reporting: None,
                alarm: Alarm::new(signal),
                health: health.clone(),
                server,
            }
        });
        Self {
            fleet,
            roster,
            receiving,
        }
    }

    /// What pods have reported; none where nobody listens.
    pub fn fleet(&self) -> Option<Arc<Mutex<Fleet>>> {
        self.receiving.as_ref().map(|_| self.fleet.clone())
    }

    /// Has reports taken of these policies and of no others, before any agent is told of them.
    pub fn expect(&self, policies: Option<&[Asked<'_>]>) {
        let fleet = self.fleet.lock();
        fleet
            .unwrap_or_else(PoisonError::into_inner)
            .expect(policies);
    }

    /// How many pods report.
    fn pods(&self) -> usize {
        self.fleet
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Where agents are to be told to report; none: nowhere.
    pub fn reporting(&self) -> Option<Reporting> {
        self.receiving.as_ref()?.reporting.clone()
    }

    /// Whether enough has been listed to know that, or is known not to be to be had.
    pub fn are_settled(&self) -> bool {
        let watched = self.receiving.as_ref().and_then(|one| one.watched.as_ref());
        watched.is_none_or(|watched| watched.service.is_settled() && watched.slice.is_settled())
    }

    /// Looks what there is, and brings it where it should be: the certificate, and what leads here.
    pub async fn look(
        &mut self,
        applier: &mut Applier,
        sources: &Sources,
        planes: &PlaneSources,
        now: Timestamp,
    ) {
        // Before anybody is led here.
        self.roster.follow(planes.pods());
        let pods = self.pods();
        if let Some(receiving) = &mut self.receiving {
            // Pods that are gone send nothing that would say so.
            receiving.health.metrics.count_reporting_pods(pods);
            receiving.look(applier, sources, planes, now).await;
        }
    }
}

impl Receiving {
    async fn look(
        &mut self,
        applier: &mut Applier,
        sources: &Sources,
        planes: &PlaneSources,
        now: Timestamp,
    ) {
        let told = planes.reporting();
        let service = self
            .watched
            .as_ref()
            .map(|watched| watched.service.one(names::REPORTS));
        let (url, service) = match (&self.reach, service) {
            (Reach::Url(url), _) => (Some(url.endpoint().clone()), None),
            (Reach::Service(_), Some(Seen::There(service))) => (service.url(), Some(service)),
            (Reach::Service(_), Some(Seen::Absent)) => (None, None),
            // Unseen, it is as agents have been told.
            (Reach::Service(_), Some(Seen::Unknown) | None) => return self.stay(told),
        };
        let Some(url) = url else {
            self.reporting = None;
            return;
        };
        let kept = self
            .keep(applier, sources, &told, service.as_ref(), now)
            .await;
        let written = match &service {
            Some(service) => self.lead_here(applier, service).await,
            None => Ok(()),
        };
        let due = match &kept {
            Ok((_, until)) if written.is_ok() => *until,
            _ => now.saturating_add(AGAIN).unwrap_or(now),
        };
        self.alarm.set(due);
        if let Err(error) = written {
            tracing::error!(error = %chain(&error), "failed to lead agents to this instance");
        }
        match kept {
            Ok((authorities, _)) => {
                self.reporting = authorities.map(|pem| self.reach.reporting(url, pem));
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "failed to look after the certificate for reports");
                self.stay(told);
            }
        }
    }

    /// Has agents told what they were told before.
    fn stay(&mut self, told: Vec<Option<Reporting>>) {
        if self.reporting.is_none() {
            self.reporting = told.into_iter().flatten().next();
        }
    }

    /// Looks after the certificate and shows it: whom agents have to trust, and until when nothing is due.
    async fn keep(
        &mut self,
        applier: &mut Applier,
        sources: &Sources,
        told: &[Option<Reporting>],
        service: Option<&Served>,
        now: Timestamp,
    ) -> Result<(Option<String>, Timestamp), Error> {
        let version = sources
            .secrets
            .with(|all| all.get(names::REPORTS_CERTIFICATE).cloned())
            .flatten();
        let places = told.iter().map(|told| {
            let authorities = told
                .as_ref()
                .map(|told| told.certificate_authorities.as_str());
            authorities.unwrap_or_default()
        });
        let owner = service.map(Served::owner);
        let (certificates, until) = self
            .keeper
            .keep(applier, version.as_ref(), places, owner, now)
            .await?;
        if let Some((certificate, key)) = certificates.serving()
            && self.shown.as_deref() != Some(certificate)
        {
            self.identity
                .show(certificate.as_bytes(), key.expose())
                .map_err(Error::Show)?;
            self.shown = Some(certificate.to_owned());
        }
        let expires = certificates.expires().map(Timestamp::as_second);
        self.health.metrics.set_reports_certificate_expiry(expires);
        Ok((certificates.ca_bundle(now), until))
    }

    /// Has the Service lead to this instance.
    async fn lead_here(&self, applier: &mut Applier, service: &Served) -> Result<(), Error> {
        let (Reach::Service(place), Some(watched)) = (&self.reach, &self.watched) else {
            return Ok(());
        };
        let observed = watched.slice.one(names::REPORTS).there();
        let slice = endpoint_slice(place, service);
        applier.write(&self.slices, SLICE, &slice, observed).await?;
        Ok(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Watched {
    fn begin(client: &Client, namespace: &str, signal: &Arc<Signal>) -> Self {
        Self {
            service: Cache::watch(
                Api::<Service>::namespaced(client.clone(), namespace),
                named(names::REPORTS),
                signal.clone(),
                |service, _| Served::of(&service),
                |_, _| Change::Plan,
            ),
            slice: Cache::watch(
                Api::<EndpointSlice>::namespaced(client.clone(), namespace),
                named(names::REPORTS),
                signal.clone(),
                |slice, _| Owned {
                    ours: is_ours(&slice.metadata),
                    ..Owned::of(&slice.metadata)
                },
                |_, _| Change::Plan,
            ),
        }
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reports")
            .field("receiving", &self.receiving.is_some())
            .finish_non_exhaustive()
    }
}
