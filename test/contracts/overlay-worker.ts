/** Runs a `LinuxNetwork` in the namespaces that it was started in, driven over IPC. */
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { LinuxNetwork } from "../../src/net/linux-network.ts";
import type { Overlay } from "../../src/net/overlay.ts";

const [stateDir = ""] = process.argv.slice(2);
const log = createLogger({ level: "warn", format: "text", write: (line) => process.stderr.write(line), now: Date.now });
const network = new LinuxNetwork({ stateDir, poolSize: 1, log, clock: systemClock });
const { signal } = new AbortController();

const operations = {
  start: () => network.start(signal),
  attach: (instanceId: string) => network.attach(instanceId, signal),
  detach: (instanceId: string) => network.detach(instanceId, signal),
  publish: (instanceId: string, ports: Parameters<LinuxNetwork["publish"]>[1]) =>
    network.publish(instanceId, ports, signal),
  list: async () => network.list(),
  stop: (purge: boolean) => network.stop({ purge }),
  configure: (settings: Parameters<Overlay["configure"]>[0]) => network.configure(settings),
  setIdentity: (instanceId: string, address: string | undefined) => network.setIdentity(instanceId, address),
  setRoutes: (routes: Parameters<Overlay["setRoutes"]>[0]) => network.setRoutes(routes),
  refuse: (address: string) => network.refuse(address),
  usedAddresses: () => network.usedAddresses(),
  flush: (address: string) => network.flush(address),
  freeAddresses: async () => network.freeAddresses(),
  underlayTo: (address: string) => network.underlayTo(address),
  check: () => network.check(),
  /** CPU time, ms, and resident memory, MiB. */
  cost: async () => {
    const { user, system } = process.cpuUsage();
    return { cpuMs: (user + system) / 1000, memoryMiB: process.memoryUsage.rss() / 2 ** 20 };
  },
};

export type WorkerOperations = typeof operations;

network.onMiss((miss) => process.send?.({ miss }));
process.on("disconnect", () => process.exit());
process.on("message", async ({ id, method, args }: { id: number; method: keyof WorkerOperations; args: never[] }) => {
  try {
    const call = operations[method] as (...args: never[]) => Promise<unknown>;
    process.send?.({ id, result: await call(...args) });
  } catch (error) {
    process.send?.({ id, error: String(error) });
  }
});
process.send?.({ ready: true });
