/** What an instance needs of the place it runs in, and where places are: all that a scheduler looks at. */
import * as z from "zod/mini";
import { PortMapping } from "./ports.ts";

const degrees = (limit: number) => z.number().check(z.minimum(-limit), z.maximum(limit));
const milliseconds = z.number().check(z.minimum(0), z.maximum(10_000));
const axis = z.number().check(z.minimum(-10_000), z.maximum(10_000));

/** A network coordinate (see scheduler/vivaldi.ts): the distance of two predicts the round-trip time between their owners. */
export const NetworkCoordinate = z.object({
  position: z.tuple([axis, axis, axis]),
  heightMs: milliseconds,
  error: z.number().check(z.minimum(0), z.maximum(1)),
});
export type NetworkCoordinate = z.infer<typeof NetworkCoordinate>;

export const EarthPlace = z.object({
  latitude: degrees(90),
  longitude: degrees(180),
  radiusKm: z.number().check(z.minimum(0), z.maximum(20_100)),
});

/** Where something is: a point, or, for a cluster seen from above, a zone that all of its workers lie in. */
export const Position = z.object({
  network: z.optional(NetworkCoordinate),
  /** No worker's coordinate is farther from `network.position`; absent: a point. A zone's height is that of its lowest worker. */
  networkRadiusMs: z.optional(milliseconds),
  place: z.optional(EarthPlace),
  /** The location's name, if it has one instead of a place. */
  area: z.optional(z.string().check(z.maxLength(200))),
});
export type Position = z.infer<typeof Position>;

/** Within `threshold` of something: ms of round-trip time, or km of great circle. */
const nearness = {
  measure: z.enum(["latency", "geo"]),
  threshold: z.number(),
  /** Share of live measurements that must be within the threshold, else the instance moves; absent: never moves for it. */
  rigidness: z.optional(z.number()),
  /** The longest that the search may take, and that a violation may last. */
  convergenceMs: z.optional(z.number()),
};

/** S2S: near the nearest instance of another service. */
export const Link = z.object({
  ...nearness,
  /** Job name. */
  service: z.string(),
  /** False: while the service has no instance, this one may go anywhere. */
  waits: z.boolean(),
  /** Where its live instances are, filled in at each decision; empty: it has none. `candidateId`: the child that has it, if it is one's own. */
  targets: z.optional(z.array(z.extend(Position, { candidateId: z.optional(z.string()) }))),
});
export type Link = z.infer<typeof Link>;

/** A round-trip time measured from a worker to users. */
export const UserSample = z.object({ workerId: z.string(), from: NetworkCoordinate, rttMs: z.number() });
export type UserSample = z.infer<typeof UserSample>;

/** S2U: near users, who are a host, an area or a place. */
export const UserLink = z.object({
  ...nearness,
  /** As the descriptor has it. */
  target: z.string(),
  kind: z.enum(["host", "area", "place"]),
  place: z.optional(EarthPlace),
  /** What workers measured to a host; filled in at each decision. */
  samples: z.optional(z.array(UserSample)),
  /** How many workers tried; with none successful the host is unreachable. */
  tried: z.optional(z.int()),
  /** How many were asked a moment ago and have not answered. */
  pending: z.optional(z.int()),
});
export type UserLink = z.infer<typeof UserLink>;

export const PlacementRequest = z.object({
  memoryBytes: z.int(),
  cpuMillis: z.int(),
  gpus: z.int(),
  virtualization: z.string(),
  /** Empty: any. */
  architectures: z.array(z.string()),
  ports: z.array(PortMapping),
  /** Cluster names; absent: any. */
  allowedClusters: z.optional(z.array(z.string())),
  /** The one cluster of a `direct` constraint, by name. */
  directCluster: z.optional(z.string()),
  /** The workers of a `direct` constraint, by host name. */
  directWorkers: z.optional(z.array(z.string())),
  /** Labels that the worker must have, with these values. */
  labels: z.optional(z.record(z.string(), z.string())),
  links: z.optional(z.array(Link)),
  users: z.optional(z.array(UserLink)),
  /** Whose replica it is, and which application's: replicas part, services of one application stay together if they can. */
  serviceName: z.optional(z.string()),
  applicationId: z.optional(z.string()),
});
export type PlacementRequest = z.infer<typeof PlacementRequest>;
