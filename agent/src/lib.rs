//! The log agent.
