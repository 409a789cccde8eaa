/**
 * The unit in which bytes are read, hashed and written: 1 MiB. Smaller blocks cost throughput (64
 * KiB reads run at a quarter of the speed), larger ones are not faster.
 */
export const BLOCK_BYTES = 1024 * 1024;
