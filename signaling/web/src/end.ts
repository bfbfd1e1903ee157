import { button, element } from './dom.js';
import { strings } from './strings.js';

/** What is shown when the lesson is over for this participant: why, and a way back. */
export function endView(message: string, again: () => void): HTMLElement {
  return element(
    'main',
    { className: 'narrow' },
    element('h1', {}, message),
    button(strings.join.again, again),
  );
}
