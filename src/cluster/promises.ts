/**
 * Watches whether what was promised at placement holds: latency and distance to services and users, from what is measured now. Each
 * round counts once; what is to move is told until it has been tried. Memory only: a restart begins to count anew.
 */
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import { type Nearness, nearnessOf } from "../scheduler/nearness.ts";
import {
  type Assessment,
  assess,
  DEFAULT_CONVERGENCE_MS,
  moved,
  observe,
  type Promised,
  UNWATCHED,
  type Watch,
} from "../scheduler/violation.ts";
import { type Instance, idOf, isElsewhere, isMoving, type Placement } from "./model.ts";

export interface PromisesOptions {
  /** The worker's last measurement of this host: without an answer `rttMs` is absent. */
  readonly measured: (
    host: string,
    workerId: string,
  ) => { readonly rttMs: number | undefined; readonly at: number } | undefined;
}

export interface PromisesInput {
  /** Monotonic ms. */
  readonly now: number;
  readonly instances: readonly Instance[];
  readonly candidateOf: (workerId: string) => Candidate | undefined;
  /** With all that is known of what it is to be near to. */
  readonly resolved: (request: PlacementRequest) => PlacementRequest;
}

interface Kept {
  readonly placement: number;
  watch: Watch;
  /** Of a measurement of users: when the one that was counted last was made. */
  countedAt: number;
  /** Why the instance should move now. */
  due?: string | undefined;
  /** The same, once a search has found no worker that keeps the promise; until it is kept again. */
  unmended?: string | undefined;
}

export interface Round {
  /** Instances of which a promise is broken: others should be measured, too. */
  readonly broken: ReadonlySet<string>;
  /** Those that should move now, with the reason. */
  readonly moves: ReadonlyMap<string, string>;
}

interface Bound {
  readonly key: string;
  readonly promised: Promised;
  readonly nearness: Nearness;
  /** Present: only what its worker measured to this host counts, each measurement once. */
  readonly host: string | undefined;
}

/** Rounds may come faster, and count then not. */
const SAMPLE_MS = 2_000;
/** So long a promise is counted and borne at least: shorter, there are too few measurements to prove anything. */
const LEAST_CONVERGENCE_MS = { predicted: 15_000, measured: 60_000 } as const;

export class Promises {
  readonly #options: PromisesOptions;
  /** instance id → link → what was seen of it. */
  readonly #watches = new Map<string, Map<string, Kept>>();
  #sampledAt = Number.NEGATIVE_INFINITY;

  constructor(options: PromisesOptions) {
    this.#options = options;
  }

  round(input: PromisesInput): Round {
    const counts = input.now - this.#sampledAt >= SAMPLE_MS;
    if (counts) this.#sampledAt = input.now;
    const broken = new Set<string>();
    const moves = new Map<string, string>();
    for (const instance of input.instances) {
      if (!isWatched(instance)) continue;
      for (const assessment of this.#look(instance, input, counts)) {
        if (assessment.state === "broken" || assessment.state === "move") broken.add(idOf(instance));
        if (assessment.state === "move" && !isMoving(instance)) moves.set(idOf(instance), assessment.reason);
      }
    }
    // What is on its way to another worker keeps what was counted against moving it again soon.
    const known = new Set(input.instances.map(idOf));
    for (const id of this.#watches.keys()) if (!known.has(id)) this.#watches.delete(id);
    return { broken, moves };
  }

  /** They have been moved, or there was nothing better: they rest. @param moving those that do move */
  tried(instanceIds: Iterable<string>, moving: ReadonlySet<string>, now: number): void {
    for (const id of instanceIds) {
      for (const kept of this.#watches.get(id)?.values() ?? []) {
        kept.watch = moved(kept.watch, now);
        if (moving.has(id)) kept.unmended = undefined;
        else if (kept.due !== undefined) kept.unmended = kept.due;
      }
    }
  }

  /** By instance, what no worker here could mend when that was last tried, and what has not mended itself since. */
  unmended(instances: readonly Instance[]): Map<string, string> {
    const reasons = new Map<string, string>();
    for (const instance of instances) {
      if (!isWatched(instance) || isMoving(instance)) continue;
      const { number } = instance.placement!;
      const links = [...(this.#watches.get(idOf(instance))?.values() ?? [])];
      const worst = links.find(({ placement, unmended }) => placement === number && unmended !== undefined);
      if (worst) reasons.set(idOf(instance), worst.unmended!);
    }
    return reasons;
  }

  #look(instance: Instance, { now, candidateOf, resolved }: PromisesInput, counts: boolean): Assessment[] {
    const placement = instance.placement!;
    const candidate = candidateOf(placement.workerId);
    if (!candidate?.active) return [];
    return boundsOf(resolved(instance.assignment.request)).map((bound) => {
      const kept = this.#kept(idOf(instance), bound.key, placement);
      if (counts) this.#count(kept, bound, candidate, now);
      const assessment = assess(kept.watch, bound.promised, now);
      kept.due = assessment.state === "move" ? assessment.reason : undefined;
      if (assessment.state === "kept") kept.unmended = undefined;
      return assessment;
    });
  }

  #count(kept: Kept, { promised, nearness, host }: Bound, candidate: Candidate, now: number): void {
    if (host !== undefined) {
      const last = this.#options.measured(host, candidate.id);
      if (!last || last.at <= kept.countedAt) return;
      kept.countedAt = last.at;
      kept.watch = observe(kept.watch, promised, last.rttMs, now);
      return;
    }
    const range = nearness.range(candidate);
    if (typeof range !== "string") kept.watch = observe(kept.watch, promised, range.least, now);
  }

  #kept(instanceId: string, key: string, { number }: Placement): Kept {
    const links = this.#watches.get(instanceId) ?? new Map<string, Kept>();
    this.#watches.set(instanceId, links);
    const known = links.get(key);
    if (known?.placement === number) return known;
    // Elsewhere it is measured anew, but not forgotten that it was moved.
    const watch: Watch = known ? { ...known.watch, buckets: [], brokenSince: undefined } : UNWATCHED;
    const kept = { placement: number, watch, countedAt: Number.NEGATIVE_INFINITY };
    links.set(key, kept);
    return kept;
  }
}

/** On standby it serves nobody, and promises nothing. */
function isWatched(instance: Instance): boolean {
  const { assignment, placement, report } = instance;
  if (placement === undefined || report?.status !== "RUNNING" || isElsewhere(instance)) return false;
  const { links = [], users = [] } = assignment.request;
  return [...links, ...users].some(({ rigidness }) => rigidness !== undefined && rigidness > 0);
}

function boundsOf(request: PlacementRequest): Bound[] {
  const { links = [], users = [] } = request;
  return [
    ...links.map((link) => {
      const [nearness] = nearnessOf({ ...request, links: [link], users: [] });
      return bound(link, { to: `service ${link.service}`, nearness, host: undefined });
    }),
    ...users.map((link) => {
      const [nearness] = nearnessOf({ ...request, links: [], users: [link] });
      return bound(link, {
        to: `users ${link.target}`,
        nearness,
        host: link.kind === "host" ? link.target : undefined,
      });
    }),
  ].filter((one) => one !== undefined);
}

/** Undefined: nothing was promised, or there is nothing to be near to now. */
function bound(
  { measure, threshold, rigidness, convergenceMs = DEFAULT_CONVERGENCE_MS }: Omit<Promised, "to">,
  { to, nearness, host }: { to: string; nearness: Nearness | undefined; host: string | undefined },
): Bound | undefined {
  if (!nearness || !rigidness) return undefined;
  const leastMs = LEAST_CONVERGENCE_MS[host === undefined ? "predicted" : "measured"];
  const promised = { to, measure, threshold, rigidness, convergenceMs: Math.max(leastMs, convergenceMs) };
  return { key: `${measure} ${to}`, promised, nearness, host };
}
