/** The longest wait of a request to the API until a worker accepts an import, in ms. */
export const LONGEST_ACCEPT_WAIT_MS = 600_000;
