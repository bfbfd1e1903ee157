//! Tells the protocols apart that share one port: the first byte (RFC 7983 §7) and, for RTP and RTCP, the
//! second (RFC 5761 §4). Looks at headers only and decides nothing else: what is in the datagram is checked
//! by its own parser.

/// What a datagram claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// STUN (RFC 8489).
    Stun,
    /// A DTLS record (RFC 6347).
    Dtls,
    /// An SRTP packet.
    Rtp,
    /// An SRTCP packet.
    Rtcp,
    /// Something that has no business here.
    Unknown(Unknown),
}

/// Why a datagram belongs to no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No bytes at all.
    Empty,
    /// Shorter than the fixed header of the protocol that its first byte names.
    Short,
    /// A STUN first byte without STUN's magic cookie (RFC 8489 §5).
    NoMagicCookie,
    /// A first byte of a protocol that we do not speak (ZRTP, TURN channels) or that nobody assigned.
    FirstByte(u8),
}

const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const STUN_HEADER: usize = 20;
const DTLS_RECORD_HEADER: usize = 13;
const RTP_HEADER: usize = 12;
const RTCP_HEADER: usize = 8;

/// The class of a datagram.
///
/// ```text
///            +----------------+
///            |        [0..3] -+--> STUN
///            |      [20..63] -+--> DTLS
/// packet --> |    [128..191] -+--> RTCP if the second byte is 192..=223, else RTP
///            +----------------+
/// ```
pub fn classify(datagram: &[u8]) -> Class {
    let Some(&first) = datagram.first() else { return Class::Unknown(Unknown::Empty) };
    let (class, header) = match first {
        0..=3 => (Class::Stun, STUN_HEADER),
        20..=63 => (Class::Dtls, DTLS_RECORD_HEADER),
        // RTCP packet types 192 to 223 are RTP payload types 64 to 95 with the marker bit: reserved.
        128..=191 if datagram.get(1).is_some_and(|second| (192..=223).contains(second)) => {
            (Class::Rtcp, RTCP_HEADER)
        }
        128..=191 => (Class::Rtp, RTP_HEADER),
        _ => return Class::Unknown(Unknown::FirstByte(first)),
    };
    if datagram.len() < header {
        return Class::Unknown(Unknown::Short);
    }
    if class == Class::Stun && datagram[4..8] != MAGIC_COOKIE {
        return Class::Unknown(Unknown::NoMagicCookie);
    }
    class
}

/// Our username fragment in a STUN binding request: what stands before the colon of USERNAME (RFC 8445
/// §7.2.2). It says which transport to ask, nothing about whether the request is genuine.
pub fn stun_ufrag(datagram: &[u8]) -> Option<&str> {
    const BINDING_REQUEST: [u8; 2] = [0, 1];
    const USERNAME: u16 = 0x0006;
    if classify(datagram) != Class::Stun || datagram[..2] != BINDING_REQUEST {
        return None;
    }
    let mut attributes = &datagram[STUN_HEADER..];
    while let Some((header, rest)) = attributes.split_first_chunk::<4>() {
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let value = rest.get(..len)?;
        if kind == USERNAME {
            let (ufrag, _) = std::str::from_utf8(value).ok()?.split_once(':')?;
            return Some(ufrag);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// Feeds arbitrary bytes; a ufrag is only found in what is classified as STUN.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let class = classify(data);
    if let Some(ufrag) = stun_ufrag(data) {
        assert_eq!(class, Class::Stun);
        assert!(ufrag.len() < data.len() && !ufrag.contains(':'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(head: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.resize(len, 0);
        bytes
    }

    fn binding_request(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xA4, 0x42];
        bytes.resize(STUN_HEADER, 7);
        bytes.extend_from_slice(attributes);
        bytes
    }

    #[test]
    fn the_first_two_bytes_decide() {
        let stun = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        for (head, len, class) in [
            (&stun[..], 20, Class::Stun),
            (&stun[..], 19, Class::Unknown(Unknown::Short)),
            (&[0, 1], 20, Class::Unknown(Unknown::NoMagicCookie)),
            (&[20], 13, Class::Dtls),
            (&[22], 13, Class::Dtls),
            (&[63], 12, Class::Unknown(Unknown::Short)),
            (&[64], 100, Class::Unknown(Unknown::FirstByte(64))),
            (&[16], 100, Class::Unknown(Unknown::FirstByte(16))),
            (&[128, 96], 12, Class::Rtp),
            (&[128, 96], 11, Class::Unknown(Unknown::Short)),
            (&[191, 191], 12, Class::Rtp),
            (&[128, 192], 8, Class::Rtcp),
            (&[128, 200], 8, Class::Rtcp),
            (&[129, 223], 7, Class::Unknown(Unknown::Short)),
            (&[128, 224], 12, Class::Rtp),
            (&[192, 200], 100, Class::Unknown(Unknown::FirstByte(192))),
        ] {
            assert_eq!(classify(&datagram(head, len)), class, "{head:?} {len}");
        }
        assert_eq!(classify(&[]), Class::Unknown(Unknown::Empty));
        assert_eq!(classify(&[128]), Class::Unknown(Unknown::Short));
    }

    #[test]
    fn the_ufrag_stands_before_the_colon() {
        let request = binding_request(b"\x80\x22\x00\x03abc\x00\x00\x06\x00\x09ours:them\x00\x00\x00");
        assert_eq!(stun_ufrag(&request), Some("ours"));
    }

    #[test]
    fn requests_without_a_readable_username_have_no_ufrag() {
        for attributes in [
            &b""[..],
            b"\x00\x06\x00\x04ours",          // no colon
            b"\x00\x06\x00\x09ours",          // longer than the datagram
            b"\x00\x06\x00\x04\xff\xfe:\x00", // not UTF-8
            b"\x80\x22\xff\xffours",          // an attribute before it is longer than the datagram
            b"\x00\x06",
        ] {
            assert_eq!(stun_ufrag(&binding_request(attributes)), None, "{attributes:?}");
        }
    }

    #[test]
    fn only_binding_requests_name_a_transport() {
        let mut answer = binding_request(b"\x00\x06\x00\x09ours:them\x00\x00\x00");
        answer[0] = 1;
        assert_eq!(stun_ufrag(&answer), None);
    }
}
