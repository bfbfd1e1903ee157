import { button, element } from './dom.js';
import { strings } from './strings.js';

/** What is shown when the lesson is over for this participant: why, and two ways back. */
export function endView(message: string, again: () => void, lobby: () => void): HTMLElement {
  const rejoin = button(strings.ended.again, again);
  rejoin.className = 'primary';
  return element(
    'main',
    { className: 'narrow' },
    element('h1', {}, message),
    rejoin,
    button(strings.ended.lobby, lobby),
  );
}
