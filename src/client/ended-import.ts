import { ImportError } from "../domain/import-failure.ts";

/** The failure of a request that came after the end of its run. */
export function ended(imageId: string, status: string): ImportError {
  return new ImportError(
    "ImportEnded",
    `The import of image "${imageId}" has ended already (${status.toLowerCase()})`,
  );
}

/** The failure of a cancellation that came after the activation. */
export function tooLate(imageId: string): ImportError {
  return new ImportError(
    "ImportEnded",
    `Cannot cancel the import of image "${imageId}": it has published its copies already`,
  );
}
