import './style.css';
import { element } from './dom.js';
import { endView } from './end.js';
import { invitationOf } from './invitation.js';
import { joinView } from './join.js';
import { openLesson } from './lesson.js';
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
  else if (invitation === null) show(element('main', { className: 'narrow' }, strings.join.noInvitation));
  else {
    show(
      joinView(invitation, (admission) => {
        show(openLesson(admission, (message) => show(endView(message, enter))));
      }),
    );
  }
}

// Another link in the same window is another lesson: start over, and leave this one on the way.
window.addEventListener('hashchange', () => location.reload());
enter();
