//! Looks through SCTP packets (RFC 9260 §3) before `rtc::sctp` (0.21.1) does, for what it would not survive or
//! not bound: it reads error causes beyond their chunk and panics, also where a chunk that is longer than its
//! content made it lose its place; walks every number up to a FORWARD TSN, however far; makes a stream for each
//! that it sees; takes the next piece of a message even with a full buffer; keeps every stream reset that it
//! cannot do yet.
//!
//! ```text
//!  packet  | ports (4 B) | tag (4 B) | checksum (4 B) | chunk | padding to 4 B | chunk ..
//!  chunk   | type | flags | length (2 B), all of it | value .. |
//!  DATA    | TSN (4 B) | stream (2 B) | sequence (2 B) | protocol (4 B) | bytes .. |
//! ```

use thiserror::Error;

/// Stream numbers that a client may use; browsers count up from 0 or 1.
pub(super) const MAX_STREAMS: u16 = 1024;

/// What we let the client send ahead, bytes: four of the longest messages.
pub(super) const RECEIVE_WINDOW: u32 = 256 * 1024;

/// Bytes of DATA that may come without a message becoming whole. An honest client stays below the window, plus
/// what it repeats.
const MAX_UNDELIVERED: usize = 4 * RECEIVE_WINDOW as usize;

/// How far a FORWARD TSN may skip: more messages than a lossy channel has under way.
const MAX_SKIPPED: u32 = 8192;

/// Stream resets that a client may ask for in an association's life, repetitions included.
const MAX_RESETS: usize = 4096;

const COMMON_HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RE_CONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// Parameters (RFC 9260 §3.2.1, RFC 6525 §4, RFC 3758 §3.1).
const HEARTBEAT_INFO: u16 = 1;
const OUTGOING_RESET: u16 = 13;
const RESET_RESPONSE: u16 = 16;
const REQUESTED_HMAC: u16 = 0x8004;
const FORWARD_TSN_SUPPORTED: u16 = 0xC000;

/// Why a packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// It does not parse: as good as lost.
    #[error("malformed")]
    Malformed,
    /// No honest client sends it: the association is to be aborted.
    #[error("beyond a bound")]
    Abuse,
}

/// What has to be remembered between packets.
#[derive(Default)]
pub(super) struct Guard {
    /// The TSN up to which we have acknowledged everything. Only our own SACKs say it: an INIT may be one of
    /// several, or a lie.
    acknowledged: Option<u32>,
    undelivered: usize,
    resets: usize,
}

impl Guard {
    /// Looks through a packet of the client.
    pub(super) fn check(&mut self, packet: &[u8]) -> Result<(), Refusal> {
        for chunk in chunks(packet) {
            let Chunk { kind, value } = chunk?;
            match kind {
                DATA => self.check_data(value)?,
                INIT => check_init(value)?,
                SACK => check_sack(value)?,
                HEARTBEAT => {
                    let kinds = parameters(value).map(|parameter| parameter.map(|(kind, _)| kind));
                    well_formed(kinds.eq([Some(HEARTBEAT_INFO)]))?;
                }
                ABORT | ERROR => check_causes(value)?,
                SHUTDOWN => well_formed(value.len() == 4)?,
                COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => well_formed(value.is_empty())?,
                COOKIE_ECHO => {}
                RE_CONFIG => self.check_reset(value)?,
                FORWARD_TSN => self.check_skip(value)?,
                // `rtc::sctp` would drop the packet.
                _ => return Err(Refusal::Malformed),
            }
        }
        Ok(())
    }

    /// Learns from a packet of ours what is acknowledged.
    pub(super) fn observe(&mut self, packet: &[u8]) {
        for chunk in chunks(packet).map_while(Result::ok) {
            if let (SACK, Some(acknowledged)) = (chunk.kind, number(chunk.value, 0)) {
                self.acknowledged = Some(acknowledged);
            }
        }
    }

    /// A message became whole.
    pub(super) fn delivered(&mut self) {
        self.undelivered = 0;
    }

    fn check_skip(&self, value: &[u8]) -> Result<(), Refusal> {
        let skip_to = number(value, 0).ok_or(Refusal::Malformed)?;
        let skipped = skip_to.wrapping_sub(self.acknowledged.ok_or(Refusal::Malformed)?);
        // Half the numbers lie behind: an old chunk, without effect.
        let is_behind = skipped > i32::MAX as u32 + 1;
        well_formed(value.len().is_multiple_of(4) && (skipped <= MAX_SKIPPED || is_behind))
    }

    fn check_reset(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.resets += 1;
        if self.resets > MAX_RESETS {
            return Err(Refusal::Abuse);
        }
        let mut parameters = parameters(value);
        let is_known = parameters.by_ref().take(2).all(|parameter| match parameter {
            Some((OUTGOING_RESET, len)) => len >= 16 && len % 2 == 0,
            Some((RESET_RESPONSE, len)) => len == 12,
            _ => false,
        });
        well_formed(!value.is_empty() && is_known && parameters.next().is_none())
    }

    fn check_data(&mut self, value: &[u8]) -> Result<(), Refusal> {
        const HEADER: usize = 12;
        well_formed(value.len() > HEADER)?;
        let stream = u16::from_be_bytes([value[4], value[5]]);
        self.undelivered += CHUNK_HEADER + value.len();
        if stream >= MAX_STREAMS || self.undelivered > MAX_UNDELIVERED {
            return Err(Refusal::Abuse);
        }
        Ok(())
    }
}

fn well_formed(is_well_formed: bool) -> Result<(), Refusal> {
    if is_well_formed { Ok(()) } else { Err(Refusal::Malformed) }
}

fn check_init(value: &[u8]) -> Result<(), Refusal> {
    const FIXED: usize = 16;
    let mut parameters = parameters(value.get(FIXED..).ok_or(Refusal::Malformed)?);
    well_formed(parameters.all(|parameter| match parameter {
        Some((FORWARD_TSN_SUPPORTED, len)) => len == 4,
        Some((REQUESTED_HMAC, len)) => len % 2 == 0,
        Some((OUTGOING_RESET | RESET_RESPONSE, _)) | None => false,
        Some(_) => true,
    }))
}

fn check_sack(value: &[u8]) -> Result<(), Refusal> {
    const FIXED: usize = 12;
    let counts = number(value, 8).ok_or(Refusal::Malformed)?;
    let (gaps, duplicates) = (counts >> 16, counts & 0xFFFF);
    well_formed(value.len() == FIXED + 4 * (gaps + duplicates) as usize)
}

/// Whether the causes of an ERROR or ABORT fill it (RFC 9260 §3.3.10).
fn check_causes(mut causes: &[u8]) -> Result<(), Refusal> {
    while let Some([_, _, high, low]) = causes.first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if len < 4 || len > causes.len() {
            return Err(Refusal::Malformed);
        }
        causes = &causes[len..];
    }
    Ok(())
}

struct Chunk<'a> {
    kind: u8,
    value: &'a [u8],
}

/// The chunks of a packet. Ends after the first error.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Result<Chunk<'_>, Refusal>> {
    let mut rest = packet.get(COMMON_HEADER..);
    std::iter::from_fn(move || {
        let bytes = rest.take_if(|rest| !rest.is_empty())?;
        let parsed = bytes.first_chunk::<CHUNK_HEADER>().and_then(|&[kind, _, high, low]| {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let value = bytes.get(CHUNK_HEADER..len)?;
            rest = Some(bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]));
            Some(Chunk { kind, value })
        });
        Some(parsed.ok_or(Refusal::Malformed))
    })
}

/// Type and length of the parameters in a value, as long as they fill it; `None` for one that does not.
fn parameters(mut value: &[u8]) -> impl Iterator<Item = Option<(u16, usize)>> {
    std::iter::from_fn(move || {
        let header = std::mem::take(&mut value);
        if header.is_empty() {
            return None;
        }
        Some(header.first_chunk::<4>().and_then(|&[kind_high, kind_low, high, low]| {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len < 4 || len > header.len() {
                return None;
            }
            value = header.get(len.next_multiple_of(4)..).unwrap_or(&[]);
            Some((u16::from_be_bytes([kind_high, kind_low]), len))
        }))
    })
}

fn number(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Feeds arbitrary bytes: every packet gets a verdict, and what is counted stays bounded.
#[cfg(feature = "sim")]
pub fn fuzz(data: &[u8]) {
    let mut guard = Guard::default();
    for _ in 0..3 {
        let verdict = guard.check(data);
        guard.observe(data);
        assert!(verdict == Err(Refusal::Abuse) || guard.undelivered <= MAX_UNDELIVERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 0];
        chunk.extend_from_slice(&((CHUNK_HEADER + value.len()) as u16).to_be_bytes());
        chunk.extend_from_slice(value);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; COMMON_HEADER], chunks.concat()].concat()
    }

    fn data(stream: u16, len: usize) -> Vec<u8> {
        let mut value = vec![0; 12 + len];
        value[4..6].copy_from_slice(&stream.to_be_bytes());
        chunk(DATA, &value)
    }

    fn sack(acknowledged: u32) -> Vec<u8> {
        chunk(SACK, &[&acknowledged.to_be_bytes()[..], &[0; 8]].concat())
    }

    #[test]
    fn only_what_the_association_would_not_survive_is_refused() {
        let init = chunk(INIT, &[0; 16]);
        let cut = [data(0, 100)[..50].to_vec()];
        for (chunks, verdict) in [
            (&[sack(0), data(1, 1), data(MAX_STREAMS - 1, 1100)][..], Ok(())),
            (&[data(MAX_STREAMS, 1)], Err(Refusal::Abuse)),
            (&[data(0, 0)], Err(Refusal::Malformed)),
            (&cut, Err(Refusal::Malformed)),
            (&[vec![0, 0, 0, 3]], Err(Refusal::Malformed)),
            (&[init], Ok(())),
            (&[chunk(INIT, &[0; 12])], Err(Refusal::Malformed)),
            (&[chunk(ABORT, &[0, 12, 0, 4])], Ok(())),
            (&[chunk(ABORT, &[])], Ok(())),
            (&[chunk(HEARTBEAT, &[0, 1, 0, 5, 7])], Ok(())),
            (&[chunk(HEARTBEAT, &[0, 1, 0, 5, 7, 0, 0, 0])], Ok(())),
            (&[chunk(HEARTBEAT, &[0, 1, 0, 4, 7])], Err(Refusal::Malformed)),
            (&[chunk(SACK, &[0; 13])], Err(Refusal::Malformed)),
            (&[chunk(COOKIE_ACK, &[0])], Err(Refusal::Malformed)),
            (&[chunk(64, &[])], Err(Refusal::Malformed)),
            (&[chunk(ERROR, &[0, 1, 0, 9, 0])], Err(Refusal::Malformed)),
            (&[chunk(ERROR, &[0, 1, 0, 3])], Err(Refusal::Malformed)),
        ] {
            assert_eq!(Guard::default().check(&packet(chunks)), verdict, "{chunks:?}");
        }
        assert_eq!(Guard::default().check(&[0; 5]), Ok(()));
    }

    #[test]
    fn a_skip_is_short_or_behind() {
        let forward = |to: u32| packet(&[chunk(FORWARD_TSN, &to.to_be_bytes())]);
        let mut guard = Guard::default();
        assert_eq!(guard.check(&forward(1)), Err(Refusal::Malformed), "nothing to skip from");
        for acknowledged in [0, u32::MAX - 5, 1 << 31] {
            guard.observe(&packet(&[sack(acknowledged)]));
            for (skipped, verdict) in [
                (0, Ok(())),
                (MAX_SKIPPED, Ok(())),
                (MAX_SKIPPED + 1, Err(Refusal::Malformed)),
                (i32::MAX as u32, Err(Refusal::Malformed)),
                (u32::MAX, Ok(())),
            ] {
                let verdict_now = guard.check(&forward(acknowledged.wrapping_add(skipped)));
                assert_eq!(verdict_now, verdict, "{acknowledged} {skipped}");
            }
        }
    }

    #[test]
    fn bytes_without_a_message_and_resets_without_end_are_abuse() {
        let mut guard = Guard::default();
        let packets = (0..).take_while(|_| guard.check(&packet(&[data(0, 1000)])).is_ok()).count();
        assert_eq!(packets, MAX_UNDELIVERED / 1016);
        guard.delivered();
        assert_eq!(guard.check(&packet(&[data(0, 1000)])), Ok(()));
        let mut reset = vec![0, 13, 0, 18];
        reset.resize(18, 0);
        let resets = (0..).take_while(|_| guard.check(&packet(&[chunk(RE_CONFIG, &reset)])).is_ok()).count();
        assert_eq!(resets, MAX_RESETS);
    }
}
