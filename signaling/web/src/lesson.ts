import { RoomEvent, ConnectionState, type DisconnectReason, type Room } from 'livekit-client';
import type { Admission } from './api.js';
import { chatPanel } from './chat.js';
import { capture, newRoom } from './connection.js';
import { Controls } from './controls.js';
import { element, statusLine } from './dom.js';
import { describeDeviceFailure, describeEnd, describeFailure } from './failure.js';
import { Stage } from './stage.js';
import { strings } from './strings.js';

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
export function openLesson(admission: Admission, onEnd: (message: string) => void): HTMLElement {
  const room = newRoom();
  const status = statusLine();
  const notice = statusLine();
  notice.classList.add('notice');
  const say = (line: HTMLElement, text: string) => {
    // The same text again would be read out again.
    if (line.textContent !== text) line.textContent = text;
  };

  const stage = new Stage(room);
  const controls = new Controls(room, admission.role, (text) => say(notice, text));
  const refresh = () => {
    stage.refresh();
    controls.refresh();
    say(status, describeState(room));
  };
  for (const change of CHANGES) room.on(change, refresh);

  say(status, strings.status.connecting);
  void enter(room, admission, (text) => say(notice, text), onEnd);

  return element(
    'main',
    { className: 'lesson' },
    element('header', {}, element('h1', {}, admission.lesson), status, notice),
    stage.element,
    chatPanel(room, admission.role),
    controls.element,
  );
}

async function enter(
  room: Room,
  { token, role }: Admission,
  notify: (notice: string) => void,
  onEnd: (message: string) => void,
): Promise<void> {
  // Side by side: whoever thinks about the browser's question about the camera sees the lesson already.
  const capturing = capture(room, role);
  try {
    await room.connect(location.origin, token);
  } catch (error) {
    void capturing.then(({ tracks }) => tracks.forEach((track) => track.stop()));
    onEnd(describeFailure(error));
    return;
  }
  room.once(RoomEvent.Disconnected, (reason?: DisconnectReason) => onEnd(describeEnd(reason)));

  const { tracks, problem } = await capturing;
  if (problem !== null) notify(strings.devices.stillJoined(describeDeviceFailure(problem)));
  if (room.state === ConnectionState.Disconnected) {
    tracks.forEach((track) => track.stop());
    return;
  }
  const published = await Promise.allSettled(
    tracks.map((track) => room.localParticipant.publishTrack(track)),
  );
  if (published.some(({ status }) => status === 'rejected')) notify(strings.devices.notSent);
}

function describeState(room: Room): string {
  switch (room.state) {
    case ConnectionState.Connected:
      return strings.status.connected(room.remoteParticipants.size);
    case ConnectionState.Reconnecting:
    case ConnectionState.SignalReconnecting:
      return strings.status.reconnecting;
    default:
      return strings.status.connecting;
  }
}
