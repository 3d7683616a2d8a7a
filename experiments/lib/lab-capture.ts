/** Counts what goes over the wire of a lab's host, from outside of the product. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestLab } from "../../test/support/lab.ts";
import { repository } from "../../test/support/lab-host.ts";
import type { Sum, Sums } from "./traffic.ts";

export interface Capture {
  /** Since the start, with the bytes that the device itself has counted. */
  sums(): Promise<Sums & { readonly deviceBytes: number }>;
  close(): void;
}

export async function captureOn({ lab, sh }: TestLab, host: string): Promise<Capture> {
  const program = [process.execPath, "--disable-warning=ExperimentalWarning", join(import.meta.dirname, "capture.ts")];
  const child = spawn(...(await lab.command(host, [...program, "eth0"], repository)), {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const sums = async () => {
    child.stdin.write("\n");
    const { value, done } = await lines.next();
    if (done) throw new Error(`The capture on ${host} has ended`);
    const counters = /eth0:(.*)/
      .exec(await sh(host, "cat /proc/net/dev"))![1]!
      .trim()
      .split(/ +/)
      .map(Number);
    const [received, sent] = [counters[0]!, counters[8]!];
    return { ...(JSON.parse(value) as Sums), deviceBytes: received + sent };
  };
  await sums();
  return { sums, close: () => child.stdin.end() };
}

/** What came between the two, without kinds of which nothing did. */
export function between(
  before: Readonly<Record<string, Sum>>,
  after: Readonly<Record<string, Sum>>,
): Record<string, Sum> {
  const entries = Object.entries(after).map(([kind, { frames, bytes }]): [string, Sum] => [
    kind,
    { frames: frames - (before[kind]?.frames ?? 0), bytes: bytes - (before[kind]?.bytes ?? 0) },
  ]);
  return Object.fromEntries(entries.filter(([, { frames }]) => frames > 0).sort());
}
