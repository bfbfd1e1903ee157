import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { cellsOf, codePage, readCells, valueOf } from './code.js';
import { eventually } from './eventually.js';
import { Server } from './server.js';

const TITLE = 'The slides of the lesson';

describe('slides from a captured tab', () => {
  let server: Server;
  let browser: Browser;

  before(async () => {
    server = await Server.start();
    browser = await startBrowser({ tab: TITLE });
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test('a code drawn in the tab is read from what the class sees, and so is the next', async (t) => {
    const links = await makeLesson(server.origin);
    const teacher = await Visitor.open(t, browser, links.teacher);
    const pupils = await Visitor.open(t, browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    const slides = await teacher.page.context().newPage();
    await slides.setContent(codePage(TITLE, 0x1ec7e4));
    await teacher.page.bringToFront();

    await teacher.button('Share slides').click();
    const video = pupils.page.getByRole('figure').locator('video');
    const shown = async () => valueOf(await video.evaluate(readCells));
    await eventually('the class sees the first code', async () => (await shown()) === 0x1ec7e4);
    await slides.evaluate((cells) => {
      (window as unknown as { show: (cells: boolean[]) => void }).show(cells);
    }, cellsOf(0xc0ffee));
    await eventually('the class sees the second code', async () => (await shown()) === 0xc0ffee);
  });
});
