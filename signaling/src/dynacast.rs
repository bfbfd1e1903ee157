//! Dynacast: publishers are told which layers of their pictures anybody receives, and stop sending the others.
//!
//! What is received follows from the wishes of all receivers and from the layers that the publisher announced.
//! Both are known here, for all nodes of a room: an SFU sees the receivers of its own node only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, TrackInfo, VideoQuality,
};
use sfu_protocol::control::{MediaKind, Wish};
use sfu_protocol::ids::{TrackId, TransportId};

use crate::room::Room;
use crate::session::Context;
use crate::wishes::covers;

/// A layer that nobody receives is sent this long still (LiveKit's default is 5 s): tiles change their size back
/// and forth, and a layer that starts costs a key frame.
const PAUSE_DELAY: Duration = Duration::from_secs(5);

/// As clients name the one video codec.
const CODEC: &str = "vp8";

/// How many of the three qualities are sent: none, the lowest, ... all.
type Count = usize;

const QUALITIES: [VideoQuality; 3] = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
const ALL: Count = QUALITIES.len();

/// What each published picture of a room is wanted for.
#[derive(Debug, Default)]
pub(crate) struct Dynacast(HashMap<TrackId, Demand>);

#[derive(Debug)]
struct Demand {
    /// What its publisher was told. It begins with all.
    told: Count,
    wanted: Count,
    /// When it is told that fewer are wanted.
    lower: Option<Instant>,
}

impl Dynacast {
    /// When [`Room::lower_demands`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|demand| demand.lower).min()
    }

    /// A track has ended.
    pub(crate) fn forget(&mut self, track: TrackId) {
        self.0.remove(&track);
    }
}

impl Room {
    /// The receivers of a track, or their wishes, may have changed.
    pub(crate) fn demand_changed(&mut self, context: &mut Context<'_>, id: TrackId) {
        let Some(track) = self.publisher(id).and_then(|from| from.track(id)) else { return };
        if track.kind != MediaKind::Video {
            return;
        }
        let wishes = self.sessions().filter_map(|session| Some(session.wanted(id)?.wish));
        let wanted = wishes.map(|wish| count(&wish, &track.info)).max().unwrap_or(0);
        let demand = self.dynacast.0.entry(id).or_insert(Demand { told: ALL, wanted, lower: None });
        demand.wanted = wanted;
        if wanted > demand.told {
            demand.told = wanted;
            demand.lower = None;
            self.tell_demand(context, id, wanted);
        } else if wanted == demand.told {
            demand.lower = None;
        } else {
            let at = *demand.lower.get_or_insert(context.now + PAUSE_DELAY);
            context.wake_by(at);
        }
    }

    /// Tells publishers which layers nobody has wanted for a while.
    pub(crate) fn lower_demands(&mut self, context: &mut Context<'_>) {
        let mut lowered = Vec::new();
        for (id, demand) in &mut self.dynacast.0 {
            if demand.lower.is_some_and(|at| at <= context.now) {
                (demand.told, demand.lower) = (demand.wanted, None);
                lowered.push((*id, demand.wanted));
            }
        }
        for (id, wanted) in lowered {
            self.tell_demand(context, id, wanted);
        }
    }

    /// Tells a client that was away what its tracks are wanted for now.
    pub(crate) fn repeat_demands(&self, context: &mut Context<'_>, id: TransportId) {
        let Some(session) = self.session(id) else { return };
        for track in session.negotiated_tracks() {
            if let Some(demand) = self.dynacast.0.get(&track.id) {
                self.tell_demand(context, track.id, demand.told);
            }
        }
    }

    fn tell_demand(&self, context: &mut Context<'_>, id: TrackId, wanted: Count) {
        let Some(session) = self.publisher(id) else { return };
        let Some(track) = session.track(id) else { return };
        let qualities: Vec<_> = QUALITIES
            .iter()
            .zip(0..)
            .map(|(quality, index)| SubscribedQuality { quality: (*quality).into(), enabled: index < wanted })
            .collect();
        let codec = SubscribedCodec { codec: CODEC.to_owned(), qualities: qualities.clone() };
        #[expect(deprecated, reason = "clients that know no codecs read the qualities there")]
        let update = SubscribedQualityUpdate {
            track_sid: track.info.sid.clone(),
            subscribed_qualities: qualities,
            subscribed_codecs: vec![codec],
        };
        context.out.tell(session.socket, Response::SubscribedQualityUpdate(update));
    }
}

/// How many qualities of a track serve a wish: up to the lowest that is large enough, and those of the same size, as
/// slides come in. Encoders send a quality only with those below it.
#[expect(deprecated, reason = "clients before `codecs` announce their layers in a field of their own")]
fn count(wish: &Wish, info: &TrackInfo) -> Count {
    let Wish { size, paused: false, .. } = wish else { return 0 };
    let Some(shown) = *size else { return ALL };
    let known = info.layers.iter().filter(|layer| layer.width > 0 && layer.height > 0);
    let enough = known.clone().filter(|layer| covers(layer, shown)).min_by_key(|layer| layer.quality);
    let size = enough.map(|layer| (layer.width, layer.height));
    let best =
        known.filter(|layer| Some((layer.width, layer.height)) == size).map(|layer| layer.quality).max();
    // Of a single layer, whose name says little, all is wanted.
    if info.layers.len() < 2 {
        return ALL;
    }
    let best = best.and_then(|quality| usize::try_from(quality).ok());
    best.map_or(ALL, |quality| (quality + 1).min(ALL))
}
