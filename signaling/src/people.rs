//! What the SFU found out about people, in the words of clients: who speaks, how good each link is, and that
//! somebody receives a track.

use std::collections::BTreeMap;

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, SpeakerInfo, SpeakersChanged,
    TrackSubscribed,
};
use sfu_protocol::ids::{TrackId, TransportId};
use sfu_protocol::people::{LinkClass, LinkQuality, Speaker};

use crate::room::Room;
use crate::session::{Context, Session};

/// Who speaks, as clients have been told: how loud, in eighths.
#[derive(Debug, Default)]
pub(crate) struct Speakers(BTreeMap<TransportId, u8>);

/// How good a transport's link is, and whose it is.
pub(crate) struct LinkReport {
    pub(crate) of: TransportId,
    pub(crate) link: LinkQuality,
}

impl Room {
    /// Tells everyone who began to speak, or speaks in another loudness, and who has stopped.
    pub(crate) fn speak(&mut self, context: &mut Context<'_>, speakers: &[Speaker]) {
        let now: BTreeMap<_, _> = speakers.iter().map(|speaker| (speaker.transport, speaker.level)).collect();
        let before = std::mem::replace(&mut self.speakers.0, now);
        let now = &self.speakers.0;
        let begun = now.iter().filter(|&(id, level)| before.get(id) != Some(level));
        let stopped = before.keys().filter(|&id| !now.contains_key(id)).map(|id| (id, &0));
        let changed = stopped.chain(begun).filter_map(|(id, level)| self.speaker_info(*id, *level));
        self.tell_speakers(context, &changed.collect::<Vec<_>>(), Session::may_hear);
    }

    /// Tells a client that has joined who speaks already.
    pub(crate) fn introduce_speakers(&self, context: &mut Context<'_>, to: TransportId) {
        let speaking = self.speakers.0.iter().filter_map(|(id, level)| self.speaker_info(*id, *level));
        self.tell_speakers(context, &speaking.collect::<Vec<_>>(), |session| {
            session.id == to && session.may_hear()
        });
    }

    /// Tells a client that may have missed it who speaks, and who does not.
    pub(crate) fn repeat_speakers(&self, context: &mut Context<'_>, to: TransportId) {
        let sources = self.sessions().filter(|session| session.negotiated_tracks().next().is_some());
        let level = |id| self.speakers.0.get(&id).copied().unwrap_or(0);
        let all = sources.filter_map(|session| self.speaker_info(session.id, level(session.id)));
        self.tell_speakers(context, &all.collect::<Vec<_>>(), |session| {
            session.id == to && session.may_hear()
        });
    }

    fn tell_speakers(
        &self,
        context: &mut Context<'_>,
        speakers: &[SpeakerInfo],
        meant: impl Fn(&Session) -> bool,
    ) {
        if speakers.is_empty() {
            return;
        }
        for session in self.sessions().filter(|session| meant(session)) {
            let changed = SpeakersChanged { speakers: speakers.to_vec() };
            context.out.tell(session.socket, Response::SpeakersChanged(changed));
        }
    }

    /// `None` of those whom nobody knows: they have left, or are hidden.
    fn speaker_info(&self, id: TransportId, level: u8) -> Option<SpeakerInfo> {
        let session = self.session(id).filter(|session| !session.profile.grant.hidden)?;
        Some(SpeakerInfo {
            sid: session.sid.clone(),
            level: (f32::from(level) / 8.0).min(1.0),
            active: level > 0,
        })
    }

    /// Tells everyone how good the links are, a client's by its worse transport; of a hidden participant's, only
    /// itself.
    pub(crate) fn links(&mut self, context: &mut Context<'_>, links: &[LinkReport]) {
        let mut scores = BTreeMap::new();
        for LinkReport { of, link } in links {
            if let Some(session) = self.session_mut(*of) {
                scores.insert(*of, session.score(link.transport, link.score));
            }
        }
        let known: Vec<_> =
            scores.iter().filter_map(|(id, score)| Some((self.session(*id)?, *score))).collect();
        for session in self.sessions() {
            let visible = known.iter().filter(|(of, _)| of.id == session.id || !of.profile.grant.hidden);
            let updates: Vec<_> = visible.map(|(of, score)| quality(&of.sid, *score)).collect();
            if !updates.is_empty() {
                let update = ConnectionQualityUpdate { updates };
                context.out.tell(session.socket, Response::ConnectionQuality(update));
            }
        }
    }

    /// Tells the publishers of tracks that an answer carries to a receiver, each once: somebody receives it.
    pub(crate) fn received(&mut self, context: &mut Context<'_>, tracks: &[TrackId]) {
        for session in self.sessions_mut() {
            let socket = session.socket;
            for track in session.tracks_mut().filter(|track| tracks.contains(&track.id) && !track.received) {
                track.received = true;
                let subscribed = TrackSubscribed { track_sid: track.info.sid.clone() };
                context.out.tell(socket, Response::TrackSubscribed(subscribed));
            }
        }
    }
}

fn quality(sid: &str, score: u8) -> ConnectionQualityInfo {
    let quality = match LinkClass::of(score) {
        LinkClass::Lost => ConnectionQuality::Lost,
        LinkClass::Poor => ConnectionQuality::Poor,
        LinkClass::Good => ConnectionQuality::Good,
        LinkClass::Excellent => ConnectionQuality::Excellent,
    };
    // Clients expect a mean opinion score, 1 to 5.
    let score = 1.0 + f32::from(score.min(100)) / 25.0;
    ConnectionQualityInfo { participant_sid: sid.to_owned(), quality: quality.into(), score }
}
