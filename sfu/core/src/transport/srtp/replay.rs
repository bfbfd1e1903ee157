//! What a receiver remembers of one stream: the highest packet index and which of the last 128 came
//! (RFC 3711 §3.3.1 and §3.3.2). Nothing is remembered before the packet was authenticated.

use super::SrtpError;

/// How far behind the highest index a packet may come. RFC 3711 §3.3.2 asks for at least 64; a lossy line with
/// 600 ms of delay needs more where packets are sent again.
const WINDOW: u64 = 128;

/// The replay window of one SSRC and direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplayWindow {
    highest: Option<u64>,
    /// Bit n: the packet with index `highest - n` came.
    seen: u128,
}

impl ReplayWindow {
    /// The index (rollover counter and sequence number) that a packet most likely has.
    pub(super) fn guess(&self, seq: u16) -> Result<u64, SrtpError> {
        guess_index(self.highest, seq).ok_or(SrtpError::TooOld)
    }

    /// Whether a packet with this index would be new.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(highest) = self.highest else { return Ok(()) };
        match highest.checked_sub(index) {
            None => Ok(()),
            Some(behind) if behind >= WINDOW => Err(SrtpError::TooOld),
            Some(behind) if self.seen & (1 << behind) != 0 => Err(SrtpError::Replayed),
            Some(_) => Ok(()),
        }
    }

    /// Remembers an authenticated packet.
    pub(super) fn commit(&mut self, index: u64) {
        let highest = self.highest.unwrap_or(index);
        if index > highest || self.highest.is_none() {
            self.seen =
                self.seen.checked_shl(u32::try_from(index - highest).unwrap_or(u32::MAX)).unwrap_or(0) | 1;
            self.highest = Some(index);
        } else {
            self.seen |= 1 << (highest - index).min(WINDOW - 1);
        }
    }
}

/// The index of `seq`, given the highest one so far: the one that is nearest to it (RFC 3711 §3.3.1 and
/// appendix A). `None`: it would lie before the first rollover period.
pub(super) fn guess_index(highest: Option<u64>, seq: u16) -> Option<u64> {
    let Some(highest) = highest else { return Some(u64::from(seq)) };
    let ahead = i64::from(seq.wrapping_sub(highest as u16) as i16);
    highest.checked_add_signed(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_taken_once() {
        let mut window = ReplayWindow::default();
        for index in [1000, 1001, 1005, 1003, 1128, 1130] {
            assert_eq!(window.check(index), Ok(()), "{index}");
            window.commit(index);
            assert_eq!(window.check(index), Err(SrtpError::Replayed), "{index}");
        }
        assert_eq!(window.check(1003), Err(SrtpError::Replayed));
        assert_eq!(window.check(1004), Ok(()));
        assert_eq!(window.check(1130 - 128), Err(SrtpError::TooOld));
    }

    #[test]
    fn a_long_jump_forgets_what_was_before() {
        let mut window = ReplayWindow::default();
        window.commit(5);
        window.commit(100_000);
        assert_eq!(window.check(100_000 - 127), Ok(()));
        assert_eq!(window.check(5), Err(SrtpError::TooOld));
    }

    #[test]
    fn the_rollover_counter_is_guessed_on_both_sides_of_a_wrap() {
        for (highest, seq, index) in [
            (None, 65_535, Some(65_535)),
            (Some(65_535), 0, Some(65_536)),
            (Some(65_536), 65_535, Some(65_535)),
            (Some(10), 65_535, None),
            (Some(3 << 16 | 0xFFF0), 0x10, Some(4 << 16 | 0x10)),
            (Some(4 << 16 | 0x10), 0xFFF0, Some(3 << 16 | 0xFFF0)),
            (Some(40_000), 39_000, Some(39_000)),
        ] {
            assert_eq!(guess_index(highest, seq), index, "{highest:?} {seq}");
        }
    }
}
