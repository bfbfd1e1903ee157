import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { describe, test, type TestContext } from 'node:test';
import { Visitor, makeLesson } from './classroom.js';
import { eventually } from './eventually.js';
import { setStage } from './stage.js';

/** A Python that has the package `livekit`: `.ci/python` makes one. */
const PYTHON = process.env['LECTERN_PYTHON'] ?? '../../target/python/bin/python';

describe('a lesson with the Python SDK', { skip: missing() }, () => {
  const stage = setStage();

  for (const protocol of ['v1', 'v0'] as const) {
    test(`Python speaking ${protocol} and a browser see, hear and write to each other`, async (t) => {
      const links = await makeLesson(stage.server.origin);
      const teacher = await Visitor.open(t, stage.browser, links.teacher);
      await teacher.join('Ms Hill');
      const python = await PythonClient.join(t, stage.server.origin, links.class, 'Python', protocol);
      await Promise.all([
        teacher.seesMoving(teacher.tile('Python').locator('video'), 'the picture that Python draws'),
        teacher.hearsSound(),
        python.says(
          'the teacher in 20 frames',
          (fact) => fact.event === 'frames' && Number(fact['count']) >= 20,
        ),
        python.says('sound', (fact) => fact.event === 'sound'),
      ]);

      await teacher.page.getByLabel('Message').fill('Hello, snake');
      await teacher.button('Send').click();
      await python.says('the message', (fact) => fact['text'] === 'Hello, snake');
      await teacher.page.getByRole('log').getByText('Python You wrote: Hello, snake').waitFor();

      await python.leave();
      await teacher.tile('Python').waitFor({ state: 'detached' });
    });
  }
});

/** Why Python cannot take part here, or false. */
function missing(): string | false {
  if (!existsSync(PYTHON)) return `there is no ${PYTHON}: run .ci/python`;
  if (process.env['LECTERN_OWN_NETWORK'] === undefined)
    return 'Python needs a network of its own: run as root, with the command ip';
  return false;
}

/** What the client says happened. */
type Fact = { event: string } & Record<string, unknown>;

/** `python_client.py` in a lesson. */
class PythonClient {
  private readonly facts: Fact[] = [];

  private constructor(private readonly process: ChildProcessByStdio<Writable, Readable, null>) {
    createInterface(process.stdout).on('line', (line) => this.facts.push(JSON.parse(line) as Fact));
  }

  /** Starts it with what it takes to be let in; it is ended with the test. `v0` is two peer connections, `v1` one. */
  static async join(
    t: TestContext,
    origin: string,
    link: string,
    name: string,
    protocol: 'v0' | 'v1',
  ): Promise<PythonClient> {
    const invitation = new URL(link).hash.replace('#invitation=', '');
    const answer = await fetch(`${origin}/api/join`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ invitation, name }),
    });
    assert.equal(answer.status, 200);
    const { token } = (await answer.json()) as { token: string };
    const child = spawn(PYTHON, ['e2e/python_client.py', origin.replace('http', 'ws'), token, protocol], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    const client = new PythonClient(child);
    await client.says('that it has published', (fact) => fact.event === 'published');
    return client;
  }

  /** Waits until it says something. */
  says(what: string, matches: (fact: Fact) => boolean): Promise<Fact> {
    return eventually(`Python says ${what}`, async () => {
      assert.equal(this.process.exitCode, null, 'Python still runs');
      return this.facts.find(matches);
    });
  }

  /** Lets it leave by itself. */
  async leave(): Promise<void> {
    this.process.stdin.end();
    const [code] = (await once(this.process, 'exit')) as [number | null];
    assert.equal(code, 0);
  }
}
