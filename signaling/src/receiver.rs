//! The second connection of a client that speaks the older protocol (v0). What the client receives, tracks and
//! data, comes on it; the SFU makes its offers and opens its data channels, and the client answers. It is the
//! client's primary connection: the participant counts as active once it is there.

use livekit_protocol::SessionDescription;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_response::Message as Response;
use sfu_protocol::control::{DataChannel, Delivery, MAX_SDP_BYTES, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};

use crate::data::Channel;
use crate::session::{Context, Session};
use crate::track::Refused;

/// The connection that a v0 client receives on.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) transport: TransportId,
    /// What the last offer carries; of use until it is answered.
    offered: Vec<TrackId>,
    /// The last scores of both connections, 0..=100: that of the worse one is the client's.
    scores: Scores,
}

#[derive(Debug, Default)]
struct Scores {
    sending: Option<u8>,
    receiving: Option<u8>,
}

impl Receiver {
    /// A transport of its own, beside the one that the client sends on.
    pub(crate) fn new(context: &mut Context<'_>) -> Self {
        let transport = context.ids.further_transport();
        Self { transport, offered: Vec::new(), scores: Scores::default() }
    }

    /// Has the SFU make it; its first offer follows.
    pub(crate) fn open(&self, context: &mut Context<'_>, room: RoomId, link: String) {
        let channel =
            |channel: Channel, delivery| DataChannel { label: channel.label().to_owned(), delivery };
        let channels =
            vec![channel(Channel::Reliable, Delivery::Reliable), channel(Channel::Lossy, Delivery::Lossy)];
        context.out.command(ToSfu::OpenOffering { room, transport: self.transport, link, channels });
    }
}

impl Session {
    /// The transport that tracks and data go to.
    pub(crate) fn receives_on(&self) -> TransportId {
        self.receiver.as_ref().map_or(self.id, |receiver| receiver.transport)
    }

    /// Whether each track needs a stream of its own: Firefox takes a remote track's id from it, and so do clients
    /// of v0, because a line that is used again keeps the id of its first track.
    pub(crate) fn needs_stream_per_track(&self) -> bool {
        self.receiver.is_some() || self.profile.needs_stream_per_track()
    }

    /// The SFU's offer goes to the client.
    pub(crate) fn offered(
        &mut self,
        context: &mut Context<'_>,
        offer_id: u32,
        sdp: String,
        mid_to_track: Vec<(String, TrackId)>,
    ) {
        let Some(receiver) = &mut self.receiver else { return };
        receiver.offered = mid_to_track.iter().map(|(_, track)| *track).collect();
        let mid_to_track_id = mid_to_track
            .into_iter()
            .filter_map(|(mid, track)| Some((mid, self.sid_of(track)?.to_owned())))
            .collect();
        context.out.tell(
            self.socket,
            Response::Offer(SessionDescription {
                r#type: "offer".into(),
                sdp,
                id: offer_id,
                mid_to_track_id,
            }),
        );
    }

    /// The client's answer goes to the SFU. Returns what it receives with it.
    pub(crate) fn answer(&mut self, context: &mut Context<'_>, answer: SessionDescription) -> Vec<TrackId> {
        // Clients with one connection make all offers: there is nothing to answer.
        let Some(receiver) = &mut self.receiver else { return Vec::new() };
        if answer.sdp.len() > MAX_SDP_BYTES {
            self.respond(context, 0, Refused(Reason::LimitExceeded, "the answer is too long"), None);
            return Vec::new();
        }
        let transport = receiver.transport;
        let mut received = std::mem::take(&mut receiver.offered);
        received.retain(|track| self.wants(*track));
        context.out.command(ToSfu::Answer { transport, offer_id: answer.id, sdp: answer.sdp });
        received
    }

    /// Takes a score of one of the client's transports; returns the client's.
    pub(crate) fn score(&mut self, transport: TransportId, score: u8) -> u8 {
        let Some(receiver) = &mut self.receiver else { return score };
        let scores = &mut receiver.scores;
        if transport == receiver.transport {
            scores.receiving = Some(score);
        } else {
            scores.sending = Some(score);
        }
        [scores.sending, scores.receiving].into_iter().flatten().min().unwrap_or(score)
    }
}
