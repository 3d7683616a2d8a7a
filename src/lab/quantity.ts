/** Times, shares and rates as people write them: `20ms`, `1.5s`, `0.5%`, `100mbit`. Pure. */
import * as z from "zod/mini";

const MAX_DELAY_MS = 60_000;
const BITS = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 } as const;

/** Milliseconds. */
export const Duration = quantity(/^(\d+(?:\.\d+)?)(ms|s)$/, "write a time of at most 60s, such as 20ms or 1.5s", {
  scale: { ms: 1, s: 1000 },
  max: MAX_DELAY_MS,
});

/** Percent. */
export const Share = quantity(/^(\d+(?:\.\d+)?)(%)$/, "write a share of at most 100%, such as 1%", {
  scale: { "%": 1 },
  max: 100,
});

/** Bits a second. */
export const Bandwidth = quantity(
  /^(\d+(?:\.\d+)?)(bit|kbit|mbit|gbit)$/,
  "write a rate from 1kbit to 10gbit, such as 100mbit",
  { scale: BITS, min: BITS.kbit, max: 10 * BITS.gbit },
);

interface Range {
  readonly scale: Readonly<Record<string, number>>;
  readonly min?: number;
  readonly max: number;
}

function quantity(pattern: RegExp, remedy: string, { scale, min = 0, max }: Range) {
  const read = (text: string) => {
    const [, amount = "", unit = ""] = pattern.exec(text) ?? [];
    return amount === "" ? Number.NaN : Number(amount) * scale[unit]!;
  };
  const isWithin = (value: number) => value >= min && value <= max;
  return z.pipe(
    z.string(remedy).check(z.refine((text) => isWithin(read(text)), remedy)),
    z.transform((text) => read(text)),
  );
}
