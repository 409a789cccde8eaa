import { describe, expect, test } from "vitest";
import { callerOf, type Caller } from "../../src/http/caller.ts";
import {
  IMAGE_ACTIONS,
  mayDo,
  maySee,
  mayUse,
  type ImageAction,
  type Judged,
} from "../../src/http/policy.ts";
import { MEMBER_STATUSES, VISIBILITIES } from "../../src/domain/visibility.ts";

// The table is written by hand from Glance's policy, and says what each role may do with an image
// of its own project, one that is shared with it, and one of a stranger.

type Relation = "owner" | "accepted" | "pending" | "rejected" | "stranger";
const RELATIONS: readonly Relation[] = ["owner", ...MEMBER_STATUSES, "stranger"];
const ROLES = ["admin", "manager", "member", "reader", "service", "none"] as const;

const OWNER_ACTIONS: readonly ImageAction[] = [
  ...(["modify_image", "delete_image", "upload_image", "stage_image", "import_image"] as const),
  ...(["deactivate", "reactivate", "communitize_image", "add_member"] as const),
  ...(["delete_member", "steer_import"] as const),
];
const ADMIN_ACTIONS: readonly ImageAction[] = [
  ...(["publicize_image", "copy_image", "change_owner", "delete_image_location"] as const),
];

function expected(
  role: (typeof ROLES)[number],
  action: ImageAction,
  visibility: (typeof VISIBILITIES)[number],
  relation: Relation,
): 404 | 403 | 200 {
  if (role === "admin") return 200;
  if (role === "none" || role === "service") return 404;
  const isOwner = relation === "owner";
  const isSharedWith = relation !== "owner" && relation !== "stranger";
  const isSeen =
    isOwner ||
    visibility === "public" ||
    visibility === "community" ||
    (visibility === "shared" && isSharedWith);
  if (!isSeen) return 404;
  const isMemberRole = role === "member" || role === "manager";
  if (action === "get_image") return 200;
  if (action === "download_image") return isMemberRole ? 200 : 403;
  if (ADMIN_ACTIONS.includes(action)) return 403;
  if (OWNER_ACTIONS.includes(action)) return isMemberRole && isOwner ? 200 : 403;
  if (action === "get_task") return isOwner ? 200 : 403;
  if (action === "get_members") return isOwner || isSharedWith ? 200 : 403;
  if (action === "modify_member") return isMemberRole && isSharedWith ? 200 : 403;
  throw new Error(`The table does not know ${action}`);
}

function callerIn(role: (typeof ROLES)[number]): Caller {
  return callerOf("user", "ours", role === "none" ? [] : [role]);
}

function imageOf(visibility: Judged["visibility"], relation: Relation): Judged {
  const isMember = relation !== "owner" && relation !== "stranger";
  return {
    owner: relation === "owner" ? "ours" : "theirs",
    visibility,
    membership: isMember ? relation : null,
  };
}

describe.each(ROLES)("a caller with the role %s", (role) => {
  test.each(IMAGE_ACTIONS)("%s", (action) => {
    for (const visibility of VISIBILITIES) {
      for (const relation of RELATIONS) {
        const caller = callerIn(role);
        const image = imageOf(visibility, relation);
        const found = !maySee(caller, image) ? 404 : mayDo(caller, action, image) ? 200 : 403;
        expect({ visibility, relation, found }).toEqual({
          visibility,
          relation,
          found: expected(role, action, visibility, relation),
        });
      }
    }
  });
});

test("roles are compared in lower case", () => {
  expect(mayUse(callerOf("user", "ours", ["Admin"]), "tasks_api_access")).toBe(true);
  expect(mayUse(callerOf("user", "ours", ["MEMBER"]), "add_image")).toBe(true);
});

test("a caller without a project owns nothing, not even images without an owner", () => {
  const caller = callerOf("user", null, ["member"]);
  const image = { owner: null, visibility: "private", membership: null } as const;
  expect(maySee(caller, image)).toBe(false);
  expect(mayUse(caller, "add_image")).toBe(false);
});

test.each([
  ["stores_info_detail", ["admin", "service"]],
  ["tasks_api_access", ["admin"]],
  ["get_images", ["admin", "manager", "member", "reader"]],
  ["get_usage", ["admin", "manager", "member", "reader"]],
  ["add_image", ["admin", "manager", "member"]],
] as const)("%s is for %s", (action, roles: readonly string[]) => {
  for (const role of ROLES)
    expect([role, mayUse(callerIn(role), action)]).toEqual([role, roles.includes(role)]);
});
