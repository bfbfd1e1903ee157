//! The m-lines of a lesson, as LiveKit's single peer connection uses them: spare lines, more lines on request,
//! lines that come free, published tracks, and what a client can do to them.

#[path = "sdp/scenario.rs"]
#[allow(dead_code, unreachable_pub)]
mod scenario;

use std::fmt::Write;

use sfu_core::rtp::params::SendParams;
use sfu_core::transport::sdp::{Answered, Needed, Negotiation, SdpError};
use sfu_core::units::{MediaKind, TrackId};
use sfu_protocol::control::{MAX_SDP_BYTES, Msid, Publish};

use MediaKind::{Audio, Video};
use scenario::{negotiation, publish};

#[test]
fn subscriptions_fill_the_spare_lines_of_the_next_offer() {
    let (client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio), (2, Video)]);
    assert_eq!(negotiation.needed(), needed(0, 0));
    assert_eq!(negotiation.needed(), None, "told once");

    let answered = answer(&client, &mut negotiation);
    assert_eq!(sent(&answered), [(1, "0"), (2, "3")]);
    assert_eq!(line(&answered, 0), ["sendonly", "msid:PA_teacher|camera TR_1"]);
    assert_eq!(line(&answered, 1), ["inactive"]);
    assert_eq!(line(&answered, 3), ["sendonly", "msid:PA_teacher|camera TR_2"]);
    assert_eq!(answered.mid_to_track, [("0".to_owned(), TrackId(1)), ("3".to_owned(), TrackId(2))]);
    assert_eq!(negotiation.needed(), None, "and done");
}

#[test]
fn subscriptions_made_before_the_first_offer_are_in_its_answer() {
    let mut negotiation = negotiation();
    subscribe(&mut negotiation, &[(1, Audio)]);
    assert_eq!(negotiation.needed(), None, "the first offer comes unasked");
    assert_eq!(sent(&answer(&Client::joining(), &mut negotiation)), [(1, "0")]);
}

#[test]
fn lines_are_asked_for_once_as_they_run_out() {
    let (mut client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio), (2, Audio), (3, Audio), (4, Audio), (5, Audio)]);
    assert_eq!(negotiation.needed(), needed(2, 0));
    subscribe(&mut negotiation, &[(6, Audio), (7, Video)]);
    assert_eq!(negotiation.needed(), needed(1, 0));
    assert_eq!(negotiation.needed(), None);

    let crossing = answer(&client, &mut negotiation);
    assert_eq!(sent(&crossing), [(1, "0"), (2, "1"), (3, "2"), (7, "3")]);
    assert_eq!(negotiation.needed(), None, "an offer that crossed the request is not its fulfilment");

    for mid in ["7", "8", "9"] {
        client.add(Audio, mid, "recvonly");
    }
    assert_eq!(sent(&answer(&client, &mut negotiation)), [(4, "7"), (5, "8"), (6, "9")]);
    assert_eq!(negotiation.needed(), None);
}

#[test]
fn a_freed_line_is_inactive_once_and_then_serves_again_with_new_ssrcs() {
    let (client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Video), (2, Video), (3, Video)]);
    let first = answer(&client, &mut negotiation);
    assert_eq!(sent(&first), [(1, "3"), (2, "4"), (3, "5")]);

    negotiation.unsubscribe(TrackId(2));
    subscribe(&mut negotiation, &[(9, Video)]);
    assert_eq!(negotiation.needed(), needed(0, 0), "a line will be free, no other is needed");
    let second = answer(&client, &mut negotiation);
    assert_eq!(line(&second, 4), ["inactive"]);
    assert!(second.send.is_empty() && second.stopped.is_empty());

    assert_eq!(negotiation.needed(), needed(0, 0));
    let third = answer(&client, &mut negotiation);
    assert_eq!(sent(&third), [(9, "4")]);
    let ssrcs = |params: &SendParams| [Some(params.ssrc), params.rtx_ssrc];
    let new = ssrcs(&third.send[0].1);
    assert!(first.send.iter().flat_map(|(_, params)| ssrcs(params)).all(|old| !new.contains(&old)));
    assert_eq!(negotiation.needed(), None);
}

#[test]
fn an_unsubscribed_track_may_come_back() {
    let (client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio)]);
    let first = answer(&client, &mut negotiation);
    negotiation.unsubscribe(TrackId(1));
    subscribe(&mut negotiation, &[(1, Audio)]);
    let second = answer(&client, &mut negotiation);
    assert_eq!(sent(&second), [(1, "1")], "on another line, while the first is inactive");
    assert_ne!(first.send[0].1.ssrc, second.send[0].1.ssrc);
}

#[test]
fn a_client_that_ignores_requests_is_not_asked_for_ever() {
    let (client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio), (2, Audio), (3, Audio), (4, Audio)]);
    assert_eq!(negotiation.needed(), needed(1, 0));
    for _ in 0..3 {
        answer(&client, &mut negotiation);
        assert_eq!(negotiation.needed(), None);
    }
    let mut resumed = client;
    resumed.ufrag = "resumed1";
    answer(&resumed, &mut negotiation);
    assert_eq!(negotiation.needed(), needed(1, 0), "a resumed client may have missed the request");
}

#[test]
fn a_published_track_is_received_while_it_is_wanted() {
    let (mut client, mut negotiation) = joined();
    client.add(
        Video,
        "7",
        "sendonly\r\na=msid:- cam\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h",
    );
    client.add(Audio, "8", "sendonly\r\na=msid:- mic\r\na=ssrc:77 cname:x");

    let unknown = answer(&client, &mut negotiation);
    assert!(unknown.receive.is_empty());
    assert_eq!(line(&unknown, 7), ["inactive"]);

    let wanted = [publish(1, Video, "cam"), publish(2, Audio, "mic")];
    let known = negotiation.offer(&client.offer(), &wanted).expect("a good offer");
    assert_eq!(line(&known, 7), ["recvonly", "rid:q recv", "rid:h recv", "simulcast:recv q;h"]);
    assert_eq!(line(&known, 8), ["recvonly"]);
    assert_eq!(received(&known), [(1, "7"), (2, "8")]);
    assert_eq!(known.receive[1].1.encodings[0].ssrc.map(|ssrc| ssrc.0), Some(77));

    let again = negotiation.offer(&client.offer(), &wanted).expect("a good offer");
    assert!(again.receive.is_empty() && again.ended.is_empty(), "nothing new");

    let over = negotiation.offer(&client.offer(), &wanted[1..]).expect("a good offer");
    assert_eq!((over.ended.as_slice(), line(&over, 7)), (&[TrackId(1)][..], vec!["inactive".to_owned()]));
    let other = [publish(2, Audio, "mic"), publish(3, Video, "screen")];
    let not_it = negotiation.offer(&client.offer(), &other).expect("a good offer");
    assert!(not_it.receive.is_empty(), "the old camera does not pass for the screen");
}

#[test]
fn dtx_is_asked_for_on_the_line_of_the_track_that_wants_it_unless_the_offer_says_otherwise() {
    let cases = [("", true, true), ("", false, false), ("usedtx=0", true, false), ("usedtx=1", false, true)];
    for (offered, wanted, asked) in cases {
        let (mut client, mut negotiation) = joined();
        client.add(Audio, "7", &format!("sendonly\r\na=msid:- mic\r\na=fmtp:111 {offered}"));
        let publish = Publish { dtx: wanted, ..publish(1, Audio, "mic") };
        let answered = negotiation.offer(&client.offer(), &[publish]).expect("a good offer");
        assert_eq!(answered.sdp.matches("usedtx=1").count(), usize::from(asked), "{offered:?} {wanted}");
        assert!(
            !asked || answered.sdp.ends_with("a=fmtp:111 useinbandfec=1;usedtx=1\r\n"),
            "on the last line"
        );
    }
}

#[test]
fn sound_that_is_encrypted_end_to_end_is_not_taken_apart() {
    for (encrypted, red_pt) in [(false, Some(63)), (true, None)] {
        let (mut client, mut negotiation) = joined();
        let redundant = "sendonly\r\na=msid:- mic\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111";
        client.lines.push(Client::line(Audio, "7", redundant).replacen(" 111", " 111 63", 1));
        let publish = Publish { encrypted, ..publish(1, Audio, "mic") };
        let answered = negotiation.offer(&client.offer(), &[publish]).expect("a good offer");
        let (_, params) = &answered.receive[0];
        assert_eq!((params.encrypted, params.codecs[0].red_pt), (encrypted, red_pt));
    }
}

#[test]
fn a_line_may_carry_media_both_ways() {
    let mut client = Client { lines: Vec::new(), ufrag: "both" };
    client.add(Audio, "a", "sendrecv\r\na=msid:- mic");
    let mut negotiation = negotiation();
    subscribe(&mut negotiation, &[(1, Audio)]);
    let answered = negotiation.offer(&client.offer(), &[publish(2, Audio, "mic")]).expect("a good offer");
    assert_eq!(line(&answered, 0), ["sendrecv", "msid:PA_teacher|camera TR_1"]);
    assert_eq!((sent(&answered), received(&answered)), (vec![(1, "a")], vec![(2, "a")]));
}

#[test]
fn a_track_whose_line_the_client_closes_moves_to_another() {
    let (mut client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio), (2, Audio)]);
    let first = answer(&client, &mut negotiation);
    client.lines[0] = Client::line(Audio, "0", "inactive");
    client.lines[1] = "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n".to_owned();
    let second = answer(&client, &mut negotiation);
    assert_eq!(second.stopped, [TrackId(1), TrackId(2)]);
    assert_eq!(sent(&second), [(1, "2")]);
    assert_ne!(first.send[0].1.ssrc, second.send[0].1.ssrc);
    assert_eq!(negotiation.needed(), needed(1, 0), "one still waits");

    client.lines[1] = Client::line(Audio, "new", "recvonly");
    assert_eq!(sent(&answer(&client, &mut negotiation)), [(2, "new")], "a recycled line");
}

#[test]
fn new_payload_types_make_another_stream() {
    let (mut client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio)]);
    let first = answer(&client, &mut negotiation);
    client.lines[0] = client.lines[0].replace("111", "112");
    let second = answer(&client, &mut negotiation);
    assert_eq!((second.stopped.as_slice(), sent(&second)), (&[TrackId(1)][..], vec![(1, "0")]));
    assert_eq!(second.send[0].1.codecs[0].pt, 112);
    assert_ne!(first.send[0].1.ssrc, second.send[0].1.ssrc);
}

#[test]
fn new_credentials_restart_ice_and_keep_the_worker() {
    let (mut client, mut negotiation) = joined();
    let before = answer(&client, &mut negotiation);
    client.ufrag = "other-ufrag";
    let after = answer(&client, &mut negotiation);
    assert!(!before.ice_restarted && after.ice_restarted);
    assert_eq!(after.remote.ice.ufrag, "other-ufrag");
    assert_eq!(after.local.ufrag[..2], before.local.ufrag[..2]);
    assert!(after.local.ufrag != before.local.ufrag && after.local.pwd != before.local.pwd);
    assert!(
        after
            .sdp
            .contains(&format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", after.local.ufrag, after.local.pwd))
    );
    let same = answer(&client, &mut negotiation);
    assert_eq!((same.ice_restarted, same.local), (false, after.local));
}

#[test]
fn the_bundles_first_line_describes_the_transport_wherever_it_stands() {
    let (mut client, mut negotiation) = joined();
    client.lines[0] = "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n".to_owned();
    answer(&client, &mut negotiation);
    // A line may have its own credentials until an answer takes it into the bundle (RFC 9143 §7.2).
    let own = format!("recvonly\r\na=ice-ufrag:own-ufrag\r\na=ice-pwd:{}", "o".repeat(24));
    client.lines[0] = Client::line(Audio, "7", &own);
    let offer = client.offer().replace("BUNDLE 7 1 2 3 4 5 6", "BUNDLE 1 2 3 4 5 6 7");
    let answered = negotiation.offer(&offer, &[]).expect("a good offer");
    assert!(!answered.ice_restarted);
    assert!(answered.sdp.contains("a=group:BUNDLE 1 2 3 4 5 6 7\r\n"));
    let sections: Vec<_> =
        answered.sdp.split("\r\nm=").map(|section| section.contains("a=candidate")).collect();
    assert_eq!(sections[..3], [false, false, true]);
}

#[test]
fn a_participants_own_words_cannot_add_lines_to_an_answer() {
    let (client, mut negotiation) = joined();
    let stream = format!("PA|x\r\na=candidate:evil {}", "é".repeat(500));
    negotiation.subscribe(TrackId(1), Audio, Msid { stream, track: String::new() });
    let answered = answer(&client, &mut negotiation);
    let [_, msid] = &line(&answered, 0)[..] else { panic!("a direction and a msid") };
    assert!(
        msid.starts_with("msid:PA|x__a=candidate:evil______") && msid.ends_with(" -") && msid.len() < 140
    );
    assert_eq!(answered.sdp.matches("\r\na=candidate").count(), 2, "ours");
}

#[test]
fn what_cannot_be_accepted_is_refused_line_by_line() {
    let (mut client, mut negotiation) = joined();
    client
        .lines
        .push("m=video 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:h\r\na=rtcp-mux\r\na=rtpmap:98 H264/90000\r\n".into());
    client.lines.push("m=video 9 RTP/AVP 96\r\na=mid:i\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n".into());
    client.lines.push("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:j\r\na=rtpmap:96 VP8/90000\r\n".into());
    client.lines.push("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:k\r\n".into());
    client.lines.push("m=image 9 udptl t38\r\n".into());
    let answered = answer(&client, &mut negotiation);
    let m_lines: Vec<_> = answered.sdp.lines().filter(|line| line.starts_with("m=")).skip(7).collect();
    let refused = [
        "m=video 0 UDP/TLS/RTP/SAVPF 98",
        "m=video 0 RTP/AVP 96",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "m=image 0 udptl t38",
    ];
    assert_eq!(m_lines, refused);
    assert!(answered.sdp.contains("a=group:BUNDLE 0 1 2 3 4 5 6\r\n"));
}

#[test]
fn a_bad_offer_changes_nothing() {
    let (client, mut negotiation) = joined();
    subscribe(&mut negotiation, &[(1, Audio)]);
    let good = client.offer();
    let cases = [
        (good.replace("m=audio", "m=banana"), None),
        (String::new(), None),
        ("x".repeat(MAX_SDP_BYTES + 1), Some(SdpError::TooLong)),
        (good.clone() + &"m=audio 0 X 0\r\n".repeat(512), Some(SdpError::TooManyLines)),
        (good.replace("a=mid:2\r\n", "a=mid:1\r\n"), Some(SdpError::DuplicateMid(2))),
        (good.replace("BUNDLE 0 1 2 3 4 5 6", "AUDIO 0"), None),
        (good.replace("join-ufrag", "abc"), Some(SdpError::Ice)),
        (good.replace("join-ufrag", "ab:cd"), Some(SdpError::Ice)),
        (good.replace("a=ice-pwd", "a=no-pwd"), Some(SdpError::Ice)),
        (good.replace("sha-256", "sha-1"), Some(SdpError::Fingerprint)),
        (good.replace("AB:AB", "AB:ABC"), Some(SdpError::Fingerprint)),
        (good.replace("AB:AB", "AB:AC"), Some(SdpError::FingerprintChanged)),
        (good.replace("setup:actpass", "setup:passive"), Some(SdpError::Setup)),
        (
            good.replace("opus", "opium").replace("VP8", "VP7").replace("SCTP", "ACTP"),
            Some(SdpError::NothingAccepted),
        ),
        (good.split("m=application").next().unwrap_or_default().to_owned(), Some(SdpError::LineCount)),
    ];
    for (offer, expected) in cases {
        let before = format!("{negotiation:?}");
        let result = negotiation.offer(&offer, &[]).map(|answered| answered.sdp);
        match expected {
            Some(error) => assert_eq!(result, Err(error)),
            None if offer.contains("AUDIO") => assert!(result.is_ok(), "one line is enough"),
            None => assert!(matches!(result, Err(SdpError::Syntax(_))), "{result:?}"),
        }
        if !offer.contains("AUDIO") {
            assert_eq!(format!("{negotiation:?}"), before);
        }
    }
}

/// A client's side of the description.
struct Client {
    lines: Vec<String>,
    ufrag: &'static str,
}

impl Client {
    /// Three spare lines of each kind and data channels.
    fn joining() -> Self {
        let mut client = Self { lines: Vec::new(), ufrag: "join-ufrag" };
        for (mid, kind) in
            ["0", "1", "2", "3", "4", "5"].into_iter().zip([Audio, Audio, Audio, Video, Video, Video])
        {
            client.add(kind, mid, "recvonly");
        }
        client.lines.push(
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:6\r\na=sctp-port:5000\r\n".into(),
        );
        client
    }

    fn add(&mut self, kind: MediaKind, mid: &str, rest: &str) {
        self.lines.push(Self::line(kind, mid, rest));
    }

    fn line(kind: MediaKind, mid: &str, rest: &str) -> String {
        let (head, codec) = match kind {
            Audio => ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2"),
            Video => (
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
                "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96",
            ),
        };
        format!("{head}\r\na=mid:{mid}\r\na=rtcp-mux\r\n{codec}\r\na={rest}\r\n")
    }

    fn offer(&self) -> String {
        let mut sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE".to_owned();
        for mid in
            self.lines.iter().flat_map(|line| line.lines()).filter_map(|line| line.strip_prefix("a=mid:"))
        {
            write!(sdp, " {mid}").expect("a string takes it");
        }
        let fingerprint = ["AB"; 32].join(":");
        write!(
            sdp,
            "\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-512 00\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:actpass\r\n{}",
            self.ufrag,
            "p".repeat(24),
            self.lines.concat(),
        )
        .expect("a string takes it");
        sdp
    }
}

/// After the first offer and answer.
fn joined() -> (Client, Negotiation) {
    let client = Client::joining();
    let mut negotiation = negotiation();
    answer(&client, &mut negotiation);
    (client, negotiation)
}

fn answer(client: &Client, negotiation: &mut Negotiation) -> Answered {
    negotiation.offer(&client.offer(), &[]).expect("a good offer")
}

fn subscribe(negotiation: &mut Negotiation, tracks: &[(u64, MediaKind)]) {
    for &(track, kind) in tracks {
        let msid = Msid { stream: "PA_teacher|camera".to_owned(), track: format!("TR_{track}") };
        negotiation.subscribe(TrackId(track), kind, msid);
    }
}

fn needed(audios: u32, videos: u32) -> Option<Needed> {
    Some(Needed { audios, videos })
}

/// Which tracks got which mids.
fn sent(answered: &Answered) -> Vec<(u64, &str)> {
    answered.send.iter().map(|(track, params)| (track.0, params.mid.as_str())).collect()
}

fn received(answered: &Answered) -> Vec<(u64, &str)> {
    answered.receive.iter().map(|(track, params)| (track.0, params.mid.as_str())).collect()
}

/// What the answer says about the track of the m-line at that index.
fn line(answered: &Answered, index: usize) -> Vec<String> {
    const TOLD: [&str; 7] = ["sendrecv", "sendonly", "recvonly", "inactive", "msid:", "rid:", "simulcast:"];
    let section = answered.sdp.split("\r\nm=").nth(index + 1).expect("the line is in the answer");
    let attributes = section.lines().filter_map(|line| line.strip_prefix("a="));
    attributes.filter(|a| TOLD.iter().any(|told| a.starts_with(told))).map(str::to_owned).collect()
}
