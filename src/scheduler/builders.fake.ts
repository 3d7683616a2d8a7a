/** Requests and candidates for tests: a plain one, and what the test is about. */
import type { Descriptor, MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { Link, PlacementRequest, Position, UserLink } from "../protocol/placement-request.ts";
import type { Candidate } from "./candidate.ts";

export const GB = 2 ** 30;

export const request = (change: Partial<PlacementRequest> = {}): PlacementRequest => ({
  memoryBytes: 100 * 2 ** 20,
  cpuMillis: 1000,
  gpus: 0,
  virtualization: "container",
  architectures: [],
  ports: [],
  ...change,
});

export const candidate = (id: string, change: Partial<Candidate> = {}): Candidate => ({
  id,
  name: `host-${id}`,
  active: true,
  free: { cpuMillis: 4000, memoryBytes: 4 * GB, gpus: 0 },
  total: { cpuMillis: 4000, memoryBytes: 4 * GB, gpus: 0 },
  architectures: ["amd64"],
  virtualization: ["container"],
  heldPorts: new Map(),
  ...change,
});

/** A point of the network plane, without an access link. */
export const at = (x: number, y = 0, change: Partial<Position> = {}): Position => ({
  network: { position: [x, y, 0], heightMs: 0, error: 0.1 },
  ...change,
});

export const onEarth = (latitude: number, longitude: number, radiusKm = 0): Position => ({
  place: { latitude, longitude, radiusKm },
});

export const link = (change: Partial<Link> = {}): Link => ({
  measure: "latency",
  threshold: 20,
  service: "shop.prod.web.prod",
  waits: true,
  ...change,
});

export const users = (change: Partial<UserLink> = {}): UserLink => ({
  measure: "latency",
  threshold: 20,
  target: "192.0.2.7",
  kind: "host",
  ...change,
});

export const microservice = (name: string, change: Partial<MicroserviceDescriptor> = {}): MicroserviceDescriptor => ({
  microservice_name: name,
  microservice_namespace: "prod",
  virtualization: "container",
  code: "nginx",
  ...change,
});

export const descriptor = (...microservices: MicroserviceDescriptor[]): Descriptor => ({
  sla_version: "v2.0",
  applications: [{ application_name: "shop", application_namespace: "prod", microservices }],
});

/** Repeatable noise: tests must not depend on luck. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
