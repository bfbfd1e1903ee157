//! What negotiation agreed on for an m-line: the structs between session descriptions and the packet path.

use arrayvec::{ArrayString, ArrayVec};

use crate::units::MediaKind;

/// Synchronisation source (RFC 3550 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// The `a=mid` of an m-line (RFC 9143): at most 16 bytes, so that it fits a one-byte header extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mid(ArrayString<16>);

/// The `a=rid` of a simulcast encoding (RFC 8852): at most 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rid(ArrayString<16>);

macro_rules! short_name {
    ($name:ident) => {
        impl $name {
            /// `None` where the text is empty, longer than 16 bytes or not ASCII.
            pub fn new(text: &str) -> Option<Self> {
                (text.is_ascii() && !text.is_empty()).then(|| ArrayString::from(text).ok().map(Self))?
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// As it stands in a header extension.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
    };
}
short_name!(Mid);
short_name!(Rid);

/// A codec that we forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 7587), 48 kHz clock.
    Opus,
    /// VP8 (RFC 7741), 90 kHz clock.
    Vp8,
}

impl Codec {
    /// Ticks of the RTP timestamp per second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 => 90_000,
        }
    }

    /// Sound or picture.
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus => MediaKind::Audio,
            Self::Vp8 => MediaKind::Video,
        }
    }
}

/// A codec as one m-line numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecParams {
    /// The codec.
    pub codec: Codec,
    /// Its payload type, 0..=127.
    pub pt: u8,
    /// The payload type of its retransmissions (RFC 4588), where agreed.
    pub rtx_pt: Option<u8>,
    /// The payload type of redundant audio (RFC 2198) with this codec in its blocks, where agreed.
    pub red_pt: Option<u8>,
    /// Whether generic NACK (RFC 4585 §6.2.1) was agreed.
    pub nack: bool,
    /// Whether PLI (RFC 4585 §6.3.1) was agreed.
    pub pli: bool,
}

/// A header extension that we read or write (RFC 8285). Those unknown to us are never agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRid,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportCc,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114 §7.4.5).
    VideoOrientation,
}

impl Extension {
    /// Every one of them.
    pub const ALL: [Self; 7] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AudioLevel,
        Self::TransportCc,
        Self::AbsSendTime,
        Self::VideoOrientation,
    ];

    /// The URI in `a=extmap`.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
        }
    }

    /// The extension of that URI, `None` for one that we do not use.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.uri() == uri)
    }
}

/// Which id stands for which extension on an m-line, both ways in constant time. Ids are 1..=14 (RFC 8285
/// §4.2: one-byte headers; browsers offer no others for the extensions that we agree to).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExtensionMap {
    by_id: [Option<Extension>; 15],
    ids: [u8; Extension::ALL.len()],
}

impl ExtensionMap {
    /// Maps `id` to `extension`. Returns `false`, and changes nothing, where the id is out of range or either
    /// is taken already.
    pub fn insert(&mut self, id: u8, extension: Extension) -> bool {
        let free = (1..=14).contains(&id)
            && self.by_id[usize::from(id)].is_none()
            && self.ids[extension as usize] == 0;
        if free {
            self.by_id[usize::from(id)] = Some(extension);
            self.ids[extension as usize] = id;
        }
        free
    }

    /// The extension that `id` stands for.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        *self.by_id.get(usize::from(id))?
    }

    /// The id that stands for `extension`, `None` where it was not agreed.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|&id| id != 0)
    }

    /// The agreed pairs in ascending order of id.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Extension)> + '_ {
        (1..=14).filter_map(|id| Some((id, self.extension(id)?)))
    }
}

/// One encoding of a source: the only one, or one of several (simulcast, RFC 8853).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EncodingParams {
    /// Its name, where there are several.
    pub rid: Option<Rid>,
    /// Its SSRC where the description says so; otherwise the first packet with its rid or mid tells.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its retransmissions, likewise.
    pub rtx_ssrc: Option<Ssrc>,
}

/// Most encodings of one source.
pub const MAX_ENCODINGS: usize = 3;

/// Most codecs of one m-line that we agree to.
pub const MAX_CODECS: usize = 4;

/// What we receive on an m-line: a published track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveParams {
    /// The m-line.
    pub mid: Mid,
    /// Sound or picture.
    pub kind: MediaKind,
    /// What the publisher may send.
    pub codecs: ArrayVec<CodecParams, MAX_CODECS>,
    /// Its header extensions.
    pub extensions: ExtensionMap,
    /// Its encodings, lowest first; one where there is no simulcast.
    pub encodings: ArrayVec<EncodingParams, MAX_ENCODINGS>,
    /// Whether it is encrypted end to end: its packets are passed on as they are, or nobody could decrypt them.
    pub encrypted: bool,
}

/// What we send on an m-line: a subscribed track. The SSRCs are ours and new for each use of an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendParams {
    /// The m-line.
    pub mid: Mid,
    /// Sound or picture.
    pub kind: MediaKind,
    /// What the receiver takes, with its payload types.
    pub codecs: ArrayVec<CodecParams, MAX_CODECS>,
    /// Its header extensions.
    pub extensions: ExtensionMap,
    /// The SSRC of the media.
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions, where agreed.
    pub rtx_ssrc: Option<Ssrc>,
}
