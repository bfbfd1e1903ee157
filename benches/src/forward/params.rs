//! What negotiation with a browser agrees on.

use arrayvec::ArrayVec;
use sfu_core::rtp::params::{
    Codec, CodecParams, EncodingParams, Extension, ExtensionMap, MAX_CODECS, Mid, ReceiveParams, SendParams,
    Ssrc,
};
use sfu_core::transport::params::{DtlsRole, Fingerprint, IceCredentials, RemoteParams};
use sfu_core::units::MediaKind;

/// The m-line of the picture.
pub const MID: &str = "1";
/// Payload type of the publisher's picture.
pub const VP8_IN: u8 = 96;

/// How the picture comes.
pub fn receive(encodings: impl Iterator<Item = EncodingParams>) -> ReceiveParams {
    ReceiveParams {
        mid: mid(),
        kind: MediaKind::Video,
        codecs: vp8(VP8_IN),
        extensions: extensions_in(),
        encodings: encodings.collect(),
        encrypted: false,
    }
}

/// How the picture goes out to the subscriber with this SSRC.
pub fn send(ssrc: u32) -> SendParams {
    SendParams {
        mid: mid(),
        kind: MediaKind::Video,
        codecs: vp8(100),
        extensions: extensions_out(),
        ssrc: Ssrc(ssrc),
        rtx_ssrc: Some(Ssrc(ssrc + 1)),
    }
}

/// As a publisher's offer numbers them.
pub fn extensions_in() -> ExtensionMap {
    map(&[
        (2, Extension::AbsSendTime),
        (3, Extension::TransportCc),
        (4, Extension::Mid),
        (10, Extension::Rid),
        (11, Extension::RepairedRid),
        (13, Extension::VideoOrientation),
    ])
}

fn extensions_out() -> ExtensionMap {
    map(&[
        (2, Extension::AbsSendTime),
        (3, Extension::TransportCc),
        (4, Extension::Mid),
        (13, Extension::VideoOrientation),
    ])
}

fn map(pairs: &[(u8, Extension)]) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for &(id, extension) in pairs {
        map.insert(id, extension);
    }
    map
}

fn mid() -> Mid {
    Mid::new(MID).expect("it is short")
}

fn vp8(pt: u8) -> ArrayVec<CodecParams, MAX_CODECS> {
    ArrayVec::from_iter([CodecParams {
        codec: Codec::Vp8,
        pt,
        rtx_pt: Some(pt + 1),
        red_pt: None,
        nack: true,
        pli: true,
    }])
}

/// Names that nobody asks for: the transport is connected without a handshake.
pub fn credentials(n: u64) -> IceCredentials {
    IceCredentials { ufrag: format!("00{n:08x}"), pwd: format!("never-asked-for-{n:016x}") }
}

/// The client's side of them.
pub fn remote(n: u64) -> RemoteParams {
    RemoteParams {
        ice: credentials(n),
        fingerprint: Fingerprint([0; 32]),
        role: DtlsRole::Client,
        sctp: None,
    }
}
