//! The encodings of a published track: simulcast by `a=rid` (RFC 8851, RFC 8853), or one with its SSRCs.

use arrayvec::ArrayVec;
use rtc::sdp::MediaDescription;

use super::text::{value, values};
use crate::rtp::params::{EncodingParams, MAX_ENCODINGS, Rid, Ssrc};

/// The encodings that the client would send, lowest first; at least one.
pub(super) fn encodings(media: &MediaDescription, pt: u8) -> ArrayVec<EncodingParams, MAX_ENCODINGS> {
    let mut encodings: ArrayVec<_, MAX_ENCODINGS> = sending_rids(media, pt)
        .into_iter()
        .map(|rid| EncodingParams { rid: Some(rid), ..EncodingParams::default() })
        .collect();
    if encodings.is_empty() {
        let (ssrc, rtx_ssrc) = ssrcs(media);
        encodings.push(EncodingParams { rid: None, ssrc, rtx_ssrc });
    }
    encodings
}

/// The first three rids of `a=simulcast:send` that `a=rid` allows for our payload type.
fn sending_rids(media: &MediaDescription, pt: u8) -> ArrayVec<Rid, MAX_ENCODINGS> {
    let mut rids = ArrayVec::new();
    let streams = value(&media.attributes, "simulcast").and_then(|simulcast| {
        let mut words = simulcast.split_whitespace();
        words.find(|&word| word == "send").and_then(|_| words.next())
    });
    for stream in streams.unwrap_or_default().split(';') {
        // `a,b` are alternatives, of which we take the first; `~` marks one that starts paused.
        let name = stream.split(',').next().unwrap_or_default().trim_start_matches('~');
        let rid = Rid::new(name).filter(|rid| is_rid(rid.as_str()) && is_declared(media, rid, pt));
        if let Some(rid) = rid.filter(|rid| !rids.contains(rid))
            && rids.try_push(rid).is_err()
        {
            break;
        }
    }
    rids.sort_by_key(known_rank);
    rids
}

/// The characters of a rid (RFC 8851 §10).
fn is_rid(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether `a=rid:<rid> send` is there and does not rule out our payload type.
fn is_declared(media: &MediaDescription, rid: &Rid, pt: u8) -> bool {
    values(&media.attributes, "rid").any(|value| {
        let mut words = value.split_whitespace();
        words.next() == Some(rid.as_str())
            && words.next() == Some("send")
            && words
                .flat_map(|restrictions| restrictions.split(';'))
                .filter_map(|restriction| restriction.strip_prefix("pt="))
                .all(|pts| pts.split(',').any(|allowed| allowed.parse() == Ok(pt)))
    })
}

/// LiveKit's SDKs name quarter, half and full size in no fixed order; others list the lowest first.
fn known_rank(rid: &Rid) -> u8 {
    match rid.as_str() {
        "q" => 0,
        "h" => 1,
        "f" => 2,
        _ => 0,
    }
}

/// The media and retransmission SSRCs of a line without simulcast, as far as the description tells.
fn ssrcs(media: &MediaDescription) -> (Option<Ssrc>, Option<Ssrc>) {
    let ssrc = |text: &str| text.parse().ok().map(Ssrc);
    let pair = values(&media.attributes, "ssrc-group").find_map(|group| {
        let mut words = group.split_whitespace();
        words.next().filter(|&semantics| semantics == "FID")?;
        Some((ssrc(words.next()?)?, ssrc(words.next()?)?))
    });
    match pair {
        Some((media, rtx)) => (Some(media), Some(rtx)),
        None => (value(&media.attributes, "ssrc").and_then(|v| ssrc(v.split_whitespace().next()?)), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::sdp::text::parse_media;

    fn rids(attributes: &str) -> Vec<String> {
        let media = parse_media(&format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{attributes}"));
        let encodings = encodings(&media, 96);
        encodings.iter().filter_map(|e| Some(e.rid?.as_str().to_owned())).collect()
    }

    #[test]
    fn rids_come_lowest_first_and_at_most_three() {
        let declared = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\n";
        let four = "a=rid:1 send\r\na=rid:2 send\r\na=rid:3 send\r\na=rid:4 send\r\n";
        let cases: [(&str, &str, &[&str]); 8] = [
            (declared, "send q;h;f", &["q", "h", "f"]),
            (declared, "send h;q", &["q", "h"]),
            (declared, "recv x send f;~q", &["q", "f"]),
            (declared, "send q,h;f", &["q", "f"]),
            (declared, "send q;q;undeclared", &["q"]),
            (declared, "recv q;h", &[]),
            (four, "send 4;3;2;1", &["4", "3", "2"]),
            ("", "send ;;~;,", &[]),
        ];
        for (rid_lines, simulcast, expected) in cases {
            assert_eq!(rids(&format!("{rid_lines}a=simulcast:{simulcast}\r\n")), expected, "{simulcast}");
        }
    }

    #[test]
    fn a_rid_for_other_payload_types_is_not_ours() {
        let lines = "a=rid:q send pt=98\r\na=rid:h send max-width=640;pt=98,96\r\na=simulcast:send q;h\r\n";
        assert_eq!(rids(lines), ["h"]);
    }

    #[test]
    fn without_simulcast_the_ssrcs_are_read() {
        let cases = [
            ("a=ssrc-group:FID 7 8\r\na=ssrc:8 cname:x\r\n", Some(7), Some(8)),
            ("a=ssrc:9 cname:x\r\n", Some(9), None),
            ("a=ssrc:4294967296 cname:x\r\n", None, None),
            ("a=ssrc-group:FID 7\r\n", None, None),
        ];
        for (lines, ssrc, rtx) in cases {
            let media = parse_media(&format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{lines}"));
            let expected = EncodingParams { rid: None, ssrc: ssrc.map(Ssrc), rtx_ssrc: rtx.map(Ssrc) };
            assert_eq!(encodings(&media, 96)[..], [expected], "{lines}");
        }
    }
}
