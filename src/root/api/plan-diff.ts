/** What a descriptor says otherwise than what there is, field by field, in the descriptor's words. Pure. */
import { isDeepStrictEqual } from "node:util";
import * as z from "zod/mini";
import { MicroserviceDescriptor } from "../../protocol/descriptor.ts";

export const FieldChange = z.object({
  /** Of the descriptor; of the environment, each variable by its name. */
  field: z.string(),
  /** null: not there. What may be a secret is not shown: `[set]` and `[changed]` stand for it. */
  is: z.unknown(),
  would_be: z.unknown(),
});
export type FieldChange = z.infer<typeof FieldChange>;

const SHOWN: ReadonlySet<string> = new Set(Object.keys(MicroserviceDescriptor.shape));

/** What is absent and what is said to be nothing are the same. */
const NOTHING: readonly unknown[] = [undefined, null, "", 0, false];

export function changesOf(is: MicroserviceDescriptor, wouldBe: MicroserviceDescriptor): FieldChange[] {
  const { microserviceID: _id, environment: variables, ...before } = is;
  const { microserviceID: _other, environment: wanted, ...after } = wouldBe;
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const changed = fields.flatMap((field): FieldChange[] => {
    if (isSame(before[field], after[field])) return [];
    const show = SHOWN.has(field) ? shown : hidden;
    return [{ field, ...show(before[field], after[field]) }];
  });
  return [...changed, ...variablesOf(variables, wanted)];
}

function isSame(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b) || (isNothing(a) && isNothing(b));
}

function isNothing(value: unknown): boolean {
  return NOTHING.includes(value) || (Array.isArray(value) && value.length === 0);
}

function shown(is: unknown, wouldBe: unknown) {
  return { is: is ?? null, would_be: wouldBe ?? null };
}

function hidden(is: unknown, wouldBe: unknown) {
  if (wouldBe === undefined) return { is: "[set]", would_be: null };
  return is === undefined ? { is: null, would_be: "[set]" } : { is: "[set]", would_be: "[changed]" };
}

function variablesOf(is: readonly string[] = [], wouldBe: readonly string[] = []): FieldChange[] {
  const before = byName(is);
  const after = byName(wouldBe);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((name) => before.get(name) !== after.get(name))
    .map((name) => ({ field: `environment ${name}`, ...hidden(before.get(name), after.get(name)) }));
}

function byName(variables: readonly string[]): Map<string, string> {
  return new Map(
    variables.map((one) => {
      const end = one.indexOf("=");
      return [one.slice(0, end), one.slice(end + 1)];
    }),
  );
}
