import { existsSync } from 'node:fs';
import type { TestContext } from 'node:test';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { keepConnections, statsOf } from './classroom.js';
import { PATIENCE_MS, eventually } from './eventually.js';

const EXECUTABLE = process.env['FIREFOX'] ?? '/usr/bin/firefox-esr';

/** Why Firefox cannot take part here, or false. */
export function firefoxMissing(): string | false {
  if (!existsSync(EXECUTABLE)) return `there is no ${EXECUTABLE}`;
  if (process.env['LECTERN_OWN_NETWORK'] === undefined)
    return 'Firefox needs a network of its own: run as root, with the command ip';
  return false;
}

/** Starts Firefox with a camera and a microphone of its own making. Playwright drives a patched Firefox only. */
export function startFirefox(): Promise<Browser> {
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: EXECUTABLE,
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      // Its own codec download has no network here.
      'media.gmp-manager.updateEnabled': false,
    },
  });
}

/** One person's page in Firefox. */
export class FirefoxVisitor {
  private constructor(
    readonly page: Page,
    readonly errors: string[],
  ) {}

  /** Opens an address in a fresh context, which is closed when the test ends. */
  static async open(t: TestContext, browser: Browser, url: string): Promise<FirefoxVisitor> {
    const context = await browser.createBrowserContext();
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await page.evaluateOnNewDocument(keepConnections);
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    await page.goto(url);
    // A tab in the background is never drawn, and the page asks for no picture of tiles that are not.
    await page.bringToFront();
    return new FirefoxVisitor(page, errors);
  }

  /** Goes through the lobby and waits until the lesson's view is connected. */
  async join(name: string): Promise<void> {
    await this.type('input[name=name]', name);
    await this.press('Join');
    await this.reads('Connected.');
  }

  /** Writes a chat message. */
  async say(text: string): Promise<void> {
    await this.type('input[name=message]', text);
    await this.press('Send');
  }

  /** Waits until the page shows a text. */
  async reads(text: string): Promise<void> {
    await this.page.waitForSelector(`::-p-text(${text})`);
  }

  /** Presses a button. */
  async press(button: string): Promise<void> {
    // Not by locators: in a browser that nobody sees they wait for a picture that is never drawn.
    const found = await this.page.waitForSelector(`::-p-xpath(//button[.="${button}"])`);
    await found?.evaluate((button) => (button as HTMLButtonElement).click());
  }

  private async type(selector: string, text: string): Promise<void> {
    const found = await this.page.waitForSelector(selector);
    await found?.type(text);
  }

  /** Waits until the only other participant's picture has a size and new frames of it are decoded. */
  async seesMoving(name: string): Promise<void> {
    const width = () =>
      this.page.evaluate((name) => {
        const tiles = [...document.querySelectorAll('.tiles > li')];
        return tiles.find((tile) => tile.textContent?.includes(name))?.querySelector('video')?.videoWidth;
      }, name);
    await eventually(`Firefox sees ${name}`, width);
    const first = await this.sum('framesDecoded');
    await eventually(`${name} moves in Firefox`, async () => (await this.sum('framesDecoded')) > first + 5);
  }

  /** Waits until sound that is not silence arrives. */
  async hearsSound(): Promise<void> {
    await eventually('Firefox hears sound', async () => (await this.sum('totalAudioEnergy')) > 1e-6);
  }

  /** A number over all that is received. */
  private async sum(name: string): Promise<number> {
    const received = await this.page.evaluate(statsOf, 'inbound-rtp');
    return received.reduce((sum, report) => sum + Number(report[name] ?? 0), 0);
  }
}
