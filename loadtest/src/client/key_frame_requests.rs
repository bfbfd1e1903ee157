//! Shows the program the key frame requests that it receives. `webrtc` ends all inbound RTCP inside itself, except
//! for what an interceptor marks for the application.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// Marks PLI and FIR (RFC 4585 §6.3.1, RFC 5104 §4.3.1); other inbound RTCP ends here, as it would anyway.
#[derive(Default)]
pub(super) struct KeyFrameRequests {
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl KeyFrameRequests {
    /// After all the interceptors that read RTCP.
    pub(super) fn slot() -> Slot {
        Slot::from(14_000)
    }
}

/// Whether a packet asks for a key frame.
pub(super) fn is_key_frame_request(packet: &dyn rtcp::Packet) -> bool {
    let packet = packet.as_any();
    packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyFrameRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let Packet::Rtcp(compound) = &packet.message.packet else {
            self.read.push_back(packet);
            return Ok(());
        };
        // A compound packet is routed by its first SSRC, so each request goes alone.
        let requests = compound.iter().filter(|request| is_key_frame_request(request.as_ref()));
        self.read.extend(requests.map(|request| {
            TaggedPacket {
                now: packet.now,
                transport: packet.transport,
                message: AttributedPacket::new(Packet::Rtcp(vec![request.cloned()]))
                    .with(Attribute::DeliverToApplication),
            }
        }));
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.written.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for KeyFrameRequests {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
