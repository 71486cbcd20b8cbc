//! The transactional producer against scripted coordinators and leaders, on a paused clock.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests, helper functions included"
)]

#[path = "../model/mod.rs"]
#[allow(
    unreachable_pub,
    reason = "shared with the simulation inside the crate"
)]
mod model;

mod attempts;
mod cluster;
mod drops;
mod faults;
mod protocol;
