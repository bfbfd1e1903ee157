import './style.css';
import { Capture, type Input } from './capture.js';
import { element } from './dom.js';
import { endView } from './end.js';
import { invitationOf } from './invitation.js';
import { openLesson } from './lesson.js';
import { lobbyView, type Entry } from './lobby.js';
import { startView } from './start.js';
import { strings } from './strings.js';

const app = document.getElementById('app');
if (app === null) throw new Error('index.html has an element #app');

function show(view: HTMLElement): void {
  app?.replaceChildren(view);
  // A keyboard or screen reader user continues in the new view, not in the one that is gone.
  const heading = view.querySelector('h1');
  if (heading !== null) {
    heading.tabIndex = -1;
    heading.focus();
  }
}

function enter(): void {
  const invitation = invitationOf(location.hash);
  if (location.pathname !== '/lesson') show(startView());
  else if (invitation === null) show(element('main', { className: 'narrow' }, strings.lobby.noInvitation));
  else show(lobbyView(invitation, attend));
}

function attend(entry: Entry): void {
  show(openLesson(entry, (message) => show(endView(message, () => attend(anew(entry)), enter))));
}

/** The same person again, with devices opened anew. */
function anew({ admission, on }: Entry): Entry {
  const capture = new Capture();
  const inputs: Input[] = on.videoinput ? ['audioinput', 'videoinput'] : ['audioinput'];
  const captured = admission.role === 'viewer' ? Promise.resolve() : capture.open(inputs);
  return { admission, capture, captured, on };
}

// Another link in the same window is another lesson: start over, and leave this one on the way.
window.addEventListener('hashchange', () => location.reload());
enter();
