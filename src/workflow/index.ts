// What the workflow bundle exposes: a workflow's type is the name of its function.
export { deleteImage, removeImageCopy } from "./delete-image.ts";
export { importImage } from "./import-image.ts";
export { reconcileImports } from "./reconcile-imports.ts";
