import { Track, type Room } from 'livekit-client';
import { DeviceFields } from './device-fields.js';
import { button, element } from './dom.js';
import { describeDeviceFailure } from './failure.js';
import { remember, remembered } from './preferences.js';
import { strings } from './strings.js';

/** Camera, microphone and speaker during the lesson: a button, and the lists that it opens. */
export function devicePanel(
  room: Room,
  notify: (notice: string) => void,
): { button: HTMLButtonElement; element: HTMLElement } {
  const fields = new DeviceFields(
    (kind) => current(room, kind),
    async (kind, deviceId) => {
      remember(kind, deviceId);
      notify('');
      try {
        await room.switchActiveDevice(kind, deviceId);
      } catch (error) {
        const input = kind === 'audiooutput' ? undefined : kind;
        notify(input === undefined ? strings.devices.speaker : describeDeviceFailure(error, [input]));
      }
    },
  );
  const panel = element(
    'div',
    { id: 'device-panel', className: 'device-panel', hidden: true },
    fields.element,
  );
  const opener = button(strings.lesson.devices, () => {
    panel.hidden = !panel.hidden;
    opener.ariaExpanded = String(!panel.hidden);
    if (!panel.hidden) void fields.refresh();
  });
  opener.ariaExpanded = 'false';
  opener.setAttribute('aria-controls', panel.id);
  return { button: opener, element: panel };
}

function current(room: Room, kind: MediaDeviceKind): string | undefined {
  if (kind === 'audiooutput') return room.getActiveDevice(kind) ?? remembered(kind);
  const source = kind === 'audioinput' ? Track.Source.Microphone : Track.Source.Camera;
  const track = room.localParticipant.getTrackPublication(source)?.track;
  return track?.mediaStreamTrack.getSettings().deviceId ?? remembered(kind);
}
