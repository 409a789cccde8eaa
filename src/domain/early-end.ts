/** The way in which downloads of a resource ended before its last byte, each time the same. */
export interface EarlyEnd {
  /**
   * `broke`: the origin ended the connection. `changed`: the rest that it sent afterwards belonged
   * to another state of the resource.
   */
  readonly how: "broke" | "changed";
  /** The number of bytes that had arrived. */
  readonly atByte: number;
  /** The number of successive attempts that ended in this way. */
  readonly times: number;
}

// Each attempt downloads all bytes again: an end at the same byte twice is not an accident of the
// network.
const FINAL_WITHOUT_VALIDATOR = 2;
// Each attempt requests only the rest, and a server that is restarting may end several of these at
// once.
const FINAL_WITH_VALIDATOR = 4;

/**
 * Counts one more early end. The count restarts if the download ended in another way, or at
 * another byte. A `changed` end also counts as the same if it came at an earlier byte, because the
 * bytes were others.
 *
 * @param earlier - the end of the previous attempts; undefined: none of them ended early
 */
export function countEnd(
  earlier: EarlyEnd | undefined,
  now: Omit<EarlyEnd, "times">,
): EarlyEnd | undefined {
  // An origin that sends not a single byte is overloaded or starting.
  if (now.atByte === 0) return earlier;
  const isSame =
    earlier?.how === now.how &&
    (now.how === "changed" ? now.atByte <= earlier.atByte : now.atByte === earlier.atByte);
  return isSame ? { ...earlier, times: earlier.times + 1 } : { ...now, times: 1 };
}

/** True if the next attempt would end like the previous ones. */
export function isFinalEnd(end: EarlyEnd, validator: string | null): boolean {
  return end.times >= (validator === null ? FINAL_WITHOUT_VALIDATOR : FINAL_WITH_VALIDATOR);
}
