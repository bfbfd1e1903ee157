import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cellsOf, valueOf } from './code.js';

test('a value is read back from its cells, and from no others', () => {
  for (const value of [0, 1, 0xabcdef, 2 ** 24 - 1]) {
    const cells = cellsOf(value);
    assert.equal(valueOf(cells), value);
    cells.forEach((_, broken) => {
      const changed = cells.map((white, index) => white !== (index === broken));
      assert.equal(valueOf(changed), null, `cell ${broken} of ${value}`);
    });
  }
  for (const white of [true, false]) assert.equal(valueOf(Array<boolean>(32).fill(white)), null);
  assert.equal(valueOf([]), null);
});
