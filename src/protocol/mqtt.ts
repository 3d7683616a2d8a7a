/**
 * Worker ⇄ cluster, over the cluster's MQTT broker: the topic table. Retained topics are the desired state.
 * | topic                          | writer  | QoS | retained | payload          |
 * | workers/<id>/desired/<instance> | cluster | 1 | yes (empty = withdrawn) | DesiredInstance |
 * | workers/<id>/manifest           | cluster | 1 | yes      | Manifest         |
 * | workers/<id>/network            | cluster | 1 | yes      | WorkerNetwork    |
 * | workers/<id>/routes             | cluster | 1 | no       | RouteUpdate, in parts |
 * | workers/<id>/measure            | cluster | 1 | yes      | Measure          |
 * | workers/<id>/logs/request       | cluster | 0 | no       | LogRequest       |
 * | workers/<id>/check              | cluster | 0 | no       | CheckQuestion (`net-check.ts`) |
 * | workers/<id>/report             | worker  | 1 | no       | WorkerReport     |
 * | workers/<id>/presence           | worker  | 1 | yes, also as last will | Presence |
 * | workers/<id>/interest           | worker  | 1 | no       | Interest, in parts; full at connect |
 * | workers/<id>/logs/data          | worker  | 0 | no       | LogData          |
 * | workers/<id>/checked            | worker  | 1 | no       | CheckAnswer      |
 */
import * as z from "zod/mini";
import { Landmark, WorkerInfo } from "./capacity.ts";
import { Assignment, InstanceReport } from "./instance.ts";
import { InstanceId } from "./names.ts";
import { NetworkCoordinate } from "./placement-request.ts";
import { Cidr } from "./route.ts";

export const topics = {
  desired: (worker: string, instance: string) => `workers/${worker}/desired/${instance}`,
  desiredOf: (worker: string) => `workers/${worker}/desired/+`,
  manifest: (worker: string) => `workers/${worker}/manifest`,
  logRequest: (worker: string) => `workers/${worker}/logs/request`,
  report: (worker: string) => `workers/${worker}/report`,
  measure: (worker: string) => `workers/${worker}/measure`,
  network: (worker: string) => `workers/${worker}/network`,
  routes: (worker: string) => `workers/${worker}/routes`,
  interest: (worker: string) => `workers/${worker}/interest`,
  presence: (worker: string) => `workers/${worker}/presence`,
  logData: (worker: string) => `workers/${worker}/logs/data`,
  check: (worker: string) => `workers/${worker}/check`,
  checked: (worker: string) => `workers/${worker}/checked`,
} as const;

export type WorkerTopic =
  | { readonly kind: "desired"; readonly workerId: string; readonly instanceId: string }
  | { readonly kind: PlainKind | "logRequest" | "logData"; readonly workerId: string };
type PlainKind =
  | "manifest"
  | "measure"
  | "network"
  | "routes"
  | "check"
  | "interest"
  | "report"
  | "presence"
  | "checked";

const TOPIC =
  /^workers\/([0-9a-f]{24})\/(?:(manifest|measure|network|routes|check|interest|report|presence|checked)|desired\/([0-9a-f]{24}-\d{1,9})|logs\/(request|data))$/;

export function parseTopic(topic: string): WorkerTopic | undefined {
  const match = TOPIC.exec(topic);
  if (!match) return undefined;
  const [, workerId, plain, instanceId, logs] = match;
  if (instanceId) return { kind: "desired", workerId: workerId!, instanceId };
  if (logs) return { kind: logs === "request" ? "logRequest" : "logData", workerId: workerId! };
  return { kind: plain as PlainKind, workerId: workerId! };
}

/** What the worker must run; `request` stays at the cluster. */
export const DesiredInstance = z.omit(Assignment, { request: true });
export type DesiredInstance = z.infer<typeof DesiredInstance>;

/** The whole set, so that a worker knows what is *not* wanted any more. Published after the desired topics it lists. */
export const Manifest = z.object({
  revision: z.int(),
  instances: z.array(z.object({ instanceId: InstanceId, generation: z.int() })),
});
export type Manifest = z.infer<typeof Manifest>;

/** The worker's part in the overlay. */
export const WorkerNetwork = z.object({
  serviceRange: Cidr,
  /** For its sandboxes; the first address of each is the worker's own. It keeps them for as long as it is known here. */
  subnets: z.array(Cidr),
  /** By which the workers of an installation know each other: see `net/introduction.ts`. Without it only servers are peers. */
  key: z.optional(z.string()),
});
export type WorkerNetwork = z.infer<typeof WorkerNetwork>;

/** What the worker is to measure round-trip times to. */
export const Measure = z.object({
  /** Workers, in both directions: for its coordinate. */
  peers: z.array(Landmark),
  /** Hosts of users. */
  targets: z.array(z.object({ host: z.string(), everyMs: z.int().check(z.minimum(1000), z.maximum(3_600_000)) })),
});
export type Measure = z.infer<typeof Measure>;

export const Measurement = z.object({
  host: z.string(),
  /** Absent: no answer. */
  rttMs: z.optional(z.number().check(z.nonnegative(), z.maximum(60_000))),
});
export type Measurement = z.infer<typeof Measurement>;

export const WorkerReport = z.object({
  /** Consecutive within one connection, from 1; 1 is full. A gap makes the cluster wait for the next full report. */
  sequence: z.int(),
  full: z.boolean(),
  /** Manifest revision that the worker has taken over; 0 where the rest of a large report follows in the next ones. */
  manifest: z.int(),
  info: z.optional(WorkerInfo),
  /** The worker's own clock, epoch ms; in a full report. */
  clock: z.optional(z.number()),
  /** Measured, 0–100. */
  cpuPercent: z.number(),
  memoryPercent: z.number(),
  /** Sandbox addresses that it could still give out. */
  addressesFree: z.optional(z.int()),
  /** Told when it has moved notably, and in a full report. */
  coordinate: z.optional(NetworkCoordinate),
  /** Of the targets of `Measure`, since the last report. */
  measured: z.optional(z.array(Measurement)),
  /** A full report lists every instance of which anything is left, withdrawn ones until they are gone; `generation` is the desired one's. */
  instances: z.array(InstanceReport),
  /** Nothing is left of these; the cluster gives their capacity to others. */
  removed: z.array(InstanceId),
});
export type WorkerReport = z.infer<typeof WorkerReport>;

export const Presence = z.object({ online: z.boolean() });
export type Presence = z.infer<typeof Presence>;

export const LogRequest = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("open"),
    stream: z.string(),
    instanceId: InstanceId,
    follow: z.boolean(),
    tailLines: z.int(),
  }),
  z.object({ type: z.literal("close"), stream: z.string() }),
]);
export type LogRequest = z.infer<typeof LogRequest>;

export const LogData = z.object({
  stream: z.string(),
  /** UTF-8 text, at most 32 KiB. */
  chunk: z.optional(z.string()),
  /** Present in the last message of a stream; an empty string means that it simply ended. */
  end: z.optional(z.string()),
});
export type LogData = z.infer<typeof LogData>;

/** A worker sends at least this often, so that silence means something: a report, or a ping when there is nothing to report. */
export const HEARTBEAT_MS = 10_000;

/** POST /api/node/register on the cluster's join port. */
export const RegisterRequest = z.looseObject({
  protocol: z.int(),
  /** The worker's own secret: its identity, and its MQTT password. Kept by the cluster as a digest. */
  key: z.string().check(z.minLength(32), z.maxLength(200)),
  /** Needed the first time only. */
  joinToken: z.optional(z.string()),
  info: WorkerInfo,
});
export type RegisterRequest = z.infer<typeof RegisterRequest>;

export const RegisterResponse = z.object({
  id: z.string(),
  MQTT_BROKER_PORT: z.string(),
  clusterName: z.string(),
});
export type RegisterResponse = z.infer<typeof RegisterResponse>;
