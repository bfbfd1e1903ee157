import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionError, DisconnectReason } from 'livekit-client';
import { Refused, Unreachable } from './api.js';
import { describeDeviceFailures, describeEnd, describeFailure } from './failure.js';
import { strings } from './strings.js';

test('a failure to join is told apart by what one can do about it', () => {
  const { failure } = strings;
  const cases: [unknown, string][] = [
    [new Unreachable('x'), failure.unreachable],
    [new Refused(401), failure.invitation],
    [new Refused(429), failure.tooMany],
    [new Refused(503), failure.busy],
    [new Refused(400), failure.refused],
    [ConnectionError.notAllowed('expired', 401), failure.invitation],
    [ConnectionError.serverUnreachable('x'), failure.unreachable],
    [ConnectionError.websocket('x'), failure.unreachable],
    [ConnectionError.timeout('x'), failure.timeout],
    [ConnectionError.internal('could not establish pc connection'), failure.media],
    [new TypeError('x'), failure.unexpected],
  ];
  for (const [error, words] of cases) assert.equal(describeFailure(error), words, String(error));
});

test('an end that nobody asked for counts as a lost connection', () => {
  const { ended } = strings;
  const cases: [DisconnectReason | undefined, string][] = [
    [DisconnectReason.CLIENT_INITIATED, ended.left],
    [DisconnectReason.DUPLICATE_IDENTITY, ended.elsewhere],
    [DisconnectReason.PARTICIPANT_REMOVED, ended.removed],
    [DisconnectReason.ROOM_DELETED, ended.over],
    [DisconnectReason.SERVER_SHUTDOWN, ended.shutdown],
    [DisconnectReason.STATE_MISMATCH, ended.lost],
    [undefined, ended.lost],
  ];
  for (const [reason, words] of cases) assert.equal(describeEnd(reason), words, String(reason));
});

test('each camera and microphone that does not start has its reason', () => {
  const { devices } = strings;
  const error = (name: string) => Object.assign(new Error(), { name });
  const cases: [string | null, string | null, string][] = [
    [null, null, ''],
    ['NotAllowedError', 'NotAllowedError', devices.denied('camera and microphone')],
    ['NotFoundError', null, devices.missing('camera')],
    [null, 'NotReadableError', devices.busy('microphone')],
    ['NotFoundError', 'AbortError', `${devices.missing('camera')} ${devices.failed('microphone')}`],
  ];
  for (const [camera, microphone, words] of cases) {
    const problems = { videoinput: camera, audioinput: microphone };
    const problem = (input: keyof typeof problems) =>
      problems[input] === null ? undefined : error(problems[input]);
    assert.equal(describeDeviceFailures({ problem }), words);
  }
});
