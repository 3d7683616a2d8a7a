/** Figure 2: 45 workers split over 1 to 45 clusters, 100 deployments each: time that root and cluster take to decide. */
import { aggregate } from "../../src/hierarchy/capacity.ts";
import { delegate, reserve } from "../../src/hierarchy/delegate.ts";
import { upperBound } from "../../src/protocol/capacity.ts";
import type { PlacementRequest } from "../../src/protocol/placement-request.ts";
import type { Candidate } from "../../src/scheduler/candidate.ts";
import { median } from "../lib/report.ts";

const WORKERS = 45;
const DEPLOYMENTS = 100;
const ROUNDS = 20;

export interface Split {
  readonly clusters: number;
  readonly workersEach: number;
  readonly rootMs: number;
  readonly clusterMs: number;
  readonly bothMs: number;
  readonly worstMs: number;
  readonly placed: number;
}

const request: PlacementRequest = {
  memoryBytes: 100 * 2 ** 20,
  cpuMillis: 1000,
  gpus: 0,
  virtualization: "container",
  architectures: [],
  ports: [],
};

export function figure2(): Split[] {
  for (let warm = 0; warm < 5; warm++) deployAll(9);
  return [1, 3, 5, 9, 15, 45].map((clusters) => {
    const rounds = Array.from({ length: ROUNDS }, () => deployAll(clusters)).flat();
    const of = (pick: (one: Deployment) => number) => median(rounds.map(pick));
    return {
      clusters,
      workersEach: WORKERS / clusters,
      rootMs: of(({ rootMs }) => rootMs),
      clusterMs: of(({ clusterMs }) => clusterMs),
      bothMs: of(({ rootMs, clusterMs }) => rootMs + clusterMs),
      worstMs: Math.max(...rounds.map(({ rootMs, clusterMs }) => rootMs + clusterMs)),
      placed: rounds.filter(({ isPlaced }) => isPlaced).length / ROUNDS,
    };
  });
}

interface Deployment {
  readonly rootMs: number;
  readonly clusterMs: number;
  readonly isPlaced: boolean;
}

function deployAll(clusters: number): Deployment[] {
  const members = Array.from({ length: clusters }, (_, cluster) =>
    Array.from({ length: WORKERS / clusters }, (_each, index) => worker(`${cluster}-${index}`)),
  );
  return Array.from({ length: DEPLOYMENTS }, (_, number) => deploy(`i-${number}`, members));
}

function deploy(instanceId: string, members: Candidate[][]): Deployment {
  // What the root was last told: made by the clusters beforehand, so not part of the decision.
  const told = members.map((workers) => aggregate(workers.map(measured)));
  const declined = new Map<string, string>();
  let rootMs = 0;
  let clusterMs = 0;
  for (;;) {
    const atRoot = timed(() => {
      const candidates = told.map((one, index) => cluster(`${index}`, one));
      return choose(instanceId, candidates, declined);
    });
    rootMs += atRoot.ms;
    if (atRoot.value === undefined) return { rootMs, clusterMs, isPlaced: false };
    const workers = members[Number(atRoot.value)]!;
    const below = timed(() => choose(instanceId, workers, new Map()));
    clusterMs += below.ms;
    if (below.value !== undefined) {
      const index = workers.findIndex(({ id }) => id === below.value);
      workers[index] = reserve(workers[index]!, instanceId, request);
      return { rootMs, clusterMs, isPlaced: true };
    }
    declined.set(atRoot.value, "no worker fits");
  }
}

function choose(instanceId: string, candidates: readonly Candidate[], excluded: ReadonlyMap<string, string>) {
  const instances = [{ instanceId, request, excluded }];
  const [step] = delegate({ instances, candidates, lost: new Set(), strategy: "best-fit" });
  return step?.do === "assign" ? step.childId : undefined;
}

function timed<T>(work: () => T): { readonly value: T; readonly ms: number } {
  const start = performance.now();
  const value = work();
  return { value, ms: performance.now() - start };
}

const TOTAL = { cpuMillis: 4000, memoryBytes: 4 * 2 ** 30, gpus: 0 };

function worker(id: string): Candidate {
  return {
    id,
    name: id,
    active: true,
    free: TOTAL,
    total: TOTAL,
    architectures: ["amd64"],
    virtualization: ["container"],
    heldPorts: new Map(),
  };
}

function measured({ free, total }: Candidate) {
  return { architecture: "amd64", virtualization: ["container"], total, free, cpuPercent: 0, memoryPercent: 0 };
}

/** As the root sees a cluster: nothing but ⟨Σ, μ, σ⟩. */
function cluster(id: string, told: ReturnType<typeof aggregate>): Candidate {
  const { all } = told;
  return {
    ...worker(id),
    free: {
      cpuMillis: Math.round(upperBound(all.cpuMillisFree, all.workers)),
      memoryBytes: Math.round(upperBound(all.memoryBytesFree, all.workers)),
      gpus: 0,
    },
    aggregated: { groups: [all], reserved: { cpuMillis: 0, memoryBytes: 0, gpus: 0 } },
  };
}
