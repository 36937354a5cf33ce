//! The operator's shell: it observes the cluster, applies what the core has planned, and reports. Decides nothing.

pub mod access;
pub mod args;
pub mod audit;
mod bucket;
pub mod cache;
mod claim;
pub mod controller;
pub mod doctor;
pub mod files;
pub mod health;
mod https;
pub mod inject;
pub mod leader;
pub mod lint;
pub mod logs;
pub mod manual;
pub mod metrics;
pub mod owners;
pub mod pod;
pub mod render;
pub mod reports;
pub mod status;
pub mod telemetry;
pub mod webhook;
pub mod workload;
