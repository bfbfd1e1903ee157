/** Makes an element with the given properties and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Makes a button that does one thing and never submits a form. */
export function button(label: string, onClick: () => void): HTMLButtonElement {
  const made = element('button', { type: 'button' }, label);
  made.addEventListener('click', onClick);
  return made;
}

/** Makes a text field with its label around it. */
export function field(label: string, input: HTMLInputElement | HTMLTextAreaElement): HTMLLabelElement {
  return element('label', {}, element('span', {}, label), input);
}

/** A line that assistive technology reads out whenever its text changes. */
export function statusLine(): HTMLParagraphElement {
  return element('p', { className: 'status', role: 'status' });
}
