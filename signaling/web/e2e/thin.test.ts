import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { Visitor, callOf, makeLesson, startBrowser, type Scope } from './classroom.js';
import { freeUdp } from './processes.js';
import { Relay } from './relay.js';
import { Server } from './server.js';
import { installDeck, legible, longestFreeze, sendThrough, turnTo, watchFreezes } from './thin-page.js';

/** How soon a page of the slides has to be legible. */
const LINES = [
  { kbps: 200, withinS: 5, todo: 'beside a face some pages take up to 5.8 s on a busy machine' },
  { kbps: 100, withinS: 8, todo: 'it has not passed three times in a row with merged sound' },
];

/** As good as what was drawn. */
const LEGIBLE_SSIM = 0.97;

const SETTLING_MS = 10_000;
const PAGES = [2, 3, 4, 5];

describe('a class on a thin line', () => {
  for (const { kbps, withinS, todo } of LINES) {
    test(
      `${kbps} kbit/s: unbroken sound, slides legible within ${withinS} s, no long freeze`,
      { todo },
      async (t) => {
        const { teacher, pupils, relay } = await openLesson(t, kbps);
        // The first page, and what a receiver has to learn of its line.
        await delay(SETTLING_MS);
        await pupils.page.evaluate(watchFreezes);
        const before = await sound(pupils);

        const waits: (number | null)[] = [];
        for (const page of PAGES) {
          const turned = await teacher.page.evaluate(turnTo, page);
          const wanted = { page, ssim: LEGIBLE_SSIM, withinMs: 2 * withinS * 1000 };
          const { at, ssim } = await pupils.page.evaluate(legible, wanted);
          waits.push(at === null ? null : (at - turned) / 1000);
          t.diagnostic(`page ${page}: legible after ${waits.at(-1) ?? 'never'} s, SSIM ${ssim.toFixed(3)}`);
          // As if somebody read it.
          await delay(Math.max(0, turned + withinS * 1000 - Date.now()));
        }
        const after = await sound(pupils);
        const concealed = (after.concealed - before.concealed) / (after.samples - before.samples);
        const freeze = await pupils.page.evaluate(longestFreeze);
        t.diagnostic(
          `${(concealed * 100).toFixed(2)} % of the sound made up; longest freeze ${freeze.toFixed(0)} ms`,
        );
        for (const line of await received(pupils)) t.diagnostic(line);
        t.diagnostic(JSON.stringify(await relay.stop()));

        assert.ok(concealed <= 0.02, `${(concealed * 100).toFixed(1)} % of the sound was made up`);
        for (const wait of waits)
          assert.ok(wait !== null && wait <= withinS, `pages legible after ${waits.join(', ')} s`);
        assert.ok(freeze <= 1000, `the camera froze for ${freeze.toFixed(0)} ms`);
        assert.deepEqual([...teacher.errors, ...pupils.errors], []);
      },
    );
  }
});

/** A teacher who shares slides and a class whose every packet takes the thin line; the teacher's own line is good. */
async function openLesson(
  t: Scope,
  kbps: number,
): Promise<{ teacher: Visitor; pupils: Visitor; relay: Relay }> {
  const mediaPort = await freeUdp();
  const relay = await Relay.start(mediaPort, { delayMs: 50, rateKbps: { up: 1000, down: kbps } });
  t.after(() => relay.stop());
  const server = await Server.start({ mediaPort, sfuFlags: ['--link-control'] });
  t.after(() => server.stop());
  const browser: Browser = await startBrowser();
  t.after(() => browser.close());

  const links = await makeLesson(server.origin);
  const teacher = await Visitor.open(t, browser, links.teacher, installDeck);
  await teacher.join('Ms Hill');
  await teacher.button('Share slides').click();
  const prepare = callOf(installDeck) + callOf(sendThrough, mediaPort, relay.address);
  const pupils = await Visitor.open(t, browser, links.class, prepare);
  await pupils.join('Year 5');
  return { teacher, pupils, relay };
}

/** What a visitor has heard since it joined, in samples. */
async function sound(visitor: Visitor): Promise<{ samples: number; concealed: number }> {
  const sum = (name: string) => visitor.sum('inbound-rtp', name);
  return { samples: await sum('totalSamplesReceived'), concealed: await sum('concealedSamples') };
}

const FIGURES = [
  'bytesReceived',
  'packetsLost',
  'nackCount',
  'pliCount',
  'framesDecoded',
  'framesDropped',
  'freezeCount',
  'totalFreezesDuration',
  'frameWidth',
  'framesPerSecond',
  'concealedSamples',
  'jitterBufferDelay',
  'jitterBufferEmittedCount',
];

/** What the browser says of each stream. */
async function received(visitor: Visitor): Promise<string[]> {
  const inbound = await visitor.stats('inbound-rtp');
  return inbound.map((report) => {
    const figures = FIGURES.filter((name) => report[name] !== undefined).map(
      (name) => `${name} ${report[name]}`,
    );
    return `${report['kind']}: ${figures.join(', ')}`;
  });
}
