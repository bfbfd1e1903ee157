//! Data channels: SCTP over DTLS (RFC 8831, RFC 8261), opened with DCEP (RFC 8832) by the client, and by us
//! those that [`SctpParams::channels`] names. The client starts the association; we only answer, as browsers and
//! pion start it whatever their part in the DTLS handshake. Messages are opaque here.
//!
//! In front of `rtc::sctp` stands `sctp_guard`, with the bounds that it lacks.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
#[cfg(feature = "sim")]
use std::time::Duration;
use std::time::Instant;

use arrayvec::{ArrayString, ArrayVec};
use bytes::Bytes;
use rtc::sctp::{
    Association, AssociationHandle, Chunks, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent, Event,
    Payload, PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TimerConfig,
    TransportConfig,
};
use rtc::shared::TransportProtocol;
use sfu_protocol::control::{DataChannel, Delivery, MAX_DATA_BYTES};
use thiserror::Error;

use super::dcep::{ACK, Dcep, MAX_LABEL, Open, Reliability};
use super::params::{DtlsRole, SctpParams};
use super::sctp_guard::{Guard, MAX_STREAMS, RECEIVE_WINDOW, Refusal};

/// Why a message was not sent on a data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DataError {
    /// The client has no open channel of that label.
    #[error("no such data channel")]
    NoChannel,
    /// The client does not take its messages: too much is waiting already.
    #[error("the send queue is full")]
    Full,
    /// The message is longer than the client reads, or than we pass on.
    #[error("the message is too long")]
    TooLong,
}

/// Data channels that a client may have open, ours among them.
const MAX_CHANNELS: usize = 8;

/// Bytes that may wait to be sent and acknowledged.
const MAX_QUEUED: usize = 1024 * 1024;

/// Associations that may be opening at a time. `rtc::sctp` makes a new one for every INIT, so also for one that
/// is repeated because our answer was late; the client goes on with one of them.
const MAX_OPENING: usize = 4;

/// What the endpoint calls its peer. The address plays no part: packets go through DTLS.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// A client's data channels.
pub(super) struct Sctp {
    endpoint: Endpoint,
    /// One once it is established.
    associations: ArrayVec<(AssociationHandle, Association), MAX_OPENING>,
    channels: ArrayVec<Channel, MAX_CHANNELS>,
    guard: Guard,
    longest_out: usize,
    /// Channels of ours that wait for the association.
    to_open: Vec<DataChannel>,
    /// The first stream for them: even ones belong to the DTLS client, odd ones to the server (RFC 8832 §6).
    first_stream: u16,
    state: State,
}

/// A message that came on a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) channel: String,
    pub(super) bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Aborted, by us or by the client; further packets are ignored.
    Closed,
}

struct Channel {
    stream: u16,
    label: ArrayString<MAX_LABEL>,
    /// What the client sends on it, and so what it expects.
    is_text: bool,
    /// Of a channel of ours, what messages are like once the client has acknowledged it; in order and repeated
    /// until then, so that none comes before the channel is known (RFC 8832 §6).
    unacknowledged: Option<Reliability>,
}

impl Sctp {
    pub(super) fn new(params: &SctpParams, client: DtlsRole) -> Self {
        // ICE decides when the client is gone. By default a channel would stay silent for ever after an outage
        // of half a minute.
        let timers = TimerConfig {
            max_t3_rtx_retrans: usize::MAX,
            max_reconfig_retrans: usize::MAX,
            ..TimerConfig::default()
        };
        let transport = TransportConfig::default()
            .with_sctp_port(params.port)
            .with_max_receive_buffer_size(RECEIVE_WINDOW)
            .with_max_message_size(MAX_DATA_BYTES as u32)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS)
            .with_timer_config(timers);
        // The default packet of 1191 B and a DTLS record around it are 1228 B: within `MAX_DATAGRAM_OUT`.
        let endpoint = Endpoint::new(
            PEER,
            TransportProtocol::UDP,
            Arc::new(EndpointConfig::new()),
            Some(Arc::new(ServerConfig::new(transport))),
        );
        let longest_out = match params.max_message_size {
            0 => MAX_DATA_BYTES, // RFC 8841 §6.1: as long as you like
            limit => MAX_DATA_BYTES.min(limit as usize),
        };
        Self {
            endpoint,
            associations: ArrayVec::new(),
            channels: ArrayVec::new(),
            guard: Guard::default(),
            longest_out,
            to_open: params.channels.clone(),
            first_stream: match client {
                DtlsRole::Client => 1,
                DtlsRole::Server => 0,
            },
            state: State::Open,
        }
    }

    /// Takes a packet; messages that are whole go to `received`.
    pub(super) fn read(&mut self, now: Instant, packet: Bytes, received: &mut impl FnMut(Received)) {
        if self.state == State::Closed {
            return;
        }
        match self.guard.check(&packet) {
            Ok(()) => {}
            Err(Refusal::Malformed) => return,
            Err(Refusal::Abuse) => return self.close(),
        }
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => self.admit(handle, association),
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) =
                    self.associations.iter_mut().find(|(known, _)| *known == handle)
                {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        self.settle();
        self.drain(now, received);
    }

    /// Queues a message on the channel of that label.
    pub(super) fn send(&mut self, now: Instant, label: &str, bytes: &Bytes) -> Result<(), DataError> {
        let channel = self.channels.iter().find(|channel| channel.label.as_str() == label);
        let (channel, association) =
            channel.zip(self.associations.first_mut()).ok_or(DataError::NoChannel)?;
        let association = &mut association.1;
        if bytes.len() > self.longest_out {
            return Err(DataError::TooLong);
        }
        let streams = self.channels.iter().map(|channel| channel.stream);
        let queued: usize = streams
            .map(|stream| association.stream(stream).and_then(|stream| stream.buffered_amount()).unwrap_or(0))
            .sum();
        if queued + bytes.len() > MAX_QUEUED {
            return Err(DataError::Full);
        }
        // SCTP has no empty messages: RFC 8831 §6.6 sends a zero byte and says so.
        let (kind, bytes) = match (bytes.is_empty(), channel.is_text) {
            (false, false) => (PayloadProtocolIdentifier::Binary, bytes),
            (false, true) => (PayloadProtocolIdentifier::String, bytes),
            (true, false) => (PayloadProtocolIdentifier::BinaryEmpty, &Bytes::from_static(&[0])),
            (true, true) => (PayloadProtocolIdentifier::StringEmpty, &Bytes::from_static(&[0])),
        };
        let mut stream = association.stream(channel.stream).map_err(|_| DataError::NoChannel)?;
        stream.write_chunk_with_ppi(now, bytes, kind).map(|_| ()).map_err(|_| DataError::NoChannel)
    }

    /// Hands every packet that is due to `send`.
    pub(super) fn flush(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        for (_, association) in &mut self.associations {
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(packets) = transmit.message {
                    for packet in packets {
                        self.guard.observe(&packet);
                        send(&packet);
                    }
                }
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.associations.iter().filter_map(|(_, association)| association.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, received: &mut impl FnMut(Received)) {
        for (_, association) in &mut self.associations {
            association.handle_timeout(now);
        }
        self.drain(now, received);
    }

    /// Aborts the association; the ABORT leaves with the next flush.
    pub(super) fn close(&mut self) {
        for (_, association) in &mut self.associations {
            // Only an association that is closed already has nothing to abort.
            let _ = association.abort();
        }
        self.channels.clear();
        self.state = State::Closed;
    }

    /// Takes a new association, unless one is established: then it comes of a late repetition.
    fn admit(&mut self, handle: AssociationHandle, association: Association) {
        let is_established = self.associations.iter().any(|(_, known)| !known.is_handshaking());
        if is_established {
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            return;
        }
        if self.associations.is_full() {
            let (oldest, _) = self.associations.remove(0);
            self.endpoint.handle_event(oldest, EndpointEvent::drained());
        }
        self.associations.push((handle, association));
    }

    /// Drops what was opening beside an association that is established now.
    fn settle(&mut self) {
        if self.associations.iter().all(|(_, association)| association.is_handshaking()) {
            return;
        }
        let endpoint = &mut self.endpoint;
        self.associations.retain(|(handle, association)| {
            if association.is_handshaking() {
                endpoint.handle_event(*handle, EndpointEvent::drained());
            }
            !association.is_handshaking()
        });
    }

    /// Reads what became whole and follows what happened to the streams.
    fn drain(&mut self, now: Instant, received: &mut impl FnMut(Received)) {
        let Some((_, association)) =
            self.associations.iter_mut().find(|(_, association)| !association.is_handshaking())
        else {
            return;
        };
        for (stream, channel) in (self.first_stream..).step_by(2).zip(std::mem::take(&mut self.to_open)) {
            open_ours(&mut self.channels, association, now, stream, &channel);
        }
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    // It stands in the event, so it is there unless the client has reset it since.
                    while let Ok(Some(chunks)) = association.stream(id).and_then(|mut stream| stream.read()) {
                        self.guard.delivered();
                        take(&mut self.channels, association, now, id, &chunks, received);
                    }
                }
                // Of one stream: the client has reset it, and `rtc::sctp` our direction in answer.
                Event::AssociationLost { id, .. } => self.channels.retain(|channel| channel.stream != id),
                _ => {}
            }
        }
        if association.is_closed() {
            self.channels.clear();
            self.state = State::Closed;
        }
    }
}

/// Handles a message: DCEP, or one for the other side.
fn take(
    channels: &mut ArrayVec<Channel, MAX_CHANNELS>,
    association: &mut Association,
    now: Instant,
    stream: u16,
    chunks: &Chunks,
    received: &mut impl FnMut(Received),
) {
    use PayloadProtocolIdentifier::{Binary, BinaryEmpty, Dcep as DcepMessage, String, StringEmpty};
    let Ok(message) = chunks.to_payload(MAX_DATA_BYTES) else { return };
    if chunks.ppi == DcepMessage {
        match Dcep::parse(&message) {
            Ok(Dcep::Open(open)) => open_channel(channels, association, now, stream, &open),
            Ok(Dcep::Ack) => acknowledged(channels, association, stream),
            Err(_) => {}
        }
        return;
    }
    let Some(channel) = channels.iter_mut().find(|channel| channel.stream == stream) else { return };
    let bytes = match chunks.ppi {
        Binary | String => message.freeze(),
        BinaryEmpty | StringEmpty => Bytes::new(),
        _ => return,
    };
    channel.is_text = matches!(chunks.ppi, String | StringEmpty);
    received(Received { channel: channel.label.to_string(), bytes });
}

/// Makes a channel of a stream and says so; where there is no room for it, resets the stream.
fn open_channel(
    channels: &mut ArrayVec<Channel, MAX_CHANNELS>,
    association: &mut Association,
    now: Instant,
    stream: u16,
    open: &Open<'_>,
) {
    channels.retain(|channel| channel.stream != stream);
    let Ok(label) = ArrayString::from(open.label) else { return };
    if channels.try_push(Channel { stream, label, is_text: false, unacknowledged: None }).is_err() {
        // A failure means that the association is closing, and with it the stream.
        let _ = association.stream(stream).and_then(|mut stream| stream.close(now));
        return;
    }
    let (kind, value) = reliability_params(open.reliability);
    let opened = association.stream(stream).and_then(|mut stream| {
        stream.write_with_ppi(now, &ACK, PayloadProtocolIdentifier::Dcep)?;
        stream.set_reliability_params(!open.ordered, kind, value)
    });
    if opened.is_err() {
        channels.retain(|channel| channel.stream != stream);
    }
}

/// Opens a channel of ours. One whose label is too long, or that there is no room for, stays closed.
fn open_ours(
    channels: &mut ArrayVec<Channel, MAX_CHANNELS>,
    association: &mut Association,
    now: Instant,
    stream: u16,
    channel: &DataChannel,
) {
    let Ok(label) = ArrayString::from(&channel.label) else { return };
    let (ordered, reliability) = match channel.delivery {
        Delivery::Reliable => (true, Reliability::Full),
        Delivery::Lossy => (false, Reliability::Retransmits(0)),
    };
    let open = Open { label: &channel.label, ordered, reliability }.write();
    let opened = association
        .open_stream(stream, PayloadProtocolIdentifier::Dcep)
        .and_then(|mut stream| stream.write_with_ppi(now, &open, PayloadProtocolIdentifier::Dcep));
    if opened.is_ok() {
        // More than fit are not wanted.
        let _ =
            channels.try_push(Channel { stream, label, is_text: false, unacknowledged: Some(reliability) });
    }
}

/// The client knows a channel of ours.
fn acknowledged(channels: &mut ArrayVec<Channel, MAX_CHANNELS>, association: &mut Association, stream: u16) {
    let channel = channels.iter_mut().find(|channel| channel.stream == stream);
    let Some(reliability) = channel.and_then(|channel| channel.unacknowledged.take()) else { return };
    let (kind, value) = reliability_params(reliability);
    let unordered = reliability != Reliability::Full;
    // A failure means that the stream is closing.
    let _ = association
        .stream(stream)
        .and_then(|mut stream| stream.set_reliability_params(unordered, kind, value));
}

fn reliability_params(reliability: Reliability) -> (ReliabilityType, u32) {
    match reliability {
        Reliability::Full => (ReliabilityType::Reliable, 0),
        Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
        Reliability::Lifetime(lifetime) => {
            (ReliabilityType::Timed, u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX))
        }
    }
}

/// Takes arbitrary chunks, a byte of length in front of each packet of them, as those of a client whose association
/// is established.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let mut now = crate::testing::origin();
    let channels = vec![DataChannel { label: "_reliable".to_owned(), delivery: Delivery::Reliable }];
    let params = SctpParams { port: 5000, max_message_size: 65_536, channels };
    let (mut sctp, mut client) = (Sctp::new(&params, DtlsRole::Client), super::peer_data::PeerData::new());
    client.start(now);
    let mut header = [0; COMMON_HEADER];
    for _ in 0..4 {
        let mut packets = Vec::new();
        client.flush(now, |packet| packets.push(packet.to_vec()));
        for packet in packets {
            header.copy_from_slice(&packet[..COMMON_HEADER]);
            sctp.read(now, packet.into(), &mut |_| {});
        }
        sctp.flush(now, |packet| client.read(now, Bytes::copy_from_slice(packet)));
    }
    let mut rest = data;
    while let Some((&len, behind)) = rest.split_first() {
        let (chunks, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        header[CHECKSUM..].fill(0);
        let mut packet = [&header, chunks].concat();
        let checksum = crc32c(&packet);
        packet[CHECKSUM..COMMON_HEADER].copy_from_slice(&checksum.to_le_bytes());
        sctp.read(now, packet.into(), &mut |message| assert!(message.bytes.len() <= MAX_DATA_BYTES));
        sctp.flush(now, |packet| assert!(packet.len() >= COMMON_HEADER));
        let _ = sctp.send(now, "_reliable", &Bytes::from_static(b"hello"));
        now += Duration::from_millis(u64::from(len) * 16);
        sctp.handle_timeout(now, &mut |_| {});
        sctp.flush(now, |packet| assert!(packet.len() >= COMMON_HEADER));
    }
}

/// Ports, verification tag, checksum (RFC 9260 §3.1).
#[cfg(feature = "sim")]
const COMMON_HEADER: usize = 12;
#[cfg(feature = "sim")]
const CHECKSUM: usize = 8;

/// RFC 9260 appendix A, a bit at a time.
#[cfg(feature = "sim")]
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82F6_3B78 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::sctp::ClientConfig;
    use std::time::Duration;

    /// A client without manners: it opens what stream it likes and sends what it likes.
    struct Line {
        now: Instant,
        endpoint: Endpoint,
        client: Association,
        server: Sctp,
        received: Vec<Received>,
    }

    impl Line {
        fn new() -> Self {
            Self::with_ours(Vec::new())
        }

        fn with_ours(channels: Vec<DataChannel>) -> Self {
            let now = crate::testing::origin();
            let config = EndpointConfig::new();
            let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(config), None);
            let transport = TransportConfig::default().with_max_message_size(u32::MAX);
            let (_, client) = endpoint.connect(now, ClientConfig::new(transport), PEER).unwrap();
            let params = SctpParams { port: 5000, max_message_size: 0, channels };
            let server = Sctp::new(&params, DtlsRole::Client);
            Self { now, endpoint, client, server, received: Vec::new() }
        }

        /// Runs for a second; of our answers arrives what `arrives` says.
        fn run(&mut self, mut arrives: impl FnMut() -> bool) {
            for _ in 0..100 {
                while let Some(transmit) = self.client.poll_transmit(self.now) {
                    let Payload::RawEncode(packets) = transmit.message else { continue };
                    for packet in packets {
                        self.server.read(self.now, packet, &mut |message| self.received.push(message));
                    }
                }
                let mut answers = Vec::new();
                self.server.flush(self.now, |packet| answers.push(Bytes::copy_from_slice(packet)));
                for answer in answers {
                    if !arrives() {
                        continue;
                    }
                    let event = self.endpoint.handle(self.now, PEER, None, answer);
                    if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
                        self.client.handle_event(event);
                    }
                }
                self.now += Duration::from_millis(10);
                self.client.handle_timeout(self.now);
                self.server.handle_timeout(self.now, &mut |message| self.received.push(message));
            }
        }

        fn write(&mut self, stream: u16, bytes: &[u8], kind: PayloadProtocolIdentifier) {
            let _ = self.client.open_stream(stream, kind);
            self.client.stream(stream).unwrap().write_with_ppi(self.now, bytes, kind).unwrap();
        }

        fn open(&mut self, stream: u16, label: &str) {
            let open = Open { label, ordered: true, reliability: Reliability::Full };
            self.write(stream, &open.write(), PayloadProtocolIdentifier::Dcep);
        }
    }

    #[test]
    fn a_channel_opens_though_the_first_answers_are_lost() {
        let mut line = Line::new();
        let mut answers = 0;
        for _ in 0..20 {
            line.run(|| {
                answers += 1;
                answers > 2 && answers % 2 == 0
            });
        }
        line.open(0, "chat");
        line.write(0, b"hello", PayloadProtocolIdentifier::Binary);
        line.run(|| true);
        assert_eq!(
            line.received,
            [Received { channel: "chat".to_owned(), bytes: Bytes::from_static(b"hello") }]
        );
        assert_eq!(line.server.associations.len(), 1);
        assert_eq!(line.server.send(line.now, "chat", &Bytes::from_static(b"hello")), Ok(()));
    }

    #[test]
    fn our_channels_open_with_the_association_and_carry_messages_both_ways() {
        let channel = |label: &str, delivery| DataChannel { label: label.to_owned(), delivery };
        let mut line = Line::with_ours(vec![
            channel("_reliable", Delivery::Reliable),
            channel(&"x".repeat(MAX_LABEL + 1), Delivery::Reliable),
            channel("_lossy", Delivery::Lossy),
        ]);
        assert_eq!(line.server.send(line.now, "_lossy", &Bytes::new()), Err(DataError::NoChannel));
        line.run(|| true);
        let open = |label, ordered, reliability| Open { label, ordered, reliability };
        for (stream, expected) in [
            (1, open("_reliable", true, Reliability::Full)),
            (5, open("_lossy", false, Reliability::Retransmits(0))),
        ] {
            let chunks = line.client.stream(stream).unwrap().read().unwrap().expect("an OPEN");
            let message = chunks.to_payload(100).unwrap();
            assert_eq!(Dcep::parse(&message), Ok(Dcep::Open(expected)));
            line.write(stream, &ACK, PayloadProtocolIdentifier::Dcep);
            line.write(stream, b"up", PayloadProtocolIdentifier::Binary);
            assert_eq!(
                line.server.send(line.now, expected.label, &Bytes::from_static(b"down")),
                Ok(()),
                "even before it is acknowledged"
            );
            line.run(|| true);
            let down = line.client.stream(stream).unwrap().read().unwrap().expect("a message");
            assert_eq!(&down.to_payload(100).unwrap()[..], b"down");
            let received = Received { channel: expected.label.to_owned(), bytes: Bytes::from_static(b"up") };
            assert_eq!(std::mem::take(&mut line.received), [received]);
            let channel = line.server.channels.iter().find(|channel| channel.stream == stream).unwrap();
            assert_eq!(channel.unacknowledged, None);
        }
    }

    #[test]
    fn messages_on_streams_that_are_no_channels_go_nowhere() {
        let mut line = Line::new();
        line.run(|| true);
        line.write(1, b"hello", PayloadProtocolIdentifier::Binary);
        line.write(2, b"\x07", PayloadProtocolIdentifier::Dcep);
        line.open(3, &"x".repeat(MAX_LABEL + 1));
        line.run(|| true);
        assert!(line.received.is_empty() && line.server.channels.is_empty());
        assert!(line.server.state == State::Open);
    }

    #[test]
    fn a_stream_beyond_the_announced_ones_ends_the_association() {
        let mut line = Line::new();
        line.run(|| true);
        line.open(MAX_STREAMS, "chat");
        line.run(|| true);
        assert!(line.server.state == State::Closed && line.client.is_closed());
        assert_eq!(line.server.send(line.now, "chat", &Bytes::new()), Err(DataError::NoChannel));
    }

    #[test]
    fn a_message_that_does_not_end_ends_the_association() {
        let mut line = Line::new();
        line.run(|| true);
        line.open(0, "chat");
        line.run(|| true);
        line.write(0, &vec![7; 1 << 23], PayloadProtocolIdentifier::Binary);
        // A client that heeds the window takes hours; the timers are all there is to wait for.
        while line.server.state == State::Open {
            line.now += Duration::from_secs(60);
            line.run(|| true);
        }
        assert!(line.server.state == State::Closed && line.client.is_closed());
        assert!(line.received.is_empty());
    }
}
