import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium, type Browser, type Locator, type Page } from 'playwright-core';
import { PATIENCE_MS, eventually } from './eventually.js';

const FLAGS = [
  '--disable-quic',
  // Two cameras, so that one can be changed for the other.
  '--use-fake-device-for-media-stream=device-count=2',
  // The server is on this machine: without this, Chromium offers and takes no 127.0.0.1 candidates.
  '--allow-loopback-in-peer-connection',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-gpu',
];

/** Starts the browser that all tests of a file share; each page has a context of its own. */
export function startBrowser(slides: Slides = 'pattern', ...flags: string[]): Promise<Browser> {
  const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
  const args = [...FLAGS, slides === 'pattern' ? FAKE_UI : `${CHOOSE_TAB}=${slides.tab}`, ...flags];
  return chromium.launch({ executablePath, args, chromiumSandbox: false });
}

/** What is captured when slides are shared: Chromium's test pattern, or the tab of this title. */
export type Slides = 'pattern' | { tab: string };

const FAKE_UI = '--use-fake-ui-for-media-stream';
const CHOOSE_TAB = '--auto-select-tab-capture-source-by-title';

/** The links of a lesson. */
export interface Links {
  teacher: string;
  class: string;
  schools?: { school: string; class: string }[];
}

/** Makes a lesson by the API. */
export async function makeLesson(origin: string, schools: string[] = []): Promise<Links> {
  const answer = await fetch(`${origin}/api/lessons`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'Rivers', schools }),
  });
  assert.equal(answer.status, 201);
  return (await answer.json()) as Links;
}

/** Runs in the page before its own scripts: `window.connections` are its peer connections, for their statistics. */
export function keepConnections(): void {
  const Native = RTCPeerConnection;
  const connections: RTCPeerConnection[] = [];
  Object.assign(window, {
    connections,
    RTCPeerConnection: class extends Native {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        connections.push(this);
      }
    },
  });
}

/** Runs in the page: its statistics of one type, over all of its peer connections. */
export async function statsOf(type: string): Promise<Record<string, unknown>[]> {
  const found: Record<string, unknown>[] = [];
  const { connections } = window as unknown as { connections: RTCPeerConnection[] };
  for (const connection of connections) {
    for (const report of (await connection.getStats()).values()) {
      if (report.type === type) found.push(report);
    }
  }
  return found;
}

/** What can run in a page: a function that stands alone, or source text. */
export type Script = (() => void) | string;

/** The source text of calling a function that stands alone. */
export function callOf<T extends unknown[]>(call: (...values: T) => void, ...values: T): string {
  return `(${call.toString()})(${values.map((value) => JSON.stringify(value)).join(', ')});`;
}

/** What lasts as long as a test. */
export interface Scope {
  /** Does this at its end. */
  after(work: () => unknown): void;
}

/** One person's or class's page. */
export class Visitor {
  private constructor(
    readonly page: Page,
    readonly errors: string[],
  ) {}

  /** Opens an address in a fresh context, which is closed when the test ends. `prepare` runs in the page first. */
  static async open(t: Scope, browser: Browser, url: string, prepare?: Script): Promise<Visitor> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 720 } });
    t.after(() => context.close());
    context.setDefaultTimeout(PATIENCE_MS);
    await context.grantPermissions(['camera', 'microphone']);
    await context.addInitScript(keepConnections);
    if (prepare !== undefined) await context.addInitScript(prepare);
    const page = await context.newPage();
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) errors.push(message.text());
    });
    await page.goto(url);
    return new Visitor(page, errors);
  }

  /** Goes through the lobby and waits until the lesson's view is connected. */
  async join(name: string): Promise<void> {
    await this.page.getByLabel('Your name').fill(name);
    await this.button('Join').click();
    await this.connected();
  }

  /** Waits until the lesson's view is connected. */
  connected(): Promise<void> {
    return this.page.getByText('Connected.').waitFor();
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true });
  }

  tile(name: string): Locator {
    return this.page
      .getByRole('list', { name: 'People in the lesson' })
      .getByRole('listitem')
      .filter({ hasText: name });
  }

  /** Waits until a video has a size and shows new frames. */
  async seesMoving(video: Locator, what: string): Promise<void> {
    const frames = () =>
      video.evaluate((element: HTMLVideoElement) =>
        element.videoWidth > 0 ? element.getVideoPlaybackQuality().totalVideoFrames : 0,
      );
    const first = await eventually(`${what} appears`, frames);
    await eventually(`${what} moves`, async () => (await frames()) > first + 5);
  }

  /** What the page has received as sound so far, as energy (webrtc-stats `totalAudioEnergy`). */
  async soundEnergy(): Promise<number> {
    return this.sum('inbound-rtp', 'totalAudioEnergy');
  }

  /** Waits until sound that is not silence arrives. */
  async hearsSound(): Promise<void> {
    const before = await this.soundEnergy();
    await eventually('sound arrives', async () => (await this.soundEnergy()) > before + 1e-6);
  }

  /** What axe-core finds wrong with the page as it is now. */
  async accessibilityProblems(): Promise<string[]> {
    await this.page.evaluate(axe.source);
    return this.page.evaluate(async () => {
      const { violations } = await (window as unknown as { axe: typeof axe }).axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'],
      });
      return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`));
    });
  }

  /** Ends the page as a crash does: it says goodbye to nobody. */
  async crash(): Promise<void> {
    const devtools = await this.page.context().newCDPSession(this.page);
    // There is nobody left to answer.
    void devtools.send('Page.crash').catch(() => {});
  }

  /** A number over all of the page's statistics of one type. */
  async sum(type: string, name: string): Promise<number> {
    const reports = await this.stats(type);
    return reports.reduce((sum, report) => sum + Number(report[name] ?? 0), 0);
  }

  /** The page's statistics of one type, over all of its peer connections. */
  async stats(type: string): Promise<Record<string, unknown>[]> {
    return this.page.evaluate(statsOf, type);
  }
}
