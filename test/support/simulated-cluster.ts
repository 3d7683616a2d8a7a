/**
 * A cluster without workers: the product's own uplink over a state that lives here, so that it says what a cluster says, when a
 * cluster says it. What it is handed runs at once, and uses a little more or less whenever it is measured.
 */
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { fraction } from "../../src/base/random.ts";
import { Uplink } from "../../src/cluster/uplink.ts";
import { aggregate } from "../../src/hierarchy/capacity.ts";
import type { Aggregate } from "../../src/protocol/capacity.ts";
import type { InstanceReport } from "../../src/protocol/instance.ts";

export interface SimulatedClusterOptions {
  readonly rootUrl: string;
  readonly index: number;
  readonly key: string;
  /** An instance is wanted from now on. */
  readonly onWanted: (instanceId: string) => void;
}

/** As often as its workers tell what instances use. */
const MEASURE_MS = 20_000;
const WORKERS = 10;
const CPU_MILLIS = 64_000;
const MEMORY_BYTES = 128 * 2 ** 30;

export class SimulatedCluster {
  readonly #uplink: Uplink;
  readonly #reports = new Map<string, InstanceReport>();
  readonly #index: number;

  constructor({ rootUrl, index, key, onWanted }: SimulatedClusterOptions) {
    this.#index = index;
    this.#uplink = new Uplink({
      rootUrl,
      identity: { clusterName: clusterName(index), location: locationOf(index), key, version: "scale" },
      isNew: false,
      joinToken: async () => undefined,
      view: {
        instanceIds: () => [...this.#reports.keys()],
        report: (id) => this.#reports.get(id),
        aggregate: () => this.#aggregate(),
        subnetsFree: () => 8,
        landmarks: () => this.#landmarks(),
      },
      onDesired: ({ full, assignments, removed }) => {
        const wanted = new Set(assignments.map(({ instanceId }) => instanceId));
        for (const id of full ? [...this.#reports.keys()].filter((one) => !wanted.has(one)) : removed) {
          this.#reports.delete(id);
          this.#uplink.changed(id, true);
        }
        for (const { instanceId, generation } of assignments) {
          this.#reports.set(instanceId, {
            ...{ instanceId, generation, status: "RUNNING", detail: "running", since: 1, restarts: 0 },
          });
          this.#uplink.changed(instanceId, true);
          onWanted(instanceId);
        }
      },
      onRoutes: () => {},
      onNetwork: () => {},
      onLandmarks: () => {},
      explain: () => ({ timeline: [], decisions: [] }),
      forecast: () => [],
      onUp: () => {},
      onLog: () => {},
      onDown: () => {},
      log: silentLogger,
      clock: systemClock,
    });
  }

  get instanceIds(): string[] {
    return [...this.#reports.keys()];
  }

  async run(signal: AbortSignal): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const first = setTimeout(() => {
      timer = setInterval(() => this.#measure(), MEASURE_MS);
    }, fraction() * MEASURE_MS);
    await this.#uplink.run(signal);
    clearTimeout(first);
    clearInterval(timer);
  }

  /** Something has happened to an instance that everybody should hear of. */
  change(instanceId: string, detail: string): void {
    const known = this.#reports.get(instanceId);
    if (!known) return;
    this.#reports.set(instanceId, { ...known, detail });
    this.#uplink.changed(instanceId, true);
  }

  #measure(): void {
    for (const [id, report] of this.#reports) {
      const memoryBytes = Math.round(20e6 + 1e6 * fraction());
      this.#reports.set(id, { ...report, cpuPercent: Math.round(50 * fraction()) / 10, memoryBytes });
      this.#uplink.changed(id, false);
    }
  }

  #aggregate(): Aggregate {
    const used = this.#reports.size / WORKERS;
    const total = { cpuMillis: CPU_MILLIS, memoryBytes: MEMORY_BYTES, gpus: 0 };
    const free = {
      cpuMillis: CPU_MILLIS - used * DEMAND.cpuMillis,
      memoryBytes: MEMORY_BYTES - used * DEMAND.memoryBytes,
      gpus: 0,
    };
    const [latitude, longitude] = locationOf(this.#index).split(",").map(Number);
    const worker = {
      ...{ architecture: "amd64", virtualization: ["container"], total, free },
      ...{ cpuPercent: 10 * fraction(), memoryPercent: 30 + fraction() },
      position: { place: { latitude: latitude!, longitude: longitude!, radiusKm: 0 } },
    };
    return aggregate(Array.from({ length: WORKERS }, () => worker));
  }

  #landmarks() {
    return [0, 1, 2].map((number) => ({
      id: `${this.#index.toString(16).padStart(20, "0")}${number.toString(16).padStart(4, "0")}`,
      address: `10.${200 + (this.#index >> 8)}.${this.#index & 255}.${number + 1}`,
    }));
  }
}

/** What each simulated instance asks for. */
export const DEMAND = { cpuMillis: 100, memoryBytes: 64 * 2 ** 20 } as const;

export function clusterName(index: number): string {
  return `cluster${index}`;
}

function locationOf(index: number): string {
  return `${(36 + (index % 150) / 10).toFixed(1)},${((index % 250) / 10).toFixed(1)}`;
}
