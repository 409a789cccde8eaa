// The minor versions that Glance's features came with. Left out: 2.14, 2.16 and 2.18, which are of
// the cache, and 2.17, locations.
const CURRENT = "v2.15";
const SUPPORTED = [
  ...["v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.7", "v2.6"],
  ...["v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"],
];

/** The first segment of a path of the API: `/v2`, or `/v2.0` to the newest minor. */
export const API_PREFIX = /^\/v2(?:\.(?:[0-9]|1[0-3]|15))?(?=\/|$|\?)/;

/**
 * The document that names the minor versions of the API.
 *
 * @param root - URL of this server, without a slash at the end
 */
export function versionsDocument(root: string): object {
  const links = [{ rel: "self", href: `${root}/v2/` }];
  return {
    versions: [
      { id: CURRENT, status: "CURRENT", links },
      ...SUPPORTED.map((id) => ({ id, status: "SUPPORTED", links })),
    ],
  };
}
