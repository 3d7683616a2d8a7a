/** What a worker says of its part in the overlay, over its own socket: `GET /net` and `POST /net/check`. */
import * as z from "zod/mini";
import { WorkerEndpoint } from "./route.ts";

export const CONTROL_SOCKET = "/run/oakestra/worker.sock";

const Peer = z.extend(WorkerEndpoint, {
  path: z.enum(["plain", "vxlan"]),
  rtt_ms: z.optional(z.number()),
  /** With the overlay's addresses, by that path. */
  overlay_rtt_ms: z.optional(z.number()),
  /** Probes in a row without an answer. */
  missed: z.int(),
});

const Service = z.object({
  service_id: z.string(),
  job_name: z.string(),
  round_robin: z.string(),
  closest: z.string(),
  /** Sandbox address of the closest live instance. */
  closest_target: z.optional(z.string()),
  instances: z.array(
    z.object({
      number: z.int(),
      address: z.string(),
      /** Where packets to it go; absent: they are refused. */
      sandbox: z.optional(z.string()),
      worker_id: z.optional(z.string()),
    }),
  ),
});

export const NetDocument = z.object({
  worker: z.optional(WorkerEndpoint),
  /** The link to it. */
  cluster: z.optional(
    z.object({
      url: z.string(),
      connected: z.boolean(),
      /** Why it is not, as of the last try. */
      problem: z.optional(z.string()),
    }),
  ),
  /** Whether packets of established connections pass the rules by, or why not. */
  fast_path: z.optional(z.object({ on: z.boolean(), reason: z.optional(z.string()) })),
  services: z.array(Service),
  peers: z.array(Peer),
});
export type NetDocument = z.infer<typeof NetDocument>;
export type NetService = z.infer<typeof Service>;
export type NetPeer = z.infer<typeof Peer>;

/** What came of sending a body to each other worker, by the path that instances' packets take. */
export const NetCheck = z.object({
  checks: z.array(
    z.object({
      worker_id: z.string(),
      bytes: z.int(),
      connect_ms: z.optional(z.number()),
      body_ms: z.optional(z.number()),
      error: z.optional(z.string()),
    }),
  ),
});
export type NetCheck = z.infer<typeof NetCheck>;
