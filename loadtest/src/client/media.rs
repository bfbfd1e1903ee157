//! Media in and out of the peer connection: one task for each track.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp::Packet;
use tokio::sync::watch;
use tokio::time::interval;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::key_frame_requests::is_key_frame_request;
use super::state::{Connection, Receiving, Shared};
use crate::opus_source::{self, OpusSource};
use crate::receive_stats::{Arrival, MediaKind};
use crate::vp8_source::{Camera, Vp8Facts, Vp8Source};

/// What a client can publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// A microphone: Opus of so many kbit/s, 50 packets a second.
    Microphone {
        /// Bitrate of the Opus payload.
        kbps: u32,
    },
    /// A camera: VP8, one encoding.
    Camera(Camera),
}

impl Publication {
    /// Sound or picture.
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Microphone { .. } => MediaKind::Sound,
            Self::Camera(_) => MediaKind::Picture,
        }
    }
}

/// What was sent of a track.
#[derive(Debug, Default)]
pub struct SentStats {
    packets: AtomicU64,
    bytes: AtomicU64,
    key_frames: AtomicU64,
    key_frame_requests: AtomicU64,
}

impl SentStats {
    /// Packets, retransmissions not counted.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes of RTP payload.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Key frames.
    pub fn key_frames(&self) -> u64 {
        self.key_frames.load(Ordering::Relaxed)
    }

    /// Times that the server asked for a key frame.
    pub fn key_frame_requests(&self) -> u64 {
        self.key_frame_requests.load(Ordering::Relaxed)
    }

    fn count(&self, packet: &Packet, source: &Source) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(packet.payload.len() as u64, Ordering::Relaxed);
        let is_picture = matches!(source, Source::Picture(..));
        if is_picture && Vp8Facts::of(&packet.payload).is_some_and(|facts| facts.key_frame_start) {
            self.key_frames.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A source and its rhythm.
#[derive(Debug)]
pub(super) enum Source {
    Sound(OpusSource),
    Picture(Vp8Source, Duration),
}

impl Source {
    fn interval(&self) -> Duration {
        match self {
            Self::Sound(_) => opus_source::PACKET_INTERVAL,
            Self::Picture(_, interval) => *interval,
        }
    }

    fn packets(&mut self) -> Vec<Packet> {
        match self {
            Self::Sound(source) => vec![source.packet()],
            Self::Picture(source, _) => source.frame(),
        }
    }

    fn skip(&mut self) {
        match self {
            Self::Sound(source) => source.skip(),
            Self::Picture(source, _) => source.skip(),
        }
    }

    fn request_key_frame(&mut self) {
        match self {
            Self::Sound(_) => {}
            Self::Picture(source, _) => source.request_key_frame(),
        }
    }
}

/// What a sending task needs.
pub(super) struct Sending {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) source: Source,
    /// Header extensions that all packets carry: id and value.
    pub(super) extensions: Vec<(u8, Bytes)>,
    pub(super) muted: watch::Receiver<bool>,
    pub(super) connection: watch::Receiver<Connection>,
    pub(super) stats: Arc<SentStats>,
}

impl Sending {
    /// Sends from the moment that the connection is up until it is gone.
    pub(super) async fn run(mut self) {
        if self.connection.wait_for(|connection| *connection != Connection::Connecting).await.is_err() {
            return;
        }
        let mut ticks = interval(self.source.interval());
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if !self.tick().await {
                        return;
                    }
                }
                event = self.track.poll() => match event {
                    Some(TrackLocalEvent::OnRtcpPacket(packets)) => {
                        let requests = packets.iter().filter(|packet| is_key_frame_request(packet.as_ref())).count();
                        if requests > 0 {
                            self.stats.key_frame_requests.fetch_add(requests as u64, Ordering::Relaxed);
                            self.source.request_key_frame();
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    /// False: the connection is gone.
    async fn tick(&mut self) -> bool {
        if *self.connection.borrow() == Connection::Lost {
            return false;
        }
        if *self.muted.borrow() {
            self.source.skip();
            return true;
        }
        for mut packet in self.source.packets() {
            self.stats.count(&packet, &self.source);
            for (id, value) in &self.extensions {
                if packet.header.set_extension(*id, value.clone()).is_err() {
                    return false;
                }
            }
            if self.track.write_rtp(packet).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Counts what arrives on a track until the connection is closed, and asks for a key frame as long as none came:
/// the first packets of a picture may overtake the end of the handshake, and are lost then.
pub(super) async fn receive(track: Arc<dyn TrackRemote>, counters: Arc<Receiving>, shared: Arc<Shared>) {
    let mut asked: Option<Duration> = None;
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
        let at = shared.elapsed();
        let lacks_key_frame = {
            let mut stats = counters.stats();
            stats.arrived(Arrival {
                ssrc: packet.header.ssrc,
                sequence_number: packet.header.sequence_number,
                payload: &packet.payload,
                at,
            });
            stats.kind == MediaKind::Picture && stats.key_frames == 0
        };
        if lacks_key_frame && asked.is_none_or(|asked| at >= asked + KEY_FRAME_PATIENCE) {
            asked = Some(at);
            let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: packet.header.ssrc };
            // An error: the connection is gone, and the loop ends by itself.
            let _ = track.write_rtcp(vec![Box::new(request)]).await;
        }
    }
}

/// libwebrtc asks again after 200 ms (`VideoReceiveStream2`).
const KEY_FRAME_PATIENCE: Duration = Duration::from_millis(200);
