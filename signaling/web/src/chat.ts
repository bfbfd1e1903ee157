import type { Room } from 'livekit-client';
import type { Role } from './api.js';
import { element, statusLine } from './dom.js';
import { strings } from './strings.js';

/** The topic that LiveKit's components and apps use for chat: whoever joins with another client takes part. */
const TOPIC = 'lk.chat';

/** The list keeps this many messages; older ones go. */
const MAX_MESSAGES = 200;

/** The longest message that can be typed, characters. */
const MAX_LENGTH = 2000;

/** Written messages between all participants, for as long as the lesson is open. Viewers only read. */
export function chatPanel(room: Room, role: Role): HTMLElement {
  const words = strings.chat;
  const log = element('div', { className: 'messages', role: 'log', ariaLabel: words.heading, tabIndex: 0 });
  const input = element('input', {
    name: 'message',
    required: true,
    maxLength: MAX_LENGTH,
    autocomplete: 'off',
    placeholder: words.message,
    ariaLabel: words.message,
  });
  const send = element('button', { type: 'submit' }, words.send);
  const form = element('form', { hidden: role === 'viewer' }, input, send);
  const status = statusLine();

  room.registerTextStreamHandler(TOPIC, async (reader, { identity }) => {
    // A message that breaks off or is too long is not shown; the next one is.
    const text = await reader.readAll().catch(() => null);
    if (text === null) return;
    append(log, room.remoteParticipants.get(identity)?.name || identity, text);
  });

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text === '') return;
    send.disabled = true;
    try {
      await room.localParticipant.sendText(text, { topic: TOPIC });
      append(log, words.you, text);
      input.value = '';
      status.textContent = '';
    } catch {
      status.textContent = words.notSent;
    } finally {
      send.disabled = false;
    }
  });

  return element(
    'section',
    { className: 'chat', ariaLabel: words.heading },
    element('h2', {}, words.heading),
    log,
    form,
    status,
  );
}

function append(log: HTMLElement, from: string, text: string): void {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  log.append(element('p', {}, element('b', {}, from), ' ', text));
  while (log.childElementCount > MAX_MESSAGES) log.firstElementChild?.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}
