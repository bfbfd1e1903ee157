//! The link to an SFU: commands one way, events the other, both bounded.
//!
//! Where the SFU runs in the same process the two ends are joined directly; a test joins them to a script.

use sfu_protocol::control::{FromSfu, ToSfu};
use tokio::sync::mpsc;

/// Signaling's end of the control link.
#[derive(Debug)]
pub struct SfuLink {
    /// Commands to the SFU.
    pub commands: mpsc::Sender<ToSfu>,
    /// Its events. The end of them is the end of the SFU.
    pub events: mpsc::Receiver<FromSfu>,
}
