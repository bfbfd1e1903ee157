//! The control side of the SFU: a task between signaling and the workers.
//!
//! `Rooms` decides; this module moves: commands of signaling and reports of the workers in, orders to the
//! workers and events for signaling out. All queues are bounded. A signaling service that stops reading its
//! events stops being read itself, and media goes on; so it must never wait to send without also reading.

mod backoff;
mod credentials;
mod offering;
pub mod quic;
mod rooms;

use sfu_core::command::Event;
use sfu_protocol::control::{FromSfu, ToSfu};
use tokio::sync::{mpsc, watch};
use tracing::debug;

pub(crate) use self::rooms::{ControlStats, MAX_PUBLISHED, MAX_RECEIVED, MAX_TRANSPORTS, Rooms, RoomsConfig};
use crate::shutdown::Phase;
use crate::worker_thread::{Order, end_process};
use crate::workers::Workers;

/// Signaling's end of the control link. Order is kept in each direction.
#[derive(Debug)]
pub struct ControlLink {
    /// Commands to the SFU. While [`Self::events`] is not read, sending may wait for ever.
    pub commands: mpsc::Sender<ToSfu>,
    /// Events from the SFU; they end when it has stopped.
    pub events: mpsc::Receiver<FromSfu>,
}

/// The SFU's end of the control link.
pub(crate) struct LinkEnd {
    commands: mpsc::Receiver<ToSfu>,
    events: mpsc::Sender<FromSfu>,
}

/// A control link inside this process.
pub(crate) fn link() -> (ControlLink, LinkEnd) {
    let (to_sfu, commands) = mpsc::channel(LINK_CAPACITY);
    let (to_signaling, events) = mpsc::channel(LINK_CAPACITY);
    (ControlLink { commands: to_sfu, events }, LinkEnd { commands, events: to_signaling })
}

/// Most messages that wait in each direction of the link: a whole school that joins at once.
const LINK_CAPACITY: usize = 256;

/// Most events that wait for the link besides; beyond that nothing more is taken in.
const MAX_PENDING_EVENTS: usize = 1024;

/// Most messages taken in before their consequences are carried out. Those of one batch that need a new
/// negotiation share it.
const BATCH: usize = 64;

/// Starts the control task. It runs until the workers have stopped; if it panics, the process ends.
pub(crate) fn spawn(
    rooms: Rooms,
    link: LinkEnd,
    workers: Workers,
    reports: mpsc::Receiver<Event>,
    phase: watch::Receiver<Phase>,
) -> watch::Receiver<ControlStats> {
    let (sender, stats) = watch::channel(ControlStats::default());
    let task = tokio::spawn(run(rooms, link, workers, reports, phase, sender));
    tokio::spawn(async move {
        // The other error is that the runtime ends.
        if task.await.is_err_and(|error| error.is_panic()) {
            end_process();
        }
    });
    stats
}

async fn run(
    mut rooms: Rooms,
    mut link: LinkEnd,
    workers: Workers,
    mut reports: mpsc::Receiver<Event>,
    mut phase: watch::Receiver<Phase>,
    stats: watch::Sender<ControlStats>,
) {
    let mut commands = Vec::with_capacity(BATCH);
    let mut events = Vec::with_capacity(BATCH);
    let mut connected = true;
    loop {
        let room_for_more = rooms.pending_events() < MAX_PENDING_EVENTS;
        tokio::select! {
            count = link.commands.recv_many(&mut commands, BATCH), if connected && room_for_more => {
                // Media goes on without signaling.
                connected = count > 0;
            }
            count = reports.recv_many(&mut events, BATCH), if room_for_more => {
                if count == 0 {
                    break;
                }
            }
            permit = link.events.reserve(), if rooms.pending_events() > 0 => match (permit, rooms.poll_event()) {
                (Ok(permit), Some(event)) => permit.send(event),
                _ => rooms.discard_events(),
            },
            Ok(()) = phase.changed() => rooms.enter(*phase.borrow_and_update()),
        }
        commands.drain(..).for_each(|command| rooms.handle_command(command));
        events.drain(..).for_each(|event| rooms.handle_event(event));
        rooms.settle();
        while let Some((worker, command)) = rooms.poll_command() {
            if workers.send(worker, Order::Command(command)).await.is_err() {
                break;
            }
        }
        stats.send_if_modified(|last| std::mem::replace(last, rooms.stats()) != rooms.stats());
    }
    // The end may have come faster than the announcement of it.
    if phase.has_changed().unwrap_or(false) {
        rooms.enter(*phase.borrow_and_update());
    }
    while let Some(event) = rooms.poll_event() {
        // Full or closed: nobody reads any more.
        link.events.try_send(event).ok();
    }
    debug!("the workers have stopped, and with them the control task");
}
