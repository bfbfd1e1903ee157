import { RoomEvent, Track, type Room } from 'livekit-client';
import type { Role } from './api.js';
import { button, element, slowButton } from './dom.js';
import { describeDeviceFailure } from './failure.js';
import { slidesCapture, slidesPublish } from './slides.js';
import { strings } from './strings.js';

/** The buttons of a lesson: own microphone, camera and slides, those of other parts, sound, and the way out. */
export class Controls {
  readonly element: HTMLElement;
  readonly #microphone: HTMLButtonElement;
  readonly #camera: HTMLButtonElement;
  readonly #slides: HTMLButtonElement;
  readonly #sound: HTMLButtonElement;

  constructor(
    private readonly room: Room,
    role: Role,
    others: HTMLButtonElement[],
    private readonly notify: (notice: string) => void,
  ) {
    const { localParticipant } = room;
    this.#microphone = this.#toggle(
      () => localParticipant.setMicrophoneEnabled(!localParticipant.isMicrophoneEnabled),
      (error) => describeDeviceFailure(error, ['audioinput']),
    );
    this.#camera = this.#toggle(
      () => localParticipant.setCameraEnabled(!localParticipant.isCameraEnabled),
      (error) => describeDeviceFailure(error, ['videoinput']),
    );
    this.#slides = this.#toggle(
      () => this.#shareSlides(),
      () => strings.devices.slides,
    );
    // Browsers play no sound before a click; the one on "Join" nearly always counts.
    this.#sound = button(strings.lesson.playSound, () => void room.startAudio());
    const leave = button(strings.lesson.leave, () => void room.disconnect());
    leave.className = 'leave';

    this.#microphone.hidden = this.#camera.hidden = role === 'viewer';
    this.#slides.hidden = role !== 'teacher' || !('getDisplayMedia' in (navigator.mediaDevices ?? {}));
    this.element = element(
      'div',
      { className: 'controls', role: 'group', ariaLabel: strings.lesson.controls },
      this.#microphone,
      this.#camera,
      this.#slides,
      ...others,
      this.#sound,
      leave,
    );
    room.on(RoomEvent.AudioPlaybackStatusChanged, () => this.refresh());
    this.refresh();
  }

  /** Shows the state of the room's own tracks. */
  refresh(): void {
    const { localParticipant } = this.room;
    const words = strings.lesson;
    this.#microphone.textContent = localParticipant.isMicrophoneEnabled
      ? words.turnMicrophoneOff
      : words.turnMicrophoneOn;
    this.#camera.textContent = localParticipant.isCameraEnabled ? words.turnCameraOff : words.turnCameraOn;
    this.#slides.textContent = localParticipant.isScreenShareEnabled ? words.stopSlides : words.shareSlides;
    this.#sound.hidden = this.room.canPlaybackAudio;
  }

  #toggle(change: () => Promise<unknown>, describe: (error: unknown) => string): HTMLButtonElement {
    return slowButton('', async () => {
      this.notify('');
      try {
        await change();
      } catch (error) {
        this.notify(describe(error));
      }
      this.refresh();
    });
  }

  async #shareSlides(): Promise<void> {
    const { localParticipant } = this.room;
    const sharing = localParticipant.getTrackPublication(Track.Source.ScreenShare) !== undefined;
    try {
      await localParticipant.setScreenShareEnabled(!sharing, slidesCapture, slidesPublish);
    } catch (error) {
      // Closing the browser's dialogue is a decision, not a failure.
      if (!(error instanceof DOMException && error.name === 'NotAllowedError')) throw error;
    }
  }
}
