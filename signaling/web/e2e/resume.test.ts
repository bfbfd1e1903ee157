import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { eventually } from './eventually.js';
import { Line } from './line.js';
import { Server } from './server.js';

describe('a line to the server that breaks', () => {
  let server: Server;
  let browser: Browser;
  let line: Line;

  before(async () => {
    server = await Server.start();
    line = await Line.to(server.origin);
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    line?.close();
    await server?.stop();
  });

  /** How many clients got in so far, by how. */
  async function entered(how: 'joined' | 'resumed'): Promise<number> {
    const metrics = await (await fetch(`${server.origin}/metrics`)).text();
    const sample = new RegExp(`^lectern_signaling_joins_total\\{outcome="${how}"\\} (\\d+)$`, 'm');
    return Number(sample.exec(metrics)?.[1] ?? 0);
  }

  for (const [outage, seconds] of [
    ['short', 0],
    ['long', 8],
  ] as const) {
    test(`a lesson goes on during and after a ${outage} outage of the class's line`, async (t) => {
      const links = await makeLesson(server.origin);
      const teacher = await Visitor.open(t, browser, links.teacher);
      const pupils = await Visitor.open(t, browser, links.class.replace(server.origin, line.origin));
      await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
      const [toClass, toTeacher] = [
        teacher.tile('Year 5').locator('video'),
        pupils.tile('Ms Hill').locator('video'),
      ];
      await Promise.all([
        teacher.seesMoving(toClass, 'the class'),
        pupils.seesMoving(toTeacher, 'the teacher'),
      ]);
      const [before, known] = [await snapshot(pupils), await entered('joined')];
      const resumed = await entered('resumed');
      // Elements of someone who leaves are removed: a mark on them shows that nobody did.
      for (const video of [toClass, toTeacher]) {
        await video.evaluate((element) => element.setAttribute('data-before', 'yes'));
      }

      line.cut();
      await pupils.page.getByText('is interrupted').waitFor();
      await Promise.all([
        teacher.seesMoving(toClass, 'the class during the outage'),
        pupils.seesMoving(toTeacher, 'the teacher during the outage'),
      ]);
      await delay(seconds * 1000);
      line.mend();
      await pupils.connected();
      await eventually('the session is resumed', async () => (await entered('resumed')) === resumed + 1);
      await Promise.all([
        teacher.seesMoving(toClass, 'the class still'),
        pupils.seesMoving(toTeacher, 'the teacher still'),
      ]);
      const now = await snapshot(pupils);
      assert.equal(now.connections, before.connections, 'the same peer connection');
      assert.notEqual(now.ufrag, before.ufrag, 'which has restarted ICE');
      assert.equal(await entered('joined'), known, 'nobody joined anew');
      for (const video of [toClass, toTeacher]) assert.equal(await video.getAttribute('data-before'), 'yes');

      await pupils.page.getByLabel('Message').fill('We are back.');
      await pupils.button('Send').click();
      await teacher.page.getByRole('log').getByText('Year 5 We are back.').waitFor();
    });
  }

  test('a class learns who came and who left during its outage', async (t) => {
    const links = await makeLesson(server.origin);
    const teacher = await Visitor.open(t, browser, links.teacher);
    const leaving = await Visitor.open(t, browser, links.class);
    const pupils = await Visitor.open(t, browser, links.class.replace(server.origin, line.origin));
    await Promise.all([teacher.join('Ms Hill'), leaving.join('Year 6'), pupils.join('Year 5')]);
    await pupils.seesMoving(pupils.tile('Year 6').locator('video'), 'the class that will leave');

    line.cut();
    await pupils.page.getByText('is interrupted').waitFor();
    await leaving.button('Leave').click();
    await teacher.tile('Year 6').waitFor({ state: 'detached' });
    const coming = await Visitor.open(t, browser, links.class);
    await coming.join('Year 4');
    line.mend();
    await pupils.connected();
    await pupils.tile('Year 6').waitFor({ state: 'detached' });
    await pupils.seesMoving(pupils.tile('Year 4').locator('video'), 'the class that came');
  });
});

/** How many peer connections a page has made, and its name in the checks of ICE. */
async function snapshot(visitor: Visitor): Promise<{ connections: number; ufrag: unknown }> {
  const transports = await visitor.stats('transport');
  return { connections: transports.length, ufrag: transports[0]?.['iceLocalUsernameFragment'] };
}
