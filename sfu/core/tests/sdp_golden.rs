//! Real offers of Chromium and Firefox, and what we answer to them.

#[path = "sdp/scenario.rs"]
#[allow(unreachable_pub)]
mod scenario;

use std::collections::BTreeSet;

use sfu_core::units::{MediaKind, TrackId};

use scenario::{answer, names, negotiation, publish, read};

#[test]
fn every_real_offer_gets_the_recorded_answer() {
    let changed: Vec<_> = names()
        .into_iter()
        .filter_map(|name| {
            let now = answer(&read("offers", &name)?);
            (read("answers", &name).as_deref() != Some(&now)).then(|| format!("--- {name}\n{now}"))
        })
        .collect();
    assert!(
        changed.is_empty(),
        "{} answers are not as recorded. If that is meant, run `cargo run -p sfu-core --example sdp_answers` and \
         read the difference. What we answer now:\n{}",
        changed.len(),
        changed.join("\n"),
    );
}

#[test]
fn an_answer_says_nothing_that_the_offer_does_not_allow() {
    let mut answered = 0;
    for name in names() {
        let offer = read("offers", &name).expect("listed a moment ago");
        let answer = answer(&offer);
        if answer.starts_with("refused") {
            continue;
        }
        answered += 1;
        let (offered, written) = (sections(&offer), sections(&answer));
        assert_eq!(offered.len(), written.len(), "{name}: one section for each of the offer");

        let bundle: BTreeSet<_> = group(&answer);
        assert!(bundle.is_subset(&group(&offer)), "{name}");
        for (offered, written) in offered.iter().zip(&written).skip(1) {
            let mid = values(written, "a=mid:").next().expect("each has one");
            assert_eq!(values(offered, "a=mid:").next(), Some(mid), "{name}");
            assert_eq!(bundle.contains(mid), port(written) != "0", "{name} {mid}: refused or in the bundle");
            assert_eq!(kind(offered), kind(written), "{name} {mid}");
            assert!(
                formats(written).is_subset(&formats(offered)),
                "{name} {mid}: payload types are the offer's"
            );
            let extensions = |section| values(section, "a=extmap:").map(undirected).collect::<BTreeSet<_>>();
            assert!(
                extensions(written).is_subset(&extensions(offered)),
                "{name} {mid}: so are the extensions"
            );
            let rids = |section| values(section, "a=rid:").map(first_word).collect::<BTreeSet<_>>();
            assert!(rids(written).is_subset(&rids(offered)), "{name} {mid}: and the rids");
        }
    }
    assert!(answered >= 10, "only {answered} offers are answered");
}

#[test]
fn rids_are_accepted_before_anything_is_published() {
    for name in ["livekit-client-2.23-chromium156-join.sdp", "chrome156-recvonly.sdp"] {
        let answer = answer(&read("offers", name).expect("in the repository"));
        let videos: Vec<_> = sections(&answer).into_iter().filter(|s| s.starts_with("m=video 9")).collect();
        assert!(!videos.is_empty(), "{name}");
        for video in videos {
            assert!(video.contains("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"), "{name}");
            assert!(video.contains("urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"), "{name}");
        }
    }
}

#[test]
fn livekit_publishes_a_microphone_then_a_simulcast_camera() {
    // In Firefox the ids of `add_track` are not those of `a=msid`: there the order decides.
    let browsers = [
        ("chromium156", "b7540e16-bbe2-4f99-a8b3-37a3e08a8ade", "b1799f6b-63b8-43b5-bdd4-8ac10d7d877f"),
        ("firefox153", "{c9f5ff93}", "{959aa522}"),
    ];
    for (browser, microphone, camera) in browsers {
        let offer = |step: &str| {
            read("offers", &format!("livekit-client-2.23-{browser}-{step}.sdp")).expect("in the repository")
        };
        let wanted = [publish(1, MediaKind::Audio, microphone), publish(2, MediaKind::Video, camera)];
        let mut negotiation = negotiation();

        let join = negotiation.offer(&offer("join"), &[]).expect("a real offer");
        assert!(join.receive.is_empty() && join.mid_to_track.is_empty(), "{browser}");
        assert!(join.remote.sctp.is_some(), "{browser}");

        let first = negotiation.offer(&offer("publish-mic"), &wanted[..1]).expect("a real offer");
        assert_eq!(first.mid_to_track, [("7".to_owned(), TrackId(1))], "{browser}");
        assert!(!first.ice_restarted, "{browser}");

        let second = negotiation.offer(&offer("publish"), &wanted).expect("a real offer");
        let [(track, params)] = second.receive.as_slice() else {
            panic!("{browser}: only the camera is new")
        };
        assert_eq!((*track, params.mid.as_str()), (TrackId(2), "8"), "{browser}");
        let rids: Vec<_> =
            params.encodings.iter().map(|e| e.rid.expect("simulcast").as_str().to_owned()).collect();
        assert_eq!(rids, ["q", "h", "f"], "{browser}");
        assert!(second.sdp.contains("a=simulcast:recv q;h;f\r\n"), "{browser}");
    }
}

#[test]
fn damaged_offers_are_harmless() {
    let mut state = 1_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for name in names() {
        let offer = read("offers", &name).expect("listed a moment ago");
        let lines: Vec<_> = offer.split_inclusive("\r\n").collect();
        for _ in 0..40 {
            let mut damaged = lines.clone();
            for _ in 0..=below(3) {
                let (from, to) = (below(damaged.len()), below(damaged.len()));
                match below(4) {
                    0 => damaged.truncate(to.max(1)),
                    1 => drop(damaged.remove(from.min(damaged.len() - 1).max(1)).len()),
                    2 => damaged.swap(from, to),
                    _ => damaged.insert(to, lines[from % lines.len()]),
                }
                damaged.push("a=end\r\n");
            }
            sfu_core::transport::sdp::fuzz(damaged.concat().as_bytes());

            let mut bytes = offer.clone().into_bytes();
            for _ in 0..=below(6) {
                let at = below(bytes.len());
                bytes[at] = [b'0', b' ', b':', b'/', b';', b'=', b'\r', b'\n', b'9', b'-'][below(10)];
            }
            sfu_core::transport::sdp::fuzz(&bytes);
        }
    }
}

/// The text before the first m-line, then one text per m-line.
fn sections(sdp: &str) -> Vec<String> {
    sdp.split("\r\nm=")
        .enumerate()
        .map(|(index, section)| if index == 0 { section.to_owned() } else { format!("m={section}") })
        .collect()
}

fn values<'a>(section: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    section.lines().filter_map(move |line| line.strip_prefix(prefix))
}

fn group(sdp: &str) -> BTreeSet<&str> {
    values(sdp, "a=group:BUNDLE ").flat_map(str::split_whitespace).collect()
}

fn m_line(section: &str) -> impl Iterator<Item = &str> {
    section.lines().next().unwrap_or_default().split_whitespace()
}

fn kind(section: &str) -> Option<&str> {
    m_line(section).next()
}

fn port(section: &str) -> &str {
    m_line(section).nth(1).unwrap_or_default()
}

fn formats(section: &str) -> BTreeSet<&str> {
    m_line(section).skip(3).collect()
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// `9/sendonly urn:x` and `9/recvonly urn:x` are one extension, seen from both sides.
fn undirected(extmap: &str) -> (&str, &str) {
    let (id, uri) = extmap.split_once(' ').unwrap_or_default();
    (id.split('/').next().unwrap_or_default(), first_word(uri))
}
