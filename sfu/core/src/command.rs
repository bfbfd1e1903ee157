//! What the control thread tells a worker, and what a worker reports back.
//!
//! Session descriptions were parsed before: a worker sees structs only.

use arrayvec::ArrayVec;
use bytes::Bytes;
pub use sfu_protocol::control::CloseReason;
pub use sfu_protocol::people::{LinkQuality, MAX_SPEAKERS, Speaker};

use crate::rtp::params::{ReceiveParams, SendParams};
use crate::transport::params::{IceCredentials, RemoteParams};
use crate::units::{LINK_BATCH, RoomId, Source, TrackId, TransportId, Wish};

/// An order to a worker. One that names a room, transport or track that is not there is counted and ignored:
/// it may have closed while the order was on its way.
#[derive(Clone, Debug)]
pub enum Command {
    /// Makes a room.
    OpenRoom {
        /// The room.
        room: RoomId,
    },
    /// Closes a room and its transports.
    CloseRoom {
        /// The room.
        room: RoomId,
    },
    /// Makes a transport, or restarts ICE on the one that exists (RFC 8445 §9).
    OpenTransport {
        /// Its room.
        room: RoomId,
        /// The transport.
        transport: TransportId,
        /// Our ICE credentials.
        local: IceCredentials,
        /// The client's side.
        remote: RemoteParams,
    },
    /// Closes a transport with its tracks and subscriptions.
    CloseTransport {
        /// The transport.
        transport: TransportId,
        /// What the report says.
        reason: CloseReason,
    },
    /// Expects a track's packets, or changes how they come.
    Publish {
        /// The publisher.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// What it shows.
        source: Source,
        /// How it comes.
        params: ReceiveParams,
    },
    /// Ends a track.
    Unpublish {
        /// The publisher.
        transport: TransportId,
        /// The track.
        track: TrackId,
    },
    /// Pauses or resumes a track for everyone.
    SetMuted {
        /// The publisher.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// Forwards a track.
    Subscribe {
        /// The receiver.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// How it goes out.
        params: SendParams,
    },
    /// Stops forwarding a track.
    Unsubscribe {
        /// The receiver.
        transport: TransportId,
        /// The track.
        track: TrackId,
    },
    /// Says how a receiver wants a track.
    SetWish {
        /// The receiver.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// How it wants it.
        wish: Wish,
    },
    /// Sends a message on the recipients' data channels of that label.
    SendData {
        /// The recipients.
        recipients: Vec<TransportId>,
        /// The label.
        channel: String,
        /// The message.
        bytes: Bytes,
    },
}

/// A worker's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transport's handshake is done.
    TransportConnected {
        /// The transport.
        transport: TransportId,
        /// The SRTP protection profile in the registry's spelling.
        srtp_profile: &'static str,
    },
    /// A transport is gone.
    TransportClosed {
        /// The transport.
        transport: TransportId,
        /// Why.
        reason: CloseReason,
    },
    /// A track's first packet arrived.
    TrackStarted {
        /// The publisher.
        transport: TransportId,
        /// The track.
        track: TrackId,
    },
    /// A message arrived on a data channel.
    Data {
        /// The sender.
        transport: TransportId,
        /// The label.
        channel: String,
        /// The message.
        bytes: Bytes,
    },
    /// Who speaks in a room, whenever that changed; at most each 300 ms.
    Speakers {
        /// The room.
        room: RoomId,
        /// All who speak now.
        speakers: ArrayVec<Speaker, MAX_SPEAKERS>,
    },
    /// How well packets pass, of some of a room's transports.
    LinkQuality {
        /// The room.
        room: RoomId,
        /// One for each of them.
        links: ArrayVec<LinkQuality, LINK_BATCH>,
    },
    /// A picture ceased to flow to a receiver, or flows again.
    StreamState {
        /// The receiver.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// Whether nothing flows.
        paused: bool,
    },
}
