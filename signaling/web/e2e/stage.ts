import { after, before } from 'node:test';
import type { Browser } from 'playwright-core';
import { startBrowser, type Slides } from './classroom.js';
import { Server, type ServerOptions } from './server.js';

/** What all tests of a suite share. */
export interface Stage {
  server: Server;
  browser: Browser;
}

/** Starts a server and a browser before the suite that this is called in, and ends them behind it. */
export function setStage(options: ServerOptions & { slides?: Slides } = {}): Stage {
  // Filled before the first test runs.
  const stage = {} as Stage;
  before(async () => {
    stage.server = await Server.start(options);
    stage.browser = await startBrowser(options.slides);
  });
  after(async () => {
    await stage.browser?.close();
    await stage.server?.stop();
  });
  return stage;
}
