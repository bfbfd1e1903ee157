import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { TestContext } from 'node:test';
import type * as LiveKit from 'livekit-client';
import type { Browser, Locator } from 'playwright-core';
import { Visitor } from './classroom.js';
import { eventually } from './eventually.js';

/** The library as one script that needs no bundler. */
const LIBRARY = createRequire(import.meta.url).resolve('livekit-client');

/** What the page of an older client keeps between calls. */
interface Page {
  LivekitClient: typeof LiveKit;
  room: LiveKit.Room;
  heard: string[];
  left: string[];
}

/**
 * A `livekit-client` that is made to speak the older protocol, as SDKs for telephones do: on `/rtc`, with one
 * connection to send on and one to receive on.
 */
export class OlderClient {
  private constructor(private readonly visitor: Visitor) {}

  /** Joins the lesson of an invitation link. */
  static async join(
    t: TestContext,
    browser: Browser,
    origin: string,
    link: string,
    name: string,
  ): Promise<OlderClient> {
    const invitation = new URLSearchParams(new URL(link).hash.slice(1)).get('invitation');
    const answer = await fetch(`${origin}/api/join`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ invitation, name }),
    });
    const { token } = (await answer.json()) as { token: string };
    const visitor = await Visitor.open(t, browser, origin);
    // As in `accessibilityProblems`: evaluated, since the page's policy takes no script of others.
    await visitor.page.evaluate(await readFile(LIBRARY, 'utf8'));
    await visitor.page.evaluate(
      async ({ url, token }) => {
        const page = window as unknown as Page;
        const { Room, RoomEvent } = page.LivekitClient;
        const room = new Room({ singlePeerConnection: false });
        Object.assign(page, { room, heard: [], left: [] });
        room.on(RoomEvent.TrackSubscribed, (track, { trackSid }) => {
          const element = track.attach();
          element.dataset['track'] = trackSid;
          document.body.append(element);
        });
        room.on(RoomEvent.TrackUnsubscribed, (_, { trackSid }) => {
          document.querySelector(`[data-track="${trackSid}"]`)?.remove();
        });
        room.on(RoomEvent.DataReceived, (bytes, from) => {
          page.heard.push(`${from?.name}: ${new TextDecoder().decode(bytes)}`);
        });
        room.on(RoomEvent.ChatMessage, (message, from) => {
          page.heard.push(`${from?.name}: ${message.message}`);
        });
        room.on(RoomEvent.ParticipantDisconnected, (someone) => page.left.push(`${someone.name}`));
        await room.connect(url, token);
      },
      { url: origin, token },
    );
    return new OlderClient(visitor);
  }

  /** How many connections the page has. */
  async connections(): Promise<number> {
    return (await this.visitor.stats('transport')).length;
  }

  /** Turns camera and microphone on or off; off ends the tracks. */
  publish(on: boolean): Promise<void> {
    return this.visitor.page.evaluate(async (on) => {
      const { localParticipant } = (window as unknown as Page).room;
      if (on) return localParticipant.enableCameraAndMicrophone();
      for (const { track } of localParticipant.trackPublications.values()) {
        if (track) await localParticipant.unpublishTrack(track);
      }
    }, on);
  }

  /** Sends bytes to everybody. */
  send(text: string, reliable: boolean): Promise<void> {
    return this.visitor.page.evaluate(
      ({ text, reliable }) => {
        const { localParticipant } = (window as unknown as Page).room;
        return localParticipant.publishData(new TextEncoder().encode(text), { reliable });
      },
      { text, reliable },
    );
  }

  /** Says something in the lesson's chat. */
  chat(text: string): Promise<void> {
    return this.visitor.page.evaluate(async (text) => {
      await (window as unknown as Page).room.localParticipant.sendText(text, { topic: 'lk.chat' });
    }, text);
  }

  /** Waits until it has heard a message. */
  hears(line: string): Promise<unknown> {
    const heard = () => this.visitor.page.evaluate(() => (window as unknown as Page).heard);
    return eventually(`"${line}" is heard`, async () => (await heard()).includes(line));
  }

  /** Waits until it receives so many moving pictures, and no more. */
  async sees(pictures: number): Promise<void> {
    const videos = this.visitor.page.locator('video[data-track]');
    await eventually(`${pictures} pictures`, async () => (await videos.count()) === pictures);
    for (const video of await videos.all()) await this.visitor.seesMoving(video, 'a picture');
  }

  /** Waits until sound arrives. */
  hearsSound(): Promise<void> {
    return this.visitor.hearsSound();
  }

  /** Its pictures. */
  videos(): Locator {
    return this.visitor.page.locator('video[data-track]');
  }

  /** Leaves the lesson. */
  leave(): Promise<void> {
    return this.visitor.page.evaluate(() => (window as unknown as Page).room.disconnect());
  }
}
