import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invitationOf } from './invitation.js';

test('an invitation is read from the fragment, and only a complete one', () => {
  const cases: [string, string | null][] = [
    ['#invitation=abc.def-1_2', 'abc.def-1_2'],
    ['invitation=abc', 'abc'],
    ['#other=1&invitation=abc', 'abc'],
    ['#invitation=', null],
    ['#abc', null],
    ['', null],
  ];
  for (const [fragment, invitation] of cases) assert.equal(invitationOf(fragment), invitation, fragment);
});
