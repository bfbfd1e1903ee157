import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './eventually.js';
import { Program, binary, freeTcp, freeUdp } from './processes.js';

const run = promisify(execFile);

/** How the server under test is run. Default: as the environment variable SHAPE says, such as `apart,2`. */
export interface Shape {
  /** Media workers; else what the server chooses. */
  workers?: number;
  /** Signaling and SFU as one process, or as services of their own; else one process. */
  services?: 'together' | 'apart';
}

/** What else a test wants of its server. */
export interface ServerOptions extends Shape {
  /** UDP port of media. Default: any free one. */
  mediaPort?: number;
  /** More flags of signaling. */
  flags?: string[];
  /** More flags of the SFU. */
  sfuFlags?: string[];
}

/** A running Lectern with ports and a state folder of its own. */
export class Server {
  private constructor(
    readonly origin: string,
    /** What the clients connect to; ending it leaves the media of a server whose services are apart. */
    private readonly signaling: Program,
    private readonly sfu: Program | undefined,
    private readonly state: string,
  ) {}

  /** Starts the build that the environment variable LECTERN names and waits until it serves. */
  static async start(asked: ServerOptions = {}): Promise<Server> {
    const options = { ...defaultShape(), ...asked };
    const state = await mkdtemp(join(tmpdir(), 'lectern-e2e-'));
    const port = await freeTcp();
    const flags = [
      `--http-bind=127.0.0.1:${port}`,
      '--https=false',
      `--state-dir=${state}`,
      '--log-filter=warn',
      ...(options.flags ?? []),
    ];
    const sfuFlags = [
      `--udp-bind=0.0.0.0:${options.mediaPort ?? 0}`,
      '--drain-deadline-s=0',
      ...(options.workers === undefined ? [] : [`--workers=${options.workers}`]),
      ...(options.sfuFlags ?? []),
    ];
    const programs =
      options.services === 'apart'
        ? await startApart(flags, sfuFlags, state)
        : { signaling: await Program.start(binary('lectern'), [...flags, ...sfuFlags]), sfu: undefined };
    const server = new Server(`http://localhost:${port}`, programs.signaling, programs.sfu, state);
    try {
      await eventually('the server answers', async () => {
        programs.signaling.assertRunning();
        programs.sfu?.assertRunning();
        return (await fetch(`${server.origin}/readyz`).catch(() => null))?.ok === true;
      });
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** Ends signaling as a crash does, and leaves the SFU alone. */
  async killSignaling(): Promise<void> {
    await this.signaling.stop('SIGKILL');
  }

  /** Ends the processes and removes what they kept. */
  async stop(): Promise<void> {
    await this.signaling.stop();
    await this.sfu?.stop();
    await rm(this.state, { recursive: true });
  }
}

function defaultShape(): Shape {
  const [services = 'together', workers] = process.env['SHAPE']?.split(',') ?? [];
  if (services !== 'together' && services !== 'apart')
    throw new Error(`SHAPE begins with ${services}, not with together or apart`);
  return workers === undefined ? { services } : { services, workers: Number(workers) };
}

async function startApart(
  flags: string[],
  sfuFlags: string[],
  state: string,
): Promise<{ signaling: Program; sfu: Program }> {
  const control = `127.0.0.1:${await freeUdp()}`;
  const nodes = [...flags, `--control-bind=${control}`];
  const certificate = join(state, 'node.pem');
  await run(binary('lectern-signaling'), [...nodes, 'node-certificate', 'e2e', `--out=${certificate}`]);
  const signaling = await Program.start(binary('lectern-signaling'), nodes);
  const sfu = await Program.start(binary('lectern-sfu'), [
    ...sfuFlags,
    '--announce-loopback',
    `--signaling=${control}`,
    `--node-certificate=${certificate}`,
    `--metrics-bind=127.0.0.1:${await freeTcp()}`,
    '--log-filter=warn',
  ]);
  return { signaling, sfu };
}
