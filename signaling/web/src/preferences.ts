/** What this browser remembers from one lesson to the next. None of it is sent anywhere. */
export type Preference = 'name' | 'school' | 'view' | MediaDeviceKind;

/** What was remembered, if anything was and the browser keeps it. */
export function remembered(what: Preference): string | undefined {
  try {
    return localStorage.getItem(PREFIX + what) ?? undefined;
  } catch {
    // A browser that keeps nothing for this page throws here; then everything is asked for each time.
    return undefined;
  }
}

/** Remembers a value; an empty one is forgotten. */
export function remember(what: Preference, value: string): void {
  try {
    if (value === '') localStorage.removeItem(PREFIX + what);
    else localStorage.setItem(PREFIX + what, value);
  } catch {
    // As above.
  }
}

/** Sets them apart from what else this address keeps. */
const PREFIX = 'lectern.';
