import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor, makeLesson, type Links } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

describe('hands and views in a lesson', () => {
  const stage = setStage();
  let links: Links;

  test('a raised hand is seen by all, also by who joins later, until the teacher lowers it', async (t) => {
    links = await makeLesson(stage.server.origin);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    const others = await Visitor.open(t, stage.browser, links.class);
    await Promise.all([pupils.join('Year 5'), others.join('Year 6')]);
    const hands = (visitor: Visitor) => visitor.page.getByRole('region', { name: 'Raised hands' });

    await pupils.button('Raise hand').click();
    await hands(others).getByText('Year 5').waitFor();
    assert.equal(await hands(others).getByRole('button').count(), 0, 'only a teacher lowers hands of others');

    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    await teacher.join('Ms Hill');
    await teacher.button('Lower the hand of Year 5').click();
    for (const visitor of [teacher, others, pupils]) await hands(visitor).waitFor({ state: 'hidden' });

    await pupils.button('Raise hand').click();
    await hands(teacher).getByText('Year 5').waitFor();
    await pupils.button('Lower hand').click();
    await hands(teacher).waitFor({ state: 'hidden' });
  });

  test('the view is switched by keyboard, and stays so the next time', async (t) => {
    links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    const width = async (name: string) => (await pupils.tile(name).boundingBox())?.width ?? 0;
    await eventually(
      'the teacher is larger',
      async () => (await width('Ms Hill')) > 2 * (await width('Year 5')),
    );

    await pupils.button('Show all the same size').focus();
    await pupils.page.keyboard.press('Enter');
    await eventually('both are alike', async () => (await width('Ms Hill')) === (await width('Year 5')));
    await pupils.button('Leave').click();
    await pupils.button('Join again').click();
    await pupils.connected();
    await pupils.button('Show the speaker large').focus();
    await pupils.page.keyboard.press('Space');
    await eventually(
      'the teacher is larger',
      async () => (await width('Ms Hill')) > 2 * (await width('Year 5')),
    );
  });
});
