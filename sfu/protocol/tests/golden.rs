//! What the messages look like on the control link. A change here breaks a signaling service and an SFU of
//! different versions that talk to each other: then the protocol's version changes, too.

use sfu_protocol::control::{CloseReason, FromSfu, MediaKind, Msid, Publish, Source, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_keep_their_bytes() {
    let (room, transport, track) = (RoomId(1), TransportId(300), TrackId(7));
    let publish = Publish {
        track,
        kind: MediaKind::Video,
        source: Source::Screen,
        cid: "c".to_owned(),
        mid: Some("0".to_owned()),
        dtx: true,
    };
    let msid = Msid { stream: "PA".to_owned(), track: "TR".to_owned() };
    for (command, golden) in [
        (ToSfu::OpenRoom { room }, "0001"),
        (ToSfu::OpenTransport { room, transport, link: "s".to_owned() }, "0201ac020173"),
        (
            ToSfu::Offer { transport, offer_id: 2, sdp: "v".to_owned(), publish: vec![publish] },
            "04ac0202017601070102016301 013001",
        ),
        (ToSfu::SetMuted { track, muted: true }, "060701"),
        (ToSfu::Subscribe { transport, track, msid }, "07ac02070250410254 52"),
    ] {
        let bytes = postcard::to_stdvec(&command).expect("plain data");
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{command:?}");
        assert_eq!(postcard::from_bytes::<ToSfu>(&bytes), Ok(command));
    }
}

#[test]
fn events_keep_their_bytes() {
    let (transport, track) = (TransportId(300), TrackId(7));
    for (event, golden) in [
        (
            FromSfu::Answer {
                transport,
                offer_id: 2,
                sdp: "v".to_owned(),
                mid_to_track: vec![("0".to_owned(), track)],
            },
            "00ac02020176010130 07",
        ),
        (FromSfu::NegotiationNeeded { transport, audios: 1, videos: 0 }, "02ac020100"),
        (FromSfu::TransportClosed { transport, reason: CloseReason::ConsentExpired }, "04ac0202"),
        (FromSfu::Draining, "07"),
    ] {
        let bytes = postcard::to_stdvec(&event).expect("plain data");
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{event:?}");
        assert_eq!(postcard::from_bytes::<FromSfu>(&bytes), Ok(event));
    }
}
