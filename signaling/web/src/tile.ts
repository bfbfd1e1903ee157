import { ParticipantEvent, Track, type Participant } from 'livekit-client';
import { element } from './dom.js';
import { strings } from './strings.js';
import { Picture } from './picture.js';

/** One person or class in the lesson: camera picture, name, whether they can be heard, speak, and how good their link is. */
export class Tile {
  readonly element: HTMLLIElement;
  readonly #picture = new Picture();
  readonly #placeholder = element('span', { className: 'placeholder' }, strings.lesson.cameraOff);
  readonly #name = element('span', { className: 'name' });
  readonly #muted = element('span', { className: 'muted' }, strings.lesson.microphoneOff);
  readonly #speaking = element('span', { className: 'talking' }, `● ${strings.lesson.speaking}`);
  readonly #bars = element('span', { ariaHidden: 'true' });
  readonly #linkText = element('span');
  readonly #link = element('span', { className: 'link' }, this.#bars, this.#linkText);
  readonly #onQuality = () => this.#showLink();

  constructor(private readonly participant: Participant) {
    this.element = element(
      'li',
      { className: 'tile' },
      this.#picture.element,
      this.#placeholder,
      this.#name,
      this.#speaking,
      this.#muted,
      this.#link,
    );
    participant.on(ParticipantEvent.ConnectionQualityChanged, this.#onQuality);
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
    this.#speaking.hidden = !this.participant.isSpeaking;
    this.element.classList.toggle('speaking', this.participant.isSpeaking);
    this.#showLink();
  }

  #showLink(): void {
    const quality = this.participant.connectionQuality;
    this.#bars.textContent = BARS[quality];
    this.#linkText.textContent = strings.lesson.link[quality];
    this.#link.hidden = this.#linkText.textContent === '';
    this.element.dataset['link'] = quality;
  }

  /** Lets go of the picture. */
  close(): void {
    this.participant.off(ParticipantEvent.ConnectionQualityChanged, this.#onQuality);
    this.#picture.show(undefined);
    this.element.remove();
  }
}

/** As many as the link is good for; the words beside them say the same. */
const BARS = { excellent: '▂▄▆ ', good: '▂▄ ', poor: '▂ ', lost: '✕ ', unknown: '' } as const;

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
