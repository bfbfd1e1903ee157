import { RoomEvent, ConnectionState, type DisconnectReason, type Room } from 'livekit-client';
import type { Input } from './capture.js';
import { chatPanel } from './chat.js';
import { newRoom } from './connection.js';
import { Controls } from './controls.js';
import { devicePanel } from './device-panel.js';
import { element, statusLine } from './dom.js';
import { describeDeviceFailures, describeEnd, describeFailure } from './failure.js';
import { Hands } from './hands.js';
import type { Entry } from './lobby.js';
import { Stage } from './stage.js';
import { strings } from './strings.js';
import { viewButton } from './view.js';

/** After any of these the view is brought up to date; it does not matter which it was. */
const CHANGES = [
  RoomEvent.ConnectionStateChanged,
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.ParticipantAttributesChanged,
  RoomEvent.TrackSubscribed,
  RoomEvent.TrackUnsubscribed,
  RoomEvent.TrackUnpublished,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged,
] as const;

/** Opens the lesson's view and enters the lesson; `onEnd` is called once, with the reason in plain words. */
export function openLesson(entry: Entry, onEnd: (message: string) => void): HTMLElement {
  const { role, lesson } = entry.admission;
  const room = newRoom();
  const status = statusLine();
  const notice = statusLine();
  notice.classList.add('notice');
  const say = (line: HTMLElement, text: string) => {
    // The same text again would be read out again.
    if (line.textContent !== text) line.textContent = text;
  };
  const notify = (text: string) => say(notice, text);

  const stage = new Stage(room);
  const hands = new Hands(room, role, notify);
  const devices = devicePanel(room, notify);
  devices.button.hidden = role === 'viewer';
  const controls = new Controls(room, role, [hands.button, viewButton(stage), devices.button], notify);
  const refresh = () => {
    stage.refresh();
    hands.refresh();
    controls.refresh();
    say(status, describeState(room));
    status.classList.toggle('trouble', room.state !== ConnectionState.Connected);
  };
  for (const change of CHANGES) room.on(change, refresh);

  say(status, strings.status.connecting);
  void enter(room, entry, notify, onEnd);

  return element(
    'main',
    { className: 'lesson' },
    element('header', {}, element('h1', {}, lesson), status, notice, hands.news),
    stage.element,
    element('div', { className: 'side' }, hands.element, chatPanel(room, role)),
    element('footer', {}, devices.element, controls.element),
  );
}

async function enter(
  room: Room,
  { admission, capture, captured, on }: Entry,
  notify: (notice: string) => void,
  onEnd: (message: string) => void,
): Promise<void> {
  try {
    await room.connect(location.origin, admission.token);
  } catch (error) {
    capture.abandon();
    onEnd(describeFailure(error));
    return;
  }
  room.once(RoomEvent.Disconnected, (reason?: DisconnectReason) => {
    capture.abandon();
    onEnd(describeEnd(reason));
  });

  // Whoever still thinks about the browser's question about the camera sees the lesson already.
  await captured;
  const problem = describeDeviceFailures(capture);
  if (problem !== '') notify(strings.devices.stillJoined(problem));
  if (!on.videoinput) capture.close('videoinput');
  const tracks = INPUTS.map((input) => capture.track(input)).filter((track) => track !== undefined);
  // A microphone that is off is published all the same, silent: to turn it on takes no time.
  if (!on.audioinput) await capture.track('audioinput')?.mute();
  const published = await Promise.allSettled(
    tracks.map((track) => room.localParticipant.publishTrack(track)),
  );
  if (room.state === ConnectionState.Disconnected) return;
  if (published.some(({ status }) => status === 'rejected')) notify(strings.devices.notSent);
}

const INPUTS: Input[] = ['audioinput', 'videoinput'];

function describeState(room: Room): string {
  if (room.state === ConnectionState.Connected) return strings.status.connected(room.remoteParticipants.size);
  if (!navigator.onLine) return strings.status.offline;
  switch (room.state) {
    case ConnectionState.Reconnecting:
      return strings.status.reconnecting;
    case ConnectionState.SignalReconnecting:
      return strings.status.interrupted;
    default:
      return strings.status.connecting;
  }
}
