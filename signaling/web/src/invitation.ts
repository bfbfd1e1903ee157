/**
 * Reads the invitation from a link's fragment. It is there, not in the query, so that browsers send it to no
 * server, log or referrer.
 */
export function invitationOf(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('invitation') || null;
}
