//! A whole lesson: a teacher who is seen and heard, classes that listen and speak, pupils who follow along, and a
//! message each second that all who listen send back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info};

use crate::api::{ApiError, Server};
use crate::client::{Client, ClientError, Delivery, Publication, PublishedTrack};
use crate::receive_stats::MediaKind;
use crate::report::{Joining, LessonReport, ParticipantReport, Role, Sent};
use crate::vp8_source::Camera;

/// What kind of lesson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LessonOptions {
    /// Where.
    pub server: Server,
    /// Classes: each receives all that is sent, and sends sound.
    pub classes: u32,
    /// Pupils at a device of their own: they receive, and send nothing.
    pub pupils: u32,
    /// How long media flows once all have joined.
    pub duration: Duration,
    /// Bitrate of the teacher's picture.
    pub video_kbps: u32,
}

/// Why there was no lesson at all.
#[derive(Debug, thiserror::Error)]
pub enum LessonError {
    /// No lesson was made, or a link to it was not honoured.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Somebody did not get in.
    #[error("{name} did not get in: {error}")]
    Join {
        /// Who.
        name: String,
        /// Why.
        error: ClientError,
    },
}

/// Gives a lesson, from making it to its end.
pub async fn run(options: &LessonOptions) -> Result<LessonReport, LessonError> {
    let lesson = options.server.make_lesson("load test").await?;
    let teacher = Arc::new(Seat::teacher(options, &lesson.teacher).enter().await?);
    info!(identity = teacher.client.identity(), "the teacher is in");
    let classes = (1..=options.classes).map(|n| Seat::class(options, &lesson.class, n));
    let pupils = (1..=options.pupils).map(|n| Seat::pupil(options, &lesson.class, n));
    let listeners = join_all(classes.chain(pupils).map(Seat::enter)).await;
    let listeners =
        listeners.into_iter().map(|seated| seated.map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    info!(listeners = listeners.len(), "all are in");

    let teacher_identity: Arc<str> = teacher.client.identity().into();
    let _echoes: JoinSet<_> =
        listeners.iter().map(|listener| echo(Arc::clone(listener), Arc::clone(&teacher_identity))).collect();
    let messages = options.duration.as_secs().max(1);
    let mut round_trips = ask(&teacher, messages, listeners.len(), options.duration).await;

    let everybody: Vec<_> = [&teacher].into_iter().chain(&listeners).collect();
    for attendant in &everybody {
        attendant.sent.iter().for_each(|(_, track)| track.pause());
    }
    settle(&everybody).await;
    let mut participants = Vec::new();
    for attendant in &everybody {
        let round_trips = round_trips.remove(attendant.client.identity()).unwrap_or_default();
        participants.push(attendant.report(round_trips).await);
    }
    join_all(everybody.iter().map(|attendant| attendant.client.leave())).await;
    Ok(LessonReport {
        server: options.server.authority(),
        seconds: options.duration.as_secs_f64(),
        messages,
        participants,
    })
}

/// A place in the lesson, not taken yet.
struct Seat {
    role: Role,
    number: u32,
    server: Server,
    link: String,
    school: Option<String>,
    publications: Vec<Publication>,
}

impl Seat {
    fn teacher(options: &LessonOptions, link: &str) -> Self {
        let camera = Publication::Camera(Camera::new(options.video_kbps));
        let publications = vec![MICROPHONE, camera];
        Self { role: Role::Teacher, school: None, publications, ..Self::class(options, link, 1) }
    }

    fn class(options: &LessonOptions, link: &str, number: u32) -> Self {
        Self {
            role: Role::Class,
            number,
            server: options.server.clone(),
            link: link.to_owned(),
            school: Some(format!("school {number}")),
            publications: vec![MICROPHONE],
        }
    }

    /// A pupil sits in the first class's school and has its link.
    fn pupil(options: &LessonOptions, link: &str, number: u32) -> Self {
        let school = Some("school 1".to_owned());
        Self { role: Role::Pupil, school, publications: vec![], ..Self::class(options, link, number) }
    }

    /// Joins, publishes, and waits until media is connected.
    async fn enter(self) -> Result<Attendant, LessonError> {
        let name = self.role.name(self.number);
        let asked = Instant::now();
        let admission = self.server.join(&self.link, &name, self.school.as_deref()).await?;
        let http = asked.elapsed();
        let entering = async {
            let client = Client::join(&self.server, &admission.token).await?;
            let mut sent = Vec::new();
            for publication in &self.publications {
                sent.push((publication.kind(), client.publish(*publication).await?));
            }
            client.connected().await?;
            Ok(Attendant { role: self.role, number: self.number, http, client, sent })
        };
        entering.await.map_err(|error| LessonError::Join { name, error })
    }
}

/// A participant who is in, and what it sends.
struct Attendant {
    role: Role,
    number: u32,
    http: Duration,
    client: Client,
    sent: Vec<(MediaKind, PublishedTrack)>,
}

impl Attendant {
    async fn report(&self, round_trips: Vec<Duration>) -> ParticipantReport {
        let received = self.client.received();
        let first = |kind| {
            received.iter().filter(|t| t.stats.kind == kind).filter_map(|t| t.stats.first_packet).min()
        };
        let timings = self.client.timings();
        ParticipantReport {
            role: self.role,
            number: self.number,
            identity: self.client.identity().to_owned(),
            joining: Joining {
                http: self.http,
                joined: timings.joined,
                connected: timings.connected,
                first_sound: first(MediaKind::Sound),
                first_picture: first(MediaKind::Picture),
            },
            srtp_profile: self.client.srtp_profile().await,
            sent: self.sent.iter().map(|(kind, track)| Sent::new(*kind, track.stats())).collect(),
            received,
            round_trips,
            ended: self.client.ended(),
        }
    }
}

/// The teacher's part: a message to everybody at the start of each second, and who sent it back how fast. Lasts
/// for `duration`.
async fn ask(
    teacher: &Attendant,
    messages: u64,
    listeners: usize,
    duration: Duration,
) -> HashMap<String, Vec<Duration>> {
    let began = Instant::now();
    let mut round_trips: HashMap<String, Vec<Duration>> = HashMap::new();
    let mut seconds = interval(ECHO_TIME);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..messages {
        seconds.tick().await;
        let stamp = began.elapsed();
        let payload = stamp.as_nanos().to_be_bytes();
        if let Err(error) = teacher.client.send(Delivery::Reliable, &[], PING, &payload).await {
            debug!(%error, "the teacher's message did not go out");
        }
        let mut missing = listeners;
        let collect = async {
            while missing > 0 {
                let Some(message) = teacher.client.message().await else { return };
                if message.topic.as_deref() == Some(ECHO) && message.payload == payload {
                    round_trips.entry(message.from).or_default().push(began.elapsed() - stamp);
                    missing -= 1;
                }
            }
        };
        // What comes later than the next message counts as lost.
        let _ = timeout(ECHO_TIME, collect).await;
    }
    sleep(duration.saturating_sub(began.elapsed())).await;
    round_trips
}

/// A listener's part: sends the teacher's messages back, for as long as they come.
async fn echo(listener: Arc<Attendant>, teacher: Arc<str>) {
    while let Some(message) = listener.client.message().await {
        if *message.from == *teacher && message.topic.as_deref() == Some(PING) {
            let to = [message.from];
            if let Err(error) = listener.client.send(Delivery::Reliable, &to, ECHO, &message.payload).await {
                debug!(%error, "an echo did not go out");
            }
        }
    }
}

/// Waits until nothing more arrives, so that what was sent and what was received can be compared.
async fn settle(everybody: &[&Arc<Attendant>]) {
    let arrived = || -> u64 {
        everybody.iter().flat_map(|a| a.client.received()).map(|track| track.stats.packets).sum()
    };
    let began = Instant::now();
    let mut last = (arrived(), Instant::now());
    while last.1.elapsed() < QUIET && began.elapsed() < SETTLE_TIME {
        sleep(POLL).await;
        let now = arrived();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// Speech as browsers encode it.
const MICROPHONE: Publication = Publication::Microphone { kbps: 32 };

/// Topics of messages, so that people in the lesson do not see them as chat.
const PING: &str = "lectern.loadtest.ping";
const ECHO: &str = "lectern.loadtest.echo";

/// Time between the teacher's messages, and what an answer may take.
const ECHO_TIME: Duration = Duration::from_secs(1);

/// Nothing came for so long: nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(300);

/// Two of the longest pauses between retransmissions.
const SETTLE_TIME: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(50);
