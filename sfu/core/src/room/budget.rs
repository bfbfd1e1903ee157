//! What controlled links carry: a link's allocator decides over all that its receiver subscribed to, and the down
//! tracks follow.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::layers::inputs;
use super::room::{ParticipantKey, Published, Room, TrackKey};
use super::sound_packing::{Packable, Sound, SoundPacking};
use super::streams;
use super::subscription::{DownKey, Subscription};
use super::table::Table;
use crate::cc::lesson_allocator::{LessonAllocator, LinkView, Picture, Role, ladder};
use crate::cc::link_control::LinkControl;
use crate::cc::link_monitor::LinkState;
use crate::cc::step_prober::StepProber;
use crate::forward::down_track::DownTrack;
use crate::forward::repacketiser::Packing;
use crate::forward::selector::Target;
use crate::track::up_track::UpTrack;
use crate::units::{MediaKind, Source};

/// Feedback that comes more often than this changes nothing that matters.
const INTERVAL: Duration = Duration::from_millis(90);

/// Without a priority of the receiver's a picture is among the last of its role.
const NO_PRIORITY: u16 = u16::MAX;

/// Pictures that wait so much longer than they may are not what is shown now: to begin anew is sooner. Together with
/// what slides may wait it is twice what a page takes on a thin link, so that each comes through.
const STALE: Duration = Duration::from_secs(4);

/// The allocator of one link, and what it is given.
#[derive(Default)]
pub(super) struct Lesson {
    pub(super) allocator: LessonAllocator<DownKey>,
    pictures: Vec<Picture<DownKey>>,
    decided: Option<Instant>,
    pub(super) prober: StepProber,
    sound: SoundPacking,
}

impl Room {
    /// Feedback came, or time has passed: decides anew, if it is not too soon.
    pub(super) fn allocate_in_turn(&mut self, now: Instant, to: ParticipantKey) {
        let lesson = self.participants.get(to).and_then(|participant| participant.link.lesson.as_ref());
        let recently = |at| now.saturating_duration_since(at) < INTERVAL;
        if lesson.is_some_and(|lesson| !lesson.decided.is_some_and(recently)) {
            self.allocate(now, to);
        }
    }

    /// Decides anew what the link to a participant carries.
    pub(super) fn allocate(&mut self, now: Instant, to: ParticipantKey) {
        let at = self.clock.at(now).millis;
        let Self { participants, downs, tracks, config, .. } = self;
        let Some(participant) = participants.get_mut(to) else { return };
        let (Some(control), Some(lesson)) = (&participant.link.control, &mut participant.link.lesson) else {
            return;
        };
        let Lesson { allocator, pictures, decided, prober, sound: packs } = &mut **lesson;
        *decided = Some(now);
        let sound = gather(now, &participant.subscriptions, downs, tracks, pictures);
        let (mut changed, mut stale): (Vec<TrackKey>, Vec<DownKey>) = Default::default();
        let overdue = participant.link.pacer.overdue(at);
        let link = view(control, overdue);
        let packing = at_least(config.packing, packs.decide(now, &link, &sound));
        // Sound is paid for as it will leave.
        let decisions = allocator.decide(now, &link, sound.cost(packing), pictures);
        for (decision, picture) in decisions.iter().zip(&*pictures) {
            let subscription = &mut downs[decision.key];
            // Before anything of it was seen, whatever comes may begin.
            let starved = decision.layer.is_none() && !picture.ladder.is_empty();
            if overdue > STALE || starved && !subscription.starved {
                stale.push(decision.key);
            }
            subscription.starved = starved;
            let selector = subscription.down.selector_mut();
            let needed = selector.needed();
            selector.set_paused(subscription.wish.paused || subscription.starved);
            if decision.moved {
                prober.on_step();
            }
            if let Some(layer) = decision.layer {
                selector.aim(Target { encoding: layer.encoding, max_tid: layer.max_tid });
            }
            if selector.needed() != needed {
                changed.push(subscription.track);
            }
        }
        if participant.link.is_stuck() {
            self.links_due.get_or_insert(now);
        }
        for key in stale {
            if self.participants[to].link.holds(key) {
                self.forget_waiting(key);
            }
        }
        self.set_packing(now, to, packing);
        for track in changed {
            self.ask_for_needed(now, track);
            streams::judge(now, &self.tracks[track], &mut self.downs, &mut self.events);
        }
    }
}

/// Fills in all that a receiver may see, and returns what it hears.
fn gather(
    now: Instant,
    subscriptions: &[DownKey],
    downs: &Table<DownKey, Subscription>,
    tracks: &mut Table<TrackKey, Published>,
    pictures: &mut Vec<Picture<DownKey>>,
) -> Sound {
    let presenters: ArrayVec<ParticipantKey, MAX_PRESENTERS> = subscriptions
        .iter()
        .filter_map(|&key| tracks.get(downs.get(key)?.track))
        .filter(|published| published.up.source() == Source::Screen)
        .map(|published| published.from)
        .take(MAX_PRESENTERS)
        .collect();
    pictures.clear();
    let mut sound = Sound::default();
    for &key in subscriptions {
        let Some(Subscription { down, track, wish, .. }) = downs.get(key) else { continue };
        let Some(Published { up, from, .. }) = tracks.get_mut(*track) else { continue };
        match up.kind() {
            _ if up.muted() => {}
            MediaKind::Audio if wish.paused => {}
            MediaKind::Audio => {
                let packable = packable(up, down);
                for encoding in up.encodings_mut() {
                    sound.add(encoding.bitrate(now), encoding.fps()[0].into(), packable);
                }
            }
            MediaKind::Video => {
                let role = role(up.source(), presenters.contains(from));
                let ladder = ladder(role == Role::Slides, wish, &inputs(now, up));
                let priority = wish.priority.unwrap_or(NO_PRIORITY);
                pictures.push(Picture { key, role, priority, ladder });
            }
        }
    }
    sound
}

fn packable(up: &UpTrack, down: &DownTrack) -> Packable {
    match down.params().codecs.iter().any(|codec| codec.red_pt.is_some()) {
        _ if up.params().encrypted => Packable::AsTheyAre,
        true => Packable::Repeated,
        false => Packable::Merged,
    }
}

/// What is asked for, and no less than the server was told to do on all links.
fn at_least(told: Packing, asked: Packing) -> Packing {
    Packing { merge: told.merge.max(asked.merge), redundant: told.redundant || asked.redundant }
}

/// People who show something at a time; whoever does is taken for a teacher.
const MAX_PRESENTERS: usize = 4;

fn role(source: Source, presents: bool) -> Role {
    match source {
        Source::Screen | Source::ScreenAudio => Role::Slides,
        Source::Camera | Source::Microphone if presents => Role::TeacherCamera,
        Source::Camera | Source::Microphone => Role::OtherCamera,
    }
}

pub(super) fn view(control: &LinkControl, overdue: Duration) -> LinkView {
    let monitor = control.monitor();
    LinkView {
        estimate: control.estimate(),
        ceiling: monitor.ceiling(),
        cap: None,
        queue: monitor.queue(),
        calm: monitor.calm(),
        overdue,
        loss: monitor.loss() as f32,
        draining: monitor.state() == LinkState::Draining,
        outage: monitor.state() == LinkState::Outage,
    }
}
