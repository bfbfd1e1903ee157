import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invitationOf, readInvitation } from './invitation.js';

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

test('an invitation says the lesson, the role and the school, or cannot be read', () => {
  const token = (claims: unknown) => `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`;
  const cases: [string, ReturnType<typeof readInvitation>][] = [
    [token({ lesson: 'Flüsse', role: 'teacher' }), { lesson: 'Flüsse', role: 'teacher' }],
    [token({ lesson: 'L', role: 'class', school: 'Höhe' }), { lesson: 'L', role: 'class', school: 'Höhe' }],
    [token({ lesson: 'L', role: 'headmaster' }), null],
    [token({ role: 'class' }), null],
    [token(null), null],
    ['h.???.s', null],
    ['nonsense', null],
  ];
  for (const [invitation, read] of cases) assert.deepEqual(readInvitation(invitation), read, invitation);
});
