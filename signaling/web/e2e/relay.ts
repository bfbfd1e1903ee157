import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { Program, binary } from './processes.js';

/** A line's faults, both ways. */
export interface Faults {
  lossPercent?: number;
  delayMs?: number;
  /** Or one from clients to the server, and one back. */
  rateKbps?: number | { up: number; down: number };
}

/** What became of the datagrams of one direction. */
export interface LinkStats {
  entered: number;
  lost: number;
  dropped: number;
  passed: number;
}

/** What became of all datagrams. */
export interface RelayStats {
  up: LinkStats;
  down: LinkStats;
  clients: number;
}

/** A bad line in front of a server's media port: `lectern-loadtest relay`. */
export class Relay {
  private stopping: Promise<RelayStats> | undefined;

  private constructor(
    /** Where clients have to send to: the server's `--node-ip`. */
    readonly address: string,
    private readonly program: Program,
    private readonly output: Interface,
  ) {}

  /** Starts one that leads to a port of this machine. */
  static async start(toPort: number, faults: Faults): Promise<Relay> {
    const rate = faults.rateKbps ?? 0;
    const flags = [
      'relay',
      '--listen=127.0.0.1:0',
      `--to=127.0.0.1:${toPort}`,
      `--loss=${faults.lossPercent ?? 0}`,
      `--delay=${faults.delayMs ?? 0}`,
      `--rate=${typeof rate === 'number' ? rate : `${rate.up}:${rate.down}`}`,
      '--seed=1',
    ];
    const program = await Program.start(binary('lectern-loadtest'), flags, 'pipe');
    const { stdout } = program.process;
    if (stdout === null) throw new Error('standard output is a pipe');
    const output = createInterface(stdout);
    const [line] = (await once(output, 'line')) as [string];
    const address = /^relaying (\S+) to/.exec(line)?.[1];
    if (address === undefined) throw new Error(`the relay says: ${line}`);
    return new Relay(address, program, output);
  }

  /** Ends it, once, and tells what it did. */
  stop(): Promise<RelayStats> {
    return (this.stopping ??= this.end());
  }

  private async end(): Promise<RelayStats> {
    const line = once(this.output, 'line');
    await this.program.stop();
    return JSON.parse(((await line) as [string])[0]) as RelayStats;
  }
}
