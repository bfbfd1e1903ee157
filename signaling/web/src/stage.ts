import { RoomEvent, Track, type Participant, type RemoteTrack, type Room } from 'livekit-client';
import { element } from './dom.js';
import { Picture } from './picture.js';
import { Spotlight, type Candidate } from './spotlight.js';
import { strings } from './strings.js';
import { Tile, isTeacher, nameOf } from './tile.js';

/** How tiles are laid out: one of them large, or all the same size. */
export type View = 'speaker' | 'grid';

/**
 * What is seen and heard of a room: the slides, large, and a tile for each participant. `refresh` brings it to
 * what the room is now, whatever happened before.
 */
export class Stage {
  readonly element: HTMLElement;
  readonly #slides = new Slides();
  readonly #list = element('ul', { className: 'tiles', ariaLabel: strings.lesson.participants });
  readonly #sounds = element('div', { hidden: true });
  readonly #tiles = new Map<string, Tile>();
  readonly #spotlight = new Spotlight();
  #spotlightTimer: number | undefined;
  #view: View = 'speaker';

  constructor(private readonly room: Room) {
    this.element = element('div', { className: 'stage' }, this.#slides.element, this.#list, this.#sounds);
    room.on(RoomEvent.TrackSubscribed, (track: RemoteTrack) => {
      if (track.kind === Track.Kind.Audio) this.#sounds.append(track.attach());
    });
    room.on(RoomEvent.TrackUnsubscribed, (track: RemoteTrack) => {
      if (track.kind === Track.Kind.Audio) track.detach().forEach((sound) => sound.remove());
    });
  }

  /** How the tiles are laid out. Slides are large in either view. */
  get view(): View {
    return this.#view;
  }

  set view(view: View) {
    this.#view = view;
    this.element.classList.toggle('speaker-view', view === 'speaker');
  }

  /** Shows the room as it is now. */
  refresh(): void {
    const present = [...this.room.remoteParticipants.values(), this.room.localParticipant];
    this.#removeAbsent(new Set(present.map((participant) => participant.sid)));
    for (const participant of present) {
      const tile = this.#tiles.get(participant.sid);
      if (tile === undefined) this.#add(participant);
      else tile.refresh();
    }
    this.#slides.refresh(present);
    this.element.classList.toggle('with-slides', this.#slides.large);
    this.#feature(present);
  }

  /** Marks the tile that the speaker view shows large. Which one that is must not depend on the view. */
  #feature(present: Participant[]): void {
    const now = performance.now();
    const chosen = this.#spotlight.choose(present.map(candidate), now);
    for (const participant of present) {
      const { classList } = this.#tiles.get(participant.sid)?.element ?? {};
      classList?.toggle('featured', participant.identity === chosen);
    }
    clearTimeout(this.#spotlightTimer);
    const { wakeAt } = this.#spotlight;
    if (wakeAt !== undefined) this.#spotlightTimer = window.setTimeout(() => this.refresh(), wakeAt - now);
  }

  #removeAbsent(present: Set<string>): void {
    for (const [sid, tile] of this.#tiles) {
      if (present.has(sid)) continue;
      tile.close();
      this.#tiles.delete(sid);
    }
  }

  #add(participant: Participant): void {
    const tile = new Tile(participant);
    this.#tiles.set(participant.sid, tile);
    // The teacher first, oneself last. Tiles never move after that: moving a video element stops it.
    const own = this.#list.querySelector('.own');
    if (isTeacher(participant)) this.#list.prepend(tile.element);
    else this.#list.insertBefore(tile.element, own);
  }
}

function candidate(participant: Participant): Candidate {
  const { identity, isLocal, isSpeaking, audioLevel } = participant;
  return { identity, isLocal, isSpeaking, audioLevel, isTeacher: isTeacher(participant) };
}

/** The shared screen of whoever shares one. */
class Slides {
  readonly #picture = new Picture();
  readonly #caption = element('figcaption');
  readonly element = element(
    'figure',
    { className: 'slides', hidden: true },
    this.#picture.element,
    this.#caption,
  );

  /** Whether they take the space that tiles could have. */
  get large(): boolean {
    return !this.element.hidden && !this.#picture.element.hidden;
  }

  refresh(present: Participant[]): void {
    const sharing = present.find((participant) => slidesOf(participant) !== undefined);
    this.element.hidden = sharing === undefined;
    // One's own slides are not shown again: a shared screen inside itself is a hall of mirrors.
    const own = sharing?.isLocal ?? false;
    this.#picture.show(sharing === undefined || own ? undefined : slidesOf(sharing));
    this.#picture.element.hidden = own;
    this.#caption.textContent =
      sharing === undefined ? '' : own ? strings.lesson.ownSlides : strings.lesson.slides(nameOf(sharing));
  }
}

function slidesOf(participant: Participant): Track | undefined {
  return participant.getTrackPublication(Track.Source.ScreenShare)?.videoTrack;
}
