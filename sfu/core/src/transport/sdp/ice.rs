//! Our ICE credentials after a restart (RFC 8445 §9).

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use crate::transport::params::IceCredentials;

/// Credentials that follow from the ones before and keep their secret: only who knows the old password can
/// tell the new one. The ufrag's first two characters stay, they name the worker.
pub(super) fn restarted(old: &IceCredentials) -> IceCredentials {
    let tag = sign(&Key::new(HMAC_SHA256, old.pwd.as_bytes()), old.ufrag.as_bytes());
    let (ufrag, pwd) = tag.as_ref().split_at(8);
    let worker: String = old.ufrag.chars().take(2).collect();
    IceCredentials { ufrag: worker + &ice_chars(ufrag), pwd: ice_chars(pwd) }
}

/// Six bits of each byte as an ice-char (RFC 8839 §5.4).
fn ice_chars(bytes: &[u8]) -> String {
    const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restart_gives_other_credentials_of_the_same_worker() {
        let mut now = IceCredentials { ufrag: "a7xyz0".to_owned(), pwd: "p".repeat(24) };
        let mut seen = vec![now.clone()];
        for _ in 0..20 {
            now = restarted(&now);
            assert!(now.ufrag.starts_with("a7") && now.ufrag.len() == 10 && now.pwd.len() == 24);
            assert!(seen.iter().all(|old| old.ufrag != now.ufrag && old.pwd != now.pwd));
            seen.push(now.clone());
        }
    }
}
