import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import type { Browser as Firefox } from 'puppeteer-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { FirefoxVisitor, firefoxMissing, startFirefox } from './firefox.js';
import { Server } from './server.js';

describe('a lesson of Chromium and Firefox', { skip: firefoxMissing() }, () => {
  let server: Server;
  let chromium: Browser;
  let firefox: Firefox;

  before(async () => {
    server = await Server.start();
    [chromium, firefox] = await Promise.all([startBrowser(), startFirefox()]);
  });
  after(async () => {
    await firefox?.close();
    await chromium?.close();
    await server?.stop();
  });

  test('each sees and hears the other, and reads what it writes', async (t) => {
    const links = await makeLesson(server.origin);
    const teacher = await Visitor.open(t, chromium, links.teacher);
    const pupils = await FirefoxVisitor.open(t, firefox, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    await Promise.all([
      teacher.seesMoving(teacher.tile('Year 5').locator('video'), 'the class in Firefox'),
      pupils.seesMoving('Ms Hill'),
      pupils.hearsSound(),
    ]);

    await pupils.press('Turn microphone on');
    await teacher.hearsSound();

    await pupils.say('From Firefox');
    await teacher.page.getByRole('log').getByText('Year 5 From Firefox').waitFor();
    await teacher.page.getByLabel('Message').fill('From Chromium');
    await teacher.button('Send').click();
    await pupils.reads('From Chromium');
    assert.deepEqual(pupils.errors, []);
  });
});
