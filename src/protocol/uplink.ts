/**
 * Cluster ⇄ root, over one WebSocket that the cluster dials at `UPLINK_PATH` of the root's API port.
 * Messages are states, not commands: everything at connect, changes with consecutive revisions after; a gap asks for everything again.
 */
import * as z from "zod/mini";
import { Aggregate, Landmark } from "./capacity.ts";
import { Assignment, InstanceReport } from "./instance.ts";
import { InstanceId, Name } from "./names.ts";
import { Cidr, Interest, RouteUpdate } from "./route.ts";

export const PROTOCOL_VERSION = 1;
export const UPLINK_PATH = "/api/uplink";
/** A cluster with fewer than this many subnets to give gets another block. */
export const MIN_SUBNETS_FREE = 4;
/** Either side closes a link on which nothing was heard for this long; each side pings at a third of it. */
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
});

/** One thing that a tier saw happen to an instance. */
export const TimelineEntry = z.object({
  /** Epoch ms, by the clock of the tier that tells it. */
  at: z.number(),
  status: z.string(),
  detail: z.string(),
});
export type TimelineEntry = z.infer<typeof TimelineEntry>;

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
