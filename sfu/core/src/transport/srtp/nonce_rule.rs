//! The nonce rule, checked in debug builds: one (SSRC, index) is sealed over one byte string only. Sealing two
//! with the same AES-GCM nonce would reveal their difference and the authentication key (RFC 7714 §8.1). The
//! same packet may be sealed again, byte by byte: that is how audio is resent.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Packets remembered. A table of fixed size, so that a debug build allocates no more per packet than a
/// release build; ten seconds of a busy subscriber.
const REMEMBERED: usize = 4096;

/// What was sealed lately.
#[derive(Default)]
pub(super) struct NonceRule {
    /// Empty until the first packet: a transport that only receives takes no more than in a release build.
    slots: Vec<Sealed>,
}

#[derive(Clone, Copy, Default)]
struct Sealed {
    ssrc: u32,
    index: u64,
    hash: u64,
    taken: bool,
}

impl NonceRule {
    /// Records that this plaintext (header and payload) is sealed under (SSRC, index).
    ///
    /// # Panics
    /// If another one was.
    pub(super) fn record(&mut self, ssrc: u32, index: u64, plaintext: &[u8]) {
        self.slots.resize(REMEMBERED, Sealed::default());
        let mut hasher = FxHasher::default();
        hasher.write(plaintext);
        let sealed = Sealed { ssrc, index, hash: hasher.finish(), taken: true };
        // Neighbouring indices take neighbouring slots; the multiplier spreads SSRCs (Knuth).
        let slot = (index as usize).wrapping_add((ssrc as usize).wrapping_mul(0x9E37_79B1)) % REMEMBERED;
        let before = std::mem::replace(&mut self.slots[slot], sealed);
        let same = before.taken && before.ssrc == ssrc && before.index == index;
        assert!(
            !same || before.hash == sealed.hash,
            "two plaintexts under one nonce: SSRC {ssrc:#010x}, index {index}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packet_may_be_sealed_again() {
        let mut rule = NonceRule::default();
        for _ in 0..2 {
            rule.record(1, 7, b"audio");
            rule.record(1, 8, b"more audio");
            rule.record(2, 7, b"video");
        }
    }

    #[test]
    #[should_panic(expected = "two plaintexts under one nonce")]
    fn a_second_plaintext_under_one_nonce_panics() {
        let mut rule = NonceRule::default();
        rule.record(1, 7, b"audio");
        rule.record(1, 7, b"other audio");
    }
}
