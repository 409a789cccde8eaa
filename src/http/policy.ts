import type { ImageView } from "../client/image-view.ts";
import type { MemberStatus } from "../domain/visibility.ts";
import { isAdmin, type Caller } from "./caller.ts";

// The defaults of Glance's policy. Every read and write of an image asks it.

/**
 * The actions on one image. The names are those of Glance's rules, except `stage_image`,
 * `import_image`, `change_owner` and `steer_import`.
 */
export const IMAGE_ACTIONS = [
  "get_image",
  "download_image",
  "modify_image",
  "delete_image",
  "upload_image",
  "stage_image",
  "import_image",
  "copy_image",
  "deactivate",
  "reactivate",
  "publicize_image",
  "communitize_image",
  "change_owner",
  "get_members",
  "add_member",
  "modify_member",
  "delete_member",
  "get_task",
  "delete_image_location",
  "steer_import",
] as const;

/** One of {@link IMAGE_ACTIONS}. */
export type ImageAction = (typeof IMAGE_ACTIONS)[number];

/** The actions on the service. */
export type ServiceAction =
  "add_image" | "get_images" | "stores_info_detail" | "tasks_api_access" | "get_usage";

/** The facts of an image that the policy looks at. */
export interface Judged {
  readonly owner: string | null;
  readonly visibility: ImageView["visibility"];
  /** The answer of the caller's project as a member of the image; null: it is not a member. */
  readonly membership: MemberStatus | null;
}

/** True if the image belongs to the project of the caller. */
export function isOwn({ project }: Caller, { owner }: Pick<Judged, "owner">): boolean {
  return project !== null && owner === project;
}

/** True if the caller may see the image at all. To other callers it is absent. */
export function maySee(caller: Caller, image: Judged): boolean {
  if (isAdmin(caller)) return true;
  if (!caller.roles.has("reader")) return false;
  return isReadable(caller, image);
}

/** True if the caller, who may see the image, may do this with it. */
export function mayDo(caller: Caller, action: ImageAction, image: Judged): boolean {
  if (isAdmin(caller)) return true;
  const isMember = caller.roles.has("member");
  const isOwner = isMember && isOwn(caller, image);
  switch (action) {
    case "get_image":
      return maySee(caller, image);
    case "download_image":
      return isMember && isReadable(caller, image);
    case "modify_image":
    case "delete_image":
    case "upload_image":
    case "stage_image":
    case "import_image":
    case "deactivate":
    case "reactivate":
    case "communitize_image":
    case "add_member":
    case "delete_member":
    case "steer_import":
      return isOwner;
    case "get_task":
      return isOwn(caller, image);
    case "get_members":
      return isOwn(caller, image) || image.membership !== null;
    case "modify_member":
      return isMember && image.membership !== null;
    case "publicize_image":
    case "copy_image":
    case "change_owner":
    case "delete_image_location":
      return false;
  }
}

/** True if the caller may do this with the service. */
export function mayUse(caller: Caller, action: ServiceAction): boolean {
  if (isAdmin(caller)) return true;
  switch (action) {
    case "add_image":
      return caller.roles.has("member") && caller.project !== null;
    case "get_images":
    case "get_usage":
      return caller.roles.has("reader");
    case "stores_info_detail":
      return caller.roles.has("service");
    case "tasks_api_access":
      return false;
  }
}

function isReadable(caller: Caller, image: Judged): boolean {
  const { visibility, membership } = image;
  const isOpen = visibility === "public" || visibility === "community";
  return isOpen || isOwn(caller, image) || (visibility === "shared" && membership !== null);
}
