import {
  ParticipantEvent,
  Track,
  VideoPreset,
  type LocalParticipant,
  type ScreenShareCaptureOptions,
  type TrackPublishOptions,
} from 'livekit-client';

/** Slides are still pictures of text: sharp at few frames a second. */
export const slidesCapture: ScreenShareCaptureOptions = {
  audio: false,
  contentHint: 'detail',
  resolution: { width: 1920, height: 1080, frameRate: 5 },
  selfBrowserSurface: 'include',
};

/** Larger than any screen: a layer is never enlarged, so one that asks for this has the screen's own size. */
const UNSCALED = 16_384;

/**
 * In two layers, both in full size, since a smaller one could not be read. The first is for
 * thin lines. Firefox sends the second alone: livekit-client lets it share no screen in layers.
 */
export const slidesPublish: TrackPublishOptions = {
  simulcast: true,
  screenShareSimulcastLayers: [new VideoPreset(UNSCALED, UNSCALED, 50_000, 2)],
  screenShareEncoding: { maxBitrate: 400_000, maxFramerate: 5 },
};

/**
 * Has slides coded without temporal layers, whenever a participant sends some. Chromium codes each encoding of a
 * simulcast in three, with a share of the rate for each: at two frames a second that is less than a page takes, and
 * a new one came later and larger.
 */
export function codeSlidesPlainly(participant: LocalParticipant): void {
  participant.on(ParticipantEvent.LocalSenderCreated, (sender, track) => {
    if (track.source !== Track.Source.ScreenShare) return;
    const parameters = sender.getParameters();
    parameters.encodings.forEach((encoding: Encoding) => (encoding.scalabilityMode = 'L1T1'));
    // A browser that refuses sends them its own way.
    void sender.setParameters(parameters).catch(() => undefined);
  });
}

/** An encoding as browsers know it; TypeScript's lacks the mode. */
type Encoding = RTCRtpEncodingParameters & { scalabilityMode?: string };
