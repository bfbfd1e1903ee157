import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { eventually } from './eventually.js';
import { freeUdp } from './processes.js';
import { Relay } from './relay.js';
import { Server } from './server.js';

describe('a lesson over a line that loses 5 % each way', () => {
  let relay: Relay;
  let server: Server;
  let browser: Browser;

  before(async () => {
    const mediaPort = await freeUdp();
    relay = await Relay.start(mediaPort, { lossPercent: 5, delayMs: 10 });
    server = await Server.start({ mediaPort, sfuFlags: [`--node-ip=${relay.address}`] });
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test('retransmission repairs picture and sound, both to and from the server', async (t) => {
    const links = await makeLesson(server.origin);
    const teacher = await Visitor.open(t, browser, links.teacher);
    const pupils = await Visitor.open(t, browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    await pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher');

    const before = await reception(pupils);
    const now = await eventually('a good while of the lesson is received', async () => {
      const now = await reception(pupils);
      const enough =
        now.frames > before.frames + 100 && now.samples > before.samples + 5 * 48_000 && now.repaired > 20;
      return enough ? now : null;
    });
    const resent = await teacher.sum('outbound-rtp', 'retransmittedPacketsSent');
    assert.ok(resent > 0, 'the server asks the teacher for what is missing');
    // How long it froze is for `make e2e-quality` to measure: time on a busy machine is no fact of ours.
    t.diagnostic(`the picture froze for ${now.frozen - before.frozen} s`);
    const concealed = (now.concealed - before.concealed) / (now.samples - before.samples);
    assert.ok(concealed < 0.05, `${(concealed * 100).toFixed(1)} % of the sound was made up`);

    const { up, down } = await relay.stop();
    for (const line of [up, down]) assert.ok(line.lost > 0.03 * line.entered, JSON.stringify(line));
  });
});

/** What a visitor has received since it joined. */
async function reception(visitor: Visitor) {
  const sum = (name: string) => visitor.sum('inbound-rtp', name);
  return {
    frames: await sum('framesDecoded'),
    repaired: await sum('retransmittedPacketsReceived'),
    /** Seconds. */
    frozen: await sum('totalFreezesDuration'),
    /** At 48 kHz. */
    samples: await sum('totalSamplesReceived'),
    concealed: await sum('concealedSamples'),
  };
}
