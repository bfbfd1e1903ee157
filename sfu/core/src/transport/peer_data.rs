//! A client's data channels: it starts the SCTP association and leaves it to the server to open channels. What
//! arrives on them is taken and dropped.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Payload,
};
use rtc::shared::TransportProtocol;

use super::dtls::PEER;

/// The client's end of an association.
pub(super) struct PeerData {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
}

impl PeerData {
    pub(super) fn new() -> Self {
        let config = Arc::new(EndpointConfig::new());
        Self { endpoint: Endpoint::new(PEER, TransportProtocol::UDP, config, None), association: None }
    }

    /// Starts the association, once its packets can be sent.
    pub(super) fn start(&mut self, now: Instant) {
        let association = self.endpoint.connect(now, ClientConfig::default(), PEER);
        self.association = Some(association.expect("the endpoint has no other association"));
    }

    /// Takes a packet.
    pub(super) fn read(&mut self, now: Instant, packet: Bytes) {
        let event = self.endpoint.handle(now, PEER, None, packet);
        let (Some((_, DatagramEvent::AssociationEvent(event))), Some((_, association))) =
            (event, &mut self.association)
        else {
            return;
        };
        association.handle_event(event);
        while association.poll().is_some() {}
        for id in association.stream_ids() {
            while let Ok(Some(_)) = association.stream(id).and_then(|mut stream| stream.read()) {}
        }
    }

    /// Hands every packet that is due to `send`.
    pub(super) fn flush(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        let Some((_, association)) = &mut self.association else { return };
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                packets.iter().for_each(|packet| send(packet));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref().and_then(|(_, association)| association.poll_timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }
}
