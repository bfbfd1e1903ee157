import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

describe('the lobby before a lesson', () => {
  const stage = setStage();

  test('says who one is, and shows the camera and the level of the microphone', async (t) => {
    const { schools } = await makeLesson(stage.server.origin, ['Hill school']);
    const pupils = await Visitor.open(t, stage.browser, schools?.[0]?.class ?? '');
    await pupils.page.getByText('Rivers · class · Hill school').waitFor();
    assert.equal(await pupils.page.getByLabel('Your school').count(), 0);

    await pupils.seesMoving(pupils.page.getByLabel('What your camera sees'), 'the preview');
    const level = pupils.page.getByRole('meter', { name: 'Microphone level' });
    await eventually('the level rises', () => level.evaluate((meter: HTMLMeterElement) => meter.value > 0.3));
    for (const device of ['Camera', 'Microphone'] as const) {
      const list = pupils.page.getByRole('combobox', { name: device });
      await eventually(`the list of ${device}`, async () => (await list.locator('option').count()) > 0);
    }
    assert.deepEqual(pupils.errors, []);
  });

  test('another camera is shown at once, and is used in the lesson and the next time', async (t) => {
    const pupils = await Visitor.open(t, stage.browser, (await makeLesson(stage.server.origin)).class);
    const cameras = pupils.page.getByRole('combobox', { name: 'Camera' });
    const other = await eventually('a second camera', () =>
      cameras.evaluate((list: HTMLSelectElement) => list.options[1]?.value),
    );
    const shown = () =>
      pupils.page.locator('.own video').evaluate((video: HTMLVideoElement) => {
        const [track] = video.srcObject instanceof MediaStream ? video.srcObject.getVideoTracks() : [];
        return track?.getSettings().deviceId;
      });
    await cameras.selectOption(other);
    await eventually('the preview changes', async () => (await shown()) === other);
    await pupils.join('Year 5');
    await eventually('the lesson uses it', async () => (await shown()) === other);
    await pupils.page.reload();
    await eventually('it is remembered', async () => (await shown()) === other);
    assert.equal(await pupils.page.getByLabel('Your name').inputValue(), 'Year 5');
  });

  test('one joins with microphone and camera off, and turns them on in the lesson', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    await teacher.page.getByLabel('Join with the microphone on').uncheck();
    await teacher.page.getByLabel('Join with the camera on').uncheck();
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);

    const tile = pupils.tile('Ms Hill');
    await tile.getByText('microphone off').waitFor();
    await tile.getByText('Camera off').waitFor();
    await teacher.button('Turn camera on').click();
    await pupils.seesMoving(tile.locator('video'), 'the teacher');
    assert.equal(await pupils.soundEnergy(), 0);
    await teacher.button('Turn microphone on').click();
    await pupils.hearsSound();
  });

  test('each reason why camera and microphone do not open is told in plain words', async (t) => {
    const { class: link } = await makeLesson(stage.server.origin);
    const visitor = await Visitor.open(t, stage.browser, stage.server.origin);
    for (const [name, words] of [
      ['NotAllowedError', 'The browser does not allow this page to use the camera and microphone.'],
      ['NotFoundError', 'The camera and microphone could not be found.'],
      ['NotReadableError', 'Another program uses the camera and microphone.'],
    ] as const) {
      await visitor.page.addInitScript((name) => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name));
      }, name);
      await visitor.page.goto(link);
      await visitor.page.reload();
      await visitor.page.getByText(words).waitFor();
    }
    await visitor.join('Year 5');
    await visitor.page.getByText('You can still see and hear the lesson.').waitFor();
  });
});
