/** The hard rules: an ordered table, first rule that a candidate breaks is its verdict. */

import type { PlacementRequest } from "../protocol/instance.ts";
import { formatPort } from "../protocol/ports.ts";
import type { Candidate, ScheduleOptions, Verdict } from "./candidate.ts";

type Broken = { readonly needed: string; readonly had: string } | undefined;

interface Rule {
  readonly name: string;
  readonly check: (request: PlacementRequest, candidate: Candidate, options: ScheduleOptions) => Broken;
}

const megabytes = (bytes: number) => `${Math.floor(bytes / 1_048_576)} MB`;
const cores = (millis: number) => `${millis / 1000} cores`;

/** Cheap and telling rules first: a pinned-away candidate is not blamed for its memory. */
const RULES: readonly Rule[] = [
  {
    name: "pinned elsewhere",
    check: (_request, { name }, { pinnedTo }) =>
      pinnedTo && !pinnedTo.includes(name) ? { needed: pinnedTo.join(" or "), had: name } : undefined,
  },
  {
    name: "active",
    check: (_request, { active }) => (active ? undefined : { needed: "connected", had: "not heard from" }),
  },
  {
    name: "declined before",
    check: (_request, { id }, { excluded }) => {
      const reason = excluded?.get(id);
      return reason === undefined ? undefined : { needed: "acceptance", had: reason };
    },
  },
  {
    name: "virtualization",
    check: ({ virtualization }, candidate) =>
      candidate.virtualization.includes(virtualization)
        ? undefined
        : { needed: virtualization, had: candidate.virtualization.join(", ") || "none" },
  },
  {
    name: "architecture",
    check: ({ architectures }, candidate) =>
      architectures.length === 0 || architectures.some((one) => candidate.architectures.includes(one))
        ? undefined
        : { needed: architectures.join(" or "), had: candidate.architectures.join(", ") || "none" },
  },
  {
    name: "memory",
    check: ({ memoryBytes }, { free }) =>
      memoryBytes <= free.memoryBytes
        ? undefined
        : { needed: megabytes(memoryBytes), had: megabytes(free.memoryBytes) },
  },
  {
    name: "cpu",
    check: ({ cpuMillis }, { free }) =>
      cpuMillis <= free.cpuMillis ? undefined : { needed: cores(cpuMillis), had: cores(free.cpuMillis) },
  },
  {
    name: "gpu",
    check: ({ gpus }, { free }) => (gpus <= free.gpus ? undefined : { needed: `${gpus}`, had: `${free.gpus}` }),
  },
  {
    name: "host port",
    check: ({ ports }, { heldPorts }) => {
      const taken = ports.map(formatPort).find((port) => heldPorts.has(port));
      return taken === undefined ? undefined : { needed: taken, had: `held by ${heldPorts.get(taken)}` };
    },
  },
];

/** Why the candidate cannot take the request, or undefined when it can. Pure. */
export function infeasible(
  request: PlacementRequest,
  candidate: Candidate,
  options: ScheduleOptions,
): Verdict | undefined {
  for (const rule of RULES) {
    const broken = rule.check(request, candidate, options);
    if (broken) return { candidate: candidate.name, rule: rule.name, ...broken };
  }
  return undefined;
}
