import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';

/** The path of a binary of the build under test: the environment variable LECTERN names one of them. */
export function binary(name: string): string {
  const lectern = process.env['LECTERN'];
  if (lectern === undefined) throw new Error('set LECTERN to the binary to test, or run `make browser-test`');
  return join(dirname(lectern), name);
}

/** Whether the build under test has this binary. */
export function hasBinary(name: string): boolean {
  return existsSync(binary(name));
}

/** A program that runs beside the test; what it says goes to the test's output. */
export class Program {
  private constructor(
    readonly name: string,
    readonly process: ChildProcess,
  ) {}

  /** Starts it. `stdout: 'pipe'` leaves what it prints to the caller. */
  static async start(
    command: string,
    flags: string[],
    stdout: 'inherit' | 'pipe' = 'inherit',
  ): Promise<Program> {
    const child = spawn(command, flags, { stdio: ['ignore', stdout, 'inherit'] });
    await once(child, 'spawn');
    return new Program(command, child);
  }

  /** Throws when it has ended by itself. */
  assertRunning(): void {
    const { exitCode, signalCode } = this.process;
    if (exitCode !== null || signalCode !== null)
      throw new Error(`${this.name} ended: ${exitCode ?? signalCode}`);
  }

  /** Ends it, with all time that it takes. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, 'exit');
    this.process.kill(signal);
    await exit;
  }
}

/** A TCP port of loopback that was free a moment ago. */
export async function freeTcp(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  listener.close();
  await once(listener, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP listener has a port');
  return address.port;
}

/** A UDP port that was free a moment ago. */
export async function freeUdp(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}
