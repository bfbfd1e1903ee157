import { MAX_NAME, join, type Admission } from './api.js';
import { element, field, statusLine } from './dom.js';
import { describeFailure } from './failure.js';
import { strings } from './strings.js';

/** The view behind a link: asks for a name and hands over what the server gives for it. */
export function joinView(invitation: string, onAdmitted: (admission: Admission) => void): HTMLElement {
  const words = strings.join;
  const name = element('input', { name: 'name', required: true, maxLength: MAX_NAME, autocomplete: 'name' });
  const submit = element('button', { type: 'submit', className: 'primary' }, words.join);
  const status = statusLine();
  const form = element('form', {}, field(words.name, name), submit);

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    submit.disabled = true;
    status.textContent = strings.status.admission;
    try {
      onAdmitted(await join(invitation, name.value.trim()));
    } catch (error) {
      status.textContent = describeFailure(error);
      submit.disabled = false;
    }
  });

  return element(
    'main',
    { className: 'narrow' },
    element('h1', {}, words.heading),
    element('p', {}, words.devices),
    form,
    status,
  );
}
