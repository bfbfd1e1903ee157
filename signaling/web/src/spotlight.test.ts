import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Spotlight, type Candidate } from './spotlight.js';

function person(identity: string, level = 0): Candidate {
  return {
    identity,
    isTeacher: identity === 'teacher',
    isLocal: identity === 'me',
    isSpeaking: level > 0,
    audioLevel: level,
  };
}

test('the teacher is large until somebody else speaks for a while', () => {
  const spotlight = new Spotlight();
  const steps: [number, Candidate[], string | undefined, number | undefined][] = [
    [0, [], undefined, undefined],
    [0, [person('me')], 'me', undefined],
    [0, [person('ana'), person('me')], 'ana', undefined],
    [10, [person('ana'), person('teacher'), person('me', 1)], 'teacher', undefined],
    [20, [person('ana', 0.5), person('teacher', 0.1)], 'teacher', 1_520],
    [1_000, [person('ana'), person('teacher')], 'teacher', undefined],
    [1_100, [person('ana', 0.5), person('teacher')], 'teacher', 2_600],
    [2_600, [person('ana', 0.5), person('teacher')], 'ana', undefined],
    [9_000, [person('ana'), person('teacher')], 'ana', undefined],
    [9_000, [person('ben'), person('teacher')], 'teacher', undefined],
  ];
  for (const [now, present, chosen, wakeAt] of steps) {
    assert.equal(spotlight.choose(present, now), chosen, `at ${now}`);
    assert.equal(spotlight.wakeAt, wakeAt, `at ${now}`);
  }
});

test('the loudest of several speakers is the one', () => {
  const spotlight = new Spotlight();
  spotlight.choose([person('teacher')], 0);
  const both = [person('teacher'), person('ana', 0.2), person('ben', 0.6)];
  spotlight.choose(both, 0);
  assert.equal(spotlight.choose(both, 1_500), 'ben');
});
