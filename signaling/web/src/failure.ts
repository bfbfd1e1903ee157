import { ConnectionError, ConnectionErrorReason, DisconnectReason, MediaDeviceFailure } from 'livekit-client';
import { Refused, Unreachable } from './api.js';
import type { Capture, Input } from './capture.js';
import { strings } from './strings.js';

/** Says in plain words why a lesson could not be made or joined. */
export function describeFailure(error: unknown): string {
  if (error instanceof Unreachable) return strings.failure.unreachable;
  if (error instanceof Refused) return describeStatus(error.status);
  if (error instanceof ConnectionError) return describeConnection(error);
  return strings.failure.unexpected;
}

function describeStatus(status: number): string {
  switch (status) {
    case 401:
    case 403:
    case 404:
    case 410:
      return strings.failure.invitation;
    case 429:
      return strings.failure.tooMany;
    case 502:
    case 503:
    case 504:
      return strings.failure.busy;
    default:
      return strings.failure.refused;
  }
}

function describeConnection(error: ConnectionError): string {
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return describeStatus(error.status ?? 401);
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.WebSocket:
      return strings.failure.unreachable;
    case ConnectionErrorReason.Timeout:
      return strings.failure.timeout;
    case ConnectionErrorReason.InternalError:
      // livekit-client's word for a peer connection that did not come up after signaling did.
      return strings.failure.media;
    default:
      return strings.failure.unexpected;
  }
}

/** Says in plain words why a lesson ended for this participant. */
export function describeEnd(reason: DisconnectReason | undefined): string {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return strings.ended.left;
    case DisconnectReason.DUPLICATE_IDENTITY:
      return strings.ended.elsewhere;
    case DisconnectReason.PARTICIPANT_REMOVED:
      return strings.ended.removed;
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return strings.ended.over;
    case DisconnectReason.SERVER_SHUTDOWN:
      return strings.ended.shutdown;
    default:
      return strings.ended.lost;
  }
}

/** Says in plain words why these devices did not start. */
export function describeDeviceFailure(error: unknown, inputs: Input[]): string {
  const words = strings.devices;
  if (globalThis.isSecureContext === false) return words.insecure(location.hostname);
  const what = inputs.map((input) => words.inputs[input]).join(words.and);
  switch (MediaDeviceFailure.getFailure(error as Error)) {
    case MediaDeviceFailure.PermissionDenied:
      return words.denied(what);
    case MediaDeviceFailure.NotFound:
      return words.missing(what);
    case MediaDeviceFailure.DeviceInUse:
      return words.busy(what);
    default:
      return words.failed(what);
  }
}

/** Says why camera or microphone are not open, or nothing. What they have in common is said once. */
export function describeDeviceFailures(capture: Pick<Capture, 'problem'>): string {
  const failed = INPUTS.filter((input) => capture.problem(input) !== undefined);
  const together = new Set(failed.map((input) => describeDeviceFailure(capture.problem(input), failed)));
  if (together.size === 1) return [...together].join();
  return failed.map((input) => describeDeviceFailure(capture.problem(input), [input])).join(' ');
}

const INPUTS: Input[] = ['videoinput', 'audioinput'];
