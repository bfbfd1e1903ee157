/**
 * `make e2e-quality`: what a class sees and hears of a teacher in a real browser, with 0 and 5 % of the packets lost
 * each way; the median of several runs. It measures, and judges nothing. Both browsers are on this machine.
 *
 * Lip sync is seen from outside: the teacher's camera and microphone flash and beep at once, and the difference is
 * taken where the class's page plays them. So it holds what both browsers add in capturing and playing.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import type { Browser } from 'playwright-core';
import { Visitor, makeLesson, startBrowser, type Scope } from './classroom.js';
import { eventually } from './eventually.js';
import { freeUdp } from './processes.js';
import { flashAndBeep, lipSync, recordJoining, timeToWiderThan, type Timeline } from './quality-page.js';
import { Relay } from './relay.js';
import { Server } from './server.js';

const RUNS = Number(process.env['RUNS'] ?? 5);
const SECONDS = 10;
const RESULTS = '../../benches/RESULTS.md';

/** What one run found; null: it never happened. */
type Findings = Record<(typeof NAMES)[number], number | null>;

const NAMES = [
  'frames decoded in 10 s',
  'freezes in 10 s',
  'frozen, ms',
  'sound made up, %',
  'sound after picture, ms',
  'larger layer after, ms',
  'join: WebSocket, ms',
  'join: ICE, ms',
  'join: DTLS, ms',
  'join: first frame, ms',
] as const;

const rows: string[] = [];
for (const lossPercent of [0, 5]) {
  const runs: Findings[] = [];
  for (let run = 1; run <= RUNS; run += 1) {
    runs.push(await measure(lossPercent));
    console.log(`${lossPercent} % loss, run ${run} of ${RUNS}:`, runs.at(-1));
  }
  const result = NAMES.map((name) => `${name}: ${summary(runs.map((findings) => findings[name]))}`).join(
    '; ',
  );
  rows.push(
    `| ${description()} | a lesson of two Chromium pages, ${lossPercent} % loss each way | ${result} |\n`,
  );
}
appendFileSync(RESULTS, rows.join(''));
console.log(rows.join(''));

/** One lesson of its own, with server, browser and line. */
async function measure(lossPercent: number): Promise<Findings> {
  const cleanUp: (() => unknown)[] = [];
  const t: Scope = { after: (work) => void cleanUp.unshift(work) };
  try {
    const mediaPort = await freeUdp();
    const relay = await Relay.start(mediaPort, { lossPercent });
    t.after(() => relay.stop());
    const server = await Server.start({ mediaPort, sfuFlags: [`--node-ip=${relay.address}`] });
    t.after(() => server.stop());
    const browser = await startBrowser('pattern', '--autoplay-policy=no-user-gesture-required');
    t.after(() => browser.close());
    return await observe(t, browser, server.origin);
  } finally {
    for (const work of cleanUp) await work();
  }
}

async function observe(t: Scope, browser: Browser, origin: string): Promise<Findings> {
  const links = await makeLesson(origin);
  const teacher = await Visitor.open(t, browser, links.teacher, flashAndBeep);
  await teacher.join('Ms Hill');
  const pupils = await Visitor.open(t, browser, links.class, recordJoining);
  await pupils.join('Year 5');
  await pupils.seesMoving(pupils.tile('Ms Hill').locator('video'), 'the teacher');
  const timeline = await pupils.page.evaluate(() => (window as unknown as { timeline: Timeline }).timeline);

  const received = async () => {
    const names = [
      'framesDecoded',
      'freezeCount',
      'totalFreezesDuration',
      'concealedSamples',
      'totalSamplesReceived',
    ];
    return Promise.all(names.map((name) => pupils.sum('inbound-rtp', name)));
  };
  const before = await received();
  const offsets = await pupils.page.evaluate(lipSync, SECONDS);
  const during = (await received()).map((now, index) => now - (before[index] ?? 0));
  const [frames, freezes, frozen, concealed, samples] = during as [number, number, number, number, number];
  return {
    'frames decoded in 10 s': frames,
    'freezes in 10 s': freezes,
    'frozen, ms': frozen * 1000,
    'sound made up, %': (concealed / samples) * 100,
    'sound after picture, ms': median(offsets),
    'larger layer after, ms': await timeToSwitch(pupils),
    'join: WebSocket, ms': timeline.webSocket ?? null,
    'join: ICE, ms': timeline.ice ?? null,
    'join: DTLS, ms': timeline.dtls ?? null,
    'join: first frame, ms': timeline.firstFrame ?? null,
  };
}

/** From a larger window to the first larger picture. */
async function timeToSwitch(pupils: Visitor): Promise<number | null> {
  const video = pupils.tile('Ms Hill').locator('video');
  const width = () => video.evaluate((video: HTMLVideoElement) => video.videoWidth);
  const full = await width();
  await pupils.page.setViewportSize({ width: 360, height: 400 });
  const small = await eventually('a smaller layer', async () => {
    const now = await width();
    return now < full ? now : 0;
  }).catch(() => null);
  if (small === null) return null;
  const switching = pupils.page.evaluate(timeToWiderThan, small);
  await pupils.page.setViewportSize({ width: 1280, height: 720 });
  return switching;
}

function median(numbers: number[]): number | null {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? null;
}

/** The median and what it lies in. */
function summary(found: (number | null)[]): string {
  const numbers = found.filter((number) => number !== null);
  const middle = median(numbers);
  if (middle === null) return 'never';
  const round = (number: number) => Number(number.toPrecision(3));
  return `${round(middle)} (${round(Math.min(...numbers))} to ${round(Math.max(...numbers))}, ${numbers.length} runs)`;
}

/** The first columns of a row. */
function description(): string {
  const git = (...words: string[]) => execFileSync('git', words, { encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+';
  const machine = `${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), Linux ${release()}`;
  const date = new Date().toISOString().slice(0, 10);
  return `${date} | ${git('rev-parse', '--short', 'HEAD')}${changed} | ${machine} | \`make e2e-quality\``;
}
