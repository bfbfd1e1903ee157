import { button } from './dom.js';
import { remember, remembered } from './preferences.js';
import type { Stage, View } from './stage.js';
import { strings } from './strings.js';

/** A button that switches between the views; the choice is remembered. */
export function viewButton(stage: Stage): HTMLButtonElement {
  const made = button('', () => show(stage.view === 'speaker' ? 'grid' : 'speaker'));
  const show = (view: View) => {
    stage.view = view;
    remember('view', view);
    made.textContent = view === 'speaker' ? strings.lesson.gridView : strings.lesson.speakerView;
  };
  show(remembered('view') === 'grid' ? 'grid' : 'speaker');
  return made;
}
