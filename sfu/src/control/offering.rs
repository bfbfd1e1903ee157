//! Transports on which the SFU makes the offers: what a client of LiveKit's two-connection protocol receives
//! comes on one of these. One offer is out at a time; what changes meanwhile goes into the next.

use sfu_core::transport::sdp::{
    Accepted, Needed, Negotiation, NegotiationConfig, Offered, Offering, SdpError,
};
use sfu_protocol::control::{DataChannel, FromSfu, MediaKind, Msid};
use sfu_protocol::ids::{TrackId, TransportId};
use tracing::debug;

use super::rooms::Rooms;

/// Most data channels that signaling may want opened on a transport.
const MAX_CHANNELS: usize = 4;

/// A transport's negotiation, by who makes the offers.
pub(super) enum Offerer {
    /// The client; it is asked for more m-lines where it has too few.
    Client(Negotiation),
    /// We.
    Sfu(Offering),
}

impl Offerer {
    /// With data channels to open we make the offers, else the client does.
    pub(super) fn new(config: NegotiationConfig, channels: Option<Vec<DataChannel>>) -> Self {
        match channels {
            None => Self::Client(Negotiation::new(config)),
            Some(mut channels) => {
                channels.truncate(MAX_CHANNELS);
                Self::Sfu(Offering::new(config, channels))
            }
        }
    }

    pub(super) fn subscribe(&mut self, track: TrackId, kind: MediaKind, msid: Msid) {
        match self {
            Self::Client(negotiation) => negotiation.subscribe(track, kind, msid),
            Self::Sfu(offering) => offering.subscribe(track, kind, msid),
        }
    }

    pub(super) fn unsubscribe(&mut self, track: TrackId) {
        match self {
            Self::Client(negotiation) => negotiation.unsubscribe(track),
            Self::Sfu(offering) => offering.unsubscribe(track),
        }
    }

    /// What the client has to be told now that subscriptions may have changed.
    pub(super) fn news(&mut self, transport: TransportId) -> Option<FromSfu> {
        match self {
            Self::Client(negotiation) => negotiation
                .needed()
                .map(|Needed { audios, videos }| FromSfu::NegotiationNeeded { transport, audios, videos }),
            Self::Sfu(offering) => offering.make_offer().map(|Offered { id, sdp, mid_to_track }| {
                FromSfu::Offer { transport, offer_id: id, sdp, mid_to_track }
            }),
        }
    }
}

impl Rooms {
    /// A client's answer to our offer. One that is not due is ignored: it may have crossed an ICE restart.
    pub(super) fn answered_by_client(
        &mut self,
        transport: TransportId,
        offer_id: u32,
        sdp: &str,
    ) -> Option<()> {
        let Offerer::Sfu(offering) = &mut self.peers.get_mut(&transport)?.negotiation else { return None };
        match offering.accept_answer(offer_id, sdp) {
            Ok(Accepted { remote, local, send, stopped, .. }) => {
                self.adopt(transport, local, remote);
                for track in stopped {
                    self.stop_sending(track, transport);
                }
                self.start_sending(transport, send);
                self.unsettled.insert(transport);
                Some(())
            }
            Err(SdpError::NoOffer) => None,
            Err(error) => {
                debug!(%transport, %error, "answer rejected");
                self.stats.offers_rejected += 1;
                let reason = error.to_string();
                self.events.push_back(FromSfu::AnswerRejected { transport, offer_id, reason });
                Some(())
            }
        }
    }

    /// New ICE credentials with a new offer, although an answer may still be due.
    pub(super) fn restart_ice(&mut self, transport: TransportId) -> Option<()> {
        let Offerer::Sfu(offering) = &mut self.peers.get_mut(&transport)?.negotiation else { return None };
        offering.restart_ice();
        self.unsettled.insert(transport);
        Some(())
    }
}

#[cfg(test)]
mod tests;
