/** What the choice of the large tile depends on. */
export interface Candidate {
  identity: string;
  isTeacher: boolean;
  isLocal: boolean;
  isSpeaking: boolean;
  /** 0 to 1. */
  audioLevel: number;
}

/**
 * Chooses who is shown large: whoever speaks for a while, until somebody else does. Like the rest of Lectern it
 * has no clock: `now` comes in, `wakeAt` says when to ask again.
 */
export class Spotlight {
  #speaker: string | undefined;
  #rising: { identity: string; since: number } | undefined;

  /** The identity to show large, given who is present. Instants are in milliseconds. */
  choose(present: Candidate[], now: number): string | undefined {
    const others = present.filter((candidate) => !candidate.isLocal);
    if (!others.some(({ identity }) => identity === this.#speaker)) this.#speaker = undefined;
    const shown = this.#speaker ?? beforeSpeech(others);
    const [loudest] = others
      .filter((candidate) => candidate.isSpeaking)
      .sort((a, b) => b.audioLevel - a.audioLevel);
    if (this.#lasts(loudest?.identity, shown, now)) this.#speaker = loudest?.identity;
    return this.#speaker ?? shown ?? present[0]?.identity;
  }

  /** When a speaker may have become the one. Undefined: not before something changes. */
  get wakeAt(): number | undefined {
    return this.#rising && this.#rising.since + SUSTAINED_MS;
  }

  /** Whether this is another speaker than the one shown, and has spoken long enough. */
  #lasts(speaker: string | undefined, shown: string | undefined, now: number): boolean {
    if (speaker === undefined || speaker === shown) {
      this.#rising = undefined;
      return false;
    }
    if (this.#rising?.identity !== speaker) this.#rising = { identity: speaker, since: now };
    if (now - this.#rising.since < SUSTAINED_MS) return false;
    this.#rising = undefined;
    return true;
  }
}

/** Who is shown large as long as nobody has spoken. */
function beforeSpeech(others: Candidate[]): string | undefined {
  return (others.find(({ isTeacher }) => isTeacher) ?? others[0])?.identity;
}

/** A cough is no speech. */
const SUSTAINED_MS = 1_500;
