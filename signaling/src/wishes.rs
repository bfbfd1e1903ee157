//! How clients want the tracks that they receive: their track settings become wishes of the SFU.

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ConnectionSettings, StreamState, StreamStateInfo, StreamStateUpdate, TrackInfo, UpdateTrackSettings,
    VideoLayer, VideoQuality,
};
use sfu_protocol::control::{Size, ToSfu, Wish};
use sfu_protocol::ids::{TrackId, TransportId};

use crate::limits::MAX_WISHES;
use crate::room::Room;
use crate::session::{Context, Wanted};

/// What a client wants of a picture that it has not said anything of yet. One that says how large it shows each
/// (adaptive stream) gets the smallest until it does: on a thin line the others would suffer meanwhile. Any other
/// gets the best.
pub(crate) fn first_wish(settings: Option<&ConnectionSettings>) -> Wish {
    let adaptive = settings.is_some_and(|settings| settings.adaptive_stream);
    Wish { size: adaptive.then_some(Size { width: 0, height: 0 }), ..Wish::default() }
}

impl Room {
    /// A client says how it wants tracks that it receives.
    pub(crate) fn track_settings(
        &mut self,
        context: &mut Context<'_>,
        id: TransportId,
        settings: &UpdateTrackSettings,
    ) {
        for sid in settings.track_sids.iter().take(MAX_WISHES) {
            let Some((publisher, track)) = self.published(sid) else { continue };
            let info = self.session(publisher).and_then(|from| from.track(track)).map(|track| &track.info);
            let Some(wish) = info.map(|info| wish(settings, info)) else { continue };
            self.set_wish(context, id, track, wish);
        }
    }

    /// A subscription begins: its picture comes as the client wants those of which it says nothing.
    pub(crate) fn begin_to_wish(&mut self, context: &mut Context<'_>, to: TransportId, track: TrackId) {
        let Some(session) = self.session(to) else { return };
        let wish = session.first_wish;
        if session.wanted(track).is_some_and(Wanted::is_picture) {
            self.set_wish(context, to, track, wish);
            self.demand_changed(context, track);
        }
    }

    /// A picture ceased to flow to a client, or flows again.
    pub(crate) fn stream_state(
        &mut self,
        context: &mut Context<'_>,
        to: TransportId,
        track: TrackId,
        paused: bool,
    ) {
        let Some(session) = self.session_mut(to) else { return };
        let Some(wanted) = session.wanted_mut(track) else { return };
        wanted.paused = paused;
        self.tell_stream_states(context, to, &[track]);
    }

    /// Tells a client that is back which pictures flow.
    pub(crate) fn repeat_stream_states(&self, context: &mut Context<'_>, to: TransportId) {
        let Some(session) = self.session(to) else { return };
        let is_picture = |track: &TrackId| session.wanted(*track).is_some_and(Wanted::is_picture);
        let mut tracks: Vec<_> = session.all_wanted().filter(is_picture).collect();
        tracks.sort_unstable();
        self.tell_stream_states(context, to, &tracks);
    }

    fn tell_stream_states(&self, context: &mut Context<'_>, to: TransportId, tracks: &[TrackId]) {
        let Some(session) = self.session(to) else { return };
        let state = |track: &TrackId| {
            let (wanted, publisher) = (session.wanted(*track)?, self.publisher(*track)?);
            let state = if wanted.paused { StreamState::Paused } else { StreamState::Active };
            let (participant_sid, track_sid) = (publisher.sid.clone(), wanted.sid.clone());
            Some(StreamStateInfo { participant_sid, track_sid, state: state.into() })
        };
        let stream_states: Vec<_> = tracks.iter().filter_map(state).collect();
        if !stream_states.is_empty() {
            let update = StreamStateUpdate { stream_states };
            context.out.tell(session.socket, Response::StreamStateUpdate(update));
        }
    }

    /// Tells an SFU again how a client wants the pictures that it receives: what was said last may be lost.
    pub(crate) fn repeat_wishes(&self, context: &mut Context<'_>, to: TransportId) {
        let Some(session) = self.session(to) else { return };
        let transport = session.receives_on();
        let mut tracks: Vec<_> = session.all_wanted().collect();
        tracks.sort_unstable();
        for track in tracks {
            if let Some(wish) = session.wanted(track).map(|wanted| wanted.wish) {
                context.out.command(ToSfu::SetWish { transport, track, wish });
            }
        }
    }

    fn set_wish(&mut self, context: &mut Context<'_>, to: TransportId, track: TrackId, wish: Wish) {
        let Some(session) = self.session_mut(to) else { return };
        let transport = session.receives_on();
        let Some(wanted) = session.wanted_mut(track).filter(|wanted| wanted.wish != wish) else { return };
        wanted.wish = wish;
        context.out.command(ToSfu::SetWish { transport, track, wish });
        self.demand_changed(context, track);
    }
}

/// A client's settings for a track as a wish.
fn wish(settings: &UpdateTrackSettings, info: &TrackInfo) -> Wish {
    let some = |number: u32| (number > 0).then(|| u16::try_from(number).unwrap_or(u16::MAX));
    let shown = some(settings.width).zip(some(settings.height));
    Wish {
        size: match shown {
            Some((width, height)) => Some(Size { width, height }),
            None => quality_size(settings.quality(), info),
        },
        fps: some(settings.fps),
        priority: some(settings.priority),
        paused: settings.disabled || settings.quality() == VideoQuality::Off,
    }
}

/// The size that a publisher announced for a quality. `None`, as large as it comes, for the best and for one
/// that it did not announce.
#[expect(deprecated, reason = "clients before `codecs` announce their layers in a field of their own")]
fn quality_size(quality: VideoQuality, info: &TrackInfo) -> Option<Size> {
    let layers = || info.layers.iter().filter(|layer| layer.width > 0 && layer.height > 0);
    if quality == VideoQuality::High || layers().count() < 2 {
        return None;
    }
    let layer = layers().find(|layer| layer.quality() == quality)?;
    let bounded = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Some(Size { width: bounded(layer.width), height: bounded(layer.height) })
}

/// Whether a layer fills what is shown, by its shorter side: as the SFU judges the encodings themselves.
pub(crate) fn covers(layer: &VideoLayer, shown: Size) -> bool {
    if layer.width < layer.height {
        layer.width >= u32::from(shown.width)
    } else {
        layer.height >= u32::from(shown.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(deprecated, reason = "see above")]
    fn camera() -> TrackInfo {
        let layer = |quality: VideoQuality, width, height| VideoLayer {
            quality: quality.into(),
            width,
            height,
            ..VideoLayer::default()
        };
        let layers = vec![
            layer(VideoQuality::Low, 320, 180),
            layer(VideoQuality::Medium, 640, 360),
            layer(VideoQuality::High, 1280, 720),
        ];
        TrackInfo { layers, ..TrackInfo::default() }
    }

    #[test]
    fn settings_become_wishes() {
        let size = |width, height| Some(Size { width, height });
        let settings = |quality: VideoQuality| UpdateTrackSettings {
            quality: quality.into(),
            ..UpdateTrackSettings::default()
        };
        let high = || settings(VideoQuality::High);
        for (settings, expected) in [
            (high(), Wish::default()),
            (settings(VideoQuality::Medium), Wish { size: size(640, 360), ..Wish::default() }),
            (settings(VideoQuality::Low), Wish { size: size(320, 180), ..Wish::default() }),
            (settings(VideoQuality::Off), Wish { paused: true, ..Wish::default() }),
            (
                UpdateTrackSettings { width: 300, height: 200, fps: 15, priority: 2, ..high() },
                Wish { size: size(300, 200), fps: Some(15), priority: Some(2), paused: false },
            ),
            (
                UpdateTrackSettings { width: 70_000, height: u32::MAX, disabled: true, ..high() },
                Wish { size: size(u16::MAX, u16::MAX), paused: true, ..Wish::default() },
            ),
            (UpdateTrackSettings { width: 300, ..high() }, Wish::default()),
        ] {
            assert_eq!(wish(&settings, &camera()), expected, "{settings:?}");
        }
        assert_eq!(wish(&settings(VideoQuality::Low), &TrackInfo::default()), Wish::default());
    }
}
