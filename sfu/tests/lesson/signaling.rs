//! Signaling's end of the control link, as a test needs it.

use std::time::Duration;

use sfu::control::ControlLink;
use sfu_protocol::control::{FromSfu, ToSfu};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Sends commands, and finds the events that a test waits for among all.
pub(crate) struct Signaling {
    commands: mpsc::Sender<ToSfu>,
    events: mpsc::Receiver<FromSfu>,
    /// Events that nobody has asked for yet.
    seen: Vec<FromSfu>,
}

impl Signaling {
    /// Takes over the link.
    pub(crate) fn new(link: &mut ControlLink) -> Self {
        let (_, nothing) = mpsc::channel(1);
        let events = std::mem::replace(&mut link.events, nothing);
        Self { commands: link.commands.clone(), events, seen: Vec::new() }
    }

    pub(crate) async fn send(&self, command: ToSfu) {
        self.commands.send(command).await.unwrap();
    }

    /// Takes the first event that fits.
    ///
    /// # Panics
    /// After 15 s.
    pub(crate) async fn event<T>(&mut self, what: &str, fits: impl Fn(&FromSfu) -> Option<T>) -> T {
        loop {
            if let Some((i, found)) =
                self.seen.iter().enumerate().find_map(|(i, event)| fits(event).map(|found| (i, found)))
            {
                self.seen.remove(i);
                return found;
            }
            match timeout(Duration::from_secs(15), self.events.recv()).await {
                Ok(Some(event)) => self.seen.push(event),
                other => panic!("waiting for {what}: {other:?} after {:?}", self.seen),
            }
        }
    }
}
