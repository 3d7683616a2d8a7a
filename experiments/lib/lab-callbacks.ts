/** What applications on a host of a lab call: their first act when they run, and their last when they are told to stop. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestLab } from "../../test/support/lab.ts";
import { eventually, repository } from "../../test/support/lab-host.ts";

export interface LabCallbacks {
  /** argv for a container: calls `<name>`, sleeps, and on SIGTERM calls `<name>-end`. */
  command(name: string): string[];
  /** When that was called, by `kernelMs`. */
  arrival(name: string, withinMs: number): Promise<number>;
  close(): void;
}

export async function listenOnHost({ lab, address }: TestLab, host: string): Promise<LabCallbacks> {
  const program = [process.execPath, "--disable-warning=ExperimentalWarning", join(import.meta.dirname, "listener.ts")];
  const child = spawn(...(await lab.command(host, program, repository)), { stdio: ["ignore", "pipe", "inherit"] });
  const calls = new Map<string, number>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [name = "", at] = line.split(" ");
    if (!calls.has(name)) calls.set(name, Number(at));
  });
  const arrival = (name: string, withinMs: number) =>
    eventually(() => calls.get(name), { withinMs, everyMs: 1, what: `the call "${name}" on ${host}` });
  const port = await arrival("listening", 10_000);
  const server = `http://${await address(host)}:${port}`;
  const call = (name: string) => `/bin/busybox wget -q -O /dev/null ${server}/${name}`;
  const script = (name: string) =>
    `trap '${call(`${name}-end`)}; exit 0' TERM; ${call(name)}; /bin/busybox sleep 100000 & wait`;
  return {
    command: (name) => ["/bin/busybox", "sh", "-c", script(name)],
    arrival,
    close: () => child.kill(),
  };
}
