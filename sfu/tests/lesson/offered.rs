//! A class that receives on a connection on which the SFU makes the offers, as in LiveKit's older protocol.

use rtc::peer_connection::transport::RTCDtlsRole;
use sfu_protocol::control::{DataChannel, Delivery, FromSfu, MediaKind, Msid, Source, ToSfu};
use sfu_protocol::ids::RoomId;

use super::common::{Running, eventually, start, with_one_and_two_workers};
use super::peer::{self, Peer};
use super::signaling::Signaling;
use super::{CAMERA, CLASS, TEACHER, VOICE, publish};

struct Lesson {
    _sfu: Running,
    signaling: Signaling,
    teacher: Peer,
    class: Peer,
}

impl Lesson {
    /// The class has answered the first offer, the teacher publishes.
    async fn begin(workers: usize, part: RTCDtlsRole) -> Self {
        let mut sfu = start(workers).await;
        let mut signaling = Signaling::new(&mut sfu.control);
        let (room, link) = (RoomId(1), "school".to_owned());
        signaling.send(ToSfu::OpenRoom { room }).await;
        let open = ToSfu::OpenTransport { room, transport: TEACHER, link: link.clone() };
        signaling.send(open).await;
        let channels = vec![DataChannel { label: peer::CHANNEL.to_owned(), delivery: Delivery::Reliable }];
        signaling.send(ToSfu::OpenOffering { room, transport: CLASS, link, channels }).await;
        let (teacher, class) = (Peer::teacher(TEACHER).await, Peer::answering(CLASS, part).await);
        assert!(class.answer(&mut signaling).await.is_empty(), "data channels alone");
        let published = [
            publish(VOICE, MediaKind::Audio, Source::Microphone, peer::VOICE_CID),
            publish(CAMERA, MediaKind::Video, Source::Camera, peer::CAMERA_CID),
        ];
        teacher.negotiate(&mut signaling, published.to_vec()).await;
        teacher.start_sending();
        Self { _sfu: sfu, signaling, teacher, class }
    }

    /// Subscribes the class to both tracks, which come with the next offer.
    async fn watch(&mut self) {
        for (track, name) in [(VOICE, "voice"), (CAMERA, "camera")] {
            let msid = Msid { stream: format!("PA_teacher|TR_{name}"), track: format!("TR_{name}") };
            self.signaling.send(ToSfu::Subscribe { transport: CLASS, track, msid }).await;
        }
        let mut offered = Vec::new();
        while offered.len() < 2 {
            offered = self.class.answer(&mut self.signaling).await;
        }
        let class = &self.class;
        eventually("sound and pictures", async || class.voice().len() > 50 && class.camera().len() > 100)
            .await;
        assert!(class.first_picture_was_a_key_frame());
    }
}

with_one_and_two_workers!(
    a_class_that_answers_hears_sees_and_reads_its_teacher,
    a_class_that_waits_for_the_handshake_hears_and_sees_its_teacher,
);

async fn a_class_that_answers_hears_sees_and_reads_its_teacher(workers: usize) {
    let mut lesson = Lesson::begin(workers, RTCDtlsRole::Client).await;
    lesson.watch().await;
    eventually("the channel of the SFU", async || lesson.class.listens()).await;
    let (channel, bytes) = (peer::CHANNEL.to_owned(), b"Good morning!".to_vec());
    lesson.signaling.send(ToSfu::SendData { recipients: vec![CLASS], channel, bytes: bytes.clone() }).await;
    eventually("the message", async || lesson.class.heard().contains(&bytes)).await;

    let unsubscribe = ToSfu::Unsubscribe { transport: CLASS, track: VOICE };
    lesson.signaling.send(unsubscribe).await;
    assert_eq!(lesson.class.answer(&mut lesson.signaling).await.len(), 1);
    let seen = lesson.class.camera().len();
    eventually("more pictures", async || lesson.class.camera().len() > seen + 50).await;
    assert!(!lesson.teacher.is_closed());
}

/// As pion does on an ICE-lite offer. The `webrtc` crate opens no data channels then: it leaves the start of SCTP
/// to the DTLS client, which other implementations do not.
async fn a_class_that_waits_for_the_handshake_hears_and_sees_its_teacher(workers: usize) {
    let mut lesson = Lesson::begin(workers, RTCDtlsRole::Server).await;
    let connected = |event: &FromSfu| match event {
        FromSfu::TransportConnected { transport: CLASS, srtp_profile } => Some(srtp_profile.clone()),
        _ => None,
    };
    let profile = lesson.signaling.event("the handshake that we begin", connected).await;
    assert_eq!(profile, "AEAD_AES_128_GCM");
    lesson.watch().await;
}
