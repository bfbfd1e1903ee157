import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './eventually.js';

/** A running `lectern` with ports and a state folder of its own. */
export class Server {
  private constructor(
    readonly origin: string,
    private readonly process: ChildProcess,
    private readonly state: string,
  ) {}

  /** Starts the binary that the environment variable LECTERN names and waits until it serves. */
  static async start(): Promise<Server> {
    const binary = process.env['LECTERN'];
    if (binary === undefined)
      throw new Error('set LECTERN to the binary to test, or run `make browser-test`');
    const port = await freeTcp();
    const state = await mkdtemp(join(tmpdir(), 'lectern-e2e-'));
    const flags = [
      `--http-bind=127.0.0.1:${port}`,
      '--https=false',
      '--udp-bind=0.0.0.0:0',
      `--state-dir=${state}`,
      '--drain-deadline-s=0',
      '--log-filter=warn',
    ];
    const child = spawn(binary, flags, { stdio: ['ignore', 'inherit', 'inherit'] });
    await once(child, 'spawn');
    const server = new Server(`http://localhost:${port}`, child, state);
    try {
      await eventually('the server answers', async () => {
        if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
        return (await fetch(`${server.origin}/readyz`).catch(() => null))?.ok === true;
      });
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** Ends the process and removes what it kept. */
  async stop(): Promise<void> {
    if (this.process.exitCode === null) {
      this.process.kill('SIGTERM');
      await once(this.process, 'exit');
    }
    await rm(this.state, { recursive: true });
  }
}

async function freeTcp(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  listener.close();
  await once(listener, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port');
  return address.port;
}
