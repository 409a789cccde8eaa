/** How downloads of a resource ended before its last byte, in the same way each time. */
export interface EarlyEnd {
  /**
   * `broke`: the origin ended the connection. `changed`: the rest that it then gave was that of
   * another state.
   */
  readonly how: "broke" | "changed";
  /** So many bytes of the resource had come. */
  readonly atByte: number;
  /** How many attempts have ended so, one after the other. */
  readonly times: number;
}

// Each attempt reads all bytes up to the end again: the same byte twice is no accident of the
// network.
const FINAL_WITHOUT_VALIDATOR = 2;
// Each attempt asks for the rest alone, and a server that has just begun to restart may end several
// of these at once.
const FINAL_WITH_VALIDATOR = 4;

/**
 * Counts one more early end. A download that got further than the ends before it begins the count
 * again; a `changed` one has the same end also where it did not come as far, because its bytes were
 * others.
 *
 * @param earlier - the end of the attempts before; undefined: none of them ended early
 */
export function countEnd(
  earlier: EarlyEnd | undefined,
  now: Omit<EarlyEnd, "times">,
): EarlyEnd | undefined {
  // An origin that sends no byte at all is overloaded or starting.
  if (now.atByte === 0) return earlier;
  const isSame =
    earlier?.how === now.how &&
    (now.how === "changed" ? now.atByte <= earlier.atByte : now.atByte === earlier.atByte);
  return isSame ? { ...earlier, times: earlier.times + 1 } : { ...now, times: 1 };
}

/** Whether the next attempt would end like those before. */
export function isFinalEnd(end: EarlyEnd, validator: string | null): boolean {
  return end.times >= (validator === null ? FINAL_WITHOUT_VALIDATOR : FINAL_WITH_VALIDATOR);
}
