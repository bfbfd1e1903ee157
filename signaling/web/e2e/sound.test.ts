import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

/** How a server packs sound, and how many packets and bytes a client then receives for each that was sent. */
const PACKINGS = [
  { flags: ['--merge-audio=2'], packets: 1 / 2, bytes: 1 },
  { flags: ['--merge-audio=3'], packets: 1 / 3, bytes: 1 },
  { flags: ['--redundant-audio'], packets: 1, bytes: 2 },
];

for (const { flags, packets, bytes } of PACKINGS) {
  describe(`a server with ${flags.join(' ')}`, () => {
    const stage = setStage({ sfuFlags: flags });

    test('is heard without a gap', async (t) => {
      const links = await makeLesson(stage.server.origin);
      const teacher = await Visitor.open(t, stage.browser, links.teacher);
      const pupils = await Visitor.open(t, stage.browser, links.class);
      await Promise.all([teacher.join('Ms Hill'), pupils.join('Year 5')]);
      await pupils.hearsSound();

      const hear = async (start: Hearing, seconds: number) =>
        eventually(`${seconds} s of sound are heard`, async () => {
          const now = await hearing(teacher, pupils);
          return now.samples > start.samples + seconds * 48_000 ? difference(start, now) : null;
        });
      // The jitter buffer finds its length first.
      await hear(await hearing(teacher, pupils), 4);
      const heard = await hear(await hearing(teacher, pupils), 10);
      t.diagnostic(JSON.stringify(heard));
      const near = (value: number, expected: number) => Math.abs(value / expected - 1) < 0.3;
      assert.ok(near(heard.packets / heard.packetsSent, packets), 'so many packets');
      assert.ok(near(heard.bytes / heard.bytesSent, bytes), 'so many bytes');
      assert.ok(heard.energy > 0, 'there is something to hear');
      assert.ok(heard.concealed < 0.02 * heard.samples, `${heard.concealed} samples were made up`);
      assert.ok(heard.delay / heard.emitted < 0.3, `sound waits ${heard.delay / heard.emitted} s`);
    });
  });
}

type Hearing = Awaited<ReturnType<typeof hearing>>;

/** What one visitor has said and another has heard since they joined. */
async function hearing(speaker: Visitor, listener: Visitor) {
  const heard = await soundOf(listener, 'inbound-rtp');
  const said = await soundOf(speaker, 'outbound-rtp');
  return {
    packetsSent: said('packetsSent'),
    bytesSent: said('bytesSent'),
    packets: heard('packetsReceived'),
    bytes: heard('bytesReceived'),
    /** At 48 kHz; made up ones among them. */
    samples: heard('totalSamplesReceived'),
    concealed: heard('concealedSamples'),
    energy: heard('totalAudioEnergy'),
    /** Seconds that samples waited, summed up, and how many samples. */
    delay: heard('jitterBufferDelay'),
    emitted: heard('jitterBufferEmittedCount'),
  };
}

/** Numbers over a visitor's statistics of sound. */
async function soundOf(visitor: Visitor, type: string): Promise<(name: string) => number> {
  const reports = (await visitor.stats(type)).filter((report) => report['kind'] === 'audio');
  return (name) => reports.reduce((sum, report) => sum + Number(report[name] ?? 0), 0);
}

function difference(from: Hearing, to: Hearing): Hearing {
  const names = Object.keys(to) as (keyof Hearing)[];
  return Object.fromEntries(names.map((name) => [name, to[name] - from[name]])) as Hearing;
}
