//! A whole peer connection as the client: ICE with nomination and restart, DTLS, data channels, an outage.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sfu_core::command::CloseReason;
use sfu_core::transport::demux::{Class, classify, stun_ufrag};
use sfu_core::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams, SctpParams};
use sfu_core::transport::{DataError, Transport, TransportConfig, TransportEvent, Tuple};
use sfu_core::units::MAX_DATAGRAM_OUT;

use super::{config, credentials, provider, start, tuple};

/// A client, a transport and the line between them.
struct Call {
    now: Instant,
    client: RTCPeerConnection,
    transport: Transport,
    config: Arc<TransportConfig>,
    local: IceCredentials,
    events: Vec<TransportEvent>,
    /// The client's channels, in the order of their making; those that opened and closed.
    channels: Vec<RTCDataChannelId>,
    open: Vec<RTCDataChannelId>,
    closed: Vec<RTCDataChannelId>,
    received: Vec<(RTCDataChannelId, bool, Vec<u8>)>,
    /// Whether anything arrives.
    line_is_up: bool,
    /// One datagram in so many gets lost; which one follows from `dice`.
    loses_one_in: Option<u64>,
    dice: u64,
    /// The client's address as we see it: it changes when its NAT forgets it.
    seen_as: Tuple,
    under_way: VecDeque<Vec<u8>>,
    largest: usize,
}

fn field(sdp: &str, name: &str) -> String {
    sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
}

fn remote_params(offer: &str) -> RemoteParams {
    RemoteParams {
        ice: IceCredentials { ufrag: field(offer, "a=ice-ufrag:"), pwd: field(offer, "a=ice-pwd:") },
        fingerprint: Fingerprint::parse(&field(offer, "a=fingerprint:sha-256 ")).unwrap(),
        role: DtlsRole::Client,
        sctp: Some(SctpParams { port: 5000, max_message_size: 65_536, channels: Vec::new() }),
    }
}

fn answer(config: &TransportConfig, local: &IceCredentials, mid: &str) -> RTCSessionDescription {
    let (ufrag, pwd, fingerprint) = (&local.ufrag, &local.pwd, config.identity.fingerprint());
    let candidate = tuple(1).local;
    let (ip, port) = (candidate.ip(), candidate.port());
    RTCSessionDescription::answer(format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=group:BUNDLE {mid}\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
         a=setup:passive\r\na=mid:{mid}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=sctp-port:5000\r\n\
         a=max-message-size:65536\r\na=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n\
         a=end-of-candidates\r\n"
    ))
    .unwrap()
}

impl Call {
    fn new(channels: &[(&str, Option<RTCDataChannelInit>)]) -> Self {
        let now = start();
        let config = config();
        let long = Some(Duration::from_secs(600));
        let settings = SettingEngineBuilder::new()
            .with_crypto_provider(provider())
            .with_ice_timeouts(long, long, Some(Duration::from_secs(2)))
            .build();
        let mut client = RTCPeerConnectionBuilder::new().with_setting_engine(settings).build(now).unwrap();
        let create = |(label, init): &(&str, Option<RTCDataChannelInit>)| {
            client.create_data_channel(label, init.clone()).unwrap().id()
        };
        let channels = channels.iter().map(create).collect();
        let offer = client.create_offer(None).unwrap();
        client.set_local_description(now, offer.clone()).unwrap();
        add_candidate(&mut client);
        let local = credentials("ours");
        let transport = Transport::new(now, &config, local.clone(), remote_params(&offer.sdp));
        let answer = answer(&config, &local, &field(&offer.sdp, "a=mid:"));
        client.set_remote_description(now, answer).unwrap();
        Self {
            now,
            client,
            transport,
            config,
            local,
            events: Vec::new(),
            channels,
            open: Vec::new(),
            closed: Vec::new(),
            received: Vec::new(),
            line_is_up: true,
            loses_one_in: None,
            dice: 1,
            seen_as: tuple(1),
            under_way: VecDeque::new(),
            largest: 0,
        }
    }

    /// One with all its channels open.
    fn established(channels: &[(&str, Option<RTCDataChannelInit>)]) -> Self {
        let mut call = Self::new(channels);
        call.run_until(Duration::from_secs(10), |call| call.open.len() == channels.len());
        assert_eq!(call.open.len(), channels.len(), "{:?}", call.events);
        call
    }

    fn run_until(&mut self, time: Duration, is_done: impl Fn(&Self) -> bool) {
        let end = self.now + time;
        while self.now < end && !is_done(self) {
            self.step();
        }
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// What is under way arrives; then 20 ms pass.
    fn step(&mut self) {
        while let Some(sent) = self.client.poll_write() {
            if self.arrives() {
                self.deliver(&sent.message);
            }
        }
        self.collect();
        while let Some(datagram) = self.under_way.pop_front() {
            let transport = TransportContext {
                local_addr: tuple(1).remote,
                peer_addr: tuple(1).local,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            };
            let message = BytesMut::from(&datagram[..]);
            let _ = self.client.handle_read(TaggedBytesMut { now: self.now, transport, message });
        }
        self.listen();
        self.now += Duration::from_millis(20);
        let _ = self.client.handle_timeout(self.now);
        if self.transport.poll_timeout().is_some_and(|at| at <= self.now) {
            self.transport.handle_timeout(self.now);
        }
        self.collect();
    }

    fn arrives(&mut self) -> bool {
        // Knuth's linear congruential generator.
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.line_is_up && self.loses_one_in.is_none_or(|one_in| !(self.dice >> 33).is_multiple_of(one_in))
    }

    fn deliver(&mut self, datagram: &[u8]) {
        match classify(datagram) {
            Class::Stun => {
                assert!(stun_ufrag(datagram).is_none_or(|ufrag| ufrag.starts_with("ours")));
                let _ = self.transport.handle_stun(self.now, self.seen_as, datagram);
            }
            Class::Dtls => self.transport.handle_dtls(self.now, self.seen_as, datagram).unwrap_or_default(),
            class => panic!("{class:?}"),
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            self.events.push(event);
        }
        let mut out = [0; MAX_DATAGRAM_OUT];
        while let Some((to, len)) = self.transport.poll_transmit(&mut out) {
            self.largest = self.largest.max(len);
            if self.arrives() && to == self.seen_as {
                self.under_way.push_back(out[..len].to_vec());
            }
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.client.poll_event() {
            if let RTCPeerConnectionEvent::OnDataChannel(event) = event {
                match event {
                    RTCDataChannelEvent::OnOpen(id) => self.open.push(id),
                    RTCDataChannelEvent::OnClose(id) => self.closed.push(id),
                    _ => {}
                }
            }
        }
        while let Some(message) = self.client.poll_read() {
            if let RTCMessage::DataChannelMessage(id, message) = message.message {
                self.received.push((id, message.is_string, message.data.to_vec()));
            }
        }
    }

    fn client_sends(&mut self, id: RTCDataChannelId, bytes: &[u8]) {
        self.client.data_channel(id).unwrap().send(self.now, BytesMut::from(bytes)).unwrap();
    }

    /// The messages that came to us since the last call.
    fn messages(&mut self) -> Vec<(String, Vec<u8>)> {
        let events = std::mem::take(&mut self.events);
        let data = events.into_iter().filter_map(|event| match event {
            TransportEvent::Data { channel, bytes } => Some((channel, bytes.to_vec())),
            _ => None,
        });
        data.collect()
    }
}

fn add_candidate(client: &mut RTCPeerConnection) {
    let address = tuple(1).remote;
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..CandidateConfig::default()
    };
    let host = CandidateHostConfig { base_config, ..CandidateHostConfig::default() };
    let candidate = RTCIceCandidate::from(&host.new_candidate_host().unwrap()).to_json().unwrap();
    client.add_local_candidate(candidate).unwrap();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

const RELIABLE: (&str, Option<RTCDataChannelInit>) = ("_reliable", None);

#[test]
fn messages_of_every_size_come_and_go_whole() {
    let mut call = Call::established(&[RELIABLE]);
    let id = call.channels[0];
    for len in [1, 100, 1200, 20_000, 65_536] {
        call.client_sends(id, &pattern(len));
        call.run_until(Duration::from_secs(5), |call| {
            call.events.iter().any(|event| matches!(event, TransportEvent::Data { .. }))
        });
        assert_eq!(call.messages(), [("_reliable".to_owned(), pattern(len))]);
        call.transport.send_data(call.now, "_reliable", &Bytes::from(pattern(len))).unwrap();
        call.run_until(Duration::from_secs(5), |call| !call.received.is_empty());
        assert_eq!(std::mem::take(&mut call.received), [(id, false, pattern(len))]);
    }
    assert!(call.largest > 1200 && call.largest <= MAX_DATAGRAM_OUT, "{}", call.largest);
}

#[test]
fn a_channel_that_speaks_text_is_answered_in_text_even_when_empty() {
    let mut call = Call::established(&[RELIABLE]);
    let id = call.channels[0];
    call.client.data_channel(id).unwrap().send_text(call.now, "hello").unwrap();
    call.run(Duration::from_millis(500));
    assert_eq!(call.messages(), [("_reliable".to_owned(), b"hello".to_vec())]);
    for text in ["good morning", ""] {
        call.transport.send_data(call.now, "_reliable", &Bytes::from(text)).unwrap();
        call.run(Duration::from_millis(500));
        assert_eq!(call.received.pop(), Some((id, true, text.as_bytes().to_vec())));
    }
}

#[test]
fn a_lossy_channel_gives_up_what_a_reliable_one_repeats() {
    let lossy =
        RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..RTCDataChannelInit::default() };
    let mut call = Call::established(&[RELIABLE, ("_lossy", Some(lossy))]);
    call.line_is_up = false;
    for channel in ["_reliable", "_lossy"] {
        call.transport.send_data(call.now, channel, &Bytes::from_static(b"lost at first")).unwrap();
    }
    call.run(Duration::from_millis(500));
    call.line_is_up = true;
    call.run(Duration::from_secs(10));
    let labels: Vec<_> = call.received.iter().map(|(id, ..)| *id).collect();
    assert_eq!(labels, [call.channels[0]]);
}

#[test]
fn a_message_that_cannot_be_sent_is_refused() {
    let mut call = Call::established(&[RELIABLE]);
    let send = |call: &mut Call, channel: &str, len: usize| {
        call.transport.send_data(call.now, channel, &Bytes::from(vec![0; len]))
    };
    assert_eq!(send(&mut call, "_lossy", 1), Err(DataError::NoChannel));
    assert_eq!(send(&mut call, "_reliable", 65_537), Err(DataError::TooLong));
    // The answer to the channel's opening takes a byte of the queue until it is acknowledged.
    call.run(Duration::from_secs(1));
    call.line_is_up = false;
    let taken = (0..100).take_while(|_| send(&mut call, "_reliable", 65_536).is_ok()).count();
    assert_eq!(taken, 16);
    assert_eq!(send(&mut call, "_reliable", 65_536), Err(DataError::Full));
    call.line_is_up = true;
    call.run_until(Duration::from_secs(120), |call| call.received.len() == 16);
    assert_eq!(call.received.len(), 16);
    assert_eq!(send(&mut call, "_reliable", 1), Ok(()));
}

#[test]
fn a_ninth_channel_is_closed_again_and_a_closed_one_makes_room() {
    let labels: Vec<String> = (0..9).map(|i| format!("channel {i}")).collect();
    let channels: Vec<_> = labels.iter().map(|label| (label.as_str(), None)).collect();
    let mut call = Call::new(&channels);
    call.run(Duration::from_secs(5));
    let reachable = |call: &mut Call| {
        let send =
            |label: &&String| call.transport.send_data(call.now, label, &Bytes::from_static(b"x")).is_ok();
        labels.iter().filter(send).count()
    };
    assert_eq!(reachable(&mut call), 8);
    assert_eq!(call.closed.len(), 1);
    let id = *call.open.iter().find(|id| !call.closed.contains(id)).unwrap();
    call.client.data_channel(id).unwrap().close().unwrap();
    call.run(Duration::from_secs(5));
    assert_eq!(call.closed.len(), 2, "our direction is closed too");
    assert_eq!(reachable(&mut call), 7);
}

#[test]
fn a_line_that_loses_every_fifth_datagram_carries_a_session() {
    for seed in 1..=8 {
        let mut call = Call::new(&[RELIABLE]);
        (call.loses_one_in, call.dice) = (Some(5), seed);
        call.run_until(Duration::from_secs(60), |call| call.open.len() == 1);
        assert_eq!(call.open.len(), 1, "seed {seed}: {:?}", call.events);
        let id = call.channels[0];
        for len in [1, 3000, 30_000] {
            call.client_sends(id, &pattern(len));
            call.transport.send_data(call.now, "_reliable", &Bytes::from(pattern(len))).unwrap();
        }
        call.run_until(Duration::from_secs(300), |call| {
            let is_data = |event: &&TransportEvent| matches!(event, TransportEvent::Data { .. });
            call.received.len() == 3 && call.events.iter().filter(is_data).count() == 3
        });
        assert_eq!(
            call.received.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>(),
            33_001,
            "seed {seed}"
        );
        assert_eq!(
            call.messages().iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            33_001,
            "seed {seed}"
        );
    }
}

#[test]
fn a_restart_moves_the_transport_and_keeps_its_session() {
    let mut call = Call::established(&[RELIABLE]);
    let id = call.channels[0];
    let offer = call.client.create_offer(Some(RTCOfferOptions { ice_restart: true })).unwrap();
    call.client.set_local_description(call.now, offer.clone()).unwrap();
    add_candidate(&mut call.client);
    let remote = remote_params(&offer.sdp).ice;
    call.local = credentials("ours2");
    call.transport.restart_ice(call.local.clone(), remote);
    assert_eq!(call.transport.tuple(), Some(tuple(1)));
    call.seen_as = tuple(2);
    let answer = answer(&call.config, &call.local, &field(&offer.sdp, "a=mid:"));
    call.client.set_remote_description(call.now, answer).unwrap();
    call.run_until(Duration::from_secs(10), |call| call.transport.tuple() == Some(tuple(2)));
    assert_eq!(call.transport.tuple(), Some(tuple(2)));
    call.transport.send_data(call.now, "_reliable", &Bytes::from_static(b"still here")).unwrap();
    call.client_sends(id, b"me too");
    call.run(Duration::from_secs(2));
    assert_eq!(call.received, [(id, false, b"still here".to_vec())]);
    assert_eq!(call.messages(), [("_reliable".to_owned(), b"me too".to_vec())]);
}

#[test]
fn a_session_survives_an_outage_of_a_hundred_seconds_but_not_of_two_minutes() {
    let mut call = Call::established(&[RELIABLE]);
    call.line_is_up = false;
    call.run(Duration::from_secs(1));
    call.transport.send_data(call.now, "_reliable", &Bytes::from_static(b"during the outage")).unwrap();
    call.run(Duration::from_secs(100));
    call.line_is_up = true;
    call.run_until(Duration::from_secs(70), |call| !call.received.is_empty());
    assert_eq!(call.received, [(call.channels[0], false, b"during the outage".to_vec())]);
    call.line_is_up = false;
    call.run(Duration::from_secs(121));
    assert_eq!(call.events.last(), Some(&TransportEvent::Closed(CloseReason::ConsentExpired)));
}
