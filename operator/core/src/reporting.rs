//! Where agents report: what they are told of it, what leads to it, and how often they shall.

use std::net::IpAddr;

use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use katonic_log_config as config;
use katonic_log_config::Reporting;
use kube_core::Resource;

use crate::{external::External, names};

/// Seconds between two reports of a pod in which nothing changes.
const INTERVAL: u32 = 60;

/// Reports a second that the operator wants at most, on average.
const RATE: usize = 50;

/// How agents reach the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reach {
    /// By its Service, which leads to the elected one.
    Service(Place),
    /// By an address: it runs outside of the cluster.
    Url(External),
}

/// Where this instance takes reports, as the Service leads there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The operator's namespace.
    pub namespace: String,
    /// The address of this instance's pod.
    pub pod_ip: IpAddr,
    /// The port that it listens on.
    pub port: u16,
}

impl Reach {
    /// The name that the certificate has to have.
    pub fn host(&self) -> String {
        match self {
            Self::Service(place) => format!("{}.{}.svc", names::REPORTS, place.namespace),
            Self::Url(external) => external.host(),
        }
    }

    /// What agents are told, with these authorities to trust.
    pub fn reporting(&self, url: config::Endpoint, certificate_authorities: String) -> Reporting {
        Reporting {
            url,
            server_name: self.host(),
            certificate_authorities,
        }
    }
}

/// The Service that agents are told of, as far as it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Served {
    /// Its UID: it owns what leads to it.
    pub uid: String,
    /// Its address, for every pod; none where it has none of its own.
    pub address: Option<IpAddr>,
}

impl Served {
    /// What the Service says.
    pub fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref());
        Self {
            uid: service.metadata.uid.clone().unwrap_or_default(),
            // `None` is the word of one without an address (Kubernetes: "Service, Headless Services").
            address: address.and_then(|address| address.parse().ok()),
        }
    }

    /// The address as agents are told it.
    pub fn url(&self) -> Option<config::Endpoint> {
        let url = match self.address? {
            IpAddr::V4(address) => format!("https://{address}"),
            IpAddr::V6(address) => format!("https://[{address}]"),
        };
        config::Endpoint::try_from(url).ok()
    }

    /// As the owner of what leads to it.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: Service::api_version(&()).into_owned(),
            kind: Service::kind(&()).into_owned(),
            name: names::REPORTS.to_owned(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }
}

/// Whether an `EndpointSlice` of our name is ours: any of the marks that it was written with will do, so that one from which somebody
/// took another one is still ours to repair.
pub fn is_ours(slice: &ObjectMeta) -> bool {
    let is_marked = |label: &str, value: &str| {
        let labels = slice.labels.as_ref();
        labels
            .and_then(|labels| labels.get(label))
            .map(String::as_str)
            == Some(value)
    };
    let is_owned =
        |owner: &OwnerReference| owner.kind == Service::kind(&()) && owner.name == names::REPORTS;
    is_marked(names::MANAGED_BY_LABEL, names::FIELD_MANAGER)
        || is_marked(names::ENDPOINTS_MANAGED_BY_LABEL, names::GROUP)
        || slice.owner_references.iter().flatten().any(is_owned)
}

/// The `EndpointSlice` by which the Service leads to this instance.
pub fn endpoint_slice(place: &Place, service: &Served) -> EndpointSlice {
    let labels = [
        (names::SERVICE_NAME_LABEL, names::REPORTS),
        (names::ENDPOINTS_MANAGED_BY_LABEL, names::GROUP),
        (names::MANAGED_BY_LABEL, names::FIELD_MANAGER),
    ];
    let address_type = match place.pod_ip {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(names::REPORTS.to_owned()),
            namespace: Some(place.namespace.clone()),
            labels: Some(
                labels
                    .map(|(label, value)| (label.to_owned(), value.to_owned()))
                    .into(),
            ),
            owner_references: Some(vec![service.owner()]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![place.pod_ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            ..Endpoint::default()
        }]),
        ports: Some(vec![EndpointPort {
            // Traffic is led by the name that the Service's port has.
            name: Some(names::REPORTS_PORT.to_owned()),
            port: Some(place.port.into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

/// After how many seconds a pod shall report again if nothing changes, where so many pods do.
pub fn interval(pods: usize) -> u32 {
    let bounded = u32::try_from(pods.div_ceil(RATE)).unwrap_or(u32::MAX);
    bounded.max(INTERVAL)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceSpec;

    use super::*;

    fn place(pod_ip: &str) -> Place {
        Place {
            namespace: "katonic-logging".to_owned(),
            pod_ip: pod_ip.parse().unwrap(),
            port: 8444,
        }
    }

    fn served(cluster_ip: &str) -> Served {
        Served::of(&Service {
            metadata: ObjectMeta {
                uid: Some("u".to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some(cluster_ip.to_owned()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        })
    }

    #[test]
    fn agents_are_told_of_the_service_by_number_and_of_an_address_as_it_is() {
        let url = |cluster_ip| served(cluster_ip).url().map(String::from);
        assert_eq!(url("10.96.0.7").as_deref(), Some("https://10.96.0.7/"));
        assert_eq!(url("fd00::7").as_deref(), Some("https://[fd00::7]/"));
        for without in ["None", "", "reports.example.com"] {
            assert_eq!(url(without), None, "{without}");
        }
        let inside = Reach::Service(place("10.1.2.3"));
        let told = inside.reporting(served("10.96.0.7").url().unwrap(), "pem".to_owned());
        assert_eq!(
            told.server_name,
            "katonic-logging-reports.katonic-logging.svc"
        );
        let external = External::parse("https://[fd00::1]:8444").unwrap();
        let outside = Reach::Url(external.clone());
        let told = outside.reporting(external.endpoint().clone(), "pem".to_owned());
        assert_eq!(told.server_name, "fd00::1");
        assert_eq!(told.url.to_string(), "https://[fd00::1]:8444/");
    }

    #[test]
    fn the_slice_is_of_the_pods_family_and_belongs_to_the_service() {
        let slice = endpoint_slice(&place("10.1.2.3"), &served("10.96.0.7"));
        assert_eq!(slice.address_type, "IPv4");
        assert_eq!(slice.endpoints.unwrap()[0].addresses, ["10.1.2.3"]);
        let port = &slice.ports.unwrap()[0];
        assert_eq!(
            (port.name.as_deref(), port.port),
            (Some("https"), Some(8444))
        );
        assert_eq!(slice.metadata.owner_references.unwrap()[0].uid, "u");
        let labels = slice.metadata.labels.unwrap();
        assert_eq!(labels[names::SERVICE_NAME_LABEL], names::REPORTS);
        let other = endpoint_slice(&place("fd00::3"), &served("fd00::7"));
        assert_eq!(other.address_type, "IPv6");
    }

    #[test]
    fn a_slice_is_ours_by_any_of_its_marks() {
        let written = endpoint_slice(&place("10.1.2.3"), &served("10.96.0.7")).metadata;
        let labels = written.labels.clone().unwrap();
        let marks = [names::ENDPOINTS_MANAGED_BY_LABEL, names::MANAGED_BY_LABEL];
        for mark in marks {
            let marked = ObjectMeta {
                labels: Some([(mark.to_owned(), labels[mark].clone())].into()),
                ..ObjectMeta::default()
            };
            assert!(is_ours(&marked), "{mark}");
        }
        let owned = ObjectMeta {
            labels: None,
            ..written
        };
        assert!(is_ours(&owned));
        let service = names::SERVICE_NAME_LABEL;
        let of_others = ObjectMeta {
            labels: Some([(service.to_owned(), labels[service].clone())].into()),
            ..ObjectMeta::default()
        };
        assert!(!is_ours(&of_others));
    }

    #[test]
    fn the_more_pods_report_the_less_often_each_does() {
        for (pods, seconds) in [
            (0, 60),
            (100, 60),
            (3_000, 60),
            (3_001, 61),
            (10_000, 200),
            (usize::MAX, u32::MAX),
        ] {
            assert_eq!(interval(pods), seconds, "{pods}");
        }
    }
}
