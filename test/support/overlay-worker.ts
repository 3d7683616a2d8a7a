/** Runs a `LinuxNetwork` in the namespaces that it was started in, driven over IPC. */
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { LinuxNetwork } from "../../src/net/linux-network.ts";
import type { Overlay, Peer, Routes, ServiceRoutes } from "../../src/net/overlay.ts";

const [stateDir = ""] = process.argv.slice(2);
const log = createLogger({ level: "warn", format: "text", write: (line) => process.stderr.write(line), now: Date.now });
const { OAK_FAST_PATH } = process.env;
const fastPath = OAK_FAST_PATH !== "off";
const network = new LinuxNetwork({ stateDir, poolSize: 1, fastPath, log, clock: systemClock });
const { signal } = new AbortController();
let services: readonly ServiceRoutes[] = [];
let peers: readonly Peer[] = [];

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
  fastPath: async () => network.fastPath,
  /** Sets this many services of three instances each besides the given ones. The answer is how long it took, ms. */
  async fill(count: number, sandboxes: readonly string[], routes: Routes): Promise<number> {
    const extra = Array.from({ length: count }, (_, index) => synthetic(index, sandboxes, 3));
    services = [...routes.services, ...extra];
    peers = routes.peers;
    return await timed(() => network.setRoutes({ services, peers }));
  },
  /** Changes the members of one service, again and again: how long each took, ms. */
  async update(times: number, sandboxes: readonly string[]): Promise<number[]> {
    const durations: number[] = [];
    for (let round = 0; round < times; round++) {
      const index = services.length - 1 - (round % 10);
      services = services.with(
        index,
        synthetic(Number(services[index]!.id), sandboxes, Math.floor(round / 10) % 2 === 0 ? 2 : 3),
      );
      durations.push(await timed(() => network.setRoutes({ services, peers })));
    }
    return durations;
  },
  /** From now on every unknown address is a service of these sandboxes. */
  async answerMisses(sandboxes: readonly string[]): Promise<void> {
    network.onMiss((address) => {
      const instances = sandboxes.map((sandbox, index) => ({ address: `10.30.3.${index + 1}`, sandbox }));
      services = [...services, { id: address, roundRobin: address, closest: address, instances }];
      void network.setRoutes({ services, peers });
    });
  },
  /** CPU time, ms, and resident memory, MiB. */
  cost: async () => {
    const { user, system } = process.cpuUsage();
    return { cpuMs: (user + system) / 1000, memoryMiB: process.memoryUsage.rss() / 2 ** 20 };
  },
};

/** Its addresses are of the upper half of the service range: 10.30.128.0 on. */
function synthetic(index: number, sandboxes: readonly string[], size: number): ServiceRoutes {
  const address = (slot: number) => {
    const number = 0x8000 + ((index * 5 + slot) % 0x7fff);
    return `10.30.${number >> 8}.${number & 255}`;
  };
  const instances = Array.from({ length: size }, (_, slot) => ({
    address: address(2 + slot),
    sandbox: sandboxes[(index + slot) % sandboxes.length],
  }));
  return { id: String(index), roundRobin: address(0), closest: address(1), instances };
}

async function timed(action: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await action();
  return performance.now() - startedAt;
}

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
