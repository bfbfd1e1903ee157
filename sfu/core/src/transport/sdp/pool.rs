//! The m-lines of a transport: what each carries, which are spare, and which tracks wait for one.
//!
//! ```text
//!                 offer                     unsubscribe                  offer
//!   Spare --------------------> Sending ------------------> Vacated ---------------> Spare
//!         a track of its kind                                       answered inactive
//!         waits; fresh SSRCs
//! ```
//! A freed line is answered `inactive` once before it serves again: a browser fires `track` only where a line
//! begins to receive, so a line that changed hands in one step would play the new track as the old one.

use sfu_protocol::control::{Msid, Publish};

use super::direction::Direction;
use super::offer::{Content, MAX_LINES, OfferedLine, OfferedMedia};
use super::publish::{Carried, Sender, bind};
use super::request::{Needed, Request};
use super::ssrc::SsrcSequence;
use super::write::{Carries, Received};
use crate::rtp::params::{Mid, ReceiveParams, SendParams};
use crate::units::{MediaKind, TrackId};

/// The lines and the subscriptions.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    lines: Vec<Line>,
    /// Subscriptions without a line, the oldest first.
    waiting: Vec<Subscription>,
    ssrcs: SsrcSequence,
    request: Request,
}

const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

/// What an offer changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) receive: Vec<(TrackId, ReceiveParams)>,
    pub(super) ended: Vec<TrackId>,
    pub(super) send: Vec<(TrackId, SendParams)>,
    pub(super) stopped: Vec<TrackId>,
}

/// A track that the client wants.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) track: TrackId,
    pub(super) kind: MediaKind,
    pub(super) msid: Msid,
}

/// One m-line, by its index in the description.
#[derive(Clone, Debug, Default)]
struct Line {
    mid: Option<Mid>,
    /// The kind of media that the client can receive on it.
    open_for: Option<MediaKind>,
    incoming: Incoming,
    outgoing: Outgoing,
}

#[derive(Clone, Debug, Default)]
enum Incoming {
    /// The client sends nothing that anybody wants.
    #[default]
    Nothing,
    /// A published track.
    Track { track: TrackId, dtx: bool, params: Box<ReceiveParams>, msid_track: Option<String> },
    /// The client still sends a track that is over, under this `a=msid`.
    Ended { msid_track: Option<String> },
}

#[derive(Clone, Debug, Default)]
enum Outgoing {
    #[default]
    Spare,
    Sending {
        subscription: Subscription,
        params: SendParams,
    },
    Vacated,
}

impl Pool {
    pub(super) fn new(ssrcs: SsrcSequence) -> Self {
        Self { lines: Vec::new(), waiting: Vec::new(), ssrcs, request: Request::default() }
    }

    pub(super) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Queues a subscription; one that is there already stays as it is.
    pub(super) fn subscribe(&mut self, wanted: Subscription) {
        let sent = self.lines.iter().any(|line| line.sends(wanted.track));
        if !sent && self.waiting.iter().all(|waiting| waiting.track != wanted.track) {
            self.waiting.push(wanted);
        }
    }

    /// Drops a subscription and frees its line.
    pub(super) fn unsubscribe(&mut self, track: TrackId) {
        self.waiting.retain(|waiting| waiting.track != track);
        if let Some(line) = self.lines.iter_mut().find(|line| line.sends(track)) {
            line.outgoing = Outgoing::Vacated;
        }
    }

    /// What the client should be asked for now, if anything new.
    pub(super) fn needed(&mut self) -> Option<Needed> {
        let waiting = |kind| self.waiting.iter().filter(|waiting| waiting.kind == kind).count();
        let usable = |kind| {
            let lines = self.lines.iter().filter(|line| line.open_for == Some(kind));
            lines.filter(|line| !matches!(line.outgoing, Outgoing::Sending { .. })).count()
        };
        let [audio, video] = KINDS.map(|kind| (waiting(kind), usable(kind)));
        let missing = |(waiting, usable): (usize, usize)| waiting.saturating_sub(usable) as u32;
        let vacated = self.lines.iter().any(|line| matches!(line.outgoing, Outgoing::Vacated));
        let worthwhile = vacated || [audio, video].iter().any(|&(waiting, usable)| waiting.min(usable) > 0);
        let room = MAX_LINES.saturating_sub(self.lines.len()) as u32;
        self.request.ask(Needed { audios: missing(audio), videos: missing(video) }, room, worthwhile)
    }

    /// Forgets what the client was asked for: it may have lost that.
    pub(super) fn forget_request(&mut self) {
        self.request = Request::default();
    }

    /// Takes an offer of at least as many lines as before.
    pub(super) fn apply(&mut self, offered: &[OfferedLine], publish: &[Publish]) -> Changes {
        let mut changes = Changes::default();
        let before = KINDS.map(|kind| self.open_lines(kind));
        self.lines.resize_with(offered.len(), Line::default);
        self.renew_lines(offered, &mut changes);
        let [audios, videos] = KINDS.map(|kind| self.open_lines(kind));
        self.request.offered(Needed {
            audios: audios.saturating_sub(before[0]),
            videos: videos.saturating_sub(before[1]),
        });
        self.receive(offered, publish, &mut changes);
        self.fill(offered, &mut changes);
        for line in self.lines.iter_mut().filter(|line| matches!(line.outgoing, Outgoing::Vacated)) {
            line.outgoing = Outgoing::Spare;
        }
        changes
    }

    /// How many lines can receive that kind of media, used or not.
    fn open_lines(&self, kind: MediaKind) -> u32 {
        self.lines.iter().filter(|line| line.open_for == Some(kind)).count() as u32
    }

    /// Takes back the subscriptions whose lines the client closed or gave to something else.
    fn renew_lines(&mut self, offered: &[OfferedLine], changes: &mut Changes) {
        let mut homeless = Vec::new();
        for (line, offered) in self.lines.iter_mut().zip(offered) {
            if line.mid != offered.mid {
                line.incoming = Incoming::Nothing;
            }
            let media = receiving(offered);
            let outgoing = std::mem::take(&mut line.outgoing);
            line.outgoing = match (outgoing, media) {
                (Outgoing::Sending { subscription, params }, Some(media))
                    if line.mid == offered.mid && media.kind == subscription.kind =>
                {
                    let params = if fits(&params, media) {
                        params
                    } else {
                        // Other payload types or extensions make it another stream, with SSRCs of its own.
                        changes.stopped.push(subscription.track);
                        let params = send_params(params.mid, media, &mut self.ssrcs);
                        changes.send.push((subscription.track, params.clone()));
                        params
                    };
                    Outgoing::Sending { subscription, params }
                }
                (Outgoing::Sending { subscription, .. }, _) => {
                    changes.stopped.push(subscription.track);
                    homeless.push(subscription);
                    Outgoing::Spare
                }
                (Outgoing::Vacated, Some(_)) if line.mid == offered.mid => Outgoing::Vacated,
                (Outgoing::Vacated | Outgoing::Spare, _) => Outgoing::Spare,
            };
            line.mid = offered.mid;
            line.open_for = media.map(|media| media.kind);
        }
        homeless.append(&mut self.waiting);
        self.waiting = homeless;
    }

    /// Decides which lines carry published tracks.
    fn receive(&mut self, offered: &[OfferedLine], publish: &[Publish], changes: &mut Changes) {
        let mut senders = Vec::new();
        let mut indices = Vec::new();
        for (index, (line, offered)) in self.lines.iter().zip(offered).enumerate() {
            if let (Content::Media(media), Some(mid)) = (&offered.content, offered.mid)
                && media.direction.sends()
            {
                let (kind, msid_track) = (media.kind, media.msid_track.as_deref());
                senders.push(Sender { mid, kind, msid_track, carried: line.incoming.carried(msid_track) });
                indices.push(index);
            }
        }
        let mut tracks = vec![None; offered.len()];
        for (index, track) in indices.into_iter().zip(bind(&senders, publish)) {
            tracks[index] = publish.iter().find(|wanted| Some(wanted.track) == track);
        }

        let before: Vec<_> = self.published().map(|(track, params)| (track, params.clone())).collect();
        for ((line, offered), track) in self.lines.iter_mut().zip(offered).zip(tracks) {
            let past = std::mem::take(&mut line.incoming);
            line.incoming = past.next(offered, track);
        }
        let after = || self.published();
        let old = |track| before.iter().find(|(known, _)| *known == track).map(|(_, params)| params);
        changes.receive = after()
            .filter(|&(track, params)| old(track) != Some(params))
            .map(|(track, params)| (track, params.clone()))
            .collect();
        let over = before.iter().filter(|(track, _)| after().all(|(still, _)| still != *track));
        changes.ended = over.map(|&(track, _)| track).collect();
    }

    /// Gives the waiting subscriptions their lines: those that carry no published track first, so that a
    /// `mid` names one track as long as that is possible.
    fn fill(&mut self, offered: &[OfferedLine], changes: &mut Changes) {
        let mut still_waiting = Vec::new();
        for subscription in std::mem::take(&mut self.waiting) {
            let spare = self.lines.iter_mut().zip(offered).filter(|(line, _)| {
                line.open_for == Some(subscription.kind) && matches!(line.outgoing, Outgoing::Spare)
            });
            let best = spare.min_by_key(|(line, _)| matches!(line.incoming, Incoming::Track { .. }));
            let chosen = best.and_then(|(line, offered)| Some((line.mid?, receiving(offered)?, line)));
            let Some((mid, media, line)) = chosen else {
                still_waiting.push(subscription);
                continue;
            };
            let params = send_params(mid, media, &mut self.ssrcs);
            changes.send.push((subscription.track, params.clone()));
            line.outgoing = Outgoing::Sending { subscription, params };
        }
        self.waiting = still_waiting;
    }

    fn published(&self) -> impl Iterator<Item = (TrackId, &ReceiveParams)> {
        self.lines.iter().filter_map(|line| match &line.incoming {
            Incoming::Track { track, params, .. } => Some((*track, params.as_ref())),
            Incoming::Nothing | Incoming::Ended { .. } => None,
        })
    }

    /// What each line carries, for the answer.
    pub(super) fn carries(&self) -> impl Iterator<Item = Carries<'_>> {
        self.lines.iter().map(|line| Carries {
            receive: match &line.incoming {
                Incoming::Track { params, dtx, .. } => {
                    Some(Received { encodings: &params.encodings, dtx: *dtx })
                }
                Incoming::Nothing | Incoming::Ended { .. } => None,
            },
            send: match &line.outgoing {
                Outgoing::Sending { subscription, params } => Some((params, &subscription.msid)),
                Outgoing::Spare | Outgoing::Vacated => None,
            },
        })
    }

    /// The tracks by line, published and subscribed ones alike.
    pub(super) fn mid_to_track(&self) -> Vec<(String, TrackId)> {
        let published = self.published().map(|(track, params)| (params.mid, track));
        let subscribed = self.lines.iter().filter_map(|line| match &line.outgoing {
            Outgoing::Sending { subscription, params } => Some((params.mid, subscription.track)),
            Outgoing::Spare | Outgoing::Vacated => None,
        });
        published.chain(subscribed).map(|(mid, track)| (mid.as_str().to_owned(), track)).collect()
    }
}

impl Subscription {
    /// With an msid that can stand in a description: a participant may choose parts of it.
    pub(super) fn new(track: TrackId, kind: MediaKind, msid: Msid) -> Self {
        Self { track, kind, msid: Msid { stream: token(msid.stream), track: token(msid.track) } }
    }
}

impl Line {
    fn sends(&self, track: TrackId) -> bool {
        matches!(&self.outgoing, Outgoing::Sending { subscription, .. } if subscription.track == track)
    }
}

impl Incoming {
    /// The past of a line whose `a=msid` is now this one.
    fn carried(&self, now: Option<&str>) -> Carried {
        match self {
            Self::Track { track, msid_track, .. } if msid_track.as_deref() == now => Carried::Track(*track),
            Self::Ended { msid_track } if msid_track.as_deref() == now => Carried::Ended,
            Self::Nothing | Self::Track { .. } | Self::Ended { .. } => Carried::Nothing,
        }
    }

    /// What the line carries after an offer that gives it this track.
    fn next(self, offered: &OfferedLine, track: Option<&Publish>) -> Self {
        let (Content::Media(media), Some(mid)) = (&offered.content, offered.mid) else {
            return Self::Nothing;
        };
        let msid_track = media.msid_track.clone();
        match (track, self) {
            (Some(&Publish { track, dtx, encrypted, .. }), _) => {
                let mut params = ReceiveParams { encrypted, ..receive_params(mid, media) };
                if encrypted {
                    // What is said twice in it cannot be told apart.
                    params.codecs.iter_mut().for_each(|codec| codec.red_pt = None);
                }
                Self::Track { track, dtx, params: Box::new(params), msid_track }
            }
            (None, Self::Track { msid_track: old, .. } | Self::Ended { msid_track: old })
                if media.direction.sends() && old == msid_track =>
            {
                Self::Ended { msid_track }
            }
            (None, _) => Self::Nothing,
        }
    }
}

/// The line's media, where the client can receive it.
pub(super) fn receiving(offered: &OfferedLine) -> Option<&OfferedMedia> {
    match &offered.content {
        Content::Media(media) if media.direction.receives() => Some(media),
        Content::Media(_) | Content::Data | Content::Refused => None,
    }
}

/// Whether the line is as it was when these parameters were made.
fn fits(params: &SendParams, media: &OfferedMedia) -> bool {
    params.codecs[..] == [media.codec.params] && params.extensions == media.extension_map(Direction::receives)
}

/// How a track goes out on the line, with SSRCs of its own.
pub(super) fn send_params(mid: Mid, media: &OfferedMedia, ssrcs: &mut SsrcSequence) -> SendParams {
    SendParams {
        mid,
        kind: media.kind,
        codecs: [media.codec.params].into_iter().collect(),
        extensions: media.extension_map(Direction::receives),
        ssrc: ssrcs.next(),
        rtx_ssrc: media.codec.params.rtx_pt.map(|_| ssrcs.next()),
    }
}

fn receive_params(mid: Mid, media: &OfferedMedia) -> ReceiveParams {
    ReceiveParams {
        mid,
        kind: media.kind,
        codecs: [media.codec.params].into_iter().collect(),
        extensions: media.extension_map(Direction::sends),
        encodings: media.encodings.clone(),
        encrypted: false,
    }
}

/// A word that can stand in `a=msid` and `a=ssrc` without ending the line; at most 128 characters.
fn token(text: String) -> String {
    const MAX_CHARS: usize = 128;
    if text.is_empty() {
        return "-".to_owned();
    }
    if text.len() <= MAX_CHARS && text.bytes().all(|b| b.is_ascii_graphic()) {
        return text;
    }
    text.chars().take(MAX_CHARS).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}
