/** The circles of those who see an image. Glance's words. */
export const VISIBILITIES = ["public", "community", "shared", "private"] as const;

/**
 * The circle of those who see an image: `public`, all projects; `community`, all that ask for
 * it; `shared`, its owner and its members; `private`, its owner.
 */
export type Visibility = (typeof VISIBILITIES)[number];

/** The answers of a member to the offer of an image. Glance's words. */
export const MEMBER_STATUSES = ["pending", "accepted", "rejected"] as const;

/** The answer of a member to the offer of an image; `pending` until it has given one. */
export type MemberStatus = (typeof MEMBER_STATUSES)[number];
