//! The whole consumer over scripted brokers, with a paused clock.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod adversity;
mod closing;
mod committing;
mod groups;
mod hostile;
mod hostile_places;
mod metadata;
mod oversized;
mod positions;
mod reading;
mod rebalancing;
mod splitting;
mod subscribing;
mod support;
