//! Fuzz targets for everything that reads foreign bytes; see `README.md`.

pub mod broker;
pub mod messages;
pub mod targets;
