// The workflows of the bundle: the type of a workflow is the name of its function.
export { deleteImage, removeImageCopy } from "./delete-image.ts";
export { findLeftovers } from "./find-leftovers.ts";
export { importImage } from "./import-image.ts";
export { reconcileImports } from "./reconcile-imports.ts";
