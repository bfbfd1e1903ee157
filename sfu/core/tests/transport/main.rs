//! A transport against independent clients, in memory and in virtual time: the DTLS and SRTP parts of the `rtc`
//! crates alone (`handshake`), and a whole peer connection of theirs (`peer`).

#![allow(clippy::unwrap_used, reason = "a helper's failure is the test's")]

mod handshake;
mod peer;

use std::sync::Arc;
use std::time::Instant;

use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::AwsLcRsProvider;
use sfu_core::transport::params::{Fingerprint, IceCredentials};
use sfu_core::transport::{Identity, TransportConfig, Tuple};

fn provider() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(AwsLcRsProvider::new())
}

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do; the tests move it themselves")]
    Instant::now()
}

fn config() -> Arc<TransportConfig> {
    Arc::new(TransportConfig::new(Arc::new(Identity::generate().unwrap())))
}

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}-password-of-22-chars") }
}

fn tuple(port: u16) -> Tuple {
    Tuple { local: "10.0.0.2:7882".parse().unwrap(), remote: format!("10.0.0.1:{port}").parse().unwrap() }
}

fn fingerprint(der: &[u8]) -> Fingerprint {
    let hash = provider().crypto().hash(rtc::crypto::HashAlgorithm::Sha256, der).unwrap();
    Fingerprint(hash.try_into().unwrap())
}
