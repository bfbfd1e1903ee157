//! Lessons in the measured process: rooms with one client that sends a picture and others that receive it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::ValueEnum;
use sfu_core::rtp::packet::{Header, HeaderWriter};
use sfu_core::rtp::params::Ssrc;
use sfu_protocol::control::{MediaKind, Msid, Publish, Source, ToSfu};
use sfu_protocol::ids::{RoomId, TrackId, TransportId};

use super::client::{Client, connect};
use super::sdp::{Direction, MID, TRACK, TRANSPORT_CC, VP8, offer};
use super::server::Server;
use crate::limit::MAX_TAG;

/// Most bytes of a packet's payload, descriptor included: as in the limit program.
const PAYLOAD: usize = 1156;

/// How long a lesson's clients may take to join.
const JOINING: Duration = Duration::from_secs(60);

/// Frames between two key frames: without any, losses at full load would end the picture.
const KEY_FRAME_EVERY: u32 = 100;

/// A room that runs.
pub struct Lesson {
    teacher: Client,
    class: Vec<Client>,
    picture: Picture,
}

/// The encoder.
struct Picture {
    ssrc: Ssrc,
    seq: u16,
    transport_seq: u16,
    frame: u32,
    clock: Clock,
    sizes: Sizes,
    out: Vec<u8>,
    /// Bytes of each packet in `out`.
    lengths: Vec<usize>,
}

/// How long the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sizes {
    /// All the same.
    Equal,
    /// As browsers divide a frame (libwebrtc's `SplitAboutEqually`): the last ones of it are a byte longer.
    Split,
    /// Each longer than the one before, so that no two are a run.
    Rising,
}

impl Sizes {
    /// Bytes of payload of packet `n` of a frame's `packets`.
    fn payload(self, frame: u32, n: usize, packets: usize) -> usize {
        match self {
            Self::Equal => PAYLOAD,
            // The rest of a division: any, as often as any other.
            Self::Split => {
                let bytes = frame.wrapping_mul(0x9e37_79b1) as usize >> 8;
                let (shorter, longer) = (bytes / packets % STEPS, bytes % packets);
                PAYLOAD - shorter - usize::from(n + longer < packets)
            }
            Self::Rising => PAYLOAD - STEP * (STEPS - (frame as usize * packets + n) % STEPS),
        }
    }
}

/// Lengths that packets have.
const STEPS: usize = 64;
/// By how much they rise: more than padding makes up for.
const STEP: usize = 4;

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "equal",
            Self::Split => "as browsers split",
            Self::Rising => "rising",
        })
    }
}

impl Lesson {
    /// Opens room `number` and lets everyone join.
    ///
    /// # Errors
    /// When somebody cannot.
    pub fn begin(server: &mut Server, clock: Clock, number: u32, receivers: u32) -> anyhow::Result<Self> {
        let (room, track) = (RoomId(number.into()), TrackId(number.into()));
        server.send(ToSfu::OpenRoom { room })?;
        let ssrc = number << 16 | 1;
        let mut clients = Vec::new();
        for n in 0..=receivers {
            let name = number << 16 | n;
            let transport = TransportId(name.into());
            server.send(ToSfu::OpenTransport { room, transport, link: "school".to_owned() })?;
            let mut client = Client::new(name)?;
            let (direction, publish) = if n == 0 {
                (Direction::Send(ssrc), vec![camera(track)])
            } else {
                let msid = Msid { stream: "teacher".to_owned(), track: TRACK.to_owned() };
                server.send(ToSfu::Subscribe { transport, track, msid })?;
                (Direction::Receive, Vec::new())
            };
            let sdp = offer(&client.params(), direction);
            client.take(server.negotiate(ToSfu::Offer { transport, offer_id: 1, sdp, publish })?);
            clients.push(client);
        }
        connect(&mut clients, JOINING)?;
        let teacher = clients.remove(0);
        let picture = Picture {
            ssrc: Ssrc(ssrc),
            seq: 0,
            transport_seq: 0,
            frame: 0,
            clock,
            sizes: Sizes::Equal,
            out: Vec::new(),
            lengths: Vec::new(),
        };
        Ok(Self { teacher, class: clients, picture })
    }

    /// Sends a frame of so many packets.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn send_frame(&mut self, packets: usize) -> anyhow::Result<()> {
        let Self { teacher, picture, .. } = self;
        picture.seal(teacher, packets)?;
        let mut rest = &picture.out[..];
        for run in picture.lengths.chunk_by(|one, next| one == next) {
            let (now, later) = rest.split_at(run.iter().sum());
            teacher.send(now, run[0])?;
            rest = later;
        }
        Ok(())
    }

    /// How long its packets are from now on.
    pub fn set_sizes(&mut self, sizes: Sizes) {
        self.picture.sizes = sizes;
    }

    /// Where the server is.
    pub fn server(&self) -> SocketAddr {
        self.teacher.server()
    }

    /// Nobody reads any more.
    ///
    /// # Errors
    /// When a socket refuses.
    pub fn fall_asleep(&self) -> anyhow::Result<()> {
        self.teacher.fall_asleep()?;
        self.class.iter().try_for_each(Client::fall_asleep)?;
        Ok(())
    }

    /// The one of the class that is served last; the others stay.
    pub fn take_last(&mut self) -> Option<Client> {
        self.class.pop()
    }

    /// Keeps the clients' consent fresh.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.teacher.tend(now)?;
        self.class.iter_mut().try_for_each(|client| client.tend(now))?;
        Ok(())
    }
}

fn camera(track: TrackId) -> Publish {
    let (kind, source) = (MediaKind::Video, Source::Camera);
    Publish { track, kind, source, cid: TRACK.to_owned(), mid: None, dtx: false, encrypted: false }
}

impl Picture {
    /// Writes the next frame, sealed.
    fn seal(&mut self, teacher: &mut Client, packets: usize) -> anyhow::Result<()> {
        self.out.clear();
        self.lengths.clear();
        for n in 0..packets {
            let mut packet = [0; 64 + PAYLOAD + MAX_TAG];
            let header = Header {
                marker: n + 1 == packets,
                pt: VP8,
                seq: self.seq,
                timestamp: self.frame.wrapping_mul(3000),
                ssrc: self.ssrc,
            };
            let mut writer = HeaderWriter::new(&mut packet, &header).expect("a header is short");
            writer.extension(TRANSPORT_CC, &self.transport_seq.to_be_bytes());
            writer.extension(MID, b"0");
            let start = writer.finish();
            self.descriptor(n == 0, &mut packet[start..]);
            let len = start + self.sizes.payload(self.frame, n, packets);
            self.clock.stamp(&mut packet[..len]);
            let sealed = teacher.seal(&mut packet, len)?;
            self.out.extend_from_slice(&packet[..sealed]);
            self.lengths.push(sealed);
            self.seq = self.seq.wrapping_add(1);
            self.transport_seq = self.transport_seq.wrapping_add(1);
        }
        self.frame += 1;
        Ok(())
    }

    /// RFC 7741 §4.2 with a 15-bit picture id; on the first packet of a frame, §4.3 and a key frame's size.
    fn descriptor(&self, first: bool, payload: &mut [u8]) {
        let [high, low] = (self.frame as u16 | 0x8000).to_be_bytes();
        payload[..4].copy_from_slice(&[0x80 | u8::from(first) << 4, 0x80, high, low]);
        if !first {
            return;
        }
        if self.frame.is_multiple_of(KEY_FRAME_EVERY) {
            payload[4..14].copy_from_slice(&[0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01]);
        } else {
            payload[4] = 0x11;
        }
    }
}

/// Says in each packet when it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Writes the time to the packet's end.
    pub fn stamp(self, packet: &mut [u8]) {
        let nanos = self.0.elapsed().as_nanos() as u64;
        if let Some(end) = packet.last_chunk_mut() {
            *end = nanos.to_be_bytes();
        }
    }

    /// How long before `now` a packet was stamped.
    pub fn age(self, now: Instant, packet: &[u8]) -> Option<Duration> {
        let stamp = Duration::from_nanos(u64::from_be_bytes(*packet.last_chunk()?));
        now.saturating_duration_since(self.0).checked_sub(stamp)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Plays all lessons at a pace for a while: `pps` packets a second in each, `run` at once, the rooms one after the
/// other.
///
/// # Errors
/// When a socket fails.
pub fn play(lessons: &mut [Lesson], run: usize, pps: u32, length: Duration) -> anyhow::Result<()> {
    ensure!(!lessons.is_empty(), "nobody is there to play");
    let interval = Duration::from_secs(run as u64) / pps / lessons.len() as u32;
    let start = Instant::now();
    for n in 0.. {
        let due = start + interval * n;
        if due >= start + length {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let turn = n as usize % lessons.len();
        lessons[turn].send_frame(run)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_as_browsers_do_and_rising_lengths_make_no_runs() {
        for frame in 0..100 {
            let lengths: Vec<_> = (0..5).map(|n| Sizes::Split.payload(frame, n, 5)).collect();
            assert!(lengths.is_sorted() && lengths[4] - lengths[0] <= 1, "{lengths:?}");
        }
        let length = |frame, n| Sizes::Split.payload(frame, n, 4);
        let first = |frame| (0..4).filter(|&n| length(frame, n) == length(frame, 0)).count();
        let seen: std::collections::BTreeSet<_> = (0..100).map(first).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4], "every rest of a division");
        let rising: Vec<_> = (0..STEPS as u32).map(|frame| Sizes::Rising.payload(frame, 0, 1)).collect();
        assert!(rising.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((0..9).all(|n| Sizes::Equal.payload(n, 0, 1) == PAYLOAD));
    }
}
