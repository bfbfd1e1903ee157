//! A client's offer, reduced to what we can use: which m-lines we could accept, and the transport below them.
//!
//! Nothing here depends on earlier offers. RFC 9429 (JSEP), RFC 9143 (BUNDLE), RFC 8839 (ICE), RFC 8842 (DTLS).

use arrayvec::ArrayVec;
use rtc::sdp::description::common::Attribute;
use rtc::sdp::{MediaDescription, SessionDescription};
use rustc_hash::FxHashSet;
use sfu_protocol::control::MAX_DATA_BYTES;

use super::codec::AgreedCodec;
use super::direction::Direction;
use super::error::SdpError;
use super::simulcast::encodings;
use super::text::{has, parse, value, values};
use crate::rtp::params::{EncodingParams, Extension, ExtensionMap, MAX_ENCODINGS, Mid};
use crate::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams, SctpParams};
use crate::units::MediaKind;

/// Most m-lines of a transport: a lesson of a hundred with room for what came and went.
pub(super) const MAX_LINES: usize = 512;

/// An offer that can be answered.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) remote: RemoteParams,
    pub(super) lines: Vec<OfferedLine>,
    /// The lines that can be accepted, by index, in the order of the BUNDLE group: its first line describes the
    /// transport, in the offer as in the answer (RFC 9143 §7.2.1, §7.3.1).
    pub(super) bundled: Vec<usize>,
}

/// One m-line.
#[derive(Clone, Debug)]
pub(super) struct OfferedLine {
    /// The words that an answer repeats even where it refuses the line.
    pub(super) media: String,
    pub(super) proto: String,
    pub(super) format: String,
    /// Always there where the content is not [`Content::Refused`].
    pub(super) mid: Option<Mid>,
    pub(super) content: Content,
}

/// What an m-line is for.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Sound or pictures in a codec that we take.
    Media(Box<OfferedMedia>),
    /// Data channels.
    Data,
    /// Stopped by the client, or nothing that we take.
    Refused,
}

/// A line that can carry media.
#[derive(Clone, Debug)]
pub(super) struct OfferedMedia {
    pub(super) kind: MediaKind,
    /// As the client sees it.
    pub(super) direction: Direction,
    pub(super) codec: AgreedCodec,
    pub(super) extensions: ArrayVec<OfferedExtension, { Extension::ALL.len() }>,
    /// What would come, were the track wanted.
    pub(super) encodings: ArrayVec<EncodingParams, MAX_ENCODINGS>,
    /// The track part of `a=msid`.
    pub(super) msid_track: Option<String>,
    /// Reduced-size RTCP (RFC 5506).
    pub(super) rtcp_rsize: bool,
}

/// An `a=extmap` of an extension that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) extension: Extension,
    /// `None`: both ways.
    pub(super) direction: Option<Direction>,
}

impl Offer {
    /// Parses and judges an offer.
    pub(super) fn parse(sdp: &str) -> Result<Self, SdpError> {
        let session = parse(sdp)?;
        let bundle = bundle(&session);
        let mut lines: Vec<_> = session
            .media_descriptions
            .iter()
            .map(|media| OfferedLine::new(media, &session, &bundle))
            .collect();
        check_mids(&lines)?;
        refuse_further_data(&mut lines);

        let bundled: Vec<_> = bundle.iter().filter_map(|mid| accepted_line(&lines, mid)).collect();
        // A recycled line may stand before it and have credentials of its own until the answer takes it in.
        let tagged = bundled.first().ok_or(SdpError::NothingAccepted)?;
        let first = &session.media_descriptions[*tagged];
        let remote = RemoteParams {
            ice: ice_credentials(&session, first)?,
            fingerprint: fingerprint(&session, first)?,
            role: dtls_role(&session, first)?,
            sctp: accepted_data(&session, &lines),
        };
        Ok(Self { remote, lines, bundled })
    }
}

impl OfferedLine {
    fn new(media: &MediaDescription, session: &SessionDescription, bundle: &[&str]) -> Self {
        let text = value(&media.attributes, "mid");
        // A line of the bundle has port 0 until the answer takes it in (RFC 9143 §6).
        let alive = media.media_name.port.value != 0 || has(&media.attributes, "bundle-only");
        let bundled = text.is_some_and(|mid| bundle.contains(&mid));
        Self {
            media: media.media_name.media.clone(),
            proto: media.media_name.protos.join("/"),
            format: media.media_name.formats.first().cloned().unwrap_or_default(),
            mid: text.filter(|mid| mid.bytes().all(|b| b.is_ascii_graphic())).and_then(Mid::new),
            content: if alive && bundled { Content::new(media, session) } else { Content::Refused },
        }
    }
}

impl Content {
    fn new(media: &MediaDescription, session: &SessionDescription) -> Self {
        let name = &media.media_name;
        let protos: Vec<_> = name.protos.iter().map(String::as_str).collect();
        match (name.media.as_str(), protos.as_slice()) {
            ("application", ["UDP" | "TCP", "DTLS", "SCTP"])
                if name.formats.iter().any(|format| format == "webrtc-datachannel") =>
            {
                Self::Data
            }
            ("audio" | "video", ["RTP", "SAVPF"] | ["UDP" | "TCP", "TLS" | "DTLS", "RTP", "SAVPF"])
                if has(&media.attributes, "rtcp-mux") =>
            {
                let kind = if name.media == "audio" { MediaKind::Audio } else { MediaKind::Video };
                OfferedMedia::new(media, session, kind)
                    .map_or(Self::Refused, |media| Self::Media(Box::new(media)))
            }
            _ => Self::Refused,
        }
    }
}

impl OfferedMedia {
    fn new(media: &MediaDescription, session: &SessionDescription, kind: MediaKind) -> Option<Self> {
        let codec = AgreedCodec::choose(media, kind)?;
        let direction = Direction::of(&media.attributes).or_else(|| Direction::of(&session.attributes));
        let msid = value(&media.attributes, "msid");
        Some(Self {
            kind,
            direction: direction.unwrap_or(Direction::SendRecv),
            extensions: extensions(media),
            encodings: encodings(media, codec.params.pt),
            msid_track: msid.and_then(|msid| msid.split_whitespace().nth(1)).map(str::to_owned),
            rtcp_rsize: has(&media.attributes, "rtcp-rsize"),
            codec,
        })
    }

    /// The extensions on packets that flow the way `flows` asks for, from the client's side.
    pub(super) fn extension_map(&self, flows: fn(Direction) -> bool) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for offered in self.extensions.iter().filter(|offered| offered.direction.is_none_or(flows)) {
            map.insert(offered.id, offered.extension);
        }
        map
    }
}

/// The mids of the first BUNDLE group. An offer without one gets its first line that is in use: everything
/// that we do is on one transport.
fn bundle(session: &SessionDescription) -> Vec<&str> {
    let group = values(&session.attributes, "group").find_map(|group| {
        let mut words = group.split_whitespace();
        words.next().filter(|&semantics| semantics == "BUNDLE").map(|_| distinct(words))
    });
    group.unwrap_or_else(|| {
        let used = session.media_descriptions.iter().filter(|media| media.media_name.port.value != 0);
        used.take(1).filter_map(|media| value(&media.attributes, "mid")).collect()
    })
}

fn distinct<'a>(mids: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = FxHashSet::default();
    mids.filter(|&mid| seen.insert(mid)).take(MAX_LINES).collect()
}

/// The extensions that we know, where id and URI are free: the ones to agree on (RFC 8285 §6).
fn extensions(media: &MediaDescription) -> ArrayVec<OfferedExtension, { Extension::ALL.len() }> {
    let mut taken = ExtensionMap::default();
    let offered = values(&media.attributes, "extmap").filter_map(|extmap| {
        let mut words = extmap.split_whitespace();
        let mut number = words.next()?.splitn(2, '/');
        let id = number.next()?.parse().ok()?;
        let direction = match number.next() {
            Some(text) => Some(Direction::parse(text)?),
            None => None,
        };
        let extension = Extension::from_uri(words.next()?)?;
        taken.insert(id, extension).then_some(OfferedExtension { id, extension, direction })
    });
    offered.collect()
}

fn check_mids(lines: &[OfferedLine]) -> Result<(), SdpError> {
    let mut seen = FxHashSet::default();
    let used = lines.iter().enumerate().filter(|(_, line)| !matches!(line.content, Content::Refused));
    for (index, line) in used {
        let mid = line.mid.ok_or(SdpError::Mid(index))?;
        if !seen.insert(mid) {
            return Err(SdpError::DuplicateMid(index));
        }
    }
    Ok(())
}

fn accepted_line(lines: &[OfferedLine], mid: &str) -> Option<usize> {
    let accepted = |line: &OfferedLine| !matches!(line.content, Content::Refused);
    lines.iter().position(|line| accepted(line) && line.mid.is_some_and(|known| known.as_str() == mid))
}

/// One SCTP association per transport (RFC 8841 §10).
fn refuse_further_data(lines: &mut [OfferedLine]) {
    let data = lines.iter_mut().filter(|line| matches!(line.content, Content::Data));
    for line in data.skip(1) {
        line.content = Content::Refused;
    }
}

fn accepted_data(session: &SessionDescription, lines: &[OfferedLine]) -> Option<SctpParams> {
    let index = lines.iter().position(|line| matches!(line.content, Content::Data))?;
    let attributes = &session.media_descriptions[index].attributes;
    let size: Option<u64> = value(attributes, "max-message-size").and_then(|size| size.parse().ok());
    Some(SctpParams {
        port: value(attributes, "sctp-port").and_then(|port| port.parse().ok()).unwrap_or(SCTP_PORT),
        max_message_size: match size {
            // Any size (RFC 8841 §6).
            Some(0) => u32::MAX,
            Some(size) => u32::try_from(size).unwrap_or(u32::MAX),
            None => MAX_DATA_BYTES as u32,
        },
        channels: Vec::new(),
    })
}

/// What every implementation uses (RFC 8831 has no default).
pub(super) const SCTP_PORT: u16 = 5000;

fn ice_credentials(
    session: &SessionDescription,
    media: &MediaDescription,
) -> Result<IceCredentials, SdpError> {
    let field = |key, min| {
        level(session, media, key)
            .filter(|text| (min..=256).contains(&text.len()))
            // A colon would make the USERNAME of a check ambiguous (RFC 8445 §7.2.2).
            .filter(|text| text.bytes().all(|b| b.is_ascii_graphic() && b != b':'))
            .map(str::to_owned)
            .ok_or(SdpError::Ice)
    };
    Ok(IceCredentials { ufrag: field("ice-ufrag", 4)?, pwd: field("ice-pwd", 22)? })
}

/// The line's own fingerprints stand in for those of the session (RFC 8122 §5).
fn fingerprint(session: &SessionDescription, media: &MediaDescription) -> Result<Fingerprint, SdpError> {
    let sha_256 = |attributes: &[Attribute]| {
        values(attributes, "fingerprint").find_map(|fingerprint| {
            let (algorithm, hash) = fingerprint.split_once(' ')?;
            algorithm.eq_ignore_ascii_case("sha-256").then(|| Fingerprint::parse(hash.trim()).ok())?
        })
    };
    let attributes =
        if has(&media.attributes, "fingerprint") { &media.attributes } else { &session.attributes };
    sha_256(attributes).ok_or(SdpError::Fingerprint)
}

/// Who leaves the choice to us begins, as does an offerer without `a=setup` (RFC 4145 §4).
fn dtls_role(session: &SessionDescription, media: &MediaDescription) -> Result<DtlsRole, SdpError> {
    match level(session, media, "setup") {
        None | Some("actpass" | "active") => Ok(DtlsRole::Client),
        Some("passive") => Ok(DtlsRole::Server),
        Some(_) => Err(SdpError::Setup),
    }
}

/// An attribute of the line, else of the session.
fn level<'a>(
    session: &'a SessionDescription,
    media: &'a MediaDescription,
    key: &'static str,
) -> Option<&'a str> {
    value(&media.attributes, key).or_else(|| value(&session.attributes, key))
}
