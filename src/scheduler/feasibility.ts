/** The hard rules: an ordered table, first rule that a candidate breaks is its verdict. */

import type { PlacementRequest } from "../protocol/placement-request.ts";
import { formatPort, isReserved } from "../protocol/ports.ts";
import type { Candidate, ScheduleOptions, Verdict } from "./candidate.ts";
import { describeRange, mayBeNear, type Nearness, nearnessOf } from "./nearness.ts";

type Ask<T> = (request: PlacementRequest, candidate: Candidate, options: ScheduleOptions) => T;

interface Rule {
  readonly name: string;
  /** False: nothing is asked that this rule is about, it need not be looked at. Absent: always asked. */
  readonly isAsked?: (request: PlacementRequest, options: ScheduleOptions) => boolean;
  readonly holds: Ask<boolean>;
  /** Apart from `holds`, since words cost more than comparing, and only a refusal needs them. */
  readonly tell: Ask<{ readonly needed: string; readonly had: string }>;
}

const megabytes = (bytes: number) => `${Math.floor(bytes / 1_048_576)} MB`;
const cores = (millis: number) => `${millis / 1000} cores`;
const names = (list: readonly string[]) => list.join(", ") || "none";

/** Cheap and telling rules first: a pinned-away candidate is not blamed for its memory. */
const RULES: readonly Rule[] = [
  {
    name: "pinned elsewhere",
    isAsked: (_request, { pinnedTo }) => pinnedTo !== undefined,
    holds: (_request, { name }, { pinnedTo }) => pinnedTo!.includes(name),
    tell: (_request, { name }, { pinnedTo }) => ({ needed: pinnedTo!.join(" or "), had: name }),
  },
  {
    name: "active",
    holds: (_request, { active }) => active,
    tell: () => ({ needed: "connected", had: "not heard from" }),
  },
  {
    name: "declined before",
    isAsked: (_request, { excluded }) => excluded !== undefined && excluded.size > 0,
    holds: (_request, { id }, { excluded }) => !excluded!.has(id),
    tell: (_request, { id }, { excluded }) => ({ needed: "acceptance", had: excluded!.get(id)! }),
  },
  {
    name: "virtualization",
    holds: ({ virtualization }, candidate) => candidate.virtualization.includes(virtualization),
    tell: ({ virtualization }, candidate) => ({ needed: virtualization, had: names(candidate.virtualization) }),
  },
  {
    name: "architecture",
    isAsked: ({ architectures }) => architectures.length > 0,
    holds: ({ architectures }, candidate) => architectures.some((one) => candidate.architectures.includes(one)),
    tell: ({ architectures }, candidate) => ({
      needed: architectures.join(" or "),
      had: names(candidate.architectures),
    }),
  },
  {
    name: "labels",
    isAsked: ({ labels }) => labels !== undefined,
    holds: ({ labels }, candidate) => !candidate.labels || missingLabel(labels!, candidate.labels) === undefined,
    tell: ({ labels }, candidate) => {
      const missing = missingLabel(labels!, candidate.labels!)!;
      const had = candidate.labels![missing];
      return { needed: `${missing}=${labels![missing]}`, had: had === undefined ? "none" : `${missing}=${had}` };
    },
  },
  {
    name: "memory",
    holds: ({ memoryBytes }, { free }) => memoryBytes <= free.memoryBytes,
    tell: ({ memoryBytes }, { free }) => ({ needed: megabytes(memoryBytes), had: megabytes(free.memoryBytes) }),
  },
  {
    name: "cpu",
    holds: ({ cpuMillis }, { free }) => cpuMillis <= free.cpuMillis,
    tell: ({ cpuMillis }, { free }) => ({ needed: cores(cpuMillis), had: cores(free.cpuMillis) }),
  },
  {
    name: "gpu",
    holds: ({ gpus }, { free }) => gpus <= free.gpus,
    tell: ({ gpus }, { free }) => ({ needed: `${gpus}`, had: `${free.gpus}` }),
  },
  {
    name: "host port",
    isAsked: ({ ports }) => ports.length > 0,
    holds: ({ ports }, { heldPorts }) => !ports.some((port) => isReserved(port) || heldPorts.has(formatPort(port))),
    tell: ({ ports }, { heldPorts }) => {
      const reserved = ports.find(isReserved);
      if (reserved) return { needed: formatPort(reserved), had: "reserved for workers among themselves" };
      const taken = ports.map(formatPort).find((port) => heldPorts.has(port))!;
      return { needed: taken, had: `held by ${heldPorts.get(taken)}` };
    },
  },
];

function missingLabel(
  needed: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): string | undefined {
  return Object.keys(needed).find((key) => labels[key] !== needed[key]);
}

/** Everything that is asked of a candidate, resolved once for all of them; the distance rules come last. */
export interface Rules {
  readonly request: PlacementRequest;
  readonly options: ScheduleOptions;
  readonly asked: readonly Rule[];
  readonly near: readonly Nearness[];
}

export function rulesFor(request: PlacementRequest, options: ScheduleOptions): Rules {
  const asked = RULES.filter(({ isAsked }) => isAsked?.(request, options) ?? true);
  return { request, options, asked, near: options.algorithm === "rom" ? [] : nearnessOf(request) };
}

export function isFeasible({ request, options, asked, near }: Rules, candidate: Candidate): boolean {
  for (const rule of asked) if (!rule.holds(request, candidate, options)) return false;
  for (const rule of near) if (!mayBeNear(rule, candidate)) return false;
  return true;
}

/** The first rule that the candidate breaks; undefined: it can take the request. */
export function infeasible({ request, options, asked, near }: Rules, candidate: Candidate): Verdict | undefined {
  const broken = asked.find((rule) => !rule.holds(request, candidate, options));
  if (broken) return { candidate: candidate.name, rule: broken.name, ...broken.tell(request, candidate, options) };
  const far = near.find((rule) => !mayBeNear(rule, candidate));
  return far && { candidate: candidate.name, rule: far.rule, needed: far.needed, had: describeRange(far, candidate) };
}
