//! The control link: commands from signaling, events from the SFU.
//!
//! There are no replies: an outcome is an event that names what it belongs to, so that a lost and resumed
//! link needs no bookkeeping of open calls. Order is kept in each direction.

use serde::{Deserialize, Serialize};

use crate::ids::{RoomId, TrackId, TransportId};
use crate::link::{Class, Message};
use crate::people::{LinkQuality, Speaker};
use crate::snapshot::SnapshotPart;

/// Longest session description that the SFU reads, bytes. A browser's offer for fifty tracks is ~60 kB.
pub const MAX_SDP_BYTES: usize = 256 * 1024;

/// Longest data message that the SFU passes on, bytes: what browsers agree to send in one SCTP message.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// A command from signaling to the SFU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSfu {
    /// Makes a room. Making one that exists changes nothing.
    OpenRoom {
        /// The room.
        room: RoomId,
    },
    /// Closes a room and every transport in it.
    CloseRoom {
        /// The room.
        room: RoomId,
    },
    /// Makes a participant's transport. Nothing is sent before its first [`ToSfu::Offer`].
    OpenTransport {
        /// The room, opened before.
        room: RoomId,
        /// The transport.
        transport: TransportId,
        /// The access line that this participant's packets share with others of its school.
        link: String,
    },
    /// Closes a transport, what it publishes and what it receives.
    CloseTransport {
        /// The transport.
        transport: TransportId,
    },
    /// A client's session description; answered by [`FromSfu::Answer`] or [`FromSfu::OfferRejected`]. Changed
    /// ICE credentials in it mean an ICE restart.
    Offer {
        /// The transport.
        transport: TransportId,
        /// The client's number for this offer, returned with the answer.
        offer_id: u32,
        /// SDP (RFC 8866), at most [`MAX_SDP_BYTES`].
        sdp: String,
        /// The tracks that the client has announced and may send; each stays wanted until
        /// [`ToSfu::Unpublish`]. A sending m-line that matches none is answered `inactive`.
        publish: Vec<Publish>,
    },
    /// Ends a published track: its packets are no longer forwarded.
    Unpublish {
        /// The track.
        track: TrackId,
    },
    /// Pauses or resumes forwarding of a published track.
    SetMuted {
        /// The track.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// Forwards a track to a transport, as soon as negotiation has an m-line for it.
    Subscribe {
        /// The receiving transport.
        transport: TransportId,
        /// The track of another transport in the same room.
        track: TrackId,
        /// The `a=msid` value of the m-line, `<stream id> <track id>`: opaque to the SFU.
        msid: Msid,
    },
    /// Stops forwarding a track to a transport and frees its m-line.
    Unsubscribe {
        /// The receiving transport.
        transport: TransportId,
        /// The track.
        track: TrackId,
    },
    /// Sends a message on the recipients' data channel of that label; recipients without one miss it.
    SendData {
        /// Who receives it.
        recipients: Vec<TransportId>,
        /// The label of the data channel.
        channel: String,
        /// The message, at most [`MAX_DATA_BYTES`].
        bytes: Vec<u8>,
    },
    /// Says how a transport wants a track that it subscribed to before; replaces what it wished of it until
    /// now. A new subscription begins with [`Wish::default`].
    SetWish {
        /// The receiving transport.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// How it wants it.
        wish: Wish,
    },
    /// Makes a transport on which the SFU makes the offers, for what a participant receives; the first
    /// [`FromSfu::Offer`] follows unasked.
    OpenOffering {
        /// The room, opened before.
        room: RoomId,
        /// The transport.
        transport: TransportId,
        /// As in [`ToSfu::OpenTransport`].
        link: String,
        /// Data channels that the SFU opens on it, at most four.
        channels: Vec<DataChannel>,
    },
    /// A client's answer to the last [`FromSfu::Offer`]. One that is not due is ignored, one that cannot be used
    /// answered by [`FromSfu::AnswerRejected`].
    Answer {
        /// The transport.
        transport: TransportId,
        /// The offer's number; 0 where the client does not say it.
        offer_id: u32,
        /// SDP (RFC 8866), at most [`MAX_SDP_BYTES`].
        sdp: String,
    },
    /// Restarts ICE on a transport of [`ToSfu::OpenOffering`] with a new offer (RFC 8445 §9): its client was away,
    /// and an answer that is due may have been lost.
    RestartIce {
        /// The transport.
        transport: TransportId,
    },
    /// Asks for all that the SFU has, as [`FromSfu::Snapshot`]s without anything else between them.
    TakeSnapshot {
        /// Returned with each part.
        of: u64,
    },
}

/// An event from the SFU to signaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSfu {
    /// The answer to an offer.
    Answer {
        /// The transport.
        transport: TransportId,
        /// The offer's number.
        offer_id: u32,
        /// SDP (RFC 8866).
        sdp: String,
        /// Which m-line carries which track, published and subscribed ones alike.
        mid_to_track: Vec<(String, TrackId)>,
    },
    /// An offer could not be used; the transport stays as it was.
    OfferRejected {
        /// The transport.
        transport: TransportId,
        /// The offer's number.
        offer_id: u32,
        /// What was wrong with it, for a log or a developer.
        reason: String,
    },
    /// Subscriptions changed: the client should offer again, with this many more receiving m-lines of each
    /// kind, beyond those that were asked for before. Both zero: the m-lines it has suffice.
    NegotiationNeeded {
        /// The transport.
        transport: TransportId,
        /// Further audio m-lines needed.
        audios: u32,
        /// Further video m-lines needed.
        videos: u32,
    },
    /// A transport's DTLS handshake is done: media and data flow.
    TransportConnected {
        /// The transport.
        transport: TransportId,
        /// The SRTP protection profile in the registry's spelling, such as `AEAD_AES_128_GCM`.
        srtp_profile: String,
    },
    /// A transport is gone, and with it what it published and received.
    TransportClosed {
        /// The transport.
        transport: TransportId,
        /// Why.
        reason: CloseReason,
    },
    /// The first packet of a published track arrived.
    TrackStarted {
        /// The publishing transport.
        transport: TransportId,
        /// The track.
        track: TrackId,
    },
    /// A message arrived on a data channel.
    Data {
        /// The sending transport.
        transport: TransportId,
        /// The label of the data channel.
        channel: String,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The SFU is about to stop: no new rooms; the ones here end at its deadline.
    Draining,
    /// Who speaks in a room, whenever that or a level has changed; at most each 300 ms. Who is not named any
    /// more has stopped.
    Speakers {
        /// The room.
        room: RoomId,
        /// All who speak now, those who began first in front; at most
        /// [`MAX_SPEAKERS`](crate::people::MAX_SPEAKERS).
        speakers: Vec<Speaker>,
    },
    /// How well packets pass: of those whose [`LinkClass`](crate::people::LinkClass) has changed, looked at
    /// each 5 s, and of everyone each 10 s.
    LinkQuality {
        /// The room.
        room: RoomId,
        /// One for each participant that there is something to say about.
        links: Vec<LinkQuality>,
    },
    /// An offer on a transport of [`ToSfu::OpenOffering`], to be answered by [`ToSfu::Answer`]. The next one comes
    /// after the answer at the earliest, except for [`ToSfu::RestartIce`].
    Offer {
        /// The transport.
        transport: TransportId,
        /// The offer's number, from 1.
        offer_id: u32,
        /// SDP (RFC 8866).
        sdp: String,
        /// Which m-line carries which track.
        mid_to_track: Vec<(String, TrackId)>,
    },
    /// An answer could not be used; the transport stays as it was.
    AnswerRejected {
        /// The transport.
        transport: TransportId,
        /// The number that came with it.
        offer_id: u32,
        /// What was wrong with it, for a log or a developer.
        reason: String,
    },
    /// A part of what was asked for with [`ToSfu::TakeSnapshot`].
    Snapshot {
        /// The number of that command.
        of: u64,
        /// The part.
        part: SnapshotPart,
    },
    /// A picture ceased to flow to a receiver, or flows again. It flows at first, and what is said of a muted
    /// track is what was right before.
    StreamState {
        /// The receiving transport.
        transport: TransportId,
        /// The track.
        track: TrackId,
        /// Whether nothing flows: the receiver wants nothing, or the publisher sends nothing.
        paused: bool,
    },
}

impl Message for ToSfu {
    fn class(&self) -> Class {
        match self {
            Self::SendData { .. } => Class::Data,
            _ => Class::Control,
        }
    }
}

impl Message for FromSfu {
    fn class(&self) -> Class {
        match self {
            Self::Data { .. } => Class::Data,
            Self::Speakers { .. } | Self::LinkQuality { .. } => Class::Passing,
            _ => Class::Control,
        }
    }
}

/// A track that a client has announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The track's id from now on.
    pub track: TrackId,
    /// Sound or picture.
    pub kind: MediaKind,
    /// What it shows.
    pub source: Source,
    /// The client's id for it: the track part of the m-line's `a=msid`.
    pub cid: String,
    /// The m-line that carries it, where the client said so; decides before `cid`.
    pub mid: Option<String>,
    /// Whether an Opus sender shall fall silent with its room (DTX, RFC 7587 §3.1.3): the answer asks for it, as
    /// browsers do not offer it, unless the offer itself says otherwise. Without meaning for pictures.
    pub dtx: bool,
    /// Whether the client encrypts it end to end: nothing but its packets' outside can be changed on the way.
    pub encrypted: bool,
}

/// The value of `a=msid` (RFC 8830).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msid {
    /// Groups the tracks of a participant.
    pub stream: String,
    /// Names the track.
    pub track: String,
}

/// How a receiver wants a track: an upper bound to what is of use to it. By default the best there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wish {
    /// How large it is shown; `None`: as large as it comes.
    pub size: Option<Size>,
    /// As many frames a second are enough; `None`: all.
    pub fps: Option<u16>,
    /// Whose packets come first where a link cannot carry all, 1 the most important; `None`: by its source.
    pub priority: Option<u16>,
    /// Nothing of it is wanted at present.
    pub paused: bool,
}

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// From left to right.
    pub width: u16,
    /// From top to bottom.
    pub height: u16,
}

/// A data channel that the SFU opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChannel {
    /// Its label, at most 64 bytes.
    pub label: String,
    /// How hard the network tries.
    pub delivery: Delivery,
}

/// How hard the network tries to deliver a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Delivery {
    /// Until it came, and in order.
    Reliable,
    /// Once; messages may overtake each other.
    Lossy,
}

/// The kind of media in an m-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track shows or sounds (RFC 7656 §2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// A person's camera.
    Camera,
    /// A person's microphone.
    Microphone,
    /// Slides or a shared screen.
    Screen,
    /// The sound that belongs to a shared screen.
    ScreenAudio,
}

/// Why a transport closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// Signaling asked for it, or closed its room.
    Requested,
    /// The client closed its side (DTLS close_notify).
    ClosedByPeer,
    /// No authenticated consent check within the limit (RFC 7675; 120 s here, so that a school survives an
    /// outage).
    ConsentExpired,
    /// The DTLS handshake failed, or the certificate is not the one of the offer's fingerprint.
    HandshakeFailed,
    /// The SFU is stopping.
    Shutdown,
    /// The room or the SFU is full.
    NoCapacity,
}
