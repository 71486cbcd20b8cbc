//! The whole producer against scripted brokers, on a paused clock.

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

mod adversity;
mod delivery;
mod kafka;
mod observing;
mod outcomes;
mod recent;
mod settings;
mod spreading;
