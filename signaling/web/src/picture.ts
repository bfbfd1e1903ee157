import type { Track } from 'livekit-client';
import { element } from './dom.js';

/** A video element that shows one track at a time, or none. */
export class Picture {
  readonly element = element('video', { autoplay: true, playsInline: true, muted: true });
  #track: Track | undefined;

  /** Shows this track instead of the one before; showing the same again changes nothing. */
  show(track: Track | undefined): void {
    if (track === this.#track) return;
    this.#track?.detach(this.element);
    track?.attach(this.element);
    this.#track = track;
  }
}
