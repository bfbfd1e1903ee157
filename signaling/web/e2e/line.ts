import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * A line to a server's web port that can be cut: what is open breaks, and what is begun is refused. Media takes
 * another way.
 */
export class Line {
  private readonly open = new Set<Socket>();
  private isCut = false;

  private constructor(
    /** Where the server seems to be. */
    readonly origin: string,
    private readonly listener: Server,
  ) {}

  /** Lays a line to a server. */
  static async to(server: string): Promise<Line> {
    const { hostname, port } = new URL(server);
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const line = new Line(`http://localhost:${(listener.address() as AddressInfo).port}`, listener);
    listener.on('connection', (client) => line.carry(client, connect(Number(port), hostname)));
    return line;
  }

  /** Breaks everything, until it is mended. */
  cut(): void {
    this.isCut = true;
    this.breakOff();
  }

  mend(): void {
    this.isCut = false;
  }

  close(): void {
    this.listener.close();
    this.breakOff();
  }

  private breakOff(): void {
    for (const socket of this.open) socket.destroy();
  }

  private carry(client: Socket, server: Socket): void {
    if (this.isCut) {
      client.destroy();
      server.destroy();
      return;
    }
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.open.add(from);
      from.pipe(to);
      // An error is followed by `close`.
      from.on('error', () => undefined);
      from.on('close', () => {
        this.open.delete(from);
        to.destroy();
      });
    }
  }
}
