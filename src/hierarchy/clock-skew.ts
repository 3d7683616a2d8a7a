/** How far the clock of a child is from one's own: told, so that times in logs are read rightly; nothing is decided by it. Pure. */

/** Less is the time that messages take, and what nobody minds. */
const NOTABLE_MS = 60_000;
const UNITS: readonly [string, number][] = [
  ["days", 86_400_000],
  ["hours", 3_600_000],
  ["minutes", 60_000],
];

/** `its clock is 365 days ahead`; undefined: near enough. @param offMs the child's clock less one's own */
export function describeSkew(offMs: number | undefined): string | undefined {
  if (offMs === undefined || Math.abs(offMs) < NOTABLE_MS) return undefined;
  const [unit, ms] = UNITS.find(([, size]) => Math.abs(offMs) >= 2 * size) ?? UNITS.at(-1)!;
  return `its clock is ${Math.round(Math.abs(offMs) / ms)} ${unit} ${offMs > 0 ? "ahead" : "behind"}`;
}
