import { element, field } from './dom.js';
import { strings } from './strings.js';

/** The devices that a lesson uses, in the order in which they are shown. */
const KINDS = ['videoinput', 'audioinput', 'audiooutput'] as const;

/** Lists to choose camera, microphone and speaker from; a kind with no device is left out. */
export class DeviceFields {
  readonly element = element('div', { className: 'devices' });
  readonly #selects = new Map<MediaDeviceKind, HTMLSelectElement>();

  /** `current` says which device is in use, `choose` puts another one to use. */
  constructor(
    private readonly current: (kind: MediaDeviceKind) => string | undefined,
    choose: (kind: MediaDeviceKind, deviceId: string) => void,
  ) {
    for (const kind of KINDS) {
      const select = element('select', { name: kind });
      select.addEventListener('change', () => choose(kind, select.value));
      this.#selects.set(kind, select);
      this.element.append(field(strings.devices.kinds[kind], select));
    }
    const update = () => {
      // The view that held the lists is gone.
      if (!this.element.isConnected) navigator.mediaDevices.removeEventListener('devicechange', update);
      else void this.refresh();
    };
    navigator.mediaDevices?.addEventListener('devicechange', update);
    void this.refresh();
  }

  /** Lists what there is now. */
  async refresh(): Promise<void> {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    for (const [kind, select] of this.#selects) {
      // Before the user allows it, browsers tell neither name nor id.
      const known = devices.filter((device) => device.kind === kind && device.deviceId !== '');
      const options = known.map(({ deviceId, label }, index) =>
        element('option', { value: deviceId }, label || strings.devices.unnamed(index + 1)),
      );
      const current = this.current(kind);
      select.replaceChildren(...options);
      if (known.some(({ deviceId }) => deviceId === current)) select.value = current ?? '';
      const usable = kind !== 'audiooutput' || 'setSinkId' in HTMLMediaElement.prototype;
      (select.parentElement ?? select).hidden = options.length === 0 || !usable;
    }
  }
}
