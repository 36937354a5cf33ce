//! The API of katonic-logging.
