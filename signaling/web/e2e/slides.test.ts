import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { cellsOf, codePage, readCells, valueOf } from './code.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

const TITLE = 'The slides of the lesson';

describe('slides from a captured tab', () => {
  const stage = setStage({ slides: { tab: TITLE } });

  test('a code drawn in the tab is read from what the class sees, and so is the next', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    const pupils = await Visitor.open(t, stage.browser, links.class);
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
