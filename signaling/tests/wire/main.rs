//! Real sockets: clients and plain HTTP requests against the server, with a scripted SFU behind it.

#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests as tests")]

mod connections;
mod http;
mod older;
mod signal;
mod support;
