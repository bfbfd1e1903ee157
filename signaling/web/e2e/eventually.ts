import { setTimeout as delay } from 'node:timers/promises';

/** How long a fact may take to come true. Machines that run tests are slow; a fact that is true costs nothing. */
export const PATIENCE_MS = 15_000;

/** How often it is looked at. */
const INTERVAL_MS = 100;

/** Waits until `check` gives something truthy and returns that; throws with `fact` if it never does. */
export async function eventually<T>(fact: string, check: () => Promise<T>): Promise<NonNullable<T>> {
  const deadline = performance.now() + PATIENCE_MS;
  let last: T;
  do {
    last = await check();
    if (last) return last as NonNullable<T>;
    await delay(INTERVAL_MS);
  } while (performance.now() < deadline);
  throw new Error(`not within ${PATIENCE_MS / 1000} s: ${fact} (last seen: ${JSON.stringify(last)})`);
}
