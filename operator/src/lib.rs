//! The operator's shell: it observes the cluster, applies what the core has planned, and reports. Decides nothing.

pub mod args;
pub mod cache;
pub mod controller;
pub mod health;
pub mod leader;
pub mod metrics;
pub mod pod;
pub mod telemetry;
