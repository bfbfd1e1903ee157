//! The session descriptions of the clients: one picture, sent or received.

use std::net::SocketAddr;

use anyhow::Context;
use sfu_core::transport::params::{IceCredentials, RemoteParams};

/// Header extensions in the offer, by id.
pub const TRANSPORT_CC: u8 = 3;
/// The m-line's name.
pub const MID: u8 = 4;
/// VP8's payload type in the offer.
pub const VP8: u8 = 96;
/// The track in the offer.
pub const TRACK: &str = "camera";

/// Which way the picture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server, with this SSRC.
    Send(u32),
    /// From the server.
    Receive,
}

/// An offer of one picture.
pub fn offer(client: &RemoteParams, direction: Direction) -> String {
    let RemoteParams { ice: IceCredentials { ufrag, pwd }, fingerprint, .. } = client;
    let picture = match direction {
        Direction::Receive => "a=recvonly\r\n".to_owned(),
        Direction::Send(ssrc) => {
            format!("a=sendonly\r\na=msid:{TRACK} {TRACK}\r\na=ssrc:{ssrc} cname:client\r\n")
        }
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF {VP8}\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=mid:0\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=extmap:{TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n{picture}\
         a=rtpmap:{VP8} VP8/90000\r\na=rtcp-fb:{VP8} nack\r\na=rtcp-fb:{VP8} nack pli\r\n\
         a=rtcp-fb:{VP8} transport-cc\r\n"
    )
}

/// What an answer says about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its credentials.
    pub ice: IceCredentials,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it lacks credentials or a candidate.
    pub fn parse(sdp: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            let found = sdp.lines().find_map(|line| line.strip_prefix(name));
            found.map(str::to_owned).with_context(|| format!("no {name} in {sdp}"))
        };
        let candidate = field("a=candidate:")?;
        // RFC 8839 §5.1: foundation, component, transport, priority, address, port.
        let words: Vec<_> = candidate.split(' ').collect();
        let [_, _, _, _, ip, port, ..] = words[..] else { anyhow::bail!("a short candidate: {candidate}") };
        let ice = IceCredentials { ufrag: field("a=ice-ufrag:")?, pwd: field("a=ice-pwd:")? };
        Ok(Self { ice, addr: SocketAddr::new(ip.parse()?, port.parse()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_where_the_server_is_and_how_it_is_called() {
        let sdp = "v=0\r\na=ice-ufrag:00ab\r\na=ice-pwd:secret\r\n\
                   a=candidate:1 1 udp 2130706431 127.0.0.1 7882 typ host\r\n";
        let answer = Answer::parse(sdp).unwrap();
        assert_eq!((answer.addr, answer.ice.ufrag.as_str()), ("127.0.0.1:7882".parse().unwrap(), "00ab"));
        assert!(Answer::parse("v=0\r\na=ice-ufrag:00ab\r\n").is_err());
    }
}
