/**
 * The routes of all workers of a cluster, measured when an operator asks: `POST /api/net-check` on the join port, and the question to each
 * worker by which it is answered. An operator's question, so workers have names in the answer.
 */
import * as z from "zod/mini";

/** Seconds that a worker may take for its routes. */
export const CHECK_WITHIN = { min: 1, max: 120, default: 60 } as const;
/** All of a cluster's workers together; who is not asked by then is told as not asked. */
export const CHECK_ALL_WITHIN_MS = 300_000;
/** Of one answer, which has to fit into one message: other workers, and instances that take no traffic. */
export const MAX_CHECKED = 500;
/** Instances named beside each other worker. */
export const MAX_NAMED = 10;

const InstanceName = z.object({ job_name: z.string().check(z.maxLength(300)), number: z.int() });
export type InstanceName = z.infer<typeof InstanceName>;

const CheckedRoute = z.object({
  /** Of the other worker. */
  worker_id: z.string().check(z.maxLength(64)),
  /** Its host name; absent: it is another cluster's. */
  hostname: z.optional(z.string().check(z.maxLength(253))),
  address: z.string().check(z.maxLength(64)),
  path: z.enum(["plain", "vxlan"]),
  /** Of small probes; absent: none is known, or nothing comes back now. */
  rtt_ms: z.optional(z.number()),
  connect_ms: z.optional(z.number()),
  /** Absent: there is an error. */
  body_ms: z.optional(z.number()),
  error: z.optional(z.string().check(z.maxLength(500))),
  /** To which it leads. */
  instances: z.array(InstanceName).check(z.maxLength(MAX_NAMED)),
  /** Those that are not named. */
  more_instances: z.int(),
});
export type CheckedRoute = z.infer<typeof CheckedRoute>;

const CheckedRoutes = z.object({
  routes: z.array(CheckedRoute).check(z.maxLength(MAX_CHECKED)),
  /** Instances that the worker knows and that take no traffic: packets to them are refused at once. */
  refused: z.array(InstanceName).check(z.maxLength(MAX_CHECKED)),
  /** Of either, beyond what one answer holds. */
  left_out: z.int(),
});
export type CheckedRoutes = z.infer<typeof CheckedRoutes>;

/** Cluster to worker. A later question ends an earlier one; without time, it wants no answer itself. */
export const CheckQuestion = z.object({
  question: z.string().check(z.maxLength(64)),
  withinMs: z.int().check(z.minimum(0), z.maximum(CHECK_WITHIN.max * 1000)),
});
export type CheckQuestion = z.infer<typeof CheckQuestion>;

/** Worker to cluster. */
export const CheckAnswer = z.object({
  question: z.string().check(z.maxLength(64)),
  result: z.discriminatedUnion("outcome", [
    z.extend(CheckedRoutes, { outcome: z.literal("checked") }),
    /** `--net=off`: it has no routes. */
    z.object({ outcome: z.literal("off") }),
    z.object({ outcome: z.literal("failed"), detail: z.string().check(z.maxLength(500)) }),
  ]),
});
export type CheckAnswer = z.infer<typeof CheckAnswer>;

/** What an operator may say of it. */
export const ClusterCheckRequest = z.strictObject({
  within_s: z._default(z.int().check(z.minimum(CHECK_WITHIN.min), z.maximum(CHECK_WITHIN.max)), CHECK_WITHIN.default),
});
export type ClusterCheckRequest = z.infer<typeof ClusterCheckRequest>;

const identity = { worker_id: z.string(), hostname: z.string() };

const WorkerCheck = z.discriminatedUnion("outcome", [
  z.object({ ...identity, outcome: z.literal("checked"), ...CheckedRoutes.shape }),
  z.object({ ...identity, outcome: z.literal("off") }),
  /** It is not there, does not answer, or could not do it; `detail` says which. */
  z.object({ ...identity, outcome: z.enum(["failed", "silent", "not asked"]), detail: z.string() }),
]);
export type WorkerCheck = z.infer<typeof WorkerCheck>;

export const ClusterCheck = z.object({ cluster: z.string(), workers: z.array(WorkerCheck) });
export type ClusterCheck = z.infer<typeof ClusterCheck>;
