import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { OlderClient } from './older-client.js';
import { setStage } from './stage.js';

describe('a client of the older protocol, with two connections', () => {
  const stage = setStage();

  test('is seen and heard by the lesson, and sees and hears it', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    await teacher.join('Ms Hill');
    const pupils = await OlderClient.join(t, stage.browser, stage.server.origin, links.class, 'Year 5');
    await Promise.all([pupils.sees(1), pupils.hearsSound()]);
    await pupils.publish(true);
    const video = teacher.tile('Year 5').locator('video');
    await Promise.all([teacher.seesMoving(video, 'the class'), teacher.hearsSound()]);
    assert.equal(await pupils.connections(), 2);

    await pupils.publish(false);
    await video.waitFor({ state: 'hidden' });
    await pupils.publish(true);
    await teacher.seesMoving(video, 'the class again');

    await pupils.leave();
    await teacher.tile('Year 5').waitFor({ state: 'detached' });
    assert.deepEqual(teacher.errors, []);
  });

  test('receives a track that ends and comes back on a line that was used before', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const pupils = await OlderClient.join(t, stage.browser, stage.server.origin, links.class, 'Year 5');
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    await teacher.join('Ms Hill');
    await pupils.sees(1);
    for (let turn = 0; turn < 2; turn++) {
      await teacher.button('Share slides').click();
      await pupils.sees(2);
      await teacher.button('Stop sharing').click();
      await pupils.sees(1);
    }
  });

  test('exchanges messages with the newer kind and with its own', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    await teacher.join('Ms Hill');
    const first = await OlderClient.join(t, stage.browser, stage.server.origin, links.class, 'Year 5');
    const late = await OlderClient.join(t, stage.browser, stage.server.origin, links.class, 'Year 6');

    await first.chat('Is this the Nile?');
    await teacher.page.getByRole('log').getByText('Year 5 Is this the Nile?').waitFor();
    for (const reliable of [true, false]) {
      const text = reliable ? 'for certain' : 'perhaps';
      await first.send(text, reliable);
      await late.hears(`Year 5: ${text}`);
    }
    await late.publish(true);
    await first.sees(2);
  });
});
