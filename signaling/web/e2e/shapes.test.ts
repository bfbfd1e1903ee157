import { after, before, describe, test, type TestContext } from 'node:test';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser } from './classroom.js';
import { eventually } from './eventually.js';
import { hasBinary } from './processes.js';
import { Server, type Shape } from './server.js';

const SHAPES = [
  { services: 'together', workers: 1 },
  { services: 'together', workers: 2 },
  { services: 'apart', workers: 1 },
  { services: 'apart', workers: 2 },
] as const;

describe('a lesson, however the server is run', () => {
  let browser: Browser;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  for (const shape of SHAPES) {
    const skip = missing(shape);
    test(`services ${shape.services}, workers: ${shape.workers}`, { skip }, async (t) => {
      const { teacher, pupils } = await openLesson(t, browser, shape);
      await Promise.all([
        teacher.seesMoving(teacher.tile('Year 5').locator('video'), 'the class'),
        pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher'),
        pupils.hearsSound(),
      ]);
      await pupils.page.getByLabel('Message').fill('Here we are');
      await pupils.button('Send').click();
      await teacher.page.getByRole('log').getByText('Year 5 Here we are').waitFor();
    });
  }

  const skip = missing({ services: 'apart' });
  test('media goes on when signaling is killed', { skip }, async (t) => {
    const { server, pupils } = await openLesson(t, browser, { services: 'apart' });
    await pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher');
    await pupils.hearsSound();
    await server.killSignaling();
    const frames = () => pupils.sum('inbound-rtp', 'framesDecoded');
    const before = await frames();
    await eventually('pictures go on', async () => (await frames()) > before + 60);
    await pupils.hearsSound();
  });
});

/** Why the build under test cannot be run in this shape, or false. Where all must be tested that is an error. */
function missing({ services }: Shape): string | false {
  if (services !== 'apart' || hasBinary('lectern-signaling')) return false;
  if (process.env['CI']) throw new Error('there is no lectern-signaling: build all binaries');
  return 'there is no lectern-signaling';
}

async function openLesson(t: TestContext, browser: Browser, shape: Shape) {
  const server = await Server.start(shape);
  t.after(() => server.stop());
  const links = await makeLesson(server.origin);
  const teacher = await Visitor.open(t, browser, links.teacher);
  const pupils = await Visitor.open(t, browser, links.class);
  await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
  return { server, teacher, pupils };
}
