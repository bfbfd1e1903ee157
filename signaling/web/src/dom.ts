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

/**
 * Makes a button whose click takes a while; until it is done, further clicks do nothing. It is not `disabled`
 * meanwhile: that would take the focus from whoever uses a keyboard.
 */
export function slowButton(label: string, onClick: () => Promise<void>): HTMLButtonElement {
  const made = button(label, async () => {
    if (made.ariaDisabled === 'true') return;
    made.ariaDisabled = 'true';
    try {
      await onClick();
    } finally {
      made.ariaDisabled = null;
    }
  });
  return made;
}

/** Makes a text field or list with its label around it. */
export function field(
  label: string,
  input: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement,
): HTMLLabelElement {
  return element('label', {}, element('span', {}, label), input);
}

/** Makes a box to tick with its label beside it. */
export function checkbox(label: string, input: HTMLInputElement): HTMLLabelElement {
  return element('label', { className: 'checkbox' }, Object.assign(input, { type: 'checkbox' }), label);
}

/** A line that assistive technology reads out whenever its text changes. */
export function statusLine(): HTMLParagraphElement {
  return element('p', { className: 'status', role: 'status' });
}
