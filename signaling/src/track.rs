//! A published track, from its announcement to its end.

use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, SimulcastCodecInfo, TrackInfo, TrackSource, TrackType, encryption,
    request_response::Reason,
};
use sfu_protocol::control::{MediaKind, Msid, Publish, Source};
use sfu_protocol::ids::TrackId;

use crate::auth::VideoGrant;
use crate::ids::Ids;
use crate::limits::{MAX_TRACK_LIST, MAX_TRACK_TEXT_BYTES};

/// The one audio and the one video codec that clients are asked to send.
pub(crate) const AUDIO_MIME: &str = "audio/opus";
pub(crate) const VIDEO_MIME: &str = "video/VP8";

/// A track that a client has announced.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) kind: MediaKind,
    source: Source,
    cid: String,
    /// Whether its sender shall fall silent with the room.
    dtx: bool,
    pub(crate) state: TrackState,
    /// Whether its publisher was told that somebody receives it.
    pub(crate) received: bool,
    /// What the others are told.
    pub(crate) info: TrackInfo,
}

/// How far a track has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TrackState {
    /// Announced; no answer has carried it yet, so nobody else knows it.
    Announced,
    /// An m-line carries it.
    Negotiated {
        /// That line's mid.
        mid: String,
    },
}

/// Why an announcement was refused: the reason code and words of the `request_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Reason, pub(crate) &'static str);

impl Track {
    /// Accepts an announcement, if the grant allows it and its sizes are sane.
    pub(crate) fn announce(
        request: &AddTrackRequest,
        grant: &VideoGrant,
        ids: &mut Ids,
    ) -> Result<Self, Refused> {
        let kind = match request.r#type() {
            TrackType::Audio => MediaKind::Audio,
            TrackType::Video => MediaKind::Video,
            TrackType::Data => return Err(Refused(Reason::UnsupportedType, "data tracks are not supported")),
        };
        if !request.sid.is_empty() {
            // A second codec for a published track; clients that honour enabled_publish_codecs never ask.
            return Err(Refused(Reason::UnsupportedType, "backup codecs are not supported"));
        }
        if !sizes_are_sane(request) {
            return Err(Refused(Reason::LimitExceeded, "the track's description is too long"));
        }
        let source = request.source();
        if !grant.may_publish_source(token_name(source)) {
            return Err(Refused(
                Reason::NotAllowed,
                "the access token does not allow to publish this source",
            ));
        }
        let (id, sid) = ids.track(source);
        Ok(Self {
            id,
            kind,
            source: sfu_source(source, kind),
            cid: request.cid.clone(),
            dtx: wants_dtx(request),
            state: TrackState::Announced,
            received: false,
            info: track_info(request, sid, kind),
        })
    }

    pub(crate) fn cid(&self) -> &str {
        &self.cid
    }

    pub(crate) fn is_negotiated(&self) -> bool {
        matches!(self.state, TrackState::Negotiated { .. })
    }

    /// The announcement in the SFU's words.
    pub(crate) fn publish(&self) -> Publish {
        let mid = match &self.state {
            TrackState::Announced => None,
            TrackState::Negotiated { mid } => Some(mid.clone()),
        };
        let (kind, source, dtx) = (self.kind, self.source, self.dtx);
        let encrypted = self.info.encryption != encryption::Type::None as i32;
        Publish { track: self.id, kind, source, cid: self.cid.clone(), mid, dtx, encrypted }
    }

    /// The `a=msid` by which a subscriber knows the track. Tracks of one stream play in step, so camera and
    /// microphone share one; a client that takes its track ids from the stream (Firefox) needs one per track.
    pub(crate) fn msid(&self, participant_sid: &str, stream_per_track: bool) -> Msid {
        let stream = if stream_per_track { &self.info.sid } else { &self.info.stream };
        Msid { stream: format!("{participant_sid}|{stream}"), track: self.info.sid.clone() }
    }
}

fn sizes_are_sane(request: &AddTrackRequest) -> bool {
    let texts = [&request.cid, &request.name, &request.stream];
    let lists = [
        request.layers.len(),
        request.simulcast_codecs.len(),
        request.audio_features.len(),
        request.packet_trailer_features.len(),
    ];
    !request.cid.is_empty()
        && texts.iter().all(|text| text.len() <= MAX_TRACK_TEXT_BYTES)
        && lists.iter().all(|len| *len <= MAX_TRACK_LIST)
        && request
            .simulcast_codecs
            .iter()
            .all(|codec| codec.cid.len() <= MAX_TRACK_TEXT_BYTES && codec.layers.len() <= MAX_TRACK_LIST)
}

/// A silent or muted microphone need not send 50 packets a second. Music would suffer from it: whoever sends
/// stereo, or says so, is left alone, and so is the sound of a screen.
#[expect(deprecated, reason = "clients before `audio_features` say it in fields of their own")]
fn wants_dtx(request: &AddTrackRequest) -> bool {
    let unwanted = [AudioTrackFeature::TfNoDtx, AudioTrackFeature::TfStereo];
    request.source() == TrackSource::Microphone
        && request.r#type() == TrackType::Audio
        && !request.disable_dtx
        && !request.stereo
        && !request.audio_features().any(|feature| unwanted.contains(&feature))
}

#[expect(deprecated, reason = "clients still read the fields that `codecs` and `audio_features` replace")]
fn track_info(request: &AddTrackRequest, sid: String, kind: MediaKind) -> TrackInfo {
    let mime_type = match kind {
        MediaKind::Audio => AUDIO_MIME,
        MediaKind::Video => VIDEO_MIME,
    };
    // A client that asked for another codec takes the first one listed here instead.
    let codecs = match kind {
        MediaKind::Audio => Vec::new(),
        MediaKind::Video => vec![SimulcastCodecInfo {
            mime_type: mime_type.to_owned(),
            cid: request.cid.clone(),
            layers: request.layers.clone(),
            ..SimulcastCodecInfo::default()
        }],
    };
    let stream = match request.stream.as_str() {
        "" => default_stream(request.source()).to_owned(),
        named => named.to_owned(),
    };
    TrackInfo {
        sid,
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: request.layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers: request.layers.clone(),
        mime_type: mime_type.to_owned(),
        codecs,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream,
        audio_features: request.audio_features.clone(),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..TrackInfo::default()
    }
}

/// Camera and microphone play in step, and so do a screen and its sound.
fn default_stream(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "unknown",
    }
}

/// A source in the spelling of `canPublishSources`.
pub(crate) fn token_name(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera => "camera",
        TrackSource::Microphone => "microphone",
        TrackSource::ScreenShare => "screen_share",
        TrackSource::ScreenShareAudio => "screen_share_audio",
        TrackSource::Unknown => "unknown",
    }
}

/// A source in the SFU's words. One that the client left open is what its kind usually is.
fn sfu_source(source: TrackSource, kind: MediaKind) -> Source {
    match (source, kind) {
        (TrackSource::ScreenShare, MediaKind::Video) => Source::Screen,
        (TrackSource::ScreenShareAudio, MediaKind::Audio) => Source::ScreenAudio,
        (_, MediaKind::Audio) => Source::Microphone,
        (_, MediaKind::Video) => Source::Camera,
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::VideoLayer;

    use super::*;

    fn camera() -> AddTrackRequest {
        AddTrackRequest {
            cid: "cam".into(),
            r#type: TrackType::Video.into(),
            source: TrackSource::Camera.into(),
            layers: vec![VideoLayer::default(); 3],
            ..AddTrackRequest::default()
        }
    }

    #[test]
    fn announces_what_the_client_needs_to_publish() {
        let track = Track::announce(&camera(), &VideoGrant::default(), &mut Ids::new(1)).unwrap();
        assert_eq!((track.info.mime_type.as_str(), track.info.codecs[0].cid.as_str()), ("video/VP8", "cam"));
        assert_eq!((track.source, track.kind), (Source::Camera, MediaKind::Video));
        assert_eq!(track.msid("PA_x", false).stream, "PA_x|camera");
        assert_eq!(track.msid("PA_x", true).stream, format!("PA_x|{}", track.info.sid));
        assert_eq!(track.publish().mid, None);
    }

    #[test]
    #[expect(deprecated, reason = "older clients set these fields")]
    fn a_microphone_falls_silent_unless_the_client_said_otherwise() {
        let microphone = || AddTrackRequest {
            cid: "mic".into(),
            r#type: TrackType::Audio.into(),
            source: TrackSource::Microphone.into(),
            ..AddTrackRequest::default()
        };
        let feature = |feature: AudioTrackFeature| vec![feature.into()];
        let cases = [
            (microphone(), true),
            (
                AddTrackRequest {
                    audio_features: feature(AudioTrackFeature::TfEchoCancellation),
                    ..microphone()
                },
                true,
            ),
            (AddTrackRequest { audio_features: feature(AudioTrackFeature::TfNoDtx), ..microphone() }, false),
            (AddTrackRequest { audio_features: feature(AudioTrackFeature::TfStereo), ..microphone() }, false),
            (AddTrackRequest { disable_dtx: true, ..microphone() }, false),
            (AddTrackRequest { stereo: true, ..microphone() }, false),
            (AddTrackRequest { source: TrackSource::ScreenShareAudio.into(), ..microphone() }, false),
            (camera(), false),
        ];
        for (request, dtx) in cases {
            let track = Track::announce(&request, &VideoGrant::default(), &mut Ids::new(1)).unwrap();
            assert_eq!(track.publish().dtx, dtx, "{request:?}");
        }
    }

    #[test]
    fn what_is_encrypted_end_to_end_is_said_to_be() {
        // The last is of a later protocol.
        for (encryption, encrypted) in [(0, false), (1, true), (2, true), (9, true)] {
            let request = AddTrackRequest { encryption, ..camera() };
            let track = Track::announce(&request, &VideoGrant::default(), &mut Ids::new(1)).unwrap();
            assert_eq!(track.publish().encrypted, encrypted, "{encryption}");
        }
    }

    #[test]
    fn refuses_what_is_too_large_or_not_granted() {
        let microphone_only =
            VideoGrant { can_publish_sources: vec!["microphone".into()], ..VideoGrant::default() };
        let all = VideoGrant::default();
        let cases = [
            (AddTrackRequest { r#type: TrackType::Data.into(), ..camera() }, &all, Reason::UnsupportedType),
            (AddTrackRequest { sid: "TR_x".into(), ..camera() }, &all, Reason::UnsupportedType),
            (AddTrackRequest { cid: String::new(), ..camera() }, &all, Reason::LimitExceeded),
            (AddTrackRequest { name: "n".repeat(257), ..camera() }, &all, Reason::LimitExceeded),
            (
                AddTrackRequest { layers: vec![VideoLayer::default(); 9], ..camera() },
                &all,
                Reason::LimitExceeded,
            ),
            (camera(), &microphone_only, Reason::NotAllowed),
        ];
        for (request, grant, reason) in cases {
            let refused = Track::announce(&request, grant, &mut Ids::new(1)).unwrap_err();
            assert_eq!(refused.0, reason, "{request:?}");
        }
    }
}
