//! What the messages look like on the control link. A change here breaks a signaling service and an SFU of
//! different versions that talk to each other: then the protocol's version changes, too.

use sfu_protocol::control::{
    CloseReason, DataChannel, Delivery, FromSfu, MediaKind, Msid, Publish, Size, Source, ToSfu, Wish,
};
use sfu_protocol::frame;
use sfu_protocol::hello::{Hello, Received, Resume, Welcome};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};
use sfu_protocol::lane::Item;
use sfu_protocol::people::{LinkClass, LinkQuality, Speaker};
use sfu_protocol::snapshot::{SnapshotPart, TransportSnapshot};

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
        encrypted: false,
    };
    let size = Some(Size { width: 320, height: 180 });
    let wish = Wish { size, fps: Some(15), priority: None, paused: true };
    let channel = DataChannel { label: "l".to_owned(), delivery: Delivery::Lossy };
    let msid = Msid { stream: "PA".to_owned(), track: "TR".to_owned() };
    for (command, golden) in [
        (ToSfu::OpenRoom { room }, "0001"),
        (ToSfu::OpenTransport { room, transport, link: "s".to_owned() }, "0201ac020173"),
        (
            ToSfu::Offer { transport, offer_id: 2, sdp: "v".to_owned(), publish: vec![publish] },
            "04ac0202017601070102016301 01300100",
        ),
        (ToSfu::SetMuted { track, muted: true }, "060701"),
        (ToSfu::Subscribe { transport, track, msid }, "07ac02070250410254 52"),
        (ToSfu::SetWish { transport, track, wish }, "0aac020701c002b401010f0001"),
        (
            ToSfu::OpenOffering { room, transport, link: "s".to_owned(), channels: vec![channel] },
            "0b01ac02017301016c01",
        ),
        (ToSfu::Answer { transport, offer_id: 2, sdp: "v".to_owned() }, "0cac02020176"),
        (ToSfu::RestartIce { transport }, "0dac02"),
        (ToSfu::TakeSnapshot { of: 300 }, "0eac02"),
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
        (
            FromSfu::Offer {
                transport,
                offer_id: 2,
                sdp: "v".to_owned(),
                mid_to_track: vec![("0".to_owned(), track)],
            },
            "0aac0202017601013007",
        ),
        (FromSfu::AnswerRejected { transport, offer_id: 2, reason: "r".to_owned() }, "0bac02020172"),
        (FromSfu::Draining, "07"),
        (FromSfu::Snapshot { of: 300, part: SnapshotPart::Begin }, "0cac0200"),
        (FromSfu::Snapshot { of: 300, part: SnapshotPart::Room(RoomId(1)) }, "0cac020101"),
        (
            FromSfu::Snapshot {
                of: 300,
                part: SnapshotPart::Transport(TransportSnapshot {
                    transport,
                    connected: true,
                    settled: false,
                    published: vec![track],
                    wanted: vec![TrackId(8), TrackId(9)],
                }),
            },
            "0cac0202 ac02 01 00 0107 020809",
        ),
        (FromSfu::Snapshot { of: 300, part: SnapshotPart::End }, "0cac0203"),
        (
            FromSfu::Speakers { room: RoomId(1), speakers: vec![Speaker { transport, level: 3 }] },
            "080101ac0203",
        ),
        (
            FromSfu::LinkQuality {
                room: RoomId(1),
                links: vec![
                    LinkQuality { transport, score: 90, rtt_ms: Some(200), loss: 7 },
                    LinkQuality { transport: TransportId(2), score: 0, rtt_ms: None, loss: 0 },
                ],
            },
            "090102 ac025a01c80107 02000000",
        ),
        (FromSfu::StreamState { transport, track, paused: true }, "0dac020701"),
    ] {
        let bytes = postcard::to_stdvec(&event).expect("plain data");
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{event:?}");
        assert_eq!(postcard::from_bytes::<FromSfu>(&bytes), Ok(event));
    }
}

#[test]
fn a_score_has_a_class() {
    use LinkClass::{Excellent, Good, Lost, Poor};
    for (score, class) in
        [(0, Lost), (1, Poor), (39, Poor), (40, Good), (79, Good), (80, Excellent), (100, Excellent)]
    {
        assert_eq!(LinkClass::of(score), class, "{score}");
    }
    assert!(Lost < Poor && Poor < Good && Good < Excellent);
}

#[test]
fn the_beginning_of_a_connection_keeps_its_bytes() {
    let resume = Some(Resume { session: 7, received: Received { control: 2, data: 3 } });
    let hello = Hello { node: "hall".to_owned(), incarnation: 300, capacity: 5, resume };
    let mut bytes = Vec::new();
    hello.encode(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), "0000000d01046 8616c6cac020501070203".replace(' ', ""));
    assert_eq!(Hello::decode(&bytes[4..]), Ok(hello));

    for (welcome, golden) in [
        (Welcome::Resumed(Received { control: 2, data: 3 }), "00000003000203"),
        (Welcome::Fresh { session: 300 }, "0000000301ac02"),
    ] {
        let mut bytes = Vec::new();
        frame::encode(&welcome, &mut bytes).unwrap();
        assert_eq!(hex(&bytes), golden);
    }
    for (item, golden) in [
        (Item::Message { number: 1, message: ToSfu::OpenRoom { room: RoomId(1) } }, "0000000400010001"),
        (Item::Received { number: 300 }, "0000000301ac02"),
    ] {
        let mut bytes = Vec::new();
        frame::encode(&item, &mut bytes).unwrap();
        assert_eq!(hex(&bytes), golden);
        assert_eq!(frame::decode(&bytes[4..]), Ok(item));
    }
}
