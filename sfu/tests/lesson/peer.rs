//! A participant made of the async `webrtc` crate: it sends numbered packets and notes which numbers it
//! receives.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use sfu_protocol::control::{FromSfu, Publish, ToSfu};
use sfu_protocol::ids::{TrackId, TransportId};
use tokio::time::{MissedTickBehavior, interval};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
    RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile,
    register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::runtime::default_runtime;

use crate::signaling::Signaling;

/// The data channel of every peer.
pub(crate) const CHANNEL: &str = "_reliable";

/// What the teacher's description calls its tracks.
pub(crate) const VOICE_CID: &str = "voice";
pub(crate) const CAMERA_CID: &str = "camera";

/// As the `webrtc` crate numbers its default codecs.
const OPUS: u8 = 111;
const VP8: u8 = 96;

const VOICE_SSRC: u32 = 0x1001;
const CAMERA_SSRC: u32 = 0x2001;
const CAMERA_RTX_SSRC: u32 = 0x2002;

/// Packets of one picture.
const PACKETS_PER_FRAME: u64 = 3;

/// A participant.
pub(crate) struct Peer {
    id: TransportId,
    connection: Arc<dyn PeerConnection>,
    /// `None`: the SFU opens it.
    channel: Option<Arc<dyn DataChannel>>,
    notes: Arc<Mutex<Notes>>,
    sending: Option<(Arc<TrackLocalStaticRTP>, Arc<TrackLocalStaticRTP>)>,
}

/// What a peer has received.
#[derive(Default)]
struct Notes {
    voice: BTreeSet<u64>,
    camera: BTreeSet<u64>,
    /// Whether the first picture's first packet began a key frame.
    began_with_key_frame: Option<bool>,
    channel_open: bool,
    messages: Vec<Vec<u8>>,
    closed: bool,
}

impl Peer {
    /// Sends voice and camera, once [`Self::start_sending`] is called.
    pub(crate) async fn teacher(id: TransportId) -> Self {
        let voice = local_track(VOICE_CID, RtpCodecKind::Audio, MIME_TYPE_OPUS, VOICE_SSRC, None);
        let camera =
            local_track(CAMERA_CID, RtpCodecKind::Video, MIME_TYPE_VP8, CAMERA_SSRC, Some(CAMERA_RTX_SSRC));
        let mut peer = Self::offering(id).await;
        peer.connection.add_track(Arc::clone(&voice) as Arc<dyn TrackLocal>).await.unwrap();
        peer.connection.add_track(Arc::clone(&camera) as Arc<dyn TrackLocal>).await.unwrap();
        peer.sending = Some((voice, camera));
        peer
    }

    /// Receives one track of each kind.
    pub(crate) async fn class(id: TransportId) -> Self {
        let peer = Self::offering(id).await;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            peer.connection.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
        }
        peer
    }

    /// Receives what it is offered, and has its part in the handshake: begins it, or waits for it.
    pub(crate) async fn answering(id: TransportId, part: RTCDtlsRole) -> Self {
        Self::new(id, part).await
    }

    async fn offering(id: TransportId) -> Self {
        let mut peer = Self::new(id, RTCDtlsRole::Client).await;
        let channel = peer.connection.create_data_channel(CHANNEL, None).await.unwrap();
        tokio::spawn(listen(Arc::clone(&channel), Arc::clone(&peer.notes)));
        peer.channel = Some(channel);
        peer
    }

    async fn new(id: TransportId, part: RTCDtlsRole) -> Self {
        let mut media = MediaEngine::default();
        media.register_default_codecs().unwrap();
        let interceptors = register_default_interceptors(Registry::new(), &mut media).unwrap();
        // Chrome's order: what we take is our choice.
        let profiles = vec![
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        ];
        let settings = SettingEngineBuilder::new()
            .with_srtp_protection_profiles(profiles)
            .with_answering_dtls_role(part)
            .build();
        let notes = Arc::new(Mutex::new(Notes::default()));
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptors)
            .with_handler(Arc::new(Listener { notes: Arc::clone(&notes) }))
            .with_runtime(default_runtime().unwrap())
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        Self { id, connection, channel: None, notes, sending: None }
    }

    pub(crate) fn id(&self) -> TransportId {
        self.id
    }

    /// Offers, and takes the answer.
    pub(crate) async fn negotiate(&self, signaling: &mut Signaling, publish: Vec<Publish>) {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer.clone()).await.unwrap();
        let transport = self.id;
        signaling.send(ToSfu::Offer { transport, offer_id: 1, sdp: offer.sdp, publish }).await;
        let answer = signaling.event("an answer", |event| match event {
            FromSfu::Answer { transport, sdp, .. } if *transport == self.id => Some(sdp.clone()),
            FromSfu::OfferRejected { reason, .. } => panic!("offer rejected: {reason}"),
            _ => None,
        });
        let answer = RTCSessionDescription::answer(answer.await).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
    }

    /// Takes the SFU's next offer and answers it; which line carries which track.
    pub(crate) async fn answer(&self, signaling: &mut Signaling) -> Vec<(String, TrackId)> {
        let offer = signaling.event("an offer", |event| match event {
            FromSfu::Offer { transport, offer_id, sdp, mid_to_track } if *transport == self.id => {
                Some((*offer_id, sdp.clone(), mid_to_track.clone()))
            }
            FromSfu::AnswerRejected { reason, .. } => panic!("answer rejected: {reason}"),
            _ => None,
        });
        let (offer_id, sdp, mid_to_track) = offer.await;
        let offer = RTCSessionDescription::offer(sdp).unwrap();
        self.connection.set_remote_description(offer).await.unwrap();
        let answer = self.connection.create_answer(None).await.unwrap();
        self.connection.set_local_description(answer.clone()).await.unwrap();
        signaling.send(ToSfu::Answer { transport: self.id, offer_id, sdp: answer.sdp }).await;
        mid_to_track
    }

    /// Moves to other sockets, as a client does whose network has changed.
    pub(crate) async fn restart_ice(&self, signaling: &mut Signaling) {
        self.connection.restart_ice().await.unwrap();
        self.negotiate(signaling, Vec::new()).await;
    }

    /// Begins to speak (a packet every 20 ms) and to show (a picture every 40 ms, a key frame each second).
    pub(crate) fn start_sending(&self) {
        let (voice, camera) = self.sending.clone().unwrap();
        tokio::spawn(async move {
            let mut clock = interval(Duration::from_millis(20));
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for tick in 0.. {
                clock.tick().await;
                voice.write_rtp(voice_packet(tick)).await.unwrap();
                if tick % 2 == 0 {
                    for packet in picture(tick / 2) {
                        camera.write_rtp(packet).await.unwrap();
                    }
                }
            }
        });
    }

    /// Whether the data channel is open. Messages from before miss it.
    pub(crate) fn listens(&self) -> bool {
        self.notes.lock().unwrap().channel_open
    }

    /// Sends a message.
    pub(crate) async fn say(&self, message: &[u8]) {
        self.channel.as_ref().unwrap().send(message.into()).await.unwrap();
    }

    /// The numbers of the voice packets received.
    pub(crate) fn voice(&self) -> BTreeSet<u64> {
        self.notes.lock().unwrap().voice.clone()
    }

    /// The numbers of the camera packets received.
    pub(crate) fn camera(&self) -> BTreeSet<u64> {
        self.notes.lock().unwrap().camera.clone()
    }

    pub(crate) fn first_picture_was_a_key_frame(&self) -> bool {
        self.notes.lock().unwrap().began_with_key_frame == Some(true)
    }

    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.notes.lock().unwrap().messages.clone()
    }

    /// Whether the other side has said goodbye.
    pub(crate) fn is_closed(&self) -> bool {
        self.notes.lock().unwrap().closed
    }
}

fn local_track(
    name: &str,
    kind: RtpCodecKind,
    mime_type: &str,
    ssrc: u32,
    rtx: Option<u32>,
) -> Arc<TrackLocalStaticRTP> {
    let (clock_rate, channels) = if kind == RtpCodecKind::Audio { (48_000, 2) } else { (90_000, 0) };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
            ..Default::default()
        },
        codec: RTCRtpCodec { mime_type: mime_type.to_owned(), clock_rate, channels, ..Default::default() },
        ..Default::default()
    };
    let (stream, name) = ("teacher".to_owned(), name.to_owned());
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        stream,
        name.clone(),
        name,
        kind,
        vec![encoding],
    )))
}

fn voice_packet(number: u64) -> Packet {
    // A TOC byte: CELT, full band, 20 ms, mono, one frame (RFC 6716 §3.1).
    let payload = [&[0xF8], number.to_be_bytes().as_slice()].concat();
    packet(OPUS, VOICE_SSRC, number, number * 960, true, payload.into())
}

/// The packets of a picture, each with its number at its end.
fn picture(frame: u64) -> impl Iterator<Item = Packet> {
    let key = frame.is_multiple_of(25);
    (0..PACKETS_PER_FRAME).map(move |part| {
        let number = frame * PACKETS_PER_FRAME + part;
        let mut payload = BytesMut::new();
        // RFC 7741 §4.2: X, S on the first packet; I with a 15 bit picture id.
        payload.put_slice(&[if part == 0 { 0x90 } else { 0x80 }, 0x80]);
        payload.put_u16(0x8000 | (frame & 0x7FFF) as u16);
        if part == 0 {
            // RFC 6386 §9.1: the frame tag's lowest bit is 0 in a key frame; then start code, 640 x 360.
            payload.put_slice(&[if key { 0x10 } else { 0x11 }, 0, 0]);
            payload.put_slice(if key { &[0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01] } else { &[] });
        }
        payload.put_bytes(0, 900 - payload.len());
        payload.put_u64(number);
        packet(VP8, CAMERA_SSRC, number, frame * 3600, part == PACKETS_PER_FRAME - 1, payload.freeze())
    })
}

fn packet(payload_type: u8, ssrc: u32, number: u64, timestamp: u64, marker: bool, payload: Bytes) -> Packet {
    let header = Header {
        version: 2,
        marker,
        payload_type,
        sequence_number: number as u16,
        timestamp: timestamp as u32,
        ssrc,
        ..Default::default()
    };
    Packet { header, payload }
}

/// The number at the end of a packet.
fn number(payload: &[u8]) -> Option<u64> {
    payload.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Whether a payload begins a key frame.
fn is_key_frame(payload: &[u8]) -> bool {
    // The descriptor is as long as it was sent: the SFU patches it in place.
    payload.len() > 4 && payload[0] & 0x10 != 0 && payload[4] & 0x01 == 0
}

/// Notes what happens to a connection.
struct Listener {
    notes: Arc<Mutex<Notes>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Listener {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let closed = [
            RTCPeerConnectionState::Closed,
            RTCPeerConnectionState::Failed,
            RTCPeerConnectionState::Disconnected,
        ];
        self.notes.lock().unwrap().closed |= closed.contains(&state);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        tokio::spawn(listen(channel, Arc::clone(&self.notes)));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let notes = Arc::clone(&self.notes);
        tokio::spawn(async move {
            let kind = track.kind().await;
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                let Some(number) = number(&packet.payload) else { continue };
                let mut notes = notes.lock().unwrap();
                if kind == RtpCodecKind::Audio {
                    notes.voice.insert(number);
                } else {
                    notes.began_with_key_frame.get_or_insert_with(|| is_key_frame(&packet.payload));
                    notes.camera.insert(number);
                }
            }
        });
    }
}

async fn listen(channel: Arc<dyn DataChannel>, notes: Arc<Mutex<Notes>>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => notes.lock().unwrap().channel_open = true,
            DataChannelEvent::OnMessage(message) => {
                notes.lock().unwrap().messages.push(message.data.to_vec());
            }
            _ => {}
        }
    }
}
