//! The other way round: we offer, the client answers. LiveKit's older two-connection protocol (v0) has such a
//! transport for what a client receives; what it publishes has one of its own with a [`super::Negotiation`].
//!
//! Lines are ours to make, so nothing ever waits for the client to add some. A freed line is offered
//! `inactive` once before it serves again, as in the pool, and always with new SSRCs. A browser keeps the track
//! id of a line's first msid, so a client can tell a later track by its stream or its mid only.
//!
//! We offer `a=setup:actpass`, as older builds of libwebrtc refuse a first offer of anything else. Browsers answer
//! `active`; pion and webrtc-rs answer `passive` to an ICE-lite offer, and then the handshake is ours to begin.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use sfu_protocol::control::{DataChannel, Msid};

use super::codec::AgreedCodec;
use super::direction::Direction;
use super::error::SdpError;
use super::offer::{Content, MAX_LINES, Offer, OfferedExtension, OfferedLine, OfferedMedia};
use super::pool::{Subscription, receiving, send_params};
use super::ssrc::SsrcSequence;
use super::write::{Carries, Lines, Local, write};
use super::{NegotiationConfig, continuity, ice, session_id};
use crate::rtp::params::{Codec, CodecParams, Extension, Mid, SendParams};
use crate::transport::params::{Fingerprint, IceCredentials, RemoteParams};
use crate::units::{MediaKind, TrackId};

/// The negotiation of a transport on which we make the offers: data channels, and tracks to the client.
#[derive(Clone, Debug)]
pub struct Offering {
    local: IceCredentials,
    fingerprint: Fingerprint,
    candidates: Vec<SocketAddr>,
    channels: Vec<DataChannel>,
    session_id: u64,
    /// Offers written so far.
    version: u64,
    remote: Option<RemoteParams>,
    lines: Vec<OfferedLine>,
    /// What each line carries.
    carried: Vec<Carried>,
    /// Subscriptions without a line, the oldest first.
    waiting: Vec<Subscription>,
    ssrcs: SsrcSequence,
    signaling: Signaling,
}

/// An offer for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Counts from 1; its answer may name it.
    pub id: u32,
    /// The offer's text.
    pub sdp: String,
    /// Which m-line carries which track, if the client takes them.
    pub mid_to_track: Vec<(String, TrackId)>,
}

/// What a client's answer changed. Apply `stopped` before `send`.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The client's side of the transport.
    pub remote: RemoteParams,
    /// Whether the client's ICE credentials are others than before; `false` for a first answer.
    pub ice_restarted: bool,
    /// Our credentials.
    pub local: IceCredentials,
    /// Subscribed tracks that the client takes from now on.
    pub send: Vec<(TrackId, SendParams)>,
    /// Subscribed tracks that the client does not take, or no longer.
    pub stopped: Vec<TrackId>,
    /// Which m-line carries which track.
    pub mid_to_track: Vec<(String, TrackId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signaling {
    /// Nothing to say.
    Stable,
    /// The client does not know yet how things are.
    Changed,
    /// An offer is with the client.
    AnswerDue {
        /// Whether there is something to say after it.
        changed: bool,
    },
}

#[derive(Clone, Debug)]
enum Carried {
    /// Data channels.
    Data,
    /// Nothing; the client knows.
    Spare,
    /// A track; `agreed` once the client has taken it.
    Track { subscription: Subscription, params: SendParams, agreed: bool },
    /// Nothing; the client has been told if `offered`.
    Vacated { offered: bool },
}

impl Offering {
    /// Before the first offer; `channels` are the data channels that we open.
    pub fn new(config: NegotiationConfig, channels: Vec<DataChannel>) -> Self {
        let data = OfferedLine {
            media: "application".to_owned(),
            proto: "UDP/DTLS/SCTP".to_owned(),
            format: "webrtc-datachannel".to_owned(),
            mid: Mid::new("0"),
            content: Content::Data,
        };
        Self {
            local: config.local,
            fingerprint: config.fingerprint,
            candidates: config.candidates,
            channels,
            session_id: session_id(config.seed),
            version: 0,
            remote: None,
            lines: vec![data],
            carried: vec![Carried::Data],
            waiting: Vec::new(),
            ssrcs: SsrcSequence::new(config.seed),
            signaling: Signaling::Changed,
        }
    }

    /// Wants a track sent to the client. A second call for the same track changes nothing.
    pub fn subscribe(&mut self, track: TrackId, kind: MediaKind, msid: Msid) {
        let waits = self.waiting.iter().any(|waiting| waiting.track == track);
        if !waits && self.carried.iter().all(|carried| !carried.is(track)) {
            self.waiting.push(Subscription::new(track, kind, msid));
            self.change();
        }
    }

    /// Frees the track's m-line.
    pub fn unsubscribe(&mut self, track: TrackId) {
        self.waiting.retain(|waiting| waiting.track != track);
        if let Some(carried) = self.carried.iter_mut().find(|carried| carried.is(track)) {
            *carried = Carried::Vacated { offered: false };
            self.change();
        }
    }

    /// Restarts ICE with the next offer (RFC 8445 §9). An answer that is still due is not waited for: it may
    /// have been lost with the connection that the restart mends.
    pub fn restart_ice(&mut self) {
        self.local = ice::restarted(&self.local);
        self.signaling = Signaling::Changed;
    }

    /// The next offer; `None` where there is nothing new to say, or an answer is still due.
    pub fn make_offer(&mut self) -> Option<Offered> {
        if self.signaling != Signaling::Changed {
            return None;
        }
        self.place();
        for carried in &mut self.carried {
            if let Carried::Vacated { offered } = carried {
                *offered = true;
            }
        }
        self.signaling = Signaling::AnswerDue { changed: false };
        self.version += 1;
        let local = Local {
            session_id: self.session_id,
            version: self.version,
            ice: &self.local,
            fingerprint: self.fingerprint,
            candidates: &self.candidates,
            setup: "actpass",
        };
        let open = |index: &usize| !matches!(self.lines[*index].content, Content::Refused);
        let bundled: Vec<_> = (0..self.lines.len()).filter(open).collect();
        let carries = self.carried.iter().map(|carried| Carries {
            receive: None,
            send: match carried {
                Carried::Track { subscription, params, .. } => Some((params, &subscription.msid)),
                Carried::Data | Carried::Spare | Carried::Vacated { .. } => None,
            },
        });
        Some(Offered {
            id: self.offer_id(),
            sdp: write(&local, Lines { all: &self.lines, bundled: &bundled }, carries),
            mid_to_track: self.carried.iter().filter_map(|carried| carried.track(false)).collect(),
        })
    }

    /// Takes the client's answer to the last offer; one to an earlier offer, or that is not due, is
    /// [`SdpError::NoOffer`]. Clients before LiveKit's protocol 16 do not say which it is: `0`. On an error
    /// nothing has changed.
    pub fn accept_answer(&mut self, offer_id: u32, sdp: &str) -> Result<Accepted, SdpError> {
        let Signaling::AnswerDue { changed } = self.signaling else { return Err(SdpError::NoOffer) };
        if offer_id != 0 && offer_id != self.offer_id() {
            return Err(SdpError::NoOffer);
        }
        let mut answer = Offer::parse(sdp)?;
        if answer.lines.len() != self.lines.len() {
            return Err(SdpError::LineCount);
        }
        let ice_restarted = continuity(self.remote.as_ref(), &answer.remote)?;
        if let Some(sctp) = &mut answer.remote.sctp {
            sctp.channels.clone_from(&self.channels);
        }
        self.remote = Some(answer.remote.clone());
        let freed = self.carried.iter().any(|carried| matches!(carried, Carried::Vacated { offered: true }));
        let (mut send, mut stopped) = (Vec::new(), Vec::new());
        for ((line, carried), answered) in self.lines.iter_mut().zip(&mut self.carried).zip(&answer.lines) {
            if matches!(answered.content, Content::Refused) {
                line.content = Content::Refused;
            }
            carried.settle(answered, &mut send, &mut stopped);
        }
        let vacated = self.carried.iter().any(|carried| matches!(carried, Carried::Vacated { .. }));
        let more = changed || vacated || (freed && !self.waiting.is_empty());
        self.signaling = if more { Signaling::Changed } else { Signaling::Stable };
        Ok(Accepted {
            remote: answer.remote,
            ice_restarted,
            local: self.local.clone(),
            send,
            stopped,
            mid_to_track: self.carried.iter().filter_map(|carried| carried.track(true)).collect(),
        })
    }

    /// The last offer's.
    fn offer_id(&self) -> u32 {
        u32::try_from(self.version).unwrap_or(u32::MAX)
    }

    fn change(&mut self) {
        self.signaling = match self.signaling {
            Signaling::Stable | Signaling::Changed => Signaling::Changed,
            Signaling::AnswerDue { .. } => Signaling::AnswerDue { changed: true },
        };
    }

    /// Gives the waiting subscriptions spare lines, or new ones while there is room.
    fn place(&mut self) {
        for subscription in std::mem::take(&mut self.waiting) {
            let spare = self.lines.iter().zip(&self.carried).position(|(line, carried)| {
                matches!(carried, Carried::Spare)
                    && matches!(&line.content, Content::Media(media) if media.kind == subscription.kind)
            });
            let index = spare.unwrap_or(self.lines.len());
            if index == MAX_LINES {
                self.waiting.push(subscription);
                continue;
            }
            if index == self.lines.len() {
                self.lines.push(line(index, subscription.kind));
                self.carried.push(Carried::Spare);
            }
            if let (Some(mid), Content::Media(media)) = (self.lines[index].mid, &self.lines[index].content) {
                let params = send_params(mid, media, &mut self.ssrcs);
                self.carried[index] = Carried::Track { subscription, params, agreed: false };
            }
        }
    }
}

impl Carried {
    fn is(&self, wanted: TrackId) -> bool {
        matches!(self, Self::Track { subscription, .. } if subscription.track == wanted)
    }

    /// The line's mid and track, the latter one that the client has taken if `only_agreed`.
    fn track(&self, only_agreed: bool) -> Option<(String, TrackId)> {
        match self {
            Self::Track { subscription, params, agreed } if *agreed || !only_agreed => {
                Some((params.mid.as_str().to_owned(), subscription.track))
            }
            Self::Data | Self::Spare | Self::Track { .. } | Self::Vacated { .. } => None,
        }
    }

    /// What becomes of it with the client's answer for the line.
    fn settle(
        &mut self,
        answered: &OfferedLine,
        send: &mut Vec<(TrackId, SendParams)>,
        stopped: &mut Vec<TrackId>,
    ) {
        let media = receiving(answered);
        match (&mut *self, media) {
            (Self::Track { subscription, params, agreed }, Some(media)) => {
                if !*agreed {
                    *agreed = true;
                    params.codecs = [media.codec.params].into_iter().collect();
                    params.extensions = media.extension_map(Direction::receives);
                    params.rtx_ssrc = params.rtx_ssrc.filter(|_| media.codec.params.rtx_pt.is_some());
                    send.push((subscription.track, params.clone()));
                }
            }
            (Self::Track { subscription, .. }, None) => {
                stopped.push(subscription.track);
                *self = Self::Spare;
            }
            (Self::Vacated { offered: true }, _) => *self = Self::Spare,
            (Self::Data | Self::Spare | Self::Vacated { offered: false }, _) => {}
        }
    }
}

/// A line of ours. The payload types are those that browsers use for the same codecs.
fn line(index: usize, kind: MediaKind) -> OfferedLine {
    let (media, codec, extensions): (_, _, &[Extension]) = match kind {
        MediaKind::Audio => {
            let params = CodecParams {
                codec: Codec::Opus,
                pt: 111,
                rtx_pt: None,
                red_pt: None,
                nack: true,
                pli: false,
            };
            let format = Some("minptime=10;useinbandfec=1".to_owned());
            let codec = AgreedCodec { params, fir: false, transport_cc: true, format, dtx: None };
            ("audio", codec, &[Extension::Mid, Extension::AudioLevel, Extension::TransportCc])
        }
        MediaKind::Video => {
            let params = CodecParams {
                codec: Codec::Vp8,
                pt: 96,
                rtx_pt: Some(97),
                red_pt: None,
                nack: true,
                pli: true,
            };
            let codec = AgreedCodec { params, fir: true, transport_cc: true, format: None, dtx: None };
            ("video", codec, &VIDEO_EXTENSIONS)
        }
    };
    OfferedLine {
        media: media.to_owned(),
        proto: "UDP/TLS/RTP/SAVPF".to_owned(),
        format: codec.params.pt.to_string(),
        mid: Mid::new(&index.to_string()),
        content: Content::Media(Box::new(OfferedMedia {
            kind,
            direction: Direction::SendOnly,
            codec,
            extensions: extensions.iter().copied().map(ours).collect(),
            encodings: ArrayVec::new(),
            msid_track: None,
            rtcp_rsize: true,
        })),
    }
}

const VIDEO_EXTENSIONS: [Extension; 4] =
    [Extension::Mid, Extension::TransportCc, Extension::AbsSendTime, Extension::VideoOrientation];

/// One id for an extension on all lines of the bundle (RFC 9143 §9).
fn ours(extension: Extension) -> OfferedExtension {
    OfferedExtension { id: extension as u8 + 1, extension, direction: None }
}
