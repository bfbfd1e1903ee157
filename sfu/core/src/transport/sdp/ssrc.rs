//! Our SSRCs: pseudo-random, and never the same twice within a transport.

use crate::rtp::params::Ssrc;

/// A walk through a permutation of all 32-bit numbers, which is why no SSRC comes twice: a reused m-line must
/// not reuse its SSRC, because SRTP keys a nonce by it.
#[derive(Clone, Debug)]
pub(super) struct SsrcSequence {
    next: u32,
    key: u32,
}

impl SsrcSequence {
    /// The sequence that belongs to `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mixed = split_mix(seed);
        Self { next: mixed as u32, key: (mixed >> 32) as u32 }
    }

    /// The next one; never 0, which some receivers take for "unknown".
    pub(super) fn next(&mut self) -> Ssrc {
        loop {
            let ssrc = permute(self.next) ^ self.key;
            self.next = self.next.wrapping_add(1);
            if ssrc != 0 {
                return Ssrc(ssrc);
            }
        }
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
pub(super) const fn split_mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// MurmurHash3's 32-bit finaliser: each step can be undone, so different numbers stay different.
const fn permute(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
    let x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashSet;

    use super::*;

    #[test]
    fn split_mix_gives_the_reference_values() {
        // The first output for the seed 0 and for 1234567 in the authors' reference code.
        assert_eq!(split_mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(split_mix(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn no_ssrc_is_zero_or_comes_twice() {
        for seed in [0, 1, u64::MAX] {
            let mut ssrcs = SsrcSequence::new(seed);
            let mut seen = FxHashSet::default();
            for _ in 0..100_000 {
                let ssrc = ssrcs.next();
                assert_ne!(ssrc.0, 0);
                assert!(seen.insert(ssrc));
            }
        }
    }

    #[test]
    fn zero_is_left_out_where_the_permutation_meets_it() {
        let mut ssrcs = SsrcSequence { next: 7, key: permute(7) };
        assert_eq!(ssrcs.next(), Ssrc(permute(8) ^ permute(7)));
    }
}
