//! Wire counters that wrap, made into counters that do not.

/// Unwraps a 16-bit counter (RTP sequence numbers, TWCC sequence numbers) into 64 bits.
///
/// The first value is taken as is, plus one cycle, so that a packet older than the first one still has a
/// number. A value is taken to lie within half a cycle of the highest one seen (RFC 3550 appendix A.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqUnwrapper {
    highest: Option<u64>,
}

impl SeqUnwrapper {
    /// The extended number of `wire`; remembers it if it is the highest.
    pub fn unwrap(&mut self, wire: u16) -> u64 {
        let extended = self.peek(wire);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// The extended number of `wire`, without remembering it.
    pub fn peek(&self, wire: u16) -> u64 {
        let Some(highest) = self.highest else { return u64::from(wire) + (1 << 16) };
        let ahead = i64::from(wire.wrapping_sub(highest as u16) as i16);
        highest.saturating_add_signed(ahead)
    }

    /// The highest number so far, `None` before the first.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// Unwraps a 32-bit RTP timestamp into 64 bits, by the same rule as [`SeqUnwrapper`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampUnwrapper {
    highest: Option<u64>,
}

impl TimestampUnwrapper {
    /// The extended timestamp of `wire`; remembers it if it is the highest.
    pub fn unwrap(&mut self, wire: u32) -> u64 {
        let extended = match self.highest {
            None => u64::from(wire) + (1 << 32),
            Some(highest) => {
                highest.saturating_add_signed(i64::from(wire.wrapping_sub(highest as u32) as i32))
            }
        };
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_keep_their_order_across_wraps_and_reordering() {
        let mut seq = SeqUnwrapper::default();
        let first = seq.unwrap(65534);
        assert_eq!(seq.unwrap(1), first + 3);
        assert_eq!(seq.unwrap(65535), first + 1);
        assert_eq!(seq.highest(), Some(first + 3));
        assert_eq!(seq.unwrap(2), first + 4);
    }

    #[test]
    fn a_packet_older_than_the_first_has_a_number() {
        let mut seq = SeqUnwrapper::default();
        let first = seq.unwrap(0);
        assert_eq!(seq.unwrap(65535), first - 1);
    }

    #[test]
    fn timestamps_keep_their_order_across_wraps() {
        let mut time = TimestampUnwrapper::default();
        let first = time.unwrap(u32::MAX - 10);
        assert_eq!(time.unwrap(20), first + 31);
        assert_eq!(time.unwrap(u32::MAX - 5), first + 5);
    }
}
