import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

describe('a lesson in two browsers', () => {
  const stage = setStage();

  /** A lesson made by the API, with a teacher and a class in it. */
  async function openLesson(t: TestContext): Promise<{ teacher: Visitor; pupils: Visitor }> {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    return { teacher, pupils };
  }

  test('a link made on the start page leads into the lesson', async (t) => {
    const start = await Visitor.open(t, stage.browser, stage.server.origin);
    await start.page.getByLabel('Name of the lesson').fill('Rivers');
    await start.button('Make a lesson').click();
    const link = await eventually('the class link', () =>
      start.page.getByRole('textbox', { name: 'Link for the class' }).inputValue(),
    );

    const pupils = await Visitor.open(t, stage.browser, link);
    await pupils.join('Year 5');
    assert.equal(await pupils.page.getByRole('heading', { level: 1 }).textContent(), 'Rivers');
    await start.page.getByRole('link', { name: 'Open as teacher' }).click();
    await start.join('Ms Hill');
    await pupils.tile('Ms Hill · teacher').waitFor();
  });

  test('teacher and class see each other, and the class hears the teacher', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    await Promise.all([
      teacher.seesMoving(teacher.tile('Year 5').locator('video'), 'the class'),
      pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher'),
      pupils.hearsSound(),
    ]);
    for (const visitor of [teacher, pupils]) {
      const ciphers = (await visitor.stats('transport')).map((transport) => transport['srtpCipher']);
      // Chromium prefixes the name that IANA gives it.
      assert.deepEqual(ciphers, ['SRTP_AEAD_AES_128_GCM']);
      assert.deepEqual(visitor.errors, []);
    }
  });

  test('a class is silent until it turns its microphone on', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    const muted = teacher.tile('Year 5').getByText('microphone off');
    await muted.waitFor();
    await teacher.seesMoving(teacher.tile('Year 5').locator('video'), 'the class');
    assert.equal(await teacher.soundEnergy(), 0);

    await pupils.button('Turn microphone on').click();
    await muted.waitFor({ state: 'hidden' });
    await teacher.hearsSound();

    await pupils.button('Turn microphone off').click();
    await muted.waitFor();
  });

  test('a camera that is turned off is shown as off, and comes back', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    const tile = pupils.tile('Ms Hill');
    await pupils.seesMoving(tile.locator('video'), 'the teacher');
    await teacher.button('Turn camera off').click();
    await tile.getByText('Camera off').waitFor();
    await teacher.button('Turn camera on').click();
    await tile.getByText('Camera off').waitFor({ state: 'hidden' });
    await pupils.seesMoving(tile.locator('video'), 'the teacher again');
  });

  test('chat messages reach the other side, both ways', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    for (const [from, to, name, text] of [
      [teacher, pupils, 'Ms Hill', 'Where does the Nile end?'],
      [pupils, teacher, 'Year 5', 'In the sea <b>of course</b>'],
    ] as const) {
      await from.page.getByLabel('Message').fill(text);
      await from.button('Send').click();
      await to.page.getByRole('log').getByText(`${name} ${text}`).waitFor();
    }
  });

  test('shared slides show large at the class until they end', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    await teacher.button('Share slides').click();
    const slides = pupils.page.getByRole('figure');
    await slides.getByText('Slides of Ms Hill').waitFor();
    await pupils.seesMoving(slides.locator('video'), 'the slides');
    await teacher.button('Stop sharing').click();
    await slides.waitFor({ state: 'hidden' });
    assert.equal(await pupils.button('Share slides').count(), 0);
  });

  test('whoever leaves is gone from the others, and comes back with one click', async (t) => {
    const { teacher, pupils } = await openLesson(t);
    await teacher.tile('Year 5').waitFor();
    await pupils.button('Leave').click();
    await pupils.page.getByRole('heading', { name: 'You have left the lesson.' }).waitFor();
    await teacher.tile('Year 5').waitFor({ state: 'detached' });

    await pupils.button('Join again').click();
    await pupils.connected();
    await teacher.seesMoving(teacher.tile('Year 5').locator('video'), 'the class');
  });

  test('a link that is no good is refused in plain words', async (t) => {
    const visitor = await Visitor.open(t, stage.browser, `${stage.server.origin}/lesson#invitation=nonsense`);
    await visitor.page.getByLabel('Your name').fill('Ana');
    await visitor.button('Join').click();
    await visitor.page.getByText('This link is not valid').waitFor();
  });

  test('a server that cannot be reached is named as the reason', async (t) => {
    const visitor = await Visitor.open(t, stage.browser, stage.server.origin);
    await visitor.page.route('**/api/lessons', (route) => route.abort());
    await visitor.button('Make a lesson').click();
    await visitor.page.getByText('The server cannot be reached.').waitFor();
  });

  test('every view passes the accessibility rules of WCAG 2.2 AA, light and dark', async (t) => {
    const { teacher } = await openLesson(t);
    const start = await Visitor.open(t, stage.browser, stage.server.origin);
    await start.button('Make a lesson').click();
    await start.page.getByRole('link', { name: 'Open as teacher' }).waitFor();
    const joining = await Visitor.open(t, stage.browser, (await makeLesson(stage.server.origin)).class);
    await joining.page.getByText('The microphone hears you.').waitFor();
    await teacher.button('Change devices').click();
    for (const visitor of [start, joining, teacher]) {
      for (const colorScheme of ['light', 'dark'] as const) {
        await visitor.page.emulateMedia({ colorScheme });
        assert.deepEqual(await visitor.accessibilityProblems(), []);
      }
    }
  });

  test('lobby and lesson fit a telephone of 360 pixels', async (t) => {
    const pupils = await Visitor.open(t, stage.browser, (await makeLesson(stage.server.origin)).class);
    await pupils.page.setViewportSize({ width: 360, height: 640 });
    const fits = async () => {
      const width = await pupils.page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `the page is ${width} pixels wide`);
    };
    await pupils.page.getByText('The microphone hears you.').waitFor();
    await fits();
    await pupils.join('Year 5');
    await pupils.button('Change devices').click();
    await fits();
  });
});
