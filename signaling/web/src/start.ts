import { MAX_NAME, Refused, makeLesson, type Lesson } from './api.js';
import { button, element, field, statusLine } from './dom.js';
import { describeFailure } from './failure.js';
import { strings } from './strings.js';

/** The page's first view: makes a lesson and shows its links. */
export function startView(): HTMLElement {
  const words = strings.start;
  const name = element('input', { name: 'name', maxLength: MAX_NAME, placeholder: words.namePlaceholder });
  const schools = element('textarea', { name: 'schools', rows: 2 });
  const submit = element('button', { type: 'submit', className: 'primary' }, words.make);
  const status = statusLine();
  const result = element('div');
  const form = element('form', {}, field(words.name, name), field(words.schools, schools), submit);

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    submit.disabled = true;
    status.textContent = words.making;
    try {
      const lesson = await makeLesson(name.value.trim(), lines(schools.value));
      status.textContent = words.made(lesson.name);
      result.replaceChildren(links(lesson, status));
    } catch (error) {
      const closed = error instanceof Refused && error.status === 401;
      status.textContent = closed ? words.closed : describeFailure(error);
    } finally {
      submit.disabled = false;
    }
  });

  return element(
    'main',
    { className: 'narrow' },
    element('h1', {}, words.heading),
    element('p', {}, words.explanation),
    form,
    status,
    result,
  );
}

function links(lesson: Lesson, status: HTMLElement): HTMLElement {
  const words = strings.start;
  const classes = lesson.schools?.map((at) => link(words.schoolLink(at.school), at.class, status)) ?? [
    link(words.classLink, lesson.class, status),
  ];
  return element(
    'section',
    { className: 'links' },
    link(words.teacherLink, lesson.teacher, status),
    ...classes,
    link(words.viewerLink, lesson.viewer, status),
    element('a', { href: lesson.teacher, className: 'primary' }, words.open),
  );
}

function link(label: string, url: string, status: HTMLElement): HTMLElement {
  const output = element('input', { readOnly: true, value: url });
  output.addEventListener('focus', () => output.select());
  const copy = button(strings.start.copy, async () => {
    try {
      await navigator.clipboard.writeText(url);
      status.textContent = strings.start.copied;
    } catch {
      output.focus();
      status.textContent = strings.start.copyFailed;
    }
  });
  copy.ariaLabel = strings.start.copyLabel(label);
  return element('div', { className: 'link' }, field(label, output), copy);
}

/** The lines of a text that say something. */
function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
