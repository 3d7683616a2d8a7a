/**
 * A worker without a machine: the product's own link, reporter and instances, so that it says what a worker says, when a worker
 * says it. Its instances run as soon as they are wanted, and use a little more or less whenever they are measured.
 */
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { fraction } from "../../src/base/random.ts";
import type { WorkerInfo } from "../../src/protocol/capacity.ts";
import type { WorkerNetwork } from "../../src/protocol/mqtt.ts";
import { interestIn } from "../../src/protocol/route.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { ClusterLink } from "../../src/worker/cluster-link.ts";
import { DesiredAssembly } from "../../src/worker/desired.ts";
import { Instances } from "../../src/worker/instances.ts";
import { register } from "../../src/worker/registration.ts";
import { Reporter } from "../../src/worker/reporter.ts";

/** As often as a worker looks at what its instances use. */
const MEASURE_MS = 20_000;

export interface SimulatedWorkerOptions {
  readonly joinPort: number;
  readonly folder: string;
  readonly info: WorkerInfo;
  readonly joinToken?: string;
  /** An instance is wanted from now on. */
  readonly onWanted: (instanceId: string) => void;
}

export class SimulatedWorker {
  readonly #options: SimulatedWorkerOptions;
  readonly #desired = new DesiredAssembly();
  readonly #instances: Instances;
  readonly #reporter: Reporter;
  readonly #link: ClusterLink;
  #id = "";
  #network: WorkerNetwork | undefined;

  constructor(options: SimulatedWorkerOptions) {
    this.#options = options;
    const common = { log: silentLogger, clock: systemClock };
    this.#instances = new Instances({
      ...common,
      onChange: () => this.#reporter.trigger(),
      live: () => this.#live(),
    });
    const takeOver = (isNew: boolean) => isNew && this.#takeOver();
    this.#link = new ClusterLink({
      ...common,
      host: "127.0.0.1",
      register: (signal) => this.register(signal),
      on: {
        instance: (instance) => takeOver(this.#desired.instance(instance)),
        cleared: (instanceId) => this.#desired.cleared(instanceId),
        manifest: (manifest) => takeOver(this.#desired.manifest(manifest)),
        network: (network) => {
          this.#network = network;
          this.#instances.reportAll();
        },
        connected: ({ id }) => {
          this.#id = id;
          this.#reporter.connected();
          this.#sendInterest(true);
        },
        disconnected: () => this.#desired.disconnected(),
        logRequest: () => {},
        check: () => {},
        measure: () => {},
        routes: () => {},
      },
    });
    this.#reporter = new Reporter({
      ...common,
      instances: this.#instances,
      link: this.#link,
      info: async () => options.info,
      isReady: () => true,
      addressesFree: () => 61 - this.#instances.records.size,
      surroundings: () => ({}),
      measure: async () => ({ cpuPercent: 10 * fraction(), memoryPercent: 30 + fraction() }),
    });
  }

  get instanceIds(): string[] {
    return [...this.#instances.records.keys()];
  }

  register(signal: AbortSignal): ReturnType<typeof register> {
    const { joinPort, folder, info, joinToken } = this.#options;
    const http = new HttpClient(`http://127.0.0.1:${joinPort}`);
    const token = joinToken === undefined ? undefined : async () => joinToken;
    return register(
      { http, keyPath: `${folder}/${info.hostname}.key`, joinToken: token, info: async () => info },
      signal,
    );
  }

  async run(signal: AbortSignal): Promise<void> {
    const beat = setTimeout(() => {
      this.#measure();
      timer = setInterval(() => this.#measure(), MEASURE_MS);
    }, fraction() * MEASURE_MS);
    let timer: NodeJS.Timeout | undefined;
    await Promise.all([this.#link.run(signal), this.#reporter.run(signal)]);
    clearTimeout(beat);
    clearInterval(timer);
  }

  /** Something has happened to an instance that everybody should hear of. */
  change(instanceId: string, detail: string): void {
    this.#instances.update(instanceId, undefined, { detail });
  }

  #takeOver(): void {
    const desired = this.#desired.current!;
    const before = new Set(this.#instances.records.keys());
    this.#instances.sync(desired, {}, []);
    for (const id of desired.instances.keys()) {
      if (before.has(id)) continue;
      this.#instances.update(id, undefined, { status: "RUNNING", detail: "running", traffic: "on", startedAt: 1 });
      this.#options.onWanted(id);
    }
    this.#sendInterest(false);
  }

  /** In the applications of its own instances, as the overlay has it. */
  #sendInterest(full: boolean): void {
    const wanted = [...(this.#desired.current?.instances.values() ?? [])];
    const add = [...new Set(wanted.map(({ applicationId }) => interestIn.application(applicationId)))];
    // Lost with the connection: the next one begins with everything.
    if (this.#link.isConnected) this.#link.sendInterest({ full, add, remove: [] }).catch(() => {});
  }

  #live() {
    const { subnets = [] } = this.#network ?? {};
    const prefix = subnets[0]?.split("/")[0];
    if (prefix === undefined) return new Map();
    const worker = { id: this.#id, address: this.#options.info.publicIp, subnets };
    const first = Number(prefix.split(".")[3]) + 2;
    const sandbox = (index: number) => prefix.replace(/\d+$/, String(first + index));
    return new Map(this.instanceIds.map((id, index) => [id, { sandbox: sandbox(index), worker }]));
  }

  #measure(): void {
    for (const id of this.instanceIds) {
      const memoryBytes = Math.round(20e6 + 1e6 * fraction());
      this.#instances.measure(id, { cpuPercent: Math.round(50 * fraction()) / 10, memoryBytes });
    }
  }
}

export function workerInfo(index: number): WorkerInfo {
  return {
    hostname: `worker${index}`,
    architecture: index % 4 === 0 ? "arm64" : "amd64",
    cpuMillis: 4000,
    memoryBytes: 4 * 2 ** 30,
    gpus: 0,
    virtualization: ["container"],
    publicIp: `10.200.${Math.floor(index / 250)}.${1 + (index % 250)}`,
    runtime: "containerd 2.1",
    version: "0.1.0",
    labels: { site: `site${index % 20}` },
    location: `${(48 + (index % 100) / 100).toFixed(2)},${(11 + (index % 70) / 100).toFixed(2)}`,
  };
}
