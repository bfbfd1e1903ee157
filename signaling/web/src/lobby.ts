import { MAX_NAME, MAX_SCHOOL, join, type Admission, type Role } from './api.js';
import { Capture, type Input } from './capture.js';
import { DeviceFields } from './device-fields.js';
import { checkbox, element, field, slowButton, statusLine } from './dom.js';
import { describeDeviceFailure, describeDeviceFailures, describeFailure } from './failure.js';
import { readInvitation, type Invited } from './invitation.js';
import { LevelMeter } from './level-meter.js';
import { Picture } from './picture.js';
import { remember, remembered } from './preferences.js';
import { strings } from './strings.js';

/** With what somebody enters the lesson. */
export interface Entry {
  admission: Admission;
  capture: Capture;
  /** When `capture` has opened what it can. */
  captured: Promise<void>;
  /** What is on from the start. */
  on: Record<Input, boolean>;
}

/** The view behind a link: who one is, whether camera and microphone work, and the way in. */
export function lobbyView(invitation: string, onEnter: (entry: Entry) => void): HTMLElement {
  const words = strings.lobby;
  const invited = readInvitation(invitation);
  const name = element('input', { name: 'name', required: true, maxLength: MAX_NAME, autocomplete: 'name' });
  const school = element('input', { name: 'school', maxLength: MAX_SCHOOL, autocomplete: 'organization' });
  name.value = remembered('name') ?? '';
  school.value = remembered('school') ?? '';
  const submit = element('button', { type: 'submit', className: 'primary' }, words.join);
  const status = statusLine();
  const check = new DeviceCheck(invited?.role ?? 'class');
  const form = element('form', {}, field(words.name, name), ...check.switches, submit);
  const asksSchool =
    invited?.school === undefined && (invited?.role === 'class' || invited?.role === 'pupil');
  if (asksSchool) name.parentElement?.after(field(words.school, school));

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    submit.disabled = true;
    status.textContent = strings.status.admission;
    remember('name', name.value.trim());
    if (asksSchool) remember('school', school.value.trim());
    try {
      const admission = await join(invitation, name.value.trim(), asksSchool ? school.value.trim() : '');
      onEnter({ admission, ...check.handOver() });
    } catch (error) {
      status.textContent = describeFailure(error);
      submit.disabled = false;
    }
  });

  return element(
    'main',
    { className: 'lobby' },
    element('header', {}, element('h1', {}, words.heading), element('p', {}, describe(invited))),
    check.element,
    element('div', { className: 'entry' }, form, status),
  );
}

function describe(invited: Invited | null): string {
  if (invited === null) return '';
  const { lesson, role, school } = invited;
  const parts = [lesson, strings.lobby.roles[role], ...(school === undefined ? [] : [school])];
  return parts.join(' · ');
}

/** Shows what the camera sees and how loud the microphone is, and changes both. */
class DeviceCheck {
  readonly element: HTMLElement;
  /** Whether camera and microphone are on from the start. */
  readonly switches: HTMLElement[];
  readonly #capture = new Capture();
  readonly #picture = new Picture();
  readonly #pictureOff = element('p', { className: 'placeholder' }, strings.lesson.cameraOff);
  readonly #meter = new LevelMeter();
  readonly #problem = element('p', { className: 'notice', role: 'status' });
  readonly #again = slowButton(strings.lobby.again, () => this.#open(this.#wanted()));
  readonly #fields: DeviceFields;
  readonly #on: Record<Input, HTMLInputElement>;
  #captured: Promise<void> = Promise.resolve();
  #handedOver = false;

  constructor(role: Role) {
    const words = strings.lobby;
    const sends = role !== 'viewer';
    this.#on = {
      videoinput: element('input', { name: 'camera-on', checked: sends }),
      // Thirty children are loud: a class starts muted.
      audioinput: element('input', { name: 'microphone-on', checked: role === 'teacher' }),
    };
    this.switches = sends
      ? [checkbox(words.cameraOn, this.#on.videoinput), checkbox(words.microphoneOn, this.#on.audioinput)]
      : [];
    this.#fields = new DeviceFields(
      (kind) => this.#current(kind),
      (kind, deviceId) => void this.#choose(kind, deviceId),
    );
    this.#picture.element.ariaLabel = words.preview;
    this.element = element(
      'section',
      { className: 'check', ariaLabel: words.check, hidden: !sends },
      element('div', { className: 'tile own' }, this.#picture.element, this.#pictureOff),
      this.#problem,
      this.#again,
      this.#meter.element,
      this.#fields.element,
    );
    // A camera that is off is really off, light and all. The microphone stays on to be checked; only the
    // others do not hear it.
    this.#on.videoinput.addEventListener('change', () => {
      if (this.#on.videoinput.checked) void this.#open(['videoinput']);
      else this.#capture.close('videoinput');
      this.#refresh();
    });
    this.#refresh();
    if (sends) void this.#open(this.#wanted());
  }

  /** Gives up camera and microphone to the lesson. */
  handOver(): Omit<Entry, 'admission'> {
    this.#handedOver = true;
    this.#picture.show(undefined);
    this.#meter.close();
    return {
      capture: this.#capture,
      captured: this.#captured,
      on: { videoinput: this.#on.videoinput.checked, audioinput: this.#on.audioinput.checked },
    };
  }

  #wanted(): Input[] {
    return this.#on.videoinput.checked ? ['audioinput', 'videoinput'] : ['audioinput'];
  }

  async #open(inputs: Input[]): Promise<void> {
    this.#captured = this.#captured.then(() => this.#capture.open(inputs));
    await this.#captured;
    // Turned off again while it was being opened.
    if (!this.#on.videoinput.checked) this.#capture.close('videoinput');
    this.#refresh();
  }

  async #choose(kind: MediaDeviceKind, deviceId: string): Promise<void> {
    remember(kind, deviceId);
    if (kind === 'audiooutput') return;
    try {
      await this.#capture.choose(kind, deviceId);
      this.#refresh();
    } catch (error) {
      this.#refresh();
      this.#problem.textContent = describeDeviceFailure(error, [kind]);
    }
  }

  #current(kind: MediaDeviceKind): string | undefined {
    if (kind === 'audiooutput') return remembered(kind);
    return this.#capture.track(kind)?.mediaStreamTrack.getSettings().deviceId ?? remembered(kind);
  }

  #refresh(): void {
    if (this.#handedOver) return;
    const camera = this.#capture.track('videoinput');
    this.#picture.show(camera);
    this.#picture.element.hidden = camera === undefined;
    this.#pictureOff.hidden = camera !== undefined;
    this.#meter.listen(this.#capture.track('audioinput')?.mediaStreamTrack);
    this.#problem.textContent = describeDeviceFailures(this.#capture);
    this.#again.hidden = this.#problem.textContent === '';
    void this.#fields.refresh();
  }
}
