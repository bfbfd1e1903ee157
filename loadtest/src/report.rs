//! What came of a lesson: a table for people, JSON for programs, and what did not work in one line each.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::client::{ReceivedTrack, SentStats};
use crate::ms;
use crate::receive_stats::{MediaKind, ReceiveStats};

/// The part a participant plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads the lesson.
    Teacher,
    /// Listens and speaks.
    Class,
    /// Listens.
    Pupil,
}

impl Role {
    /// What a participant is called: there is one teacher, the others are numbered.
    pub fn name(self, number: u32) -> String {
        match self {
            Self::Teacher => "teacher".to_owned(),
            Self::Class => format!("class {number}"),
            Self::Pupil => format!("pupil {number}"),
        }
    }
}

/// A lesson, looked at from all who took part.
#[derive(Clone, Debug, Serialize)]
pub struct LessonReport {
    /// Where it was.
    pub server: String,
    /// How long media flowed.
    pub seconds: f64,
    /// Messages that the teacher sent.
    pub messages: u64,
    /// The teacher, then the classes, then the pupils.
    pub participants: Vec<ParticipantReport>,
}

/// What one participant saw of it.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantReport {
    /// The part it played.
    pub role: Role,
    /// Which of those who play it.
    pub number: u32,
    /// The server's name for it.
    pub identity: String,
    /// How long it took to get in.
    pub joining: Joining,
    /// How its packets were encrypted.
    pub srtp_profile: Option<String>,
    /// What it sent.
    pub sent: Vec<Sent>,
    /// What it received.
    pub received: Vec<ReceivedTrack>,
    /// From the teacher's message to this participant's answer, milliseconds.
    #[serde(serialize_with = "ms::list::serialize", rename = "round_trips_ms")]
    pub round_trips: Vec<Duration>,
    /// Why it fell out before the end. None: it did not.
    pub ended: Option<String>,
}

/// Time to get in. All but `http` count from the start of the signaling connection.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Joining {
    /// The link was exchanged for a token.
    #[serde(serialize_with = "ms::serialize", rename = "http_ms")]
    pub http: Duration,
    /// WebSocket open, join response there.
    #[serde(serialize_with = "ms::option::serialize", rename = "joined_ms")]
    pub joined: Option<Duration>,
    /// ICE and DTLS done.
    #[serde(serialize_with = "ms::option::serialize", rename = "connected_ms")]
    pub connected: Option<Duration>,
    /// First packet of anybody's sound.
    #[serde(serialize_with = "ms::option::serialize", rename = "first_sound_ms")]
    pub first_sound: Option<Duration>,
    /// First packet of anybody's picture.
    #[serde(serialize_with = "ms::option::serialize", rename = "first_picture_ms")]
    pub first_picture: Option<Duration>,
}

/// A track that a participant sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sent {
    /// Sound or picture.
    pub kind: MediaKind,
    /// Packets, retransmissions not counted.
    pub packets: u64,
    /// Bytes of RTP payload.
    pub bytes: u64,
    /// Key frames.
    pub key_frames: u64,
    /// Times that the server asked for one.
    pub key_frame_requests: u64,
}

impl Sent {
    /// What was sent so far.
    pub fn new(kind: MediaKind, stats: &SentStats) -> Self {
        Self {
            kind,
            packets: stats.packets(),
            bytes: stats.bytes(),
            key_frames: stats.key_frames(),
            key_frame_requests: stats.key_frame_requests(),
        }
    }
}

impl ParticipantReport {
    /// `teacher`, `class 3`.
    pub fn name(&self) -> String {
        self.role.name(self.number)
    }

    /// What it received of somebody. None: nothing at all.
    pub fn received_from(&self, publisher: &Self, kind: MediaKind) -> Option<&ReceiveStats> {
        let from = |track: &&ReceivedTrack| track.publisher.as_deref() == Some(&publisher.identity);
        let tracks = self.received.iter().filter(from).map(|track| &track.stats);
        tracks.filter(|stats| stats.kind == kind && stats.packets > 0).max_by_key(|stats| stats.packets)
    }

    fn sends(&self, kind: MediaKind) -> bool {
        self.sent.iter().any(|sent| sent.kind == kind)
    }
}

impl LessonReport {
    /// What a lesson needs and this one lacked, a line each. Empty: the server carries a lesson.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for participant in &self.participants {
            if let Some(reason) = &participant.ended {
                problems.push(format!("{} fell out of the lesson: {reason}", participant.name()));
            }
        }
        for speaker in &self.participants {
            if speaker.sends(MediaKind::Sound) {
                problems.extend(self.missed(speaker, "hear", |listener| {
                    listener.received_from(speaker, MediaKind::Sound).is_some()
                }));
                problems.extend(self.broken_sound(speaker));
            }
            if speaker.sends(MediaKind::Picture) {
                problems.extend(self.missed(speaker, "see", |listener| {
                    listener
                        .received_from(speaker, MediaKind::Picture)
                        .is_some_and(|stats| stats.key_frames > 0)
                }));
            }
        }
        let silent = self.participants.iter().filter(|p| p.role != Role::Teacher && p.round_trips.is_empty());
        problems.extend(silent.map(|p| format!("{} and the teacher did not exchange messages", p.name())));
        problems
    }

    /// Those whom a speaker did not reach.
    fn missed(
        &self,
        speaker: &ParticipantReport,
        verb: &str,
        reached: impl Fn(&ParticipantReport) -> bool,
    ) -> Vec<String> {
        let listeners = || self.participants.iter().filter(|p| p.identity != speaker.identity);
        let missed: Vec<_> = listeners().filter(|listener| !reached(listener)).collect();
        if missed.len() > 1 && missed.len() == listeners().count() {
            let past = if verb == "hear" { "heard" } else { "saw" };
            return vec![format!("nobody {past} {}", the(&speaker.name()))];
        }
        missed
            .iter()
            .map(|listener| format!("{} did not {verb} {}", the(&listener.name()), the(&speaker.name())))
            .collect()
    }

    fn broken_sound(&self, speaker: &ParticipantReport) -> Vec<String> {
        let losses = self.participants.iter().filter_map(|listener| {
            let stats = listener.received_from(speaker, MediaKind::Sound)?;
            (stats.loss() > BEARABLE_LOSS).then(|| {
                let (listener, speaker, loss) = (listener.name(), speaker.name(), stats.loss() * 100.0);
                format!("{} lost {loss:.0} % of the sound of {}", the(&listener), the(&speaker))
            })
        });
        losses.collect()
    }
}

/// The tables, one fact a line, made for a terminal of a hundred columns.
impl fmt::Display for LessonReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |role| self.participants.iter().filter(|p| p.role == role).count();
        let (classes, pupils) = (count(Role::Class), count(Role::Pupil));
        writeln!(f, "lesson at {}: {classes} classes, {pupils} pupils, {} s", self.server, self.seconds)?;
        self.write_joining(f)?;
        self.write_received(f)?;
        self.write_round_trips(f)
    }
}

impl LessonReport {
    fn write_joining(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10} {:>8} {:>8} {:>8} {:>8} {:>8}   encryption",
            "joining/ms", "http", "joined", "media", "sound", "picture"
        )?;
        for participant in &self.participants {
            let joining = &participant.joining;
            write!(f, "{:<10} {:>8.1}", participant.name(), ms::of(joining.http))?;
            for time in [joining.joined, joining.connected, joining.first_sound, joining.first_picture] {
                match time {
                    Some(time) => write!(f, " {:>8.1}", ms::of(time))?,
                    None => write!(f, " {:>8}", "-")?,
                }
            }
            writeln!(f, "   {}", participant.srtp_profile.as_deref().unwrap_or("-"))?;
        }
        Ok(())
    }

    /// The teacher's tracks one by one, the classes' sound together: with thirty classes a line for each pair
    /// would be a thousand lines.
    fn write_received(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10} {:<18} {:>8} {:>8} {:>8} {:>7} {:>8} {:>4}",
            "received", "of", "packets", "expected", "sent", "loss/%", "kbit/s", "keys"
        )?;
        let speakers = |role| self.participants.iter().filter(move |p| p.role == role);
        for listener in &self.participants {
            for kind in [MediaKind::Sound, MediaKind::Picture] {
                let of = format!("teacher's {}", kind_name(kind));
                Total::of(listener, speakers(Role::Teacher), kind).write(f, &listener.name(), &of)?;
            }
            let classes = Total::of(listener, speakers(Role::Class), MediaKind::Sound);
            let of = format!("{} of {} classes", classes.received, classes.tracks);
            classes.write(f, &listener.name(), &of)?;
        }
        Ok(())
    }

    fn write_round_trips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<10} {:>9} {:>8} {:>8}", "message/ms", "answers", "median", "worst")?;
        for participant in self.participants.iter().filter(|p| p.role != Role::Teacher) {
            let mut times = participant.round_trips.clone();
            times.sort_unstable();
            let answers = format!("{}/{}", times.len(), self.messages);
            let mut line = format!("{:<10} {answers:>9}", participant.name());
            for time in [times.get(times.len() / 2), times.last()] {
                match time {
                    Some(time) => write!(line, " {:>8.1}", ms::of(*time))?,
                    None => write!(line, " {:>8}", "-")?,
                }
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// What a listener received of several speakers.
#[derive(Default)]
struct Total {
    /// Sent, and received at all.
    tracks: usize,
    received: usize,
    sent: u64,
    packets: u64,
    expected: u64,
    kbps: f64,
    /// Of pictures.
    key_frames: Option<u64>,
}

impl Total {
    fn of<'a>(
        listener: &ParticipantReport,
        speakers: impl Iterator<Item = &'a ParticipantReport>,
        kind: MediaKind,
    ) -> Self {
        let mut total = Self::default();
        for speaker in speakers.filter(|speaker| speaker.identity != listener.identity) {
            let Some(sent) = speaker.sent.iter().find(|sent| sent.kind == kind) else { continue };
            total.tracks += 1;
            total.sent += sent.packets;
            let Some(stats) = listener.received_from(speaker, kind) else { continue };
            total.received += 1;
            total.packets += stats.packets;
            total.expected += stats.expected;
            total.kbps += stats.kbps();
            if kind == MediaKind::Picture {
                total.key_frames = Some(total.key_frames.unwrap_or_default() + stats.key_frames);
            }
        }
        total
    }

    /// A line, if there was something to receive.
    fn write(&self, f: &mut fmt::Formatter<'_>, listener: &str, of: &str) -> fmt::Result {
        if self.tracks == 0 {
            return Ok(());
        }
        write!(f, "{listener:<10} {of:<18} {:>8} {:>8} {:>8}", self.packets, self.expected, self.sent)?;
        match self.expected {
            0 => write!(f, " {:>7} {:>8}", "-", "-")?,
            expected => {
                let loss = expected.saturating_sub(self.packets) as f64 / expected as f64;
                write!(f, " {:>7.2} {:>8.0}", loss * 100.0, self.kbps)?;
            }
        }
        match self.key_frames {
            Some(key_frames) => writeln!(f, " {key_frames:>4}"),
            None => writeln!(f),
        }
    }
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Sound => "sound",
        MediaKind::Picture => "picture",
    }
}

/// There is one teacher, so it takes an article.
fn the(name: &str) -> String {
    if name == "teacher" { "the teacher".to_owned() } else { name.to_owned() }
}

/// Opus conceals and repairs about so much before speech is hard to follow.
const BEARABLE_LOSS: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive_stats::Arrival;

    fn received(publisher: &str, kind: MediaKind, numbers: &[u16]) -> ReceivedTrack {
        let mut stats = ReceiveStats::new(kind);
        for number in numbers {
            // The payload is the start of a key frame with a descriptor of one byte.
            let at = Duration::from_millis(100 + 20 * u64::from(*number));
            stats.arrived(Arrival { ssrc: 1, sequence_number: *number, payload: &[0x10, 0x10], at });
        }
        ReceivedTrack { sid: format!("TR_{publisher}"), publisher: Some(publisher.to_owned()), stats }
    }

    fn participant(role: Role, number: u32, received: Vec<ReceivedTrack>) -> ParticipantReport {
        let sent = |kind| Sent { kind, packets: 10, bytes: 800, key_frames: 1, key_frame_requests: 2 };
        ParticipantReport {
            role,
            number,
            identity: role.name(number),
            joining: Joining { http: Duration::from_micros(1500), ..Joining::default() },
            srtp_profile: Some("AEAD_AES_128_GCM".to_owned()),
            sent: match role {
                Role::Teacher => vec![sent(MediaKind::Sound), sent(MediaKind::Picture)],
                Role::Class => vec![sent(MediaKind::Sound)],
                Role::Pupil => vec![],
            },
            received,
            round_trips: vec![Duration::from_millis(4), Duration::from_millis(2), Duration::from_millis(9)],
            ended: None,
        }
    }

    fn good() -> LessonReport {
        let numbers: Vec<u16> = (0..10).collect();
        let teacher = |who: &str| {
            vec![
                received("teacher", MediaKind::Sound, &numbers),
                received("teacher", MediaKind::Picture, &numbers),
                received(who, MediaKind::Sound, &numbers),
            ]
        };
        let classes = ["class 1", "class 2"].map(|who| received(who, MediaKind::Sound, &numbers));
        let mut pupil = teacher("class 1");
        pupil.push(received("class 2", MediaKind::Sound, &numbers));
        LessonReport {
            server: "localhost:7880".to_owned(),
            seconds: 3.0,
            messages: 3,
            participants: vec![
                participant(Role::Teacher, 1, classes.to_vec()),
                participant(Role::Class, 1, teacher("class 2")),
                participant(Role::Class, 2, teacher("class 1")),
                participant(Role::Pupil, 1, pupil),
            ],
        }
    }

    #[test]
    fn a_lesson_that_worked_has_no_problems() {
        assert_eq!(good().problems(), Vec::<String>::new());
    }

    #[test]
    fn each_lack_is_named_in_one_line() {
        type Spoil = fn(&mut LessonReport);
        let table: [(Spoil, &[&str]); 7] = [
            (
                |lesson| lesson.participants[1].received.clear(),
                &[
                    "class 1 did not hear the teacher",
                    "class 1 did not see the teacher",
                    "class 1 did not hear class 2",
                ],
            ),
            (
                |lesson| {
                    lesson.participants[1..]
                        .iter_mut()
                        .for_each(|p| p.received.retain(|t| t.sid != "TR_teacher"));
                },
                &["nobody heard the teacher", "nobody saw the teacher"],
            ),
            (|lesson| lesson.participants[0].received.truncate(1), &["the teacher did not hear class 2"]),
            (
                |lesson| lesson.participants[3].round_trips.clear(),
                &["pupil 1 and the teacher did not exchange messages"],
            ),
            (
                |lesson| lesson.participants[2].ended = Some("the server closed".to_owned()),
                &["class 2 fell out of the lesson: the server closed"],
            ),
            (
                |lesson| {
                    lesson.participants[2].received[0] = received("teacher", MediaKind::Sound, &[0, 1, 9]);
                },
                &["class 2 lost 70 % of the sound of the teacher"],
            ),
            (
                |lesson| lesson.participants[2].received[1].stats.key_frames = 0,
                &["class 2 did not see the teacher"],
            ),
        ];
        for (spoil, expected) in table {
            let mut lesson = good();
            spoil(&mut lesson);
            assert_eq!(lesson.problems(), expected);
        }
    }

    #[test]
    fn the_table_is_aligned_and_complete() {
        let mut lesson = good();
        lesson.participants[3].received.clear();
        let table = lesson.to_string();
        for line in [
            "lesson at localhost:7880: 2 classes, 1 pupils, 3 s",
            "joining/ms     http   joined    media    sound  picture   encryption",
            "teacher         1.5        -        -        -        -   AEAD_AES_128_GCM",
            "received   of                  packets expected     sent  loss/%   kbit/s keys",
            "teacher    2 of 2 classes           20       20       20    0.00        2",
            "class 1    teacher's picture        10       10       10    0.00        1   10",
            "class 1    1 of 1 classes           10       10       10    0.00        1",
            "pupil 1    teacher's sound           0        0       10       -        -",
            "message/ms   answers   median    worst",
            "class 2          3/3      4.0      9.0",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\nis not in\n{table}");
        }
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    }

    #[test]
    fn json_has_milliseconds() {
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!(json["participants"][1]["round_trips_ms"], serde_json::json!([4.0, 2.0, 9.0]));
        assert_eq!(json["participants"][1]["joining"]["http_ms"], 1.5);
        assert_eq!(json["participants"][1]["received"][0]["first_packet_ms"], 100.0);
        assert_eq!(json["participants"][1]["received"][0]["kind"], "sound");
    }
}
