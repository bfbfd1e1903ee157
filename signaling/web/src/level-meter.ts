import { element, statusLine } from './dom.js';
import { strings } from './strings.js';

/** Shows how loud a microphone is: a bar to see, and words once it hears something. */
export class LevelMeter {
  readonly #bar = element('meter', { min: 0, max: 1, value: 0, ariaLabel: strings.lobby.level });
  readonly #heard = statusLine();
  readonly element = element('div', { className: 'level' }, this.#bar, this.#heard);
  #listening: { context: AudioContext; timer: number } | undefined;
  #track: MediaStreamTrack | undefined;

  /** Listens to this track instead of the one before; to the same again changes nothing. */
  listen(track: MediaStreamTrack | undefined): void {
    if (track === this.#track) return;
    this.close();
    this.#track = track;
    this.element.hidden = track === undefined;
    if (track === undefined) return;

    this.#heard.textContent = strings.lobby.speak;
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const timer = window.setInterval(() => {
      // Some browsers start no sound before the first click or key; typing the name is enough.
      if (context.state === 'suspended') void context.resume();
      analyser.getFloatTimeDomainData(samples);
      this.#show(loudness(samples));
    }, INTERVAL_MS);
    this.#listening = { context, timer };
  }

  /** Stops listening. The track stays open. */
  close(): void {
    if (this.#listening !== undefined) {
      clearInterval(this.#listening.timer);
      void this.#listening.context.close();
    }
    this.#listening = this.#track = undefined;
    this.#bar.value = 0;
  }

  #show(level: number): void {
    // Falls slowly, so that a word is seen.
    this.#bar.value = Math.max(level, this.#bar.value * 0.8);
    if (level > HEARD) this.#heard.textContent = strings.lobby.heard;
  }
}

/** The loudness of these samples on a scale from 0 (-60 dB and below) to 1 (full scale). */
export function loudness(samples: Float32Array): number {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(Math.max(power, 1e-12));
  return Math.min(Math.max(1 + decibels / RANGE_DB, 0), 1);
}

/** Beneath full scale; a quiet room is lower still. */
const RANGE_DB = 60;

/** From -42 dB on it is not just a room's noise. */
const HEARD = 0.3;

const INTERVAL_MS = 50;
