//! Writes a description, answer or offer: what was decided, in the words of RFC 9429 §5.2 and §5.3.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use sfu_protocol::control::{MAX_DATA_BYTES, Msid};

use super::codec::{AgreedCodec, RED, RTX, rtpmap};
use super::direction::Direction;
use super::offer::{Content, OfferedLine, OfferedMedia, SCTP_PORT};
use crate::rtp::params::{EncodingParams, Mid, SendParams};
use crate::transport::params::{Fingerprint, IceCredentials};

/// Our side of the transport, the same on each line.
pub(super) struct Local<'a> {
    pub(super) session_id: u64,
    /// Grows by one with each description that we write.
    pub(super) version: u64,
    pub(super) ice: &'a IceCredentials,
    pub(super) fingerprint: Fingerprint,
    pub(super) candidates: &'a [SocketAddr],
    /// `passive` in an answer: we wait for the client's handshake. `actpass` in an offer, where RFC 8842 §5.2
    /// leaves the choice to the client.
    pub(super) setup: &'static str,
}

/// The m-lines of a description and their bundle.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) all: &'a [OfferedLine],
    /// The accepted ones by index, in the order of the BUNDLE group.
    pub(super) bundled: &'a [usize],
}

/// What a line carries from now on.
#[derive(Clone, Copy)]
pub(super) struct Carries<'a> {
    /// The published track, where one is taken.
    pub(super) receive: Option<Received<'a>>,
    /// The subscribed track, where one is sent.
    pub(super) send: Option<(&'a SendParams, &'a Msid)>,
}

/// What is asked of the sender of a published track.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) encodings: &'a [EncodingParams],
    /// Whether it shall use DTX, if its offer does not say.
    pub(super) dtx: bool,
}

/// The text; `carried` has one entry for each line.
pub(super) fn write<'a>(
    local: &Local<'_>,
    lines: Lines<'_>,
    carried: impl Iterator<Item = Carries<'a>>,
) -> String {
    let mut out = String::new();
    write_description(&mut out, local, lines, carried).expect("writing to a string does not fail");
    out
}

fn write_description<'a>(
    out: &mut String,
    local: &Local<'_>,
    lines: Lines<'_>,
    carried: impl Iterator<Item = Carries<'a>>,
) -> fmt::Result {
    write!(out, "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", local.session_id, local.version)?;
    out.write_str("a=group:BUNDLE")?;
    for mid in lines.bundled.iter().filter_map(|&index| lines.all[index].mid) {
        write!(out, " {}", mid.as_str())?;
    }
    out.write_str("\r\na=ice-lite\r\n")?;

    for (index, (line, carries)) in lines.all.iter().zip(carried).enumerate() {
        // The candidates of a bundle stand on its first line.
        let candidates = if lines.bundled.first() == Some(&index) { local.candidates } else { &[] };
        match (&line.content, line.mid) {
            (Content::Media(media), Some(mid)) => {
                write_head(out, line, |out| write_formats(out, &media.codec))?;
                write_transport(out, local, candidates, mid)?;
                write_media(out, media, carries)?;
            }
            (Content::Data, Some(mid)) => {
                write_head(out, line, |out| out.write_str(" webrtc-datachannel"))?;
                write_transport(out, local, candidates, mid)?;
                write!(out, "a=sctp-port:{SCTP_PORT}\r\na=max-message-size:{MAX_DATA_BYTES}\r\n")?;
            }
            (Content::Refused, _) | (_, None) => write_refusal(out, line)?,
        }
    }
    Ok(())
}

fn write_head(
    out: &mut String,
    line: &OfferedLine,
    formats: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    write!(out, "m={} 9 {}", line.media, line.proto)?;
    formats(out)?;
    out.write_str("\r\nc=IN IP4 0.0.0.0\r\n")
}

fn write_formats(out: &mut String, codec: &AgreedCodec) -> fmt::Result {
    write!(out, " {}", codec.params.pt)?;
    let mut others = codec.params.red_pt.into_iter().chain(codec.params.rtx_pt);
    others.try_for_each(|other| write!(out, " {other}"))
}

fn write_transport(out: &mut String, local: &Local<'_>, candidates: &[SocketAddr], mid: Mid) -> fmt::Result {
    for (index, address) in candidates.iter().enumerate() {
        write!(out, "a=candidate:{} 1 udp {} ", index + 1, host_priority(index))?;
        write!(out, "{} {} typ host\r\n", address.ip(), address.port())?;
    }
    if !candidates.is_empty() {
        out.write_str("a=end-of-candidates\r\n")?;
    }
    write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ice.ufrag, local.ice.pwd)?;
    write!(out, "a=fingerprint:sha-256 {}\r\n", local.fingerprint)?;
    write!(out, "a=setup:{}\r\n", local.setup)?;
    write!(out, "a=mid:{}\r\n", mid.as_str())
}

/// RFC 8445 §5.1.2.1: type preference 126 of a host, then our order of addresses, then component 1.
fn host_priority(index: usize) -> u32 {
    let preference = u32::from(u16::MAX).saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    (126 << 24) | (preference << 8) | 255
}

fn write_media(out: &mut String, media: &OfferedMedia, carries: Carries<'_>) -> fmt::Result {
    for offered in &media.extensions {
        write!(out, "a=extmap:{}", offered.id)?;
        if let Some(direction) = offered.direction {
            write!(out, "/{}", direction.reversed().as_str())?;
        }
        write!(out, " {}\r\n", offered.extension.uri())?;
    }
    let direction = Direction::new(carries.send.is_some(), carries.receive.is_some());
    write!(out, "a={}\r\n", direction.as_str())?;
    if let Some((_, msid)) = carries.send {
        write!(out, "a=msid:{} {}\r\n", msid.stream, msid.track)?;
    }
    out.write_str("a=rtcp-mux\r\n")?;
    if media.rtcp_rsize {
        out.write_str("a=rtcp-rsize\r\n")?;
    }
    write_codec(out, &media.codec, carries.receive.is_some_and(|received| received.dtx))?;
    write_simulcast(out, carries.receive.map_or(&[], |received| received.encodings))?;
    carries.send.map_or(Ok(()), |(params, msid)| write_ssrcs(out, params, msid))
}

fn write_codec(out: &mut String, codec: &AgreedCodec, dtx: bool) -> fmt::Result {
    let params = &codec.params;
    let pt = params.pt;
    write!(out, "a=rtpmap:{pt} {}\r\n", rtpmap(params.codec))?;
    let feedback = [
        (codec.transport_cc, "transport-cc"),
        (codec.fir, "ccm fir"),
        (params.nack, "nack"),
        (params.pli, "nack pli"),
    ];
    for (_, name) in feedback.into_iter().filter(|&(agreed, _)| agreed) {
        write!(out, "a=rtcp-fb:{pt} {name}\r\n")?;
    }
    if let Some(format) = &codec.format {
        let dtx = if codec.dtx.unwrap_or(dtx) { ";usedtx=1" } else { "" };
        write!(out, "a=fmtp:{pt} {format}{dtx}\r\n")?;
    }
    if let Some(red) = params.red_pt {
        write!(out, "a=rtpmap:{red} {RED}\r\na=fmtp:{red} {pt}/{pt}\r\n")?;
    }
    params.rtx_pt.map_or(Ok(()), |rtx| write!(out, "a=rtpmap:{rtx} {RTX}\r\na=fmtp:{rtx} apt={pt}\r\n"))
}

fn write_simulcast(out: &mut String, encodings: &[EncodingParams]) -> fmt::Result {
    let rids = || encodings.iter().filter_map(|encoding| encoding.rid.as_ref());
    for rid in rids() {
        write!(out, "a=rid:{} recv\r\n", rid.as_str())?;
    }
    for (index, rid) in rids().enumerate() {
        write!(out, "{}{}", if index == 0 { "a=simulcast:recv " } else { ";" }, rid.as_str())?;
    }
    if rids().next().is_some() { out.write_str("\r\n") } else { Ok(()) }
}

/// Tracks of one stream share a CNAME, so that a receiver keeps lips and voice together.
fn write_ssrcs(out: &mut String, params: &SendParams, msid: &Msid) -> fmt::Result {
    let media = params.ssrc.0;
    if let Some(rtx) = params.rtx_ssrc {
        write!(out, "a=ssrc-group:FID {media} {}\r\n", rtx.0)?;
    }
    for ssrc in [Some(params.ssrc), params.rtx_ssrc].into_iter().flatten() {
        write!(out, "a=ssrc:{} cname:{}\r\n", ssrc.0, msid.stream)?;
    }
    Ok(())
}

fn write_refusal(out: &mut String, line: &OfferedLine) -> fmt::Result {
    write!(out, "m={} 0 {} {}\r\nc=IN IP4 0.0.0.0\r\n", line.media, line.proto, line.format)?;
    if let Some(mid) = line.mid {
        write!(out, "a=mid:{}\r\n", mid.as_str())?;
    }
    out.write_str("a=inactive\r\n")
}
