//! SFU nodes in processes of their own: they connect over QUIC, here is the other end.
//!
//! [`authority`] makes the certificates by which both sides know each other; the listener lets nodes in; each has
//! a task that keeps its link over all its connections and tells the service what it hears.

pub mod authority;
mod config;
mod feed;
mod listener;
mod metrics;
mod node;

pub use self::config::{ControlConfig, ControlKnobs};
pub use self::listener::{ControlError, Listening, listen};
