import {
  AudioPresets,
  LocalAudioTrack,
  Room,
  ScreenSharePresets,
  VideoPresets,
  type LocalTrack,
  type ScreenShareCaptureOptions,
  type TrackPublishOptions,
} from 'livekit-client';
import type { Role } from './api.js';

/** A room with Lectern's media settings: what a thin line and an old laptop carry. */
export function newRoom(): Room {
  return new Room({
    // Tells the server how large each picture is shown, so that none is sent larger.
    adaptiveStream: true,
    // Encodes only the layers that somebody receives.
    dynacast: true,
    videoCaptureDefaults: { resolution: VideoPresets.h720.resolution },
    audioCaptureDefaults: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    publishDefaults: {
      videoCodec: 'vp8',
      simulcast: true,
      // 24 kbit/s, and next to nothing in silence. RED would double that on every line, lossy or not.
      audioPreset: AudioPresets.speech,
      dtx: true,
      red: false,
    },
    dataStream: { maxPayloadByteLength: MAX_MESSAGE_BYTES },
  });
}

/** The longest chat message that is read from others, bytes. */
const MAX_MESSAGE_BYTES = 16 * 1024;

/** Slides are still pictures of text: sharp at few frames a second. */
export const slidesCapture: ScreenShareCaptureOptions = {
  audio: false,
  contentHint: 'text',
  resolution: ScreenSharePresets.h1080fps15.resolution,
  selfBrowserSurface: 'include',
};

/** How slides are sent. */
export const slidesPublish: TrackPublishOptions = {
  screenShareEncoding: { maxBitrate: 1_500_000, maxFramerate: 5 },
};

/** The devices that could be opened, and why others could not. */
export interface Captured {
  tracks: LocalTrack[];
  problem: unknown;
}

/**
 * Opens camera and microphone, or whichever of them there is: a school without a camera still takes part.
 * A class starts with its microphone muted, because thirty children are loud.
 */
export async function capture(room: Room, role: Role): Promise<Captured> {
  if (role === 'viewer') return { tracks: [], problem: null };
  const captured = await room.localParticipant.createTracks({ audio: true, video: true }).then(
    (tracks) => ({ tracks, problem: null }),
    (problem: unknown) => captureSeparately(room, problem),
  );
  if (role !== 'teacher') {
    await Promise.all(
      captured.tracks.filter((track) => track instanceof LocalAudioTrack).map((track) => track.mute()),
    );
  }
  return captured;
}

async function captureSeparately(room: Room, problem: unknown): Promise<Captured> {
  const attempts = await Promise.allSettled([
    room.localParticipant.createTracks({ audio: true, video: false }),
    room.localParticipant.createTracks({ audio: false, video: true }),
  ]);
  const tracks = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? attempt.value : []));
  return { tracks, problem };
}
