/** Figure 10: ROM and LDP over more and more workers: time of a decision, and share of placements that are truly within 20 ms. */
import { reserve } from "../../src/hierarchy/delegate.ts";
import type { PlacementRequest } from "../../src/protocol/placement-request.ts";
import type { Decision, ScheduleOptions } from "../../src/scheduler/candidate.ts";
import { schedule } from "../../src/scheduler/schedule.ts";
import { median } from "../lib/report.ts";
import { generator, rttMs, type Spot, spot, type World, world } from "./world.ts";

const BOUND_MS = 20;
const BOUND_KM = 120;
/** Workers that measure a user, drawn at random (paper, algorithm 2). */
const PROBES = 8;

export interface Outcome {
  readonly workers: number;
  readonly algorithm: "rom" | "ldp";
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly placed: number;
  /** Of those placed, by the true round-trip times to the other service and to the users. */
  readonly within: number;
  readonly requests: number;
}

export function figure10(counts: readonly number[]): Outcome[] {
  return counts.flatMap((count) => {
    const random = generator(count);
    const edge = world(count, random);
    // The fewer workers, the fewer cores there are to be had.
    const asks = Array.from({ length: Math.min(100, count * 2) }, () => ask(edge, random));
    return (["rom", "ldp"] as const).map((algorithm) => measure(edge, asks, algorithm));
  });
}

interface Ask {
  readonly request: PlacementRequest;
  readonly other: Spot;
  readonly user: Spot;
}

/** 1 core and 100 MB, within 20 ms and 120 km of a service that runs somewhere, and within 20 ms of users around it. */
function ask({ spots, candidates }: World, random: () => number): Ask {
  const draw = () => Math.floor(random() * spots.length);
  const target = draw();
  const other = spots[target]!;
  const user = spot(random, { spot: other, km: 100 });
  const samples = Array.from({ length: PROBES }, draw).map((index) => ({
    workerId: candidates[index]!.id,
    from: candidates[index]!.position!.network!,
    rttMs: rttMs(spots[index]!, user),
  }));
  const targets = [{ ...candidates[target]!.position!, candidateId: candidates[target]!.id }];
  const service = { service: "other", waits: true, targets };
  const request: PlacementRequest = {
    memoryBytes: 100 * 2 ** 20,
    cpuMillis: 1000,
    gpus: 0,
    virtualization: "container",
    architectures: [],
    ports: [],
    links: [
      { ...service, measure: "latency", threshold: BOUND_MS },
      { ...service, measure: "geo", threshold: BOUND_KM },
    ],
    users: [{ target: "user", kind: "host", measure: "latency", threshold: BOUND_MS, samples }],
  };
  return { request, other, user };
}

/** Each placement takes what it was given, so that the next one finds less. */
function measure({ spots, candidates: all }: World, asks: readonly Ask[], algorithm: "rom" | "ldp"): Outcome {
  const options: ScheduleOptions = { strategy: "best-fit", algorithm };
  const candidates = [...all];
  for (const { request } of asks.slice(0, 20)) schedule(request, candidates, options);
  const times: number[] = [];
  let placed = 0;
  let within = 0;
  for (const { request, other, user } of asks) {
    const start = performance.now();
    const decision: Decision = schedule(request, candidates, options);
    times.push(performance.now() - start);
    if (!decision.placed) continue;
    placed++;
    const index = Number.parseInt(decision.candidateId, 16);
    candidates[index] = reserve(candidates[index]!, "", request);
    const chosen = spots[index]!;
    if (rttMs(chosen, other) <= BOUND_MS && rttMs(chosen, user) <= BOUND_MS) within++;
  }
  times.sort((a, b) => a - b);
  const p95Ms = times[Math.floor(times.length * 0.95)]!;
  return {
    workers: candidates.length,
    algorithm,
    medianMs: median(times),
    p95Ms,
    placed,
    within,
    requests: asks.length,
  };
}
