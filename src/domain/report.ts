/**
 * Takes the progress of a piece of work, after every block of it. `totalBytes` is undefined if it
 * is not known.
 */
export type Report = (doneBytes: number, totalBytes?: number) => void;
