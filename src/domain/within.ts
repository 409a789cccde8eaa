/**
 * The result of work, or a failure if it takes too long. The work itself continues: it cannot be
 * stopped.
 *
 * @param patienceMs - the longest wait for the work
 * @param silence - the failure if it takes longer
 */
export async function within<T>(patienceMs: number, silence: Error, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silent = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(silence);
    }, patienceMs);
  });
  try {
    return await Promise.race([work, silent]);
  } finally {
    clearTimeout(timer);
  }
}
