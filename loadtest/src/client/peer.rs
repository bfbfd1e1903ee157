//! The client's one peer connection: the crate `webrtc`, which shares no packet code with the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Registry;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::sdp::extmap::{AUDIO_LEVEL_URI, SDES_MID_URI};
use tokio::sync::mpsc;
use webrtc::error::Result;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, RTCStatsReportEntry,
    SettingEngineBuilder, StatsSelector, configure_nack, configure_rtcp_reports,
    configure_simulcast_extension_headers, configure_twcc,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpTransceiver};
use webrtc::runtime::TokioRuntime;

use super::data::{Data, DataMessage};
use super::key_frame_requests::KeyFrameRequests;
use super::media::{self, Publication, Source};
use super::state::{Connection, Shared};
use crate::opus_source::OpusSource;
use crate::receive_stats::MediaKind;
use crate::seed;
use crate::vp8_source::Vp8Source;

/// A peer connection with its data channels.
pub(super) struct Peer {
    connection: Arc<dyn PeerConnection>,
}

/// A track on its way to be sent.
pub(super) struct Outgoing {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) source: Source,
    transceiver: Arc<dyn RtpTransceiver>,
}

impl Peer {
    /// A connection that will use `local` to reach the server. It has spare lines to receive on, and its data
    /// channels; nothing is offered yet.
    pub(super) async fn new(
        local: IpAddr,
        shared: &Arc<Shared>,
        candidates: mpsc::Sender<RTCIceCandidateInit>,
        messages: &mpsc::Sender<DataMessage>,
    ) -> Result<(Self, Data)> {
        let (media_engine, registry) = codecs_and_interceptors()?;
        let settings =
            SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_runtime(Arc::new(TokioRuntime))
            .with_handler(Arc::new(Handler { shared: Arc::clone(shared), candidates }))
            .with_udp_addrs(media_addresses(local))
            .with_data_channel_send_buffer_limit(DATA_BUFFER)
            .build()
            .await?;
        let peer = Self { connection: Arc::new(connection) };
        peer.add_receivers(MediaKind::Sound, SPARE_LINES).await?;
        peer.add_receivers(MediaKind::Picture, SPARE_LINES).await?;
        let data = Data::open(peer.connection.as_ref(), messages).await?;
        Ok((peer, data))
    }

    /// Adds lines to receive on, for the next offer.
    pub(super) async fn add_receivers(&self, kind: MediaKind, count: u32) -> Result<()> {
        for _ in 0..count {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: vec![],
                send_encodings: vec![],
            };
            self.connection.add_transceiver_from_kind(codec_kind(kind), Some(init)).await?;
        }
        Ok(())
    }

    /// Adds a line to send on, for the next offer. `cid` names it in the offer and in `add_track`.
    pub(super) async fn add_sender(
        &self,
        cid: &str,
        ssrc: u32,
        publication: Publication,
    ) -> Result<Outgoing> {
        let (kind, source) = match publication {
            Publication::Microphone { kbps } => {
                (MediaKind::Sound, Source::Sound(OpusSource::new(ssrc, OPUS, kbps, seed::fresh())))
            }
            Publication::Camera(camera) => {
                let source = Vp8Source::new(ssrc, VP8, camera, seed::fresh());
                (MediaKind::Picture, Source::Picture(source, camera.frame_interval()))
            }
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec: codec(kind),
            active: true,
            ..Default::default()
        };
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            STREAM.to_owned(),
            cid.to_owned(),
            cid.to_owned(),
            codec_kind(kind),
            vec![encoding],
        )));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec![STREAM.to_owned()],
            send_encodings: vec![],
        };
        let sending: Arc<dyn TrackLocal> = track.clone();
        let transceiver = self.connection.add_transceiver_from_track(sending, Some(init)).await?;
        Ok(Outgoing { track, source, transceiver })
    }

    /// Makes an offer and takes it as ours.
    pub(super) async fn offer(&self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        Ok(sdp)
    }

    /// Applies the server's answer.
    pub(super) async fn answer(&self, sdp: String) -> Result<()> {
        let candidates: Vec<_> = candidates(&sdp).collect();
        self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?;
        for candidate in candidates {
            self.add_candidate(candidate).await?;
        }
        Ok(())
    }

    /// Applies a candidate of the server.
    pub(super) async fn add_candidate(&self, candidate: RTCIceCandidateInit) -> Result<()> {
        self.connection.add_ice_candidate(candidate).await
    }

    /// The SRTP profile that DTLS agreed on, once it has, by its IANA name without the prefix `SRTP_`.
    pub(super) async fn srtp_profile(&self) -> Option<String> {
        let report = self.connection.get_stats(Instant::now(), StatsSelector::None).await;
        report.iter().find_map(|entry| match entry {
            RTCStatsReportEntry::Transport(transport) => {
                let cipher = transport.srtp_cipher.trim_start_matches("SRTP_");
                Some(cipher.to_owned()).filter(|cipher| !cipher.is_empty())
            }
            _ => None,
        })
    }

    /// Ends everything: tasks that read tracks and channels end too.
    pub(super) async fn close(&self) -> Result<()> {
        self.connection.close().await
    }
}

impl Outgoing {
    /// The header extensions that its packets carry; None if the server did not accept the track.
    pub(super) async fn accepted(&self) -> Result<Option<Vec<(u8, Bytes)>>> {
        let direction = self.transceiver.current_direction().await?;
        if !matches!(direction, RTCRtpTransceiverDirection::Sendonly | RTCRtpTransceiverDirection::Sendrecv) {
            return Ok(None);
        }
        let Some(sender) = self.transceiver.sender().await? else { return Ok(None) };
        let mid = self.transceiver.mid().await?.unwrap_or_default();
        let parameters = sender.get_parameters().await?;
        let negotiated = &parameters.rtp_parameters.header_extensions;
        let id = |uri: &str| {
            negotiated.iter().find(|extension| extension.uri == uri).and_then(|e| u8::try_from(e.id).ok())
        };
        let mid = id(SDES_MID_URI).map(|id| (id, Bytes::from(mid)));
        let level = id(AUDIO_LEVEL_URI).filter(|_| matches!(self.source, Source::Sound(_)));
        let level = level.map(|id| (id, Bytes::from_static(&[SPEAKING])));
        Ok(Some(mid.into_iter().chain(level).collect()))
    }
}

/// Passes what `webrtc` tells on. Runs on the connection's own task, so it never waits.
struct Handler {
    shared: Arc<Shared>,
    candidates: mpsc::Sender<RTCIceCandidateInit>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            // A lite server learns our address from our checks: a candidate that finds no room is no loss.
            let _ = self.candidates.try_send(candidate);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.shared.set_connection(Connection::Connected),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.shared.set_connection(Connection::Lost);
            }
            _ => {}
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let kind = match track.kind().await {
            RtpCodecKind::Audio => MediaKind::Sound,
            RtpCodecKind::Video => MediaKind::Picture,
            _ => return,
        };
        let (stream, id) = (track.stream_id().await, track.track_id().await);
        if let Some(counters) = self.shared.receive(&stream, &id, kind) {
            tokio::spawn(media::receive(track, counters, Arc::clone(&self.shared)));
        }
    }
}

/// Opus, VP8 and its RTX, with what browsers do for them: NACK, reports, TWCC, key frame requests.
fn codecs_and_interceptors() -> Result<(MediaEngine, Registry)> {
    let mut engine = MediaEngine::default();
    let parameters = |payload_type, rtp_codec| RTCRtpCodecParameters { payload_type, rtp_codec };
    engine.register_codec(parameters(OPUS, codec(MediaKind::Sound)), RtpCodecKind::Audio)?;
    engine.register_codec(parameters(VP8, codec(MediaKind::Picture)), RtpCodecKind::Video)?;
    let rtx = RTCRtpCodec {
        mime_type: MIME_TYPE_RTX.to_owned(),
        clock_rate: 90_000,
        sdp_fmtp_line: format!("apt={VP8}"),
        ..Default::default()
    };
    engine.register_codec(parameters(RTX, rtx), RtpCodecKind::Video)?;
    let fir = RTCPFeedback { typ: "ccm".to_owned(), parameter: "fir".to_owned() };
    engine.register_feedback(fir, RtpCodecKind::Video);
    for uri in [AUDIO_LEVEL_URI, SDES_MID_URI] {
        let capability = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        engine.register_header_extension(capability, RtpCodecKind::Audio, None)?;
    }
    configure_simulcast_extension_headers(&mut engine)?;
    let registry = configure_nack(Registry::new(), &mut engine);
    let registry = configure_rtcp_reports(configure_twcc(registry, &mut engine)?);
    Ok((engine, registry.with(KeyFrameRequests::slot(), KeyFrameRequests::default())))
}

fn codec_kind(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Sound => RtpCodecKind::Audio,
        MediaKind::Picture => RtpCodecKind::Video,
    }
}

fn codec(kind: MediaKind) -> RTCRtpCodec {
    match kind {
        MediaKind::Sound => RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: vec![],
        },
        MediaKind::Picture => {
            RTCRtpCodec { mime_type: MIME_TYPE_VP8.to_owned(), clock_rate: 90_000, ..Default::default() }
        }
    }
}

/// The candidates in a description. `rtc` passes over those in a section that is `inactive` (`extract_ice_details`),
/// which the bundle's first one may well be.
fn candidates(sdp: &str) -> impl Iterator<Item = RTCIceCandidateInit> {
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=")?.strip_prefix("candidate:"));
    lines.map(|value| RTCIceCandidateInit { candidate: format!("candidate:{value}"), ..Default::default() })
}

/// The interface that leads to the server's web port leads to its media port too, except that a host name may
/// have led to IPv6 where media has IPv4 alone.
fn media_addresses(local: IpAddr) -> Vec<SocketAddr> {
    let v4 = match local {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.is_loopback() => Some(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => Some(Ipv4Addr::UNSPECIFIED),
    };
    [Some(local), v4.map(IpAddr::V4)].into_iter().flatten().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// livekit-client's first offer has three lines of each kind (RTCEngine.ts).
const SPARE_LINES: u32 = 3;

/// The payload types that browsers use.
const OPUS: u8 = 111;
const VP8: u8 = 96;
const RTX: u8 = 97;

/// RFC 6464: voice activity, 20 dB below overload.
const SPEAKING: u8 = 0x80 | 20;

/// The media stream of all that a client sends (RFC 8830).
const STREAM: &str = "loadtest";

/// Bytes that may wait in a data channel.
const DATA_BUFFER: usize = 1024 * 1024;
