//! Puts the first ClientHello together, from fragments in any order, to read which SRTP profiles the client
//! offers (RFC 5764 §4.1.1) before its DTLS endpoint is made: the endpoint gets one profile, the one we choose.
//! The datagrams are kept as they came and replayed into the endpoint, for the Finished hash covers the hello.
//!
//! With X25519MLKEM768 a browser's ClientHello is ~1500 B, so it always comes in several datagrams.
//!
//! ```text
//!  record     | type 22 | version | epoch 0 | sequence (6 B) | length |
//!  handshake  | type 1 | length (3 B) | message 0 | fragment offset (3 B) | fragment length (3 B) | bytes .. |
//! ```

use std::time::{Duration, Instant};

use thiserror::Error;

use super::srtp::SrtpProfile;

/// Why a datagram did not become part of a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// A record or a fragment does not fit the datagram, the message or the fragments before it.
    #[error("malformed record or fragment")]
    Malformed,
    /// Another record than a handshake's first one.
    #[error("not a ClientHello")]
    NotAClientHello,
    /// The ClientHello, or what it came in, is longer than we keep.
    #[error("the ClientHello is too long")]
    TooLong,
    /// The whole ClientHello does not parse.
    #[error("malformed ClientHello")]
    MalformedHello,
    /// The client offers no SRTP profile that we have.
    #[error("no common SRTP profile")]
    NoCommonProfile,
}

/// Longest ClientHello that we put together, bytes: five times that of a browser with post-quantum key shares.
const MAX_HELLO: usize = 8 * 1024;

/// Most bytes of datagrams that we keep for one: the headers of small fragments count.
const MAX_KEPT: usize = 16 * 1024;

/// How long the fragments may take. A client sends all of them at once, and again after a second.
const MAX_AGE: Duration = Duration::from_secs(5);

const RECORD_HEADER: usize = 13;
const FRAGMENT_HEADER: usize = 12;

/// A ClientHello in the making.
pub(super) struct HelloBuffer {
    started: Instant,
    body: Vec<u8>,
    received: Vec<bool>,
    missing: usize,
    datagrams: Vec<Vec<u8>>,
    kept: usize,
}

/// A whole ClientHello.
#[derive(Debug)]
pub(super) struct Hello {
    /// The profile to use.
    pub(super) profile: SrtpProfile,
    /// The datagrams that it came in, those that added nothing left out.
    pub(super) datagrams: Vec<Vec<u8>>,
}

impl HelloBuffer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            body: Vec::new(),
            received: Vec::new(),
            missing: 0,
            datagrams: Vec::new(),
            kept: 0,
        }
    }

    /// Takes a datagram; `Ok(Some)` once the ClientHello is whole. What came more than 5 s ago is forgotten.
    pub(super) fn push(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<Hello>, HelloError> {
        if now.saturating_duration_since(self.started) > MAX_AGE {
            *self = Self::new(now);
        }
        // All of the datagram is checked before any of it is kept.
        fragments(datagram).try_for_each(|fragment| self.check(&fragment?))?;
        let before = self.missing;
        let is_first = self.received.is_empty();
        for fragment in fragments(datagram) {
            self.add(&fragment?);
        }
        if !is_first && self.missing == before {
            return Ok(None);
        }
        if self.kept + datagram.len() > MAX_KEPT {
            *self = Self::new(now);
            return Err(HelloError::TooLong);
        }
        self.kept += datagram.len();
        self.datagrams.push(datagram.to_vec());
        if self.missing > 0 {
            return Ok(None);
        }
        let profile = choose_profile(&self.body)?;
        Ok(Some(Hello { profile, datagrams: std::mem::take(&mut self.datagrams) }))
    }

    /// When the fragments are of no use any more.
    pub(super) fn expires(&self) -> Instant {
        self.started + MAX_AGE
    }

    fn check(&self, fragment: &Fragment<'_>) -> Result<(), HelloError> {
        if fragment.total > MAX_HELLO {
            return Err(HelloError::TooLong);
        }
        let contradicts = !self.received.is_empty() && fragment.total != self.received.len();
        if contradicts || fragment.total == 0 { Err(HelloError::Malformed) } else { Ok(()) }
    }

    fn add(&mut self, fragment: &Fragment<'_>) {
        if self.received.is_empty() {
            self.body = vec![0; fragment.total];
            self.received = vec![false; fragment.total];
            self.missing = fragment.total;
        }
        for (at, byte) in (fragment.offset..).zip(fragment.bytes) {
            // The first of overlapping fragments counts, as it does in the endpoint.
            if at < self.body.len() && !std::mem::replace(&mut self.received[at], true) {
                self.body[at] = *byte;
                self.missing -= 1;
            }
        }
    }
}

/// A part of the ClientHello.
struct Fragment<'a> {
    /// Length of the whole.
    total: usize,
    offset: usize,
    bytes: &'a [u8],
}

/// The fragments in a datagram. Ends after the first error.
fn fragments(datagram: &[u8]) -> impl Iterator<Item = Result<Fragment<'_>, HelloError>> {
    let mut rest = datagram;
    let mut record: &[u8] = &[];
    std::iter::from_fn(move || {
        if record.is_empty() && rest.is_empty() {
            return None;
        }
        let mut next = || {
            if record.is_empty() {
                (record, rest) = handshake_record(rest)?;
            }
            let (fragment, after) = fragment(record)?;
            record = after;
            Ok(fragment)
        };
        let fragment = next();
        if fragment.is_err() {
            (record, rest) = (&[], &[]);
        }
        Some(fragment)
    })
}

/// The body of the first record, and what follows the record.
fn handshake_record(datagram: &[u8]) -> Result<(&[u8], &[u8]), HelloError> {
    const HANDSHAKE: u8 = 22;
    let (header, rest) = datagram.split_first_chunk::<RECORD_HEADER>().ok_or(HelloError::Malformed)?;
    let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
    if header[0] != HANDSHAKE || header[1] != 0xFE || header[3..5] != [0, 0] {
        return Err(HelloError::NotAClientHello);
    }
    if len == 0 {
        return Err(HelloError::Malformed);
    }
    rest.split_at_checked(len).ok_or(HelloError::Malformed)
}

/// The first fragment of a record's body, and what follows it.
fn fragment(record: &[u8]) -> Result<(Fragment<'_>, &[u8]), HelloError> {
    const CLIENT_HELLO: u8 = 1;
    let (header, rest) = record.split_first_chunk::<FRAGMENT_HEADER>().ok_or(HelloError::Malformed)?;
    let [kind, total @ .., seq_high, seq_low, o2, o1, o0, l2, l1, l0] = *header;
    if kind != CLIENT_HELLO || [seq_high, seq_low] != [0, 0] {
        return Err(HelloError::NotAClientHello);
    }
    let number = |[high, middle, low]: [u8; 3]| u32::from_be_bytes([0, high, middle, low]) as usize;
    let (total, offset, len) = (number(total), number([o2, o1, o0]), number([l2, l1, l0]));
    let (bytes, rest) = rest.split_at_checked(len).ok_or(HelloError::Malformed)?;
    if offset + len > total || (len == 0 && total > 0) {
        return Err(HelloError::Malformed);
    }
    Ok((Fragment { total, offset, bytes }, rest))
}

/// The profile to use for a client that says this hello: AES-GCM where it is offered.
fn choose_profile(hello: &[u8]) -> Result<SrtpProfile, HelloError> {
    const AEAD_AES_128_GCM: u16 = 0x0007;
    const AES128_CM_HMAC_SHA1_80: u16 = 0x0001;
    let profiles = srtp_profiles(hello).ok_or(HelloError::MalformedHello)?;
    let offers = |profile: u16| profiles.chunks_exact(2).any(|offered| offered == profile.to_be_bytes());
    if offers(AEAD_AES_128_GCM) {
        Ok(SrtpProfile::AeadAes128Gcm)
    } else if offers(AES128_CM_HMAC_SHA1_80) {
        Ok(SrtpProfile::AesCm128HmacSha1_80)
    } else {
        Err(HelloError::NoCommonProfile)
    }
}

/// The profiles of the use_srtp extension, two bytes each; empty without the extension. `None`: malformed.
fn srtp_profiles(hello: &[u8]) -> Option<&[u8]> {
    const VERSION_AND_RANDOM: usize = 2 + 32;
    const USE_SRTP: [u8; 2] = [0, 14];
    let rest = hello.get(VERSION_AND_RANDOM..)?;
    let (_session_id, rest) = short_vector(rest)?;
    let (_cookie, rest) = short_vector(rest)?;
    let (_cipher_suites, rest) = vector(rest)?;
    let (_compression, rest) = short_vector(rest)?;
    if rest.is_empty() {
        return Some(&[]);
    }
    let (mut extensions, _) = vector(rest)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (value, rest) = vector(rest)?;
        if *kind == USE_SRTP {
            let (profiles, _mki) = vector(value)?;
            return Some(profiles);
        }
        extensions = rest;
    }
    Some(&[])
}

/// A vector with a length of one byte, and what follows it.
fn short_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked((*len).into())
}

/// A vector with a length of two bytes, and what follows it.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}

/// Feeds arbitrary bytes as datagrams (two bytes of length before each): buffers stay bounded, and a hello comes
/// with the datagrams that made it.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let now = crate::testing::origin();
    let mut buffer = HelloBuffer::new(now);
    let mut rest = data;
    while let Some((datagram, after)) = vector(rest) {
        rest = after;
        let hello = buffer.push(now, datagram);
        assert!(buffer.body.len() <= MAX_HELLO && buffer.kept <= MAX_KEPT);
        if let Ok(Some(hello)) = hello {
            assert!(hello.datagrams.iter().any(|kept| kept == datagram));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    /// A hello body with these SRTP profiles, padded by an extension to `len`.
    fn hello(profiles: &[u16], len: usize) -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
        let list: Vec<u8> = profiles.iter().flat_map(|profile| profile.to_be_bytes()).collect();
        let mut use_srtp = (list.len() as u16).to_be_bytes().to_vec();
        use_srtp.extend_from_slice(&list);
        use_srtp.push(0);
        let padding = len.saturating_sub(body.len() + 2 + 4 + use_srtp.len() + 4);
        let mut extensions = vec![0, 21];
        extensions.extend_from_slice(&(padding as u16).to_be_bytes());
        extensions.resize(4 + padding, 0);
        extensions.extend_from_slice(&[0, 14]);
        extensions.extend_from_slice(&(use_srtp.len() as u16).to_be_bytes());
        extensions.extend_from_slice(&use_srtp);
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(&extensions);
        body
    }

    fn datagram(total: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let number = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
        let mut record = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&((FRAGMENT_HEADER + bytes.len()) as u16).to_be_bytes());
        record.push(1);
        record.extend(number(total));
        record.extend_from_slice(&[0, 0]);
        record.extend(number(offset));
        record.extend(number(bytes.len()));
        record.extend_from_slice(bytes);
        record
    }

    fn split(body: &[u8], size: usize) -> Vec<Vec<u8>> {
        let chunks = body.chunks(size).enumerate();
        chunks.map(|(i, bytes)| datagram(body.len(), i * size, bytes)).collect()
    }

    fn feed(datagrams: &[Vec<u8>]) -> Result<Option<Hello>, HelloError> {
        let mut buffer = HelloBuffer::new(origin());
        let mut last = Ok(None);
        for datagram in datagrams {
            last = buffer.push(origin(), datagram);
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        last
    }

    #[test]
    fn gcm_is_chosen_wherever_it_stands_in_the_list() {
        use SrtpProfile::{AeadAes128Gcm, AesCm128HmacSha1_80};
        for (profiles, chosen) in [
            (&[1, 2, 7, 8][..], Ok(AeadAes128Gcm)),
            (&[7], Ok(AeadAes128Gcm)),
            (&[8, 1], Ok(AesCm128HmacSha1_80)),
            (&[2, 8], Err(HelloError::NoCommonProfile)),
            (&[], Err(HelloError::NoCommonProfile)),
        ] {
            let hello = feed(&split(&hello(profiles, 300), 2000)).map(|hello| hello.unwrap().profile);
            assert_eq!(hello, chosen, "{profiles:?}");
        }
    }

    #[test]
    fn fragments_may_be_tiny_reversed_and_repeated() {
        let body = hello(&[1, 7], 1500);
        for size in [100, 333, 1200] {
            let mut datagrams = split(&body, size);
            datagrams.reverse();
            let kept = datagrams.clone();
            datagrams.splice(1..1, kept[..1].to_vec());
            let hello = feed(&datagrams).unwrap().unwrap();
            assert_eq!(hello.datagrams, kept, "what added nothing is left out");
        }
    }

    #[test]
    fn several_fragments_may_share_a_datagram() {
        let body = hello(&[7], 400);
        let datagrams = split(&body, 100);
        assert!(feed(&[datagrams.concat()]).unwrap().is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let body = hello(&[7], 400);
        let mut other_type = datagram(400, 0, &body[..100]);
        other_type[RECORD_HEADER] = 2;
        let mut other_record = datagram(400, 0, &body[..100]);
        other_record[0] = 23;
        let mut encrypted = datagram(400, 0, &body[..100]);
        encrypted[4] = 1;
        let mut second_message = datagram(400, 0, &body[..100]);
        second_message[RECORD_HEADER + 5] = 1;
        let mut buffer = HelloBuffer::new(origin());
        for (bytes, error) in [
            (datagram(body.len() + 1, 0, &body[..100]), HelloError::Malformed),
            (datagram(body.len(), body.len() - 50, &body[..100]), HelloError::Malformed),
            (datagram(body.len(), 0, &body[..100])[..60].to_vec(), HelloError::Malformed),
            (datagram(body.len(), 0, &[]), HelloError::Malformed),
            (datagram(MAX_HELLO + 1, 0, &body[..100]), HelloError::TooLong),
            (other_type, HelloError::NotAClientHello),
            (other_record, HelloError::NotAClientHello),
            (encrypted, HelloError::NotAClientHello),
            (second_message, HelloError::NotAClientHello),
            (vec![22], HelloError::Malformed),
        ] {
            buffer.push(origin(), &datagram(body.len(), 100, &body[100..110])).unwrap();
            assert_eq!(buffer.push(origin(), &bytes).err(), Some(error));
            assert_eq!(buffer.missing, body.len() - 10);
        }
        assert!(split(&body, 100).iter().any(|part| matches!(buffer.push(origin(), part), Ok(Some(_)))));
    }

    #[test]
    fn a_hello_that_does_not_end_is_forgotten_by_size_and_by_time() {
        let mut buffer = HelloBuffer::new(origin());
        let tiny: Vec<_> = (0..1000).map(|at| datagram(MAX_HELLO, at, &[0])).collect();
        assert!(tiny.iter().any(|part| buffer.push(origin(), part) == Err(HelloError::TooLong)));
        let start = origin();
        let mut buffer = HelloBuffer::new(start);
        buffer.push(start, &datagram(400, 0, &[0; 100])).unwrap();
        let body = hello(&[7], 300);
        let later = start + MAX_AGE + Duration::from_millis(1);
        assert!(buffer.push(later, &datagram(body.len(), 0, &body)).unwrap().is_some());
    }

    #[test]
    fn a_truncated_hello_body_is_an_error() {
        let body = hello(&[7], 300);
        for len in [1, 33, 34, 36, 40, 45, 290] {
            let part = &body[..len];
            assert_eq!(choose_profile(part), Err(HelloError::MalformedHello), "{len}");
        }
    }

    impl PartialEq for Hello {
        fn eq(&self, other: &Self) -> bool {
            self.datagrams == other.datagrams
        }
    }
}
