import { RoomEvent, type Participant, type Room } from 'livekit-client';
import type { Role } from './api.js';
import { element, slowButton, statusLine } from './dom.js';
import { strings } from './strings.js';
import { isTeacher, nameOf } from './tile.js';

/** The attribute of whoever raises a hand. The server keeps it, so that somebody who joins later sees it. */
const ATTRIBUTE = 'hand';

/** A teacher's message on this topic asks its receiver to lower the hand: nobody writes another's attributes. */
const LOWER = 'lectern.hand.lower';

/** Raised hands: the button of one's own, and the list of all. */
export class Hands {
  /** Raises and lowers one's own hand. */
  readonly button: HTMLButtonElement;
  /** The raised hands, in the order in which they were seen to go up. */
  readonly element: HTMLElement;
  readonly #list = element('ol');
  readonly #news = statusLine();
  readonly #items = new Map<string, HTMLLIElement>();

  constructor(
    private readonly room: Room,
    private readonly role: Role,
    private readonly notify: (notice: string) => void,
  ) {
    this.button = slowButton('', () => this.#raise(!isRaised(room.localParticipant)));
    this.button.hidden = role === 'teacher' || role === 'viewer';
    this.#news.classList.add('unseen');
    this.element = element(
      'section',
      { className: 'hands', ariaLabel: strings.hands.heading },
      element('h2', {}, strings.hands.heading),
      this.#list,
    );
    room.on(RoomEvent.DataReceived, (_, from, __, topic) => {
      if (topic === LOWER && from !== undefined && isTeacher(from)) void this.#raise(false);
    });
    this.refresh();
  }

  /** Announces new hands to who does not see the list; it must be on the page all the time. */
  get news(): HTMLElement {
    return this.#news;
  }

  /** Shows the hands that are up now. */
  refresh(): void {
    const { localParticipant, remoteParticipants } = this.room;
    const raised = [localParticipant, ...remoteParticipants.values()].filter(isRaised);
    for (const [identity, item] of this.#items) {
      if (raised.some((participant) => participant.identity === identity)) continue;
      item.remove();
      this.#items.delete(identity);
    }
    for (const participant of raised) {
      if (!this.#items.has(participant.identity)) this.#add(participant);
    }
    this.element.hidden = raised.length === 0;
    this.button.textContent = isRaised(localParticipant) ? strings.hands.lower : strings.hands.raise;
  }

  #add(participant: Participant): void {
    const name = nameOf(participant);
    const item = element('li', {}, participant.isLocal ? strings.lesson.you(name) : name);
    if (this.role === 'teacher') {
      const lower = slowButton(strings.hands.lower, () => this.#lower(participant));
      lower.ariaLabel = strings.hands.lowerOf(name);
      item.append(' ', lower);
    }
    this.#items.set(participant.identity, item);
    this.#list.append(item);
    if (!participant.isLocal) this.#news.textContent = strings.hands.raised(name);
  }

  #raise(up: boolean): Promise<void> {
    return this.#tell(this.room.localParticipant.setAttributes({ [ATTRIBUTE]: up ? 'up' : '' }));
  }

  #lower({ identity }: Participant): Promise<void> {
    const options = { reliable: true, topic: LOWER, destinationIdentities: [identity] };
    return this.#tell(this.room.localParticipant.publishData(new Uint8Array(), options));
  }

  async #tell(telling: Promise<void>): Promise<void> {
    try {
      await telling;
    } catch {
      this.notify(strings.hands.failed);
    }
    this.refresh();
  }
}

function isRaised(participant: Participant): boolean {
  return participant.attributes[ATTRIBUTE] === 'up';
}
