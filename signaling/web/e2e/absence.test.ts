import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { setStage } from './stage.js';

describe('those who vanish', () => {
  const stage = setStage({ flags: ['--absence-s=2'] });

  test('whose page crashes is gone for the others, whose lesson goes on', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    const vanishing = await Visitor.open(t, stage.browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5'), vanishing.join('Year 6')]);
    for (const visitor of [teacher, pupils]) {
      await visitor.seesMoving(visitor.tile('Year 6').locator('video'), 'the class that will vanish');
    }

    await vanishing.crash();
    for (const visitor of [teacher, pupils]) await visitor.tile('Year 6').waitFor({ state: 'detached' });
    await pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher still');
  });
});
