//! The webhook: the way of injection for API servers without `MutatingAdmissionPolicy`. What it is asked for, what it answers,
//! and what it shows of itself.

pub mod configuration;
pub mod review;
