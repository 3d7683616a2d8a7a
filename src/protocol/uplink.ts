/**
 * Cluster ⇄ root, over one WebSocket that the cluster dials at `UPLINK_PATH` of the root's API port.
 * Messages are states, not commands: everything at connect, changes with consecutive revisions after; a gap asks for everything again.
 */
import * as z from "zod/mini";
import { Aggregate, Landmark } from "./capacity.ts";
import { Assignment, InstanceReport } from "./instance.ts";
import { InstanceId, Name } from "./names.ts";
import { PlacementRequest } from "./placement-request.ts";
import { Cidr, Interest, RouteUpdate } from "./route.ts";

export const PROTOCOL_VERSION = 1;
export const UPLINK_PATH = "/api/uplink";
/** A cluster with fewer than this many subnets to give gets another block. */
export const MIN_SUBNETS_FREE = 4;
/** Either side closes a link on which nothing was heard for this long; the root pings at a third of it, the cluster if it hears nothing. */
export const UPLINK_SILENCE_MS = 30_000;

export const Hello = z.object({
  type: z.literal("hello"),
  protocol: z.int(),
  version: z.string(),
  clusterName: Name,
  location: z.string().check(z.maxLength(200)),
  /** The cluster's own secret: its identity. Kept by the root as a digest. */
  key: z.string().check(z.minLength(32), z.maxLength(200)),
  /** Needed the first time only. */
  joinToken: z.optional(z.string()),
  /** The cluster's own clock, epoch ms. */
  clock: z.optional(z.number()),
});

/** One thing that a tier saw happen to an instance. */
export const TimelineEntry = z.object({
  /** Epoch ms, by the clock of the tier that tells it. */
  at: z.number(),
  status: z.string(),
  detail: z.string(),
});
export type TimelineEntry = z.infer<typeof TimelineEntry>;

/** Of the question what would become of instances, and of its answer: raised when either changes its meaning. */
export const PLAN_VERSION = 1;
/** Instances that one such question may be about. */
export const MAX_PLANNED = 500;
/** Characters of one of its sentences. */
export const MAX_PLANNED_TEXT = 4_000;
const sentence = z.string().check(z.maxLength(MAX_PLANNED_TEXT));

/** What a cluster says of one instance that it was asked about: not what it is, what it would be. */
export const PlannedInstance = z.object({
  instanceId: InstanceId,
  /** waits: it would stay, until there is room or a measurement. */
  outcome: z.enum(["placed", "waits", "declined"]),
  /** Its host name, if it was asked for. */
  worker: z.optional(z.string().check(z.maxLength(253))),
  /** Why it is not placed, in the words in which that would be reported. */
  detail: sentence,
  /** Each candidate's verdict, or how many there are of each. */
  lines: z.array(sentence).check(z.maxLength(1_000)),
});
export type PlannedInstance = z.infer<typeof PlannedInstance>;

export const ClusterMessage = z.discriminatedUnion("type", [
  Hello,
  z.object({
    type: z.literal("report"),
    revision: z.int(),
    /** True: `instances` is all there is. False: only what changed since the revision before. */
    full: z.boolean(),
    aggregate: z.optional(Aggregate),
    instances: z.array(InstanceReport),
    removed: z.array(InstanceId),
    /** Subnets that the cluster could still give to its workers; told when it changes. */
    subnetsFree: z.optional(z.int()),
    /** Some of its workers, for workers of other clusters to measure; told when they change. */
    landmarks: z.optional(z.array(Landmark)),
  }),
  z.object({ type: z.literal("resync") }),
  z.extend(Interest, { type: z.literal("interest") }),
  z.object({
    type: z.literal("explain.answer"),
    question: z.string(),
    timeline: z.array(TimelineEntry),
    /** Records of the scheduler's, newest last. */
    decisions: z.array(z.unknown()),
    /** The cluster's own clock as it answers, epoch ms. */
    clock: z.optional(z.number()),
  }),
  z.object({
    type: z.literal("plan.answer"),
    version: z.literal(PLAN_VERSION),
    question: z.string(),
    /** Of all that were asked about, or of the first of them, if the cluster looks at no more at once. */
    instances: z.array(PlannedInstance).check(z.maxLength(MAX_PLANNED)),
  }),
  z.object({ type: z.literal("log.data"), stream: z.string(), chunk: z.string() }),
  z.object({ type: z.literal("log.end"), stream: z.string(), error: z.optional(z.string()) }),
]);
export type ClusterMessage = z.infer<typeof ClusterMessage>;

export const RootMessage = z.discriminatedUnion("type", [
  z.object({ type: z.literal("welcome"), protocol: z.int(), clusterId: z.string() }),
  z.object({ type: z.literal("refused"), code: z.string(), message: z.string() }),
  z.object({
    type: z.literal("desired"),
    revision: z.int(),
    full: z.boolean(),
    assignments: z.array(Assignment),
    removed: z.array(InstanceId),
  }),
  z.object({ type: z.literal("resync") }),
  z.extend(RouteUpdate, { type: z.literal("routes") }),
  /** The overlay's addresses, and all of the blocks from which this cluster gives its workers their subnets. */
  z.object({
    ...{ type: z.literal("network"), serviceRange: Cidr, blocks: z.array(Cidr) },
    /** By which all workers of the installation know each other. */
    key: z.optional(z.string()),
  }),
  /** Workers of other clusters that some of this one's measure. */
  z.object({ type: z.literal("landmarks"), peers: z.array(Landmark) }),
  /** How an instance came to be where it is. */
  z.object({ type: z.literal("explain.ask"), question: z.string(), instanceId: InstanceId }),
  /** Where these instances would go, if they were handed over now. */
  z.object({
    type: z.literal("plan.ask"),
    version: z.literal(PLAN_VERSION),
    question: z.string(),
    instances: z
      .array(
        z.object({ instanceId: InstanceId, jobName: z.string(), instanceNumber: z.int(), request: PlacementRequest }),
      )
      .check(z.maxLength(MAX_PLANNED)),
    /** They would be gone. */
    leaving: z.array(InstanceId),
    /** The answer is for somebody who may see workers: their names may stand in it. */
    namesWorkers: z.boolean(),
  }),
  z.object({
    type: z.literal("log.open"),
    stream: z.string(),
    instanceId: InstanceId,
    follow: z.boolean(),
    tailLines: z.int(),
  }),
  z.object({ type: z.literal("log.close"), stream: z.string() }),
]);
export type RootMessage = z.infer<typeof RootMessage>;
