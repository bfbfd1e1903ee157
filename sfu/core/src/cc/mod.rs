//! Congestion control: what arrived when, what a link carries, what may leave when, and which layers are worth it.

mod capacity;
pub mod lesson_allocator;
pub mod link_control;
pub mod link_estimator;
pub mod link_monitor;
pub mod pacer;
pub mod send_history;
mod sliding;
pub mod step_prober;
pub mod twcc;
