import { createLocalTracks, type LocalTrack } from 'livekit-client';
import { cameraOptions, microphoneOptions } from './connection.js';

/** What can be captured, as browsers name the devices. */
export type Input = 'audioinput' | 'videoinput';

/** Camera and microphone before the lesson: opened, tried out and changed here, then handed over to it. */
export class Capture {
  readonly #tracks = new Map<Input, LocalTrack>();
  readonly #problems = new Map<Input, unknown>();
  #closed = false;

  /** Opens these devices, or whichever of them there is: a school without a camera still takes part. */
  async open(inputs: Input[]): Promise<void> {
    if (inputs.length === 0) return;
    // Both at once, as the browser then asks one question; apart when that fails, as one may work.
    const together = await this.#create(inputs);
    if (together === null || inputs.length === 1) return;
    for (const input of inputs) await this.#create([input]);
  }

  /** Uses another device from now on. Throws when that device does not start. */
  async choose(input: Input, deviceId: string): Promise<void> {
    const track = this.track(input);
    if (track === undefined) return this.open([input]);
    await track.setDeviceId({ exact: deviceId });
  }

  /** The open device's track, if it is open. */
  track(input: Input): LocalTrack | undefined {
    return this.#tracks.get(input);
  }

  /** Why a device is not open, if it was tried. */
  problem(input: Input): unknown {
    return this.#problems.get(input);
  }

  /** Turns these devices off. */
  close(...inputs: Input[]): void {
    for (const input of inputs) {
      this.#tracks.get(input)?.stop();
      this.#tracks.delete(input);
      this.#problems.delete(input);
    }
  }

  /** Turns off all that is open, and all that is still being opened. */
  abandon(): void {
    this.#closed = true;
    this.close('audioinput', 'videoinput');
  }

  /** Null: done. */
  async #create(inputs: Input[]): Promise<unknown> {
    this.close(...inputs);
    try {
      const tracks = await createLocalTracks({
        audio: inputs.includes('audioinput') && microphoneOptions(),
        video: inputs.includes('videoinput') && cameraOptions(),
      });
      for (const track of tracks) this.#tracks.set(inputOf(track), track);
      if (this.#closed) this.abandon();
      return null;
    } catch (problem) {
      for (const input of inputs) this.#problems.set(input, problem);
      return problem;
    }
  }
}

function inputOf(track: LocalTrack): Input {
  return track.mediaStreamTrack.kind === 'audio' ? 'audioinput' : 'videoinput';
}
