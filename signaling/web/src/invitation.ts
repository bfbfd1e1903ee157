import type { Role } from './api.js';

/**
 * Reads the invitation from a link's fragment. It is there, not in the query, so that browsers send it to no
 * server, log or referrer.
 */
export function invitationOf(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('invitation') || null;
}

/** What an invitation says of itself. */
export interface Invited {
  lesson: string;
  role: Role;
  /** The school it is for. Undefined: whoever joins names it. */
  school?: string;
}

/**
 * Reads what an invitation (a JWT) says, to show it. Its signature is for the server to check: this says nothing
 * about whether it is good. Null: it cannot be read.
 */
export function readInvitation(invitation: string): Invited | null {
  try {
    const payload = invitation.split('.')[1] ?? '';
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, '+').replace(/_/g, '/')), (c) =>
      c.charCodeAt(0),
    );
    const { lesson, role, school } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (typeof lesson !== 'string' || !isRole(role)) return null;
    return typeof school === 'string' ? { lesson, role, school } : { lesson, role };
  } catch {
    return null;
  }
}

function isRole(value: unknown): value is Role {
  return typeof value === 'string' && ['teacher', 'class', 'pupil', 'viewer'].includes(value);
}
