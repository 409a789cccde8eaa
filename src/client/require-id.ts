import { ImportError } from "../domain/import-failure.ts";
import { isUuid } from "../domain/import-request.ts";

/** @throws ImportError `BadRequest` for an id that is not a UUID */
export function requireId(id: string, what: "image" | "task" = "image"): void {
  if (isUuid(id)) return;
  throw new ImportError(
    "BadRequest",
    `"${id}" is not the id of ${what === "image" ? "an image" : "a task"}: it must be a UUID such as 6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b, in lower case`,
  );
}
