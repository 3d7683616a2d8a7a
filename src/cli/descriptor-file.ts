/** Reads an SLA descriptor, JSON or YAML, and says where in the text it is wrong. */
import { LineCounter, parseDocument } from "yaml";
import { AppError } from "../base/errors.ts";
import { type Problem, validate } from "../base/validation.ts";
import { Descriptor } from "../protocol/descriptor.ts";

const MAX_CHARACTERS = 10_000_000;

/**
 * @param file name for messages
 * @throws AppError INPUT_INVALID: `sla.yaml:4:7: …` for broken text, one line a problem for a wrong descriptor
 */
export function parseDescriptor(text: string, file: string): Descriptor {
  if (text.length > MAX_CHARACTERS) {
    throw new AppError(
      "INPUT_INVALID",
      `${file}: has ${text.length} characters; a descriptor has at most ${MAX_CHARACTERS}`,
    );
  }
  const lineCounter = new LineCounter();
  // JSON is YAML 1.2, and YAML's parser tells line and column where JSON.parse only sometimes does.
  const document = parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: true, merge: true });
  const broken = document.errors[0];
  if (broken) {
    const { line, col } = lineCounter.linePos(broken.pos[0]);
    throw new AppError("INPUT_INVALID", `${file}:${line}:${col}: ${brokenText(broken.message)}`);
  }
  const value = read(() => document.toJS({ maxAliasCount: 100 }), file);
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new AppError(
      "INPUT_INVALID",
      `${file}: is not a descriptor: it must be an object with sla_version and applications`,
    );
  }
  const result = validate(Descriptor, value);
  if (result.ok) return result.value;
  throw invalid(result.problems.map((problem) => ({ ...problem, place: placeOf(problem) })));

  function placeOf({ field }: Problem): string {
    const node = nodeAt(field);
    if (!node?.range) return `${file}: `;
    const { line, col } = lineCounter.linePos(node.range[0]);
    return `${file}:${line}:${col}: `;
  }

  /** The node of the field, or of the nearest thing around it when the field is missing. */
  function nodeAt(field: string): { range?: [number, number, number] | null } | undefined {
    const path = fieldPath(field);
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true);
      if (typeof node === "object" && node !== null) return node;
    }
    return document.contents ?? undefined;
  }
}

/** The parser's words for a bracket, in those of JSON's and YAML's users alike. */
function brokenText(message: string): string {
  const bracket = /^Flow \w+ in block collection must be .*end with a ([\]}])$/.exec(message)?.[1];
  return bracket ? `"${bracket}" is missing here, or a line before it is not indented` : message;
}

function fieldPath(field: string): (string | number)[] {
  return [...field.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map((match) =>
    match[1] === undefined ? match[2]! : Number(match[1]),
  );
}

function read(toValue: () => unknown, file: string): unknown {
  try {
    return toValue();
  } catch (cause) {
    throw new AppError("INPUT_INVALID", `${file}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}

function absence(message: string): string {
  return message.replace(/^Invalid input: expected (\w+), received undefined$/, "is missing; expected: $1");
}

function invalid(problems: readonly (Problem & { place: string })[]): AppError {
  const lines = problems.map(({ place, field, message }) => `${place}${field ? `${field}: ` : ""}${absence(message)}`);
  return new AppError("INPUT_INVALID", lines.join("\n"), {
    details: { problems: problems.map(({ field, message }) => ({ field, message })) },
  });
}
