import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

describe('simulcast', () => {
  const stage = setStage();

  test('the picture follows the size of its tile, and what nobody sees is not sent', async (t) => {
    const links = await makeLesson(stage.server.origin);
    const teacher = await Visitor.open(t, stage.browser, links.teacher);
    const pupils = await Visitor.open(t, stage.browser, links.class);
    await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
    const video = pupils.tile('Ms Hill').locator('video');
    await pupils.seesMoving(video, 'the teacher');

    /** Shows the teacher in that width, whatever the page would do. */
    const show = (width: number) =>
      video.evaluate((element: HTMLVideoElement, width) => {
        element.style.cssText = `position: fixed; inset: 0 auto auto 0; width: ${width}px; height: ${(width * 9) / 16}px; min-width: 0; max-width: none; max-height: none; z-index: 1`;
      }, width);
    /** How wide the teacher's picture arrives. Each goes on while the next begins: it is never black. */
    const arrives = (width: number) =>
      patiently(`the picture is ${width} wide`, async () => {
        const inbound = await pupils.stats('inbound-rtp');
        return inbound.some((report) => report['kind'] === 'video' && report['frameWidth'] === width);
      });
    /** Which layers of the camera the teacher's browser sends. */
    const sent = async () => {
      const outbound = await teacher.stats('outbound-rtp');
      const layers = outbound.filter((report) => report['kind'] === 'video' && report['active'] === true);
      return layers.map((report) => String(report['rid'])).sort();
    };
    const sends = (rids: string[]) =>
      patiently(`the teacher sends ${rids.join(' and ')}`, async () => {
        return JSON.stringify(await sent()) === JSON.stringify([...rids].sort());
      });

    for (const [width, arriving, rids] of [
      [1280, 1280, ['q', 'h', 'f']],
      [160, 320, ['q']],
      [600, 640, ['q', 'h']],
      [1200, 1280, ['q', 'h', 'f']],
    ] as const) {
      await show(width);
      await arrives(arriving);
      await sends([...rids]);
    }
    const [inbound] = (await pupils.stats('inbound-rtp')).filter((report) => report['kind'] === 'video');
    t.diagnostic(
      `freezes ${inbound?.['freezeCount']}, frozen ${inbound?.['totalFreezesDuration']} s, ` +
        `NACKs ${inbound?.['nackCount']}, PLIs ${inbound?.['pliCount']}, lost ${inbound?.['packetsLost']}`,
    );
    assert.deepEqual([...teacher.errors, ...pupils.errors], []);
  });
});

/** A sender's estimate of its own line takes a while to allow for 720 lines, and a busy machine longer. */
async function patiently(fact: string, check: () => Promise<boolean>): Promise<void> {
  try {
    await eventually(fact, check);
  } catch {
    await eventually(`${fact}, at the second look`, check);
  }
}
