/** Lectern's own two requests; all else on the wire is livekit-client's. */

/** What a participant is in a lesson: the server decides by the link that was used. */
export type Role = 'teacher' | 'class' | 'pupil' | 'viewer';

/** The longest name of a lesson or person that the server takes, characters. */
export const MAX_NAME = 80;

/** The longest name of a school that the server takes, characters. */
export const MAX_SCHOOL = 64;

/** A lesson that was made, with its links. */
export interface Lesson {
  name: string;
  teacher: string;
  /** For a class whose school was not named. */
  class: string;
  viewer: string;
  /** One for each school that was named. */
  schools?: { school: string; class: string }[];
}

/** Leave to enter a lesson. */
export interface Admission {
  token: string;
  role: Role;
  lesson: string;
}

/** The server answered with something else than success. */
export class Refused extends Error {
  override readonly name = 'Refused';
  constructor(readonly status: number) {
    super(`the server answered ${status}`);
  }
}

/** The server did not answer. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable';
}

/** Makes a lesson, with a link of its own for each school. An empty name leaves it to the server. */
export function makeLesson(name: string, schools: string[]): Promise<Lesson> {
  return post<Lesson>('/api/lessons', { name: name || undefined, schools });
}

/** Turns an invitation into leave to enter. An empty school leaves it to the invitation. */
export function join(invitation: string, name: string, school: string): Promise<Admission> {
  return post<Admission>('/api/join', { invitation, name, school: school || undefined });
}

/** A school's line may take a while, but nobody waits longer than this. */
const TIMEOUT_MS = 15_000;

async function post<T>(path: string, body: unknown): Promise<T> {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((cause: unknown) => {
    throw new Unreachable('no answer', { cause });
  });
  if (!response.ok) throw new Refused(response.status);
  return (await response.json()) as T;
}
