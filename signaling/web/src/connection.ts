import {
  AudioPresets,
  Room,
  VideoPreset,
  VideoPresets,
  type AudioCaptureOptions,
  type VideoCaptureOptions,
} from 'livekit-client';
import { remembered } from './preferences.js';
import { codeSlidesPlainly } from './slides.js';

/** A room with Lectern's media settings: what a thin line and an old laptop carry. */
export function newRoom(): Room {
  const speaker = remembered('audiooutput');
  const room = new Room({
    // Tells the server how large each picture is shown, so that none is sent larger.
    adaptiveStream: true,
    // Encodes only the layers that somebody receives.
    dynacast: true,
    videoCaptureDefaults: cameraOptions(),
    audioCaptureDefaults: microphoneOptions(),
    ...(speaker !== undefined && { audioOutput: { deviceId: speaker } }),
    publishDefaults: {
      videoCodec: 'vp8',
      simulcast: true,
      videoEncoding: { maxBitrate: 1_000_000, maxFramerate: 30 },
      videoSimulcastLayers: CAMERA_LAYERS,
      // 24 kbit/s, and next to nothing in silence. RED would double that on every line, lossy or not.
      audioPreset: AudioPresets.speech,
      dtx: true,
      red: false,
    },
    dataStream: { maxPayloadByteLength: MAX_MESSAGE_BYTES },
  });
  codeSlidesPlainly(room.localParticipant);
  return room;
}

/** Beneath the full picture: one for tiles, and one that a line of 128 kbit/s carries beside the sound. */
const CAMERA_LAYERS = [new VideoPreset(320, 180, 90_000, 15), new VideoPreset(640, 360, 300_000, 30)];

/** The longest chat message that is read from others, bytes. */
const MAX_MESSAGE_BYTES = 16 * 1024;

/** How the microphone is opened. */
export function microphoneOptions(): AudioCaptureOptions {
  return { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...device('audioinput') };
}

/** How the camera is opened. */
export function cameraOptions(): VideoCaptureOptions {
  return { resolution: VideoPresets.h720.resolution, ...device('videoinput') };
}

/** The device that was chosen last, if it is there: not an exact constraint. */
function device(kind: MediaDeviceKind): { deviceId?: string } {
  const deviceId = remembered(kind);
  return deviceId === undefined ? {} : { deviceId };
}
