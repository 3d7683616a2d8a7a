/** Milliseconds of the kernel's monotonic clock: the same in every process, while `performance.now` counts from its start. */
export function kernelMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}
