//! Secrets for new transports, from the operating system's random source.

use aws_lc_rs::rand;
use sfu_core::transport::params::IceCredentials;
use sfu_core::worker::WorkerIndex;

/// ICE credentials (RFC 8445 §5.3) of a transport that belongs to worker `worker`: the first two characters of
/// the ufrag name it, so that any worker can tell whose a STUN request is.
pub(crate) fn ice_credentials(worker: WorkerIndex) -> IceCredentials {
    let mut ufrag: String = worker.ufrag_prefix().into_iter().collect();
    ufrag.extend(random_chars::<UFRAG_RANDOM>());
    IceCredentials { ufrag, pwd: random_chars::<PWD_LEN>().into_iter().collect() }
}

/// A seed for what needs to be unpredictable but is no secret: SSRCs, session ids.
pub(crate) fn random_seed() -> u64 {
    u64::from_ne_bytes(random_bytes())
}

/// 60 bits, where RFC 8445 §5.3 asks for 24: two of our transports never share a ufrag.
const UFRAG_RANDOM: usize = 10;

/// 144 bits, where RFC 8445 §5.3 asks for 128.
const PWD_LEN: usize = 24;

/// `ice-char` (RFC 8839 §5.4): 64 of them, so that six random bits choose one without bias.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn random_chars<const N: usize>() -> [char; N] {
    random_bytes::<N>().map(|byte| char::from(ICE_CHARS[usize::from(byte % 64)]))
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's random source does not fail once it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ufrag_names_its_worker_and_no_two_are_alike() {
        for worker in [0, 35, 36, 1295].map(WorkerIndex) {
            let (one, other) = (ice_credentials(worker), ice_credentials(worker));
            assert_eq!(WorkerIndex::of_ufrag(&one.ufrag), Some(worker));
            assert!(one.ufrag != other.ufrag && one.pwd != other.pwd);
            assert_eq!((one.ufrag.len(), one.pwd.len()), (12, 24));
        }
    }
}
