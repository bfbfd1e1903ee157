//! Which codec of an m-line we take, with its payload types, feedback and format parameters.
//!
//! One codec a line: Opus, with RED (RFC 2198) around it, or VP8 with RTX. FEC and everything else stays out of the
//! answer. Opus stands before RED: a browser sends what stands first, and a thin uplink has no room to say things
//! twice.

use rtc::sdp::MediaDescription;

use super::text::values;
use crate::rtp::params::{Codec, CodecParams};
use crate::units::MediaKind;

/// What an m-line agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgreedCodec {
    pub(super) params: CodecParams,
    /// `ccm fir` (RFC 5104 §4.3.1).
    pub(super) fir: bool,
    /// Feedback about transport-wide sequence numbers.
    pub(super) transport_cc: bool,
    /// The parameters of `a=fmtp` in the answer, but for `usedtx`.
    pub(super) format: Option<String>,
    /// What the offer says of Opus DTX (`usedtx`, RFC 7587 §6.1). Browsers say nothing.
    pub(super) dtx: Option<bool>,
}

impl AgreedCodec {
    /// The first payload type of the m-line that we can take, `None` where there is none.
    pub(super) fn choose(media: &MediaDescription, kind: MediaKind) -> Option<Self> {
        let codec = match kind {
            MediaKind::Audio => Codec::Opus,
            MediaKind::Video => Codec::Vp8,
        };
        let pts = || media.media_name.formats.iter().filter_map(|format| payload_type(format));
        let pt = pts().find(|&pt| mapping(media, pt).is_some_and(|name| is(name, rtpmap(codec))))?;
        let rtx_pt = pts().find(|&rtx| {
            codec == Codec::Vp8
                && mapping(media, rtx).is_some_and(|name| is(name, RTX))
                && parameter(media, rtx, "apt").is_some_and(|apt| apt.parse() == Ok(pt))
        });
        let red_pt = pts().find(|&red| {
            let mut blocks = of_payload_type(media, "fmtp", red).flat_map(|blocks| blocks.split('/'));
            codec == Codec::Opus
                && mapping(media, red).is_some_and(|name| is(name, RED))
                && blocks.next().is_some_and(|block| block.parse() == Ok(pt))
                && blocks.all(|block| block.parse() == Ok(pt))
        });
        let feedback = |wanted: &str| has_feedback(media, pt, wanted);
        // Browsers never offer NACK for Opus, and yet ask and answer for what is missing once the answer has it.
        let nack = feedback("nack") || codec == Codec::Opus;
        let params = CodecParams { codec, pt, rtx_pt, red_pt, nack, pli: feedback("nack pli") };
        let format = (codec == Codec::Opus).then(|| opus_format(media, pt));
        let dtx = format.as_ref().and_then(|_| parameter(media, pt, "usedtx")).map(|value| value == "1");
        Some(Self { params, fir: feedback("ccm fir"), transport_cc: feedback("transport-cc"), format, dtx })
    }
}

/// The value of `a=rtpmap` behind the payload type.
pub(super) const fn rtpmap(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Vp8 => "VP8/90000",
    }
}

/// The `a=rtpmap` of video retransmissions (RFC 4588 §8.1).
pub(super) const RTX: &str = "rtx/90000";

/// The `a=rtpmap` of redundant audio (RFC 2198 §5) with Opus in its blocks.
pub(super) const RED: &str = "red/48000/2";

/// A payload type that may be used beside RTCP on one port (RFC 5761 §4).
fn payload_type(text: &str) -> Option<u8> {
    text.parse().ok().filter(|pt| matches!(pt, 0..=63 | 96..=127))
}

/// Names of codecs are compared without case (RFC 4855 §3).
fn is(name: &str, wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted)
}

fn mapping(media: &MediaDescription, pt: u8) -> Option<&str> {
    of_payload_type(media, "rtpmap", pt).next()
}

/// The values of an attribute whose first word is the payload type, without that word.
fn of_payload_type<'a>(
    media: &'a MediaDescription,
    key: &'static str,
    pt: u8,
) -> impl Iterator<Item = &'a str> {
    values(&media.attributes, key)
        .filter_map(|value| value.split_once(' '))
        .filter(move |(number, _)| number.parse() == Ok(pt))
        .map(|(_, rest)| rest.trim())
}

/// One parameter of the payload type's `a=fmtp`.
fn parameter<'a>(media: &'a MediaDescription, pt: u8, name: &str) -> Option<&'a str> {
    of_payload_type(media, "fmtp", pt)
        .flat_map(|parameters| parameters.split(';'))
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Whether `a=rtcp-fb` offers the feedback for the payload type, or for all (`*`).
fn has_feedback(media: &MediaDescription, pt: u8, wanted: &str) -> bool {
    values(&media.attributes, "rtcp-fb")
        .filter_map(|value| value.split_once(' '))
        .any(|(number, feedback)| (number == "*" || number.parse() == Ok(pt)) && feedback.trim() == wanted)
}

/// What we ask of every Opus sender: its own packet times and in-band FEC. Not stereo: a browser that reads
/// `stereo=1` doubles the bitrate of a microphone.
fn opus_format(media: &MediaDescription, pt: u8) -> String {
    let mut format = String::new();
    if let Some(ms) = parameter(media, pt, "minptime").and_then(|ms| ms.parse::<u8>().ok()) {
        format = format!("minptime={ms};");
    }
    format.push_str("useinbandfec=1");
    format
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::sdp::text::parse_media;

    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 98 99 96 97 200 70\r\n\
        a=rtpmap:98 VP9/90000\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n\
        a=rtpmap:96 vp8/90000\r\na=rtpmap:97 RTX/90000\r\na=fmtp:97 rtx-time=3000;apt=96\r\n\
        a=rtcp-fb:96 nack\r\na=rtcp-fb:* ccm fir\r\na=rtcp-fb:98 nack pli\r\na=rtcp-fb:96 goog-remb\r\n";

    #[test]
    fn vp8_is_found_behind_other_codecs_with_its_own_rtx_and_feedback() {
        let agreed = AgreedCodec::choose(&parse_media(VIDEO), MediaKind::Video).expect("VP8 is offered");
        let params =
            CodecParams { codec: Codec::Vp8, pt: 96, rtx_pt: Some(97), red_pt: None, nack: true, pli: false };
        assert_eq!(agreed, AgreedCodec { params, fir: true, transport_cc: false, format: None, dtx: None });
    }

    #[test]
    fn a_payload_type_that_rtcp_or_nobody_can_use_is_not_taken() {
        for pt in ["70", "200", "128", "-1", "x", "ninety-six"] {
            let text = VIDEO.replace("96", pt);
            assert_eq!(AgreedCodec::choose(&parse_media(&text), MediaKind::Video), None, "{pt}");
        }
    }

    #[test]
    fn a_codec_outside_the_m_line_is_not_offered() {
        let text = VIDEO.replace("98 99 96 97", "98 99");
        assert_eq!(AgreedCodec::choose(&parse_media(&text), MediaKind::Video), None);
    }

    #[test]
    fn lost_sound_is_asked_for_although_browsers_do_not_offer_it() {
        let text =
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n";
        let agreed = AgreedCodec::choose(&parse_media(text), MediaKind::Audio).expect("Opus is offered");
        assert!(agreed.params.nack);
    }

    #[test]
    fn redundant_audio_is_taken_where_its_blocks_are_opus() {
        for (format, red_pt) in [
            ("a=fmtp:63 111/111\r\n", Some(63)),
            ("a=fmtp:63 111/111/111\r\n", Some(63)),
            ("a=fmtp:63 111/0\r\n", None),
            ("a=fmtp:63 0/111\r\n", None),
            ("", None),
        ] {
            let text = format!(
                "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:63 red/48000/2\r\n\
                 a=rtpmap:111 opus/48000/2\r\n{format}"
            );
            let agreed = AgreedCodec::choose(&parse_media(&text), MediaKind::Audio).expect("Opus is offered");
            assert_eq!(agreed.params.red_pt, red_pt, "{format}");
        }
    }

    #[test]
    fn opus_keeps_packet_time_and_dtx_but_never_stereo() {
        let cases = [
            ("minptime=10;useinbandfec=1;stereo=1", "minptime=10;useinbandfec=1", None),
            ("maxplaybackrate=48000;stereo=1;useinbandfec=1", "useinbandfec=1", None),
            ("minptime=x; usedtx=1", "useinbandfec=1", Some(true)),
            ("usedtx=0", "useinbandfec=1", Some(false)),
        ];
        for (offered, answered, dtx) in cases {
            let text = format!(
                "m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=rtpmap:63 red/48000/2\r\n\
                 a=rtpmap:111 opus/48000/2\r\na=fmtp:111 {offered}\r\n"
            );
            let agreed = AgreedCodec::choose(&parse_media(&text), MediaKind::Audio).expect("Opus is offered");
            let found = (agreed.params.pt, agreed.format.as_deref(), agreed.dtx);
            assert_eq!(found, (111, Some(answered), dtx), "{offered}");
        }
    }
}
