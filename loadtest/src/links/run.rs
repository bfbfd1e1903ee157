//! Runs a scenario: a real [`Worker`] with real SRTP, a teacher on a good line, receivers behind one emulated link.
//! Everything moves in virtual time, from event to event.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sfu_core::cc::link_estimator::{LinkConfig, Method};
use sfu_core::command::{Command, Event};
use sfu_core::room::RoomConfig;
use sfu_core::sim::clock::origin;
use sfu_core::transport::params::IceCredentials;
use sfu_core::transport::peer::Peer;
use sfu_core::transport::{Identity, TransportConfig};
use sfu_core::units::{Bitrate, RoomId, TransportId};
use sfu_core::worker::{TRANSMIT_BUFFER, Transmit, Tuple, Worker, WorkerConfig, WorkerIndex};

use super::account::{Account, Outcome};
use super::flows::spec::{Kind as FlowKind, Spec};
use super::flows::{self, Flows, Packet, Setting};
use super::ledger::Ledger;
use super::media::{Kind, UNDER_UDP};
use super::path::Path;
use super::publisher::Publisher;
use super::receiver::{Content, Receiver};
use super::scenario::{Paths, Scenario};
use super::sources::Lesson;

const ROOM: RoomId = RoomId(1);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7882);
const TEACHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 40_000);

/// Handshakes are done before the lesson begins: they are not what is measured, and their randomness would show.
const HANDSHAKES: Duration = Duration::from_secs(2);

/// What the server does about its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// All that it can.
    Full,
    /// What the estimator says, without anything else that we know of the link.
    GoogCc,
    /// Nothing: packets leave as they come, whatever arrives.
    None,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::GoogCc, Self::None];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::GoogCc => "goog-cc",
            Self::None => "none",
        }
    }

    fn link(self, scenario: &Scenario) -> Option<LinkConfig> {
        let method = match self {
            Self::Full => Method::Monitored,
            Self::GoogCc => Method::EstimatorAlone,
            Self::None => return None,
        };
        let link = LinkConfig { method, ..LinkConfig::default() };
        Some(LinkConfig { start: scenario.start_bps.map_or(link.start, Bitrate::bps), ..link })
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Everything of a run.
struct Run {
    start: Instant,
    now: Instant,
    worker: Worker,
    teacher: Publisher,
    receivers: Vec<Receiver>,
    ledgers: Vec<Ledger>,
    /// Of the first receiver's link, by second.
    estimates: Vec<Option<u64>>,
    down: Path<Parcel<Content>>,
    up: Path<Parcel<Vec<u8>>>,
    /// What else there is on the link.
    flows: Flows,
    out: Vec<u8>,
}

/// What is on the link.
enum Parcel<T> {
    /// Of a receiver, or for it.
    Lesson(usize, T),
    Flow(Packet),
}

impl<T> From<Packet> for Parcel<T> {
    fn from(packet: Packet) -> Self {
        Self::Flow(packet)
    }
}

/// Runs a scenario with a seed; the inner error says why it cannot be run.
pub fn run(
    scenario: &Scenario,
    lesson: &Lesson,
    control: Control,
    seed: u64,
) -> anyhow::Result<Result<Outcome, String>> {
    let specs = scenario.flows.iter().map(|flow| flow.parse());
    let specs = specs.collect::<anyhow::Result<Vec<Spec>>>()?;
    let paths = match &scenario.paths {
        Ok(paths) => paths,
        Err(why) => return Ok(Err(why.clone())),
    };
    match specs.iter().filter(|spec| spec.kind == FlowKind::Lesson).count() {
        0 => return Ok(Ok(flows::run::run(scenario, paths, &specs, control.link(scenario), seed))),
        1 => {}
        _ => return Ok(Err("more than one lesson".to_owned())),
    }
    let mut run = Run::new(scenario, paths, lesson, &specs, control, seed);
    run.connect()?;
    run.begin(scenario);
    let Run { receivers, ledgers, estimates, flows, .. } = run;
    let account = Account { scenario, paths, lesson, seed };
    let mut outcome = account.settle(receivers, ledgers, &estimates);
    outcome.row.flows = flows::run::figures(&specs, flows.running(), scenario.duration);
    Ok(Ok(outcome))
}

impl Run {
    fn new(
        scenario: &Scenario,
        paths: &Paths,
        lesson: &Lesson,
        specs: &[Spec],
        control: Control,
        seed: u64,
    ) -> Self {
        let now = origin();
        let start = now + HANDSHAKES;
        let link = control.link(scenario);
        let mut worker = Worker::new(config(link));
        worker.handle_command(now, Command::OpenRoom { room: ROOM });
        let mut join = |place: usize| {
            let (ufrag, pwd) = (
                format!("{}{place:06x}", String::from_iter(WorkerIndex(0).ufrag_prefix())),
                format!("server-password-{place:08x}"),
            );
            let local = IceCredentials { ufrag, pwd };
            let peer = Peer::new(now, place as u32, local.clone());
            let remote = peer.params();
            let transport = transport(place);
            worker.handle_command(now, Command::OpenTransport { room: ROOM, transport, local, remote });
            peer
        };
        let teacher = Publisher::new(join(0), start, lesson, seed);
        let rtt = paths.down.delay + paths.up.delay;
        let ptime = Duration::from_millis(lesson.audio.ptime_ms);
        let receivers = (0..scenario.receivers).map(|index| {
            let joined = scenario.join_gap * index as u32;
            Receiver::new(join(index + 1), index, start, joined, scenario.feedback, rtt, ptime)
        });
        let receivers: Vec<_> = receivers.collect();
        let setting = Setting { start, owd: paths.down.delay, feedback: scenario.feedback, link, seed };
        Self {
            start,
            now,
            worker,
            teacher,
            ledgers: receivers.iter().map(|_| Ledger::default()).collect(),
            receivers,
            estimates: Vec::new(),
            down: Path::new(paths.down.clone(), start, seed),
            up: Path::new(paths.up.clone(), start, !seed),
            flows: Flows::new(specs, &setting),
            out: vec![0; TRANSMIT_BUFFER],
        }
    }

    /// Shakes hands, without any path in between.
    fn connect(&mut self) -> anyhow::Result<()> {
        while self.now < self.start {
            for place in 0..=self.receivers.len() {
                let now = self.now;
                let (peer, address) = self.client(place);
                peer.handle_timeout(now);
                while let Some(mut datagram) = self.client(place).0.poll_transmit() {
                    self.worker.handle_datagram(self.now, tuple(address), &mut datagram);
                }
            }
            self.let_worker_time();
            while let Some(Transmit { tuple, len, .. }) = self.worker.poll_transmit(self.now, &mut self.out) {
                let mut datagram = self.out[..len].to_vec();
                let now = self.now;
                let place = (0..=self.receivers.len()).find(|&place| self.client(place).1 == tuple.remote);
                self.client(place.context("an unknown address")?).0.handle_datagram(now, &mut datagram);
            }
            while self.worker.poll_event().is_some() {}
            self.now += Duration::from_millis(10);
        }
        self.now = self.start;
        for place in 0..=self.receivers.len() {
            ensure!(self.client(place).0.is_connected(), "client {place} did not get connected");
        }
        Ok(())
    }

    fn client(&mut self, place: usize) -> (&mut Peer, SocketAddr) {
        match place.checked_sub(1) {
            None => (&mut self.teacher.peer, TEACHER),
            Some(index) => {
                let Receiver { peer, address, .. } = &mut self.receivers[index];
                (peer, *address)
            }
        }
    }

    /// Gives the lesson.
    fn begin(&mut self, scenario: &Scenario) {
        for kind in Kind::ALL {
            let params = self.teacher.params(kind);
            let (transport, track, source) = (transport(0), kind.track(), kind.source());
            self.worker.handle_command(self.now, Command::Publish { transport, track, source, params });
        }
        let end = self.start + scenario.duration;
        let mut joined = 0;
        loop {
            while joined < self.receivers.len() && self.now >= self.start + self.receivers[joined].joined {
                for kind in Kind::ALL {
                    let params = self.receivers[joined].params(kind);
                    let (transport, track) = (transport(joined + 1), kind.track());
                    self.worker.handle_command(self.now, Command::Subscribe { transport, track, params });
                }
                joined += 1;
            }
            self.step();
            if self.now >= self.start + SECOND * self.estimates.len() as u32 {
                let link = self.worker.link(transport(1));
                self.estimates.push(link.map(|link| link.estimate.as_bps()));
            }
            let joins = self.receivers.get(joined).map(|receiver| self.start + receiver.joined);
            let next = self.next_moment().into_iter().chain(joins).min().unwrap_or(end);
            if next >= end {
                return;
            }
            self.now = next.max(self.now);
        }
    }

    fn next_moment(&self) -> Option<Instant> {
        let peers = self.receivers.iter().map(|receiver| &receiver.peer).chain([&self.teacher.peer]);
        let peers = peers.filter_map(Peer::poll_timeout);
        let receivers = self.receivers.iter().map(Receiver::poll_timeout);
        let paths = [self.down.poll_timeout(), self.up.poll_timeout()];
        let others = [self.worker.poll_timeout(), self.flows.poll_timeout()];
        paths
            .into_iter()
            .chain(others)
            .flatten()
            .chain(peers)
            .chain(receivers)
            .chain([self.teacher.due()])
            .min()
    }

    fn step(&mut self) {
        while let Some(packets) = self.teacher.poll(self.now) {
            for mut packet in packets {
                self.worker.handle_datagram(self.now, tuple(TEACHER), &mut packet);
            }
        }
        while let Some(parcel) = self.up.receive(self.now) {
            match parcel {
                Parcel::Lesson(index, mut datagram) => {
                    self.worker.handle_datagram(
                        self.now,
                        tuple(self.receivers[index].address),
                        &mut datagram,
                    );
                }
                Parcel::Flow(packet) => self.flows.arrive(self.now, packet),
            }
        }
        while let Some(parcel) = self.down.receive(self.now) {
            match parcel {
                Parcel::Lesson(index, content) => self.receivers[index].arrive(self.now, content),
                Parcel::Flow(packet) => self.flows.arrive(self.now, packet),
            }
        }
        self.flows.step(self.now, &mut self.down, &mut self.up);
        for place in 0..=self.receivers.len() {
            let now = self.now;
            let (peer, _) = self.client(place);
            if peer.poll_timeout().is_some_and(|due| due <= now) {
                peer.handle_timeout(now);
            }
            while let Some(datagram) = self.client(place).0.poll_transmit() {
                self.send_up(place, datagram);
            }
        }
        for index in 0..self.receivers.len() {
            for datagram in self.receivers[index].poll(self.now) {
                self.send_up(index + 1, datagram);
            }
        }
        self.let_worker_time();
        self.drain();
    }

    fn send_up(&mut self, place: usize, mut datagram: Vec<u8>) {
        match place.checked_sub(1) {
            None => {
                self.worker.handle_datagram(self.now, tuple(TEACHER), &mut datagram);
            }
            Some(index) => {
                let bytes = datagram.len() as u64 + UNDER_UDP;
                self.up.send(self.now, bytes, Parcel::Lesson(index, datagram));
            }
        }
    }

    fn let_worker_time(&mut self) {
        while self.worker.handle_deferred(self.now) {}
        if self.worker.poll_timeout().is_some_and(|due| due <= self.now) {
            self.worker.handle_timeout(self.now);
        }
    }

    /// Everything that the worker has to send and to say.
    fn drain(&mut self) {
        let since = self.now.saturating_duration_since(self.start);
        while let Some(Transmit { tuple, len, segment, .. }) =
            self.worker.poll_transmit(self.now, &mut self.out)
        {
            let datagrams = self.out[..len].chunks_mut(segment.unwrap_or(len));
            if tuple.remote == TEACHER {
                datagrams.for_each(|datagram| self.teacher.handle(self.now, datagram));
                continue;
            }
            let index = self.receivers.iter().position(|receiver| receiver.address == tuple.remote);
            let Some(index) = index else { continue };
            for datagram in datagrams {
                let wire = datagram.len() as u64 + UNDER_UDP;
                let content = self.receivers[index].open(self.now, datagram);
                let fate = self.down.send(self.now, wire, Parcel::Lesson(index, content.clone()));
                self.ledgers[index].count(since, &content, wire, fate);
            }
        }
        while let Some(event) = self.worker.poll_event() {
            if let Event::StreamState { transport: TransportId(id), track, paused } = event
                && let Some(receiver) = self.receivers.get_mut((id as usize).wrapping_sub(2))
                && let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.track() == track)
            {
                receiver.set_paused(self.now, kind, paused);
            }
        }
    }
}

fn transport(place: usize) -> TransportId {
    TransportId(place as u64 + 1)
}

fn tuple(remote: SocketAddr) -> Tuple {
    Tuple { local: SERVER, remote }
}

fn config(link: Option<LinkConfig>) -> WorkerConfig {
    let identity = Identity::generate().expect("aws-lc makes P-256 certificates");
    WorkerConfig {
        transport: Arc::new(TransportConfig::new(Arc::new(identity))),
        room: RoomConfig { link, ..RoomConfig::default() },
        max_transports: 100,
        index: WorkerIndex(0),
        workers: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario;
    use super::*;
    use std::path::Path as FilePath;

    fn outcome(control: Control, text: &str, seed: u64) -> Outcome {
        let text = format!("[[scenario]]\nid = 'x'\nsrc = 'a test'\ngroup = 'constant'\n{text}");
        let scenarios = scenario::read(&text, FilePath::new("/nowhere")).unwrap();
        run(&scenarios.all[0], &scenarios.lesson, control, seed).unwrap().unwrap()
    }

    #[test]
    fn a_link_with_room_carries_the_whole_lesson() {
        let row = outcome(Control::None, "dur_s = 60\ndown = { kbps = 8000 }", 1).row;
        assert_eq!((row.freezes_min, row.dropped), (0.0, 0.0), "{row:?}");
        assert!(row.sw_min <= 2.0, "the first key frames decide with which encodings it begins: {row:?}");
        assert!(row.usable == 1.0 && row.aloss == 0.0 && row.concealed < 0.001, "{row:?}");
        assert!((0.97..1.03).contains(&row.util_oracle), "{row:?}");
        assert!(row.page95_s.is_some_and(|wait| wait < 0.5), "{row:?}");
        assert!(row.audio_gap_ms <= 60.0, "{row:?}");
    }

    #[test]
    fn a_controlled_link_with_room_soon_carries_the_whole_lesson() {
        let row = outcome(Control::Full, "dur_s = 60\ndown = { kbps = 8000 }", 1).row;
        assert!(row.util_oracle > 0.8 && row.usable > 0.95 && row.dropped == 0.0, "{row:?}");
        assert!(row.freezes_min <= 1.0 && row.aloss == 0.0 && row.sw_min <= 8.0, "{row:?}");
    }

    #[test]
    fn a_link_that_is_too_thin_for_the_lesson_shows_unless_it_is_controlled() {
        let thin = "dur_s = 60\ndown = { kbps = 200 }";
        let row = outcome(Control::None, thin, 1).row;
        assert!(row.usable < 0.5 && row.dropped > 0.5 && row.q95 > 200.0, "{row:?}");
        assert!(row.util <= 1.0, "{row:?}");
        let row = outcome(Control::Full, thin, 1).row;
        assert!(row.usable > 0.8 && row.dropped < 0.02 && row.q95 < 125.0, "{row:?}");
        assert!(row.aloss < 0.005 && row.util_oracle > 0.6 && row.util <= 1.0, "{row:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_row_to_the_byte() {
        let rough =
            "dur_s = 20\ndown = { kbps = 1500 }\njitter_ms = 10\nloss = 0.02\nreceivers = 2\njoin_gap_s = 3";
        let row = |seed| serde_json::to_string(&outcome(Control::Full, rough, seed).row).unwrap();
        assert_eq!(row(3), row(3));
        assert_ne!(row(3).replace("\"seed\":3", ""), row(4).replace("\"seed\":4", ""));
    }

    #[test]
    fn loss_is_repaired_where_there_is_room() {
        let row = outcome(Control::None, "dur_s = 60\ndown = { kbps = 8000 }\nloss = 0.02", 1).row;
        assert!(row.freezes_min <= 2.0 && row.util_oracle > 0.9 && row.usable > 0.85, "{row:?}");
    }

    #[test]
    fn sound_takes_less_of_a_thin_link_and_is_said_twice_where_much_is_lost() {
        let row = |control, text: &str| outcome(control, &format!("dur_s = 40\n{text}"), 1).row;
        let plain = row(Control::Full, "down = { kbps = 1000 }");
        assert!((52.0..54.0).contains(&plain.audio_kbps), "{plain:?}");
        let thin = row(Control::Full, "down = { kbps = 100 }");
        assert!(thin.audio_kbps < 36.0 && thin.aloss == 0.0 && thin.concealed < 0.04, "{thin:?}");
        let lossy = "down = { kbps = 1000 }\nloss = 0.06\nowd = 150";
        let [twice, once] = [Control::Full, Control::GoogCc].map(|control| row(control, lossy));
        assert!(twice.audio_kbps > 65.0 && once.audio_kbps < 56.0, "{twice:?} {once:?}");
        assert!(twice.concealed < once.concealed / 2.0, "{twice:?} {once:?}");
    }

    #[test]
    fn a_lesson_shares_its_link_with_what_else_there_is() {
        let text = "dur_s = 30\ndown = { kbps = 8000 }\nflows = ['lesson', 'cbr=7500@10..20', 'tcp-up@25']";
        let row = outcome(Control::None, text, 1).row;
        assert!(row.has_lesson() && row.util_oracle > 0.8, "{row:?}");
        assert!(row.q95 > 100.0 && (6500.0..7600.0).contains(&row.flows[0].kbps), "{row:?}");
        assert!(row.flows[1].kbps > 300.0, "{row:?}");
    }

    #[test]
    fn a_flow_that_is_not_known_is_refused_and_two_lessons_are_not_run() {
        let outcome = |flows: &str| {
            let text = format!(
                "[[scenario]]\nid = 'x'\nsrc = ''\ndur_s = 5\ndown = {{ kbps = 9 }}\nflows = {flows}"
            );
            let scenarios = scenario::read(&text, FilePath::new("/nowhere")).unwrap();
            run(&scenarios.all[0], &scenarios.lesson, Control::Full, 1)
        };
        assert!(outcome("['torrent']").is_err());
        assert!(outcome("['lesson', 'lesson']").unwrap().is_err());
    }
}
