/** The rules of CONTRIBUTING.md that a machine can check. A failure names the file, the line and the rule. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, normalize } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";

const repository = dirname(dirname(fileURLToPath(import.meta.url)));

/** Who may import whom; every folder may also import itself. Type-only imports obey the same table. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  // The exception is the validator's set-up (locale, no compiler), which must happen before the first schema.
  protocol: ["base/validation.ts", "base/errors.ts"],
  scheduler: ["protocol", "base"],
  addressing: ["protocol", "base"],
  hierarchy: ["scheduler", "protocol", "base"],
  transport: ["protocol", "base"],
  runtime: ["protocol", "base"],
  net: ["addressing", "protocol", "base"],
  root: ["hierarchy", "scheduler", "addressing", "transport", "protocol", "base"],
  cluster: ["hierarchy", "scheduler", "addressing", "transport", "protocol", "base"],
  // A worker keeps its own network coordinate; what follows from it is decided above.
  worker: ["scheduler/vivaldi.ts", "runtime", "net", "addressing", "transport", "protocol", "base"],
  lab: ["addressing", "protocol", "base"],
  // A recorded decision is made again without a server.
  cli: ["scheduler/record.ts", "transport", "protocol", "base"],
  dashboard: ["protocol"],
  // The roles meet only here: one process may run all three.
  "up.ts": ["up-settings.ts", "root", "cluster", "worker", "runtime", "net", "transport", "protocol", "base"],
  "up-settings.ts": ["root", "cluster", "worker", "base"],
  "machine.ts": ["worker", "runtime", "net", "cli", "base"],
  "start-role.ts": ["machine.ts", "up.ts", "up-settings.ts", "root", "cluster", "worker", "cli", "base"],
  "main.ts": ["machine.ts", "start-role.ts", "cli", "lab", "base"],
};
const PURE = ["protocol", "scheduler", "addressing", "hierarchy"];
const MAX_LINES = 400;
const MAX_TEST_LINES = 600;

interface SourceFile {
  /** From the repository's root. */
  readonly path: string;
  readonly text: string;
  /** Without comments, strings and types where the rule is about code; line breaks kept. */
  readonly code: string;
  readonly imports: readonly Import[];
}

interface Import {
  readonly specifier: string;
  readonly line: number;
  readonly typeOnly: boolean;
  /** Repository path of the file it names, if it is ours. */
  readonly target?: string;
}

let files: readonly SourceFile[] = [];
before(() => {
  files = globSync("{src,test,scripts,experiments}/**/*.ts", { cwd: repository })
    .filter((path) => !path.includes("/gen/"))
    .sort()
    .map(read);
});

test("every folder imports only what the import table allows", () => {
  report(
    inSource().flatMap(({ path, imports }) => {
      const own = part(path);
      const allowed = MAY_IMPORT[own];
      if (!allowed) return [`${path}: src/${own} is not in the import table; add it to MAY_IMPORT and ARCHITECTURE.md`];
      return imports.flatMap(({ target, line }) => {
        if (!target) return [];
        const other = part(target);
        const within = target.replace(/^src\//, "");
        if (other === own || allowed.includes(other) || allowed.includes(within)) return [];
        return [
          `${path}:${line}: ${own} must not import ${within} (allowed: ${allowed.join(", ") || "nothing of ours"})`,
        ];
      });
    }),
  );
});

test("product code never imports tests, scripts or experiments, nor test doubles", () => {
  report(
    inSource()
      .filter(({ path }) => !isTest(path))
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ target }) => target && (!target.startsWith("src/") || target.endsWith(".fake.ts")))
          .map(({ target, line }) => `${path}:${line}: imports ${target}`),
      ),
  );
});

test("experiments drive the product from outside; pure decisions they may call", () => {
  report(
    files
      .filter(({ path }) => path.startsWith("experiments/"))
      .flatMap(({ path, imports }) =>
        imports
          .filter(
            ({ target }) => target && /^src\/(?!base\/|protocol\/|transport\/|scheduler\/|hierarchy\/)/.test(target),
          )
          .map(({ target, line }) => `${path}:${line}: imports ${target}; use the API, the CLI or test/support`),
      ),
  );
});

test("there are no import cycles", () => {
  report(findCycles(files).map((cycle) => `cycle: ${cycle.join(" -> ")}`));
});

test("pure folders do no input or output", () => {
  const io = /^node:(?:fs|net|http|http2|https|child_process|dgram|dns|sqlite|tls|os|worker_threads)(?:\/|$)/;
  report(
    inSource()
      .filter(({ path }) => PURE.includes(part(path)) && !isTest(path))
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ specifier }) => io.test(specifier))
          .map(({ specifier, line }) => `${path}:${line}: ${specifier}`),
      ),
  );
});

test(`files have at most ${MAX_LINES} lines, tests ${MAX_TEST_LINES}`, () => {
  report(
    files.flatMap(({ path, text }) => {
      const lines = text.split("\n").length - 1;
      const limit = isTest(path) ? MAX_TEST_LINES : MAX_LINES;
      return lines > limit
        ? [`${path}: ${lines} lines, ${limit} allowed; a file that needs sections is two files`]
        : [];
    }),
  );
});

test("time, chance, environment and console are reached only through src/base and src/main.ts", () => {
  const ambient =
    /\b(?:Date\.now\s*\(|new Date\(\s*\)|setTimeout\s*\(|setInterval\s*\(|setImmediate\s*\(|Math\.random\s*\(|performance\.now\s*\(|process\.(?!platform\b|arch\b)\w+|console\.\w+|AbortSignal\.timeout\s*\()/;
  report(
    inSource()
      .filter(
        ({ path }) => part(path) !== "base" && path !== "src/main.ts" && !isTest(path) && part(path) !== "dashboard",
      )
      .flatMap((file) => linesMatching(file, ambient, "take a Clock, Logger or setting instead")),
  );
});

test("there are no default exports, barrels or any", () => {
  report([
    ...files
      .filter(({ path }) => /(?:^|\/)index\.ts$/.test(path))
      .map(({ path }) => `${path}: a barrel; import the defining file`),
    ...files
      .filter(({ path }) => path !== "scripts/test-counts.ts")
      .flatMap((file) => linesMatching(file, /^\s*export\s+default\b/, "export it by name")),
    ...inSource()
      .filter(({ path }) => part(path) !== "dashboard")
      .flatMap((file) =>
        linesMatching(
          { ...file, code: file.text },
          /(?:[:<,|&]\s*|\bas )any\b(?!["'`\w ]*\*\/)(?=[\s;,)>[\]|&=]|$)/,
          "write unknown, or the type",
        ).filter((line) => !/:\s*(?:\*|\/\/|\/\*\*)/.test(line)),
      ),
  ]);
});

test("zod comes as zod/mini, which costs a fifth of the memory", () => {
  report(
    inSource().flatMap(({ path, imports }) =>
      imports
        .filter(({ specifier, typeOnly }) => !typeOnly && /^zod(?:$|\/v4$|\/v3)/.test(specifier))
        .map(({ specifier, line }) => `${path}:${line}: imports "${specifier}"`),
    ),
  );
});

test("nothing names a folder of the machine it was written on", () => {
  const traces = new RegExp(["/wo" + "rk/", "/tmp/n" + "24", "/ho" + "me/\\w+/"].join("|"));
  report(
    files.flatMap((file) => linesMatching({ ...file, code: file.text }, traces, "use a relative or a temporary path")),
  );
});

test("the rules themselves find what they must", () => {
  const planted = [
    parse("src/base/a.ts", 'import { b } from "./b.ts";\n'),
    parse("src/base/b.ts", 'import { c } from "../net/c.ts";\n'),
    parse(
      "src/net/c.ts",
      'import type { X } from "../base/type.ts";\nimport { a } from "../base/a.ts";\nexport const t = Date.now();\n// Date.now()\nconst s = "Date.now()";\n',
    ),
  ];
  assert.deepEqual(findCycles(planted), [["src/base/a.ts", "src/base/b.ts", "src/net/c.ts", "src/base/a.ts"]]);
  assert.equal(planted[2]!.imports[1]!.target, "src/base/a.ts");
  assert.equal(linesMatching(planted[2]!, /Date\.now\s*\(/, "x").length, 1);
});

function inSource(): readonly SourceFile[] {
  return files.filter(({ path }) => path.startsWith("src/"));
}

/** `base`, `net` …; for files directly in src their own name. */
function part(path: string): string {
  return path.split("/")[1] ?? path;
}

function isTest(path: string): boolean {
  return (
    path.endsWith(".test.ts") || path.endsWith(".fake.ts") || path.includes(".contract.") || path.startsWith("test/")
  );
}

function read(path: string): SourceFile {
  return parse(path, readFileSync(join(repository, path), "utf8"));
}

function parse(path: string, text: string): SourceFile {
  const imports: Import[] = [];
  const statement =
    /^[ \t]*(?:import|export)\s+(type\s+)?(?:[\w*{}\s,$]+\s+from\s+)?["']([^"'\n]+)["']|\bimport\(\s*["']([^"'\n]+)["']\s*\)/gm;
  for (const match of text.matchAll(statement)) {
    const specifier = match[2] ?? match[3]!;
    imports.push({
      specifier,
      line: text.slice(0, match.index).split("\n").length,
      typeOnly: match[1] !== undefined,
      ...(specifier.startsWith(".") ? { target: normalize(join(dirname(path), specifier)) } : {}),
    });
  }
  return { path, text, code: withoutTextAndComments(text), imports };
}

/** Types go first (their words are not code), then comments and literals become spaces; lines stay where they are. */
function withoutTextAndComments(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, " ");
  return stripTypeScriptTypes(text).replace(
    /\/\*[\s\S]*?\*\/|(?<![:\\])\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g,
    blank,
  );
}

function linesMatching({ path, code }: SourceFile, pattern: RegExp, remedy: string): string[] {
  return code
    .split("\n")
    .flatMap((line, index) =>
      pattern.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 80)}  (${remedy})`] : [],
    );
}

/** Cycles of imports that exist at run time, each once, starting at its first file in path order. */
function findCycles(all: readonly SourceFile[]): string[][] {
  const targets = new Map(
    all.map(({ path, imports }) => [
      path,
      imports.flatMap(({ target, typeOnly }) => (target && !typeOnly ? [target] : [])),
    ]),
  );
  const done = new Set<string>();
  const cycles: string[][] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) return void cycles.push([...trail.slice(trail.indexOf(path)), path]);
    if (done.has(path)) return;
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of targets.keys()) visit(path, []);
  return cycles;
}

function report(violations: readonly string[]): void {
  if (violations.length > 0) assert.fail(`${violations.length} violation(s):\n  ${violations.join("\n  ")}`);
}
