//! A published source: its encodings, and which packet belongs to which.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use thiserror::Error;

use super::StreamKey;
use super::encoding::{Arrival, Encoding};
use super::layers::SILENCE;
use super::packet_cache::PacketFacts;
use super::receive_stats::SenderClock;
use super::reception::Reception;
use crate::rtp::ext::Values;
use crate::rtp::packet::RtpView;
use crate::rtp::params::{CodecParams, MAX_ENCODINGS, ReceiveParams, Ssrc};
use crate::units::{MediaKind, Size, Source, TrackId};

/// Whether an SSRC carries the media or its retransmissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// The media itself.
    Media,
    /// Retransmissions of it (RFC 4588).
    Rtx,
}

/// Why a packet of a known stream goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ReceiveError {
    /// Its payload type was not agreed for this stream.
    #[error("payload type not agreed")]
    PayloadType,
    /// It is no redundant audio of the agreed codec.
    #[error("no redundant audio")]
    Redundancy,
    /// It arrived before, as itself or repaired.
    #[error("duplicate")]
    Duplicate,
    /// It is older than all that is kept.
    #[error("too old")]
    TooOld,
    /// Its number is far from those before; the next one decides.
    #[error("sequence number jumped")]
    SequenceJump,
    /// Another SSRC than the one that took its place just before.
    #[error("SSRC changes too often")]
    RestlessSsrc,
    /// A retransmission of nothing: padding.
    #[error("retransmission without an original")]
    RtxPadding,
    /// A retransmission of a packet that no run of numbers holds.
    #[error("retransmission of an unknown original")]
    RtxForeign,
}

/// A source as published to us.
pub struct UpTrack {
    id: TrackId,
    source: Source,
    params: ReceiveParams,
    encodings: ArrayVec<Encoding, MAX_ENCODINGS>,
    muted: bool,
    /// When it was unmuted last.
    unmuted: Option<Instant>,
    started: bool,
    /// What could be chosen from when it was last looked at, and whether that has changed.
    layers: ArrayVec<(bool, Option<Size>), MAX_ENCODINGS>,
    layers_changed: bool,
}

impl UpTrack {
    /// A track of which nothing arrived yet.
    pub fn new(now: Instant, id: TrackId, source: Source, params: ReceiveParams) -> Self {
        let encodings = encodings(now, &params, 0);
        Self {
            id,
            source,
            params,
            encodings,
            muted: false,
            unmuted: None,
            started: false,
            layers: ArrayVec::new(),
            layers_changed: false,
        }
    }

    /// A later negotiation changed how it comes. Encodings that go on keep their state; `false`: none does, they
    /// are others now.
    #[must_use = "receivers may be waiting for an encoding that is gone"]
    pub fn update(&mut self, now: Instant, params: ReceiveParams) -> bool {
        let go_on = params.encodings.len() == self.encodings.len()
            && params.encodings.iter().zip(&self.encodings).all(|(new, old)| new.rid == old.params().rid);
        if go_on {
            for (encoding, new) in self.encodings.iter_mut().zip(&params.encodings) {
                new.ssrc.into_iter().for_each(|ssrc| encoding.set_ssrc(ssrc));
                new.rtx_ssrc.into_iter().for_each(|ssrc| encoding.set_rtx_ssrc(ssrc));
            }
        } else {
            let epochs = self.encodings.iter().map(|encoding| encoding.stream().epoch());
            let unused = epochs.max().map_or(0, |epoch| epoch + 1);
            self.encodings = encodings(now, &params, unused);
        }
        self.params = params;
        go_on
    }

    /// Its id.
    pub fn id(&self) -> TrackId {
        self.id
    }

    /// What it shows.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Sound or picture.
    pub fn kind(&self) -> MediaKind {
        self.params.kind
    }

    /// How it comes.
    pub fn params(&self) -> &ReceiveParams {
        &self.params
    }

    /// Its encodings, lowest first.
    pub fn encodings(&self) -> &[Encoding] {
        &self.encodings
    }

    /// As [`encodings`](Self::encodings).
    pub fn encodings_mut(&mut self) -> &mut [Encoding] {
        &mut self.encodings
    }

    /// Whether it is muted.
    pub fn muted(&self) -> bool {
        self.muted
    }

    /// Mutes or unmutes it; its packets are taken in all the same.
    pub fn set_muted(&mut self, now: Instant, muted: bool) {
        if self.muted && !muted {
            self.unmuted = Some(now);
        }
        self.muted = muted;
    }

    /// How it arrived since the last call.
    pub fn take_reception(&mut self) -> Reception {
        let rate = self.params.codecs.first().map_or(1, |codec| codec.codec.clock_rate());
        let all = self.encodings.iter_mut().map(|encoding| encoding.take_reception(rate));
        let mut all = all.fold(Reception::default(), Reception::merge);
        if self.params.kind == MediaKind::Video {
            all.jitter = Duration::ZERO;
        }
        Reception { flowing: !self.muted && self.started, ..all }
    }

    /// Whether this call is the first since a packet arrived.
    pub fn take_started(&mut self) -> bool {
        !std::mem::replace(&mut self.started, true)
    }

    /// Whether its packets came, and have ceased. An unmuted one is given the time to begin again.
    pub fn has_stopped(&self, now: Instant) -> bool {
        let begins_again = self.unmuted.is_some_and(|at| now.saturating_duration_since(at) < SILENCE);
        self.started && !begins_again && !self.encodings.iter().any(|encoding| encoding.active(now))
    }

    /// Which encoding and role a packet of an unknown SSRC has, by what it says of itself: `None` where that
    /// is not enough.
    pub fn place(&self, packet: &RtpView<'_>, values: &Values<'_>) -> Option<(u8, StreamRole)> {
        let role = if self.codec(packet.pt(), StreamRole::Rtx).is_some() {
            StreamRole::Rtx
        } else {
            self.codec(packet.pt(), StreamRole::Media)?;
            StreamRole::Media
        };
        let rid = match role {
            StreamRole::Media => values.rid,
            StreamRole::Rtx => values.repaired_rid.or(values.rid),
        };
        let named = |rid: &str| {
            self.encodings
                .iter()
                .position(|encoding| encoding.params().rid.is_some_and(|own| own.as_str() == rid))
        };
        let index = match rid {
            Some(rid) => named(rid)?,
            None if self.encodings.len() == 1 => 0,
            None => return None,
        };
        Some((index as u8, role))
    }

    /// From now on `ssrc` carries this. Returns the SSRC that did before.
    pub fn learn(
        &mut self,
        now: Instant,
        encoding: u8,
        role: StreamRole,
        ssrc: Ssrc,
    ) -> Result<Option<Ssrc>, ReceiveError> {
        let encoding = self.encodings.get_mut(usize::from(encoding)).ok_or(ReceiveError::PayloadType)?;
        let before = *encoding.params();
        match role {
            StreamRole::Media => {
                if !encoding.learn_ssrc(now, ssrc) {
                    return Err(ReceiveError::RestlessSsrc);
                }
                Ok(before.ssrc)
            }
            StreamRole::Rtx => {
                encoding.set_rtx_ssrc(ssrc);
                Ok(before.rtx_ssrc)
            }
        }
    }

    /// Takes in a packet.
    pub fn receive(
        &mut self,
        now: Instant,
        encoding: u8,
        role: StreamRole,
        packet: &RtpView<'_>,
        values: &Values<'_>,
    ) -> Result<Arrival, ReceiveError> {
        let codec = *self.codec(packet.pt(), role).ok_or(ReceiveError::PayloadType)?;
        let encoding = self.encodings.get_mut(usize::from(encoding)).ok_or(ReceiveError::PayloadType)?;
        let arrival = match role {
            StreamRole::Media => encoding.receive(now, &codec, packet, values),
            StreamRole::Rtx => encoding.receive_rtx(now, &codec, packet, values),
        }?;
        self.note_layers(now, &arrival);
        Ok(arrival)
    }

    /// Whether encodings went on or off, changed their size, or were to be looked at, since the last call.
    pub fn take_layers_changed(&mut self) -> bool {
        std::mem::take(&mut self.layers_changed)
    }

    /// The next packet is a reason to decide anew who gets which encoding.
    pub fn look_again(&mut self) {
        self.layers_changed = true;
    }

    /// Looks what can be chosen from, once a frame.
    #[inline]
    fn note_layers(&mut self, now: Instant, arrival: &Arrival) {
        let index = usize::from(arrival.stream.encoding());
        let frame = arrival.facts.vp8.is_some_and(|vp8| vp8.frame_start());
        if !frame && self.layers.get(index).is_some_and(|&(active, _)| active) {
            return;
        }
        if frame {
            let others = self.encodings.iter_mut().enumerate().filter(|&(other, _)| other != index);
            others.for_each(|(_, other)| other.on_frame_of_another());
        }
        let layers = || self.encodings.iter().map(|own| (own.active(now), own.size()));
        if !layers().eq(self.layers.iter().copied()) {
            self.layers = layers().collect();
            self.layers_changed = true;
        }
    }

    /// A packet that arrived, `None` where it is gone.
    #[inline]
    pub fn packet(&self, stream: StreamKey, seq: u64) -> Option<(&PacketFacts, &[u8])> {
        self.encodings.get(usize::from(stream.encoding()))?.packet(stream, seq)
    }

    /// The sender's clocks for a stream, `None` before its first report.
    pub fn clock(&self, stream: StreamKey) -> Option<&SenderClock> {
        self.encodings.get(usize::from(stream.encoding())).filter(|own| own.stream() == stream)?.clock()
    }

    /// What `from` stamps `time`, as `to` would have stamped it; `None` while their reports do not tell.
    pub fn translate(&self, time: u32, from: StreamKey, to: StreamKey) -> Option<u32> {
        if from.encoding() == to.encoding() {
            return Some(time);
        }
        let rate = self.params.codecs.first()?.codec.clock_rate();
        Some(self.clock(from)?.translate(time, self.clock(to)?, rate))
    }

    /// Asks for a key frame of each of these encodings, as bits by index.
    pub fn want_key_frames(&mut self, encodings: u8) {
        if self.muted || !self.params.codecs.iter().any(|codec| codec.pli) {
            return;
        }
        for (index, encoding) in self.encodings.iter_mut().enumerate() {
            if encodings & 1 << index != 0 {
                encoding.key_frame().want();
            }
        }
    }

    /// Says which encodings anybody receives, or is about to, as bits by index. No further holes of the others
    /// are asked for.
    pub fn set_wanted(&mut self, encodings: u8) {
        for (index, encoding) in self.encodings.iter_mut().enumerate() {
            let wanted = encodings & 1 << index != 0;
            encoding.set_wanted(wanted);
            if !wanted {
                encoding.key_frame().cancel();
            }
        }
    }

    /// Whether key frames of all these encodings are being asked for already.
    pub fn wants_key_frames(&self, encodings: u8) -> bool {
        let mut asked = (0..).zip(&self.encodings).filter(|(index, _)| encodings & 1 << index != 0);
        asked.all(|(_, encoding)| encoding.wants_key_frame())
    }

    fn codec(&self, pt: u8, role: StreamRole) -> Option<&CodecParams> {
        self.params.codecs.iter().find(|codec| match role {
            StreamRole::Media => codec.pt == pt || codec.red_pt == Some(pt),
            StreamRole::Rtx => codec.rtx_pt == Some(pt),
        })
    }
}

fn encodings(now: Instant, params: &ReceiveParams, epoch: u64) -> ArrayVec<Encoding, MAX_ENCODINGS> {
    let streams = (0..).map(|encoding| StreamKey::new(encoding, epoch));
    let encodings = streams.zip(&params.encodings);
    encodings.map(|(stream, own)| Encoding::new(now, params.kind, stream, *own)).collect()
}
