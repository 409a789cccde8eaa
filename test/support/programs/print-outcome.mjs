/**
 * Prints how some work ended, as one line of JSON, and ends the process: its result under `name`,
 * or the code of its failure.
 *
 * @param {string} name
 * @param {Promise<unknown>} work
 */
export async function printOutcome(name, work) {
  const outcome = await work.then(
    (result) => ({ [name]: result }),
    (/** @type {unknown} */ error) => ({ code: codeOf(error) }),
  );
  process.stdout.write(JSON.stringify(outcome), () => process.exit());
}

/** @param {unknown} error */
function codeOf(error) {
  return error instanceof Error && "code" in error ? error.code : String(error);
}
