import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { Server } from './server.js';

describe('those who vanish', () => {
  let server: Server;
  let browser: Browser;

  before(async () => {
    server = await Server.start({ flags: ['--absence-s=2'] });
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test('whose page crashes is gone for the others, whose lesson goes on', async (t) => {
    const links = await makeLesson(server.origin);
    const teacher = await Visitor.open(t, browser, links.teacher);
    const pupils = await Visitor.open(t, browser, links.class);
    const vanishing = await Visitor.open(t, browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5'), vanishing.join('Year 6')]);
    for (const visitor of [teacher, pupils]) {
      await visitor.seesMoving(visitor.tile('Year 6').locator('video'), 'the class that will vanish');
    }

    await vanishing.crash();
    for (const visitor of [teacher, pupils]) await visitor.tile('Year 6').waitFor({ state: 'detached' });
    await pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher still');
  });
});
