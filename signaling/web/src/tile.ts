import { Track, type Participant } from 'livekit-client';
import { element } from './dom.js';
import { strings } from './strings.js';
import { Picture } from './picture.js';

/** One person or class in the lesson: camera picture, name, and whether they can be heard. */
export class Tile {
  readonly element: HTMLLIElement;
  readonly #picture = new Picture();
  readonly #placeholder = element('span', { className: 'placeholder' }, strings.lesson.cameraOff);
  readonly #name = element('span', { className: 'name' });
  readonly #muted = element('span', { className: 'muted' }, strings.lesson.microphoneOff);

  constructor(private readonly participant: Participant) {
    this.element = element(
      'li',
      { className: 'tile' },
      this.#picture.element,
      this.#placeholder,
      this.#name,
      this.#muted,
    );
    this.element.dataset['identity'] = participant.identity;
    this.element.classList.toggle('own', participant.isLocal);
    this.refresh();
  }

  /** Shows the participant as it is now. */
  refresh(): void {
    const camera = this.participant.getTrackPublication(Track.Source.Camera);
    const track = camera?.isMuted === false ? camera.videoTrack : undefined;
    this.#picture.show(track);
    this.#picture.element.hidden = track === undefined;
    this.#placeholder.hidden = track !== undefined;
    this.#muted.hidden = this.participant.isMicrophoneEnabled;
    this.#name.textContent = this.#name.title = caption(this.participant);
    this.element.classList.toggle('speaking', this.participant.isSpeaking);
  }

  /** Lets go of the picture. */
  close(): void {
    this.#picture.show(undefined);
    this.element.remove();
  }
}

/** Whether the signed token of this participant says teacher. */
export function isTeacher(participant: Participant): boolean {
  return participant.attributes['lectern.role'] === 'teacher';
}

/** How a participant is called on the page. */
export function nameOf(participant: Participant): string {
  return participant.name || participant.identity;
}

function caption(participant: Participant): string {
  const name = participant.isLocal ? strings.lesson.you(nameOf(participant)) : nameOf(participant);
  return isTeacher(participant) ? `${name} · ${strings.lesson.teacher}` : name;
}
