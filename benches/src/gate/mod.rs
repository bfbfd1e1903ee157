//! The gate of the packet path: instructions of fixed work, which no noise moves, against a committed baseline.
//!
//! `make bench-gate` runs [`workloads`] under `valgrind --tool=callgrind`. What counts is what a workload's functions
//! execute themselves, without
//! - crypto (all that is not Rust, and the front of aws-lc): it chooses its code by the CPU it runs on;
//! - other objects: the C library copies memory in the CPU's way, too;
//! - what only debug builds check ([`callgrind::LEFT_OUT`]).
//!
//! Nothing here is seeded at random or reads a clock but for the origin of virtual time, so two runs differ by next
//! to nothing. Another compiler or profile is another baseline, and the gate says so instead of failing.

pub mod baseline;
pub mod callgrind;
pub mod workloads;
