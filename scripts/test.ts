/**
 * The gate: format and lint, types, architecture, unit, contracts, integration, e2e. Every stage runs, even after a failure,
 * so that one run tells everything; the closing lines say what passed, failed and was skipped, and why.
 */
import { spawn } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { TestCounts } from "./test-counts.ts";

interface Stage {
  readonly name: string;
  readonly about: string;
  /** A program with its arguments, or the test files to run. */
  readonly command?: readonly string[];
  readonly tests?: readonly string[];
  /** Files at a time: suites that start real containers share two cores badly. */
  readonly concurrency?: number;
}

const STAGES: readonly Stage[] = [
  { name: "lint", about: "format and lint", command: ["biome", "ci", "--log-level=warn", "."] },
  { name: "types", about: "types", command: ["tsc", "--noEmit", "-p", "."] },
  { name: "architecture", about: "the rules of CONTRIBUTING.md", tests: ["test/architecture.test.ts"] },
  { name: "unit", about: "pure code, and adapters beside it", tests: ["src/**/*.test.ts"], concurrency: 2 },
  { name: "contracts", about: "ports, on fake and real", tests: ["test/contracts/**/*.test.ts"], concurrency: 1 },
  {
    name: "integration",
    about: "a role against real things",
    tests: ["test/integration/**/*.test.ts"],
    concurrency: 1,
  },
  { name: "e2e", about: "whole machines", tests: ["test/e2e/**/*.test.ts"], concurrency: 1 },
];

const repository = dirname(dirname(fileURLToPath(import.meta.url)));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string", multiple: true },
    name: { type: "string" },
    verbose: { type: "boolean", short: "v" },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help) {
  console.log(`npm test                            everything
npm test -- --only unit             one stage (repeat or separate by commas): ${STAGES.map((stage) => stage.name).join(", ")}
npm test -- src/net/compile.test.ts these files only
npm test -- --name "port"           tests whose name matches
npm test -- --verbose               each test's name`);
  process.exit(0);
}

const wanted = values.only?.flatMap((list) => list.split(","));
for (const name of wanted ?? []) {
  if (!STAGES.some((stage) => stage.name === name)) {
    console.error(`There is no stage "${name}": use ${STAGES.map((stage) => stage.name).join(", ")}`);
    process.exit(2);
  }
}
const stages: readonly Stage[] =
  positionals.length > 0
    ? [{ name: "files", about: positionals.join(" "), tests: positionals, concurrency: 1 }]
    : STAGES.filter((stage) => !wanted || wanted.includes(stage.name));

const scratch = mkdtempSync(join(tmpdir(), "oak-test-"));
const total: TestCounts = { passed: 0, failed: 0, skipped: 0, skips: [], slowest: [] };
const lines: string[] = [];
const began = performance.now();
for (const stage of stages) {
  const files = stage.tests?.flatMap((pattern) => globSync(pattern, { cwd: repository }).sort());
  if (files && files.length === 0) {
    lines.push(`  -     ${stage.name.padEnd(13)} no tests`);
    if (positionals.length > 0) total.failed += 1;
    continue;
  }
  console.log(`\n== ${stage.name}: ${stage.about}`);
  const started = performance.now();
  const exitCode = await (files ? runTests(stage, files) : runProgram(stage.command!));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  lines.push(`  ${exitCode === 0 ? "ok   " : "FAIL "} ${stage.name.padEnd(13)} ${seconds} s`);
  if (!files) total[exitCode === 0 ? "passed" : "failed"] += 1;
}
rmSync(scratch, { recursive: true });

if (total.skips.length > 0) console.log(`\nSkipped:\n${total.skips.map((skip) => `  ${skip}`).join("\n")}`);
console.log(`\n${lines.join("\n")}\n  in all ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;

async function runTests(stage: Stage, files: readonly string[]): Promise<number> {
  const countsFile = join(scratch, `${stage.name}.json`);
  const exitCode = await runProgram([
    process.execPath,
    "--disable-warning=ExperimentalWarning",
    "--test",
    `--test-concurrency=${stage.concurrency ?? 1}`,
    "--test-timeout=300000",
    ...(values.name ? [`--test-name-pattern=${values.name}`] : []),
    `--test-reporter=${values.verbose ? "spec" : "dot"}`,
    "--test-reporter-destination=stdout",
    `--test-reporter=${join(repository, "scripts/test-counts.ts")}`,
    `--test-reporter-destination=${countsFile}`,
    ...files,
  ]);
  const counts = readCounts(countsFile);
  total.passed += counts.passed;
  // A file that died outside of a test must not pass unnoticed.
  total.failed += exitCode !== 0 && counts.failed === 0 ? 1 : counts.failed;
  total.skipped += counts.skipped;
  total.skips.push(...counts.skips);
  if (counts.slowest.length > 0) console.log(`slowest: ${counts.slowest.join(", ")}`);
  return exitCode;
}

function readCounts(file: string): TestCounts {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as TestCounts;
  } catch (error) {
    console.error(`No test counts: ${String(error)}`);
    return { passed: 0, failed: 1, skipped: 0, skips: [], slowest: [] };
  }
}

function runProgram([file, ...args]: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(file!, args, {
      cwd: repository,
      stdio: "inherit",
      env: { ...process.env, PATH: `${join(repository, "node_modules/.bin")}:${process.env.PATH}` },
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}
