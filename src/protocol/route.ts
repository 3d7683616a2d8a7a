/**
 * Routes of the semantic overlay (paper §3.4): what a worker must know to send a packet to a service.
 * State, pushed to whoever has an interest: worker → cluster → root ask with the same `Interest`, and get the same `RouteUpdate`.
 */
import * as z from "zod/mini";
import { quote } from "./names.ts";

const OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const CIDR = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}/(?:3[0-2]|[12]?\\d)$`);

export const Ipv4 = z
  .string()
  .check(z.regex(IPV4, { error: (issue) => `${quote(issue.input)} is not an IPv4 address, for example 10.30.0.5` }));
export const Cidr = z
  .string()
  .check(z.regex(CIDR, { error: (issue) => `${quote(issue.input)} is not an IPv4 range, for example 10.18.0.0/26` }));

/** Where a worker can be reached by other workers. */
export const WorkerEndpoint = z.object({
  id: z.string(),
  /** Its address on the network between the workers. */
  address: Ipv4,
  /** The ranges that its sandboxes' addresses come from. */
  subnets: z.array(Cidr),
});
export type WorkerEndpoint = z.infer<typeof WorkerEndpoint>;

export const ServiceRoute = z.object({
  serviceId: z.string(),
  applicationId: z.string(),
  /** `<app>.<app_ns>.<service>.<service_ns>`. */
  jobName: z.string(),
  /** Grows with every change, also across restarts of the sender; an older one is ignored. */
  generation: z.int(),
  roundRobin: Ipv4,
  closest: Ipv4,
  instances: z.array(
    z.object({
      number: z.int(),
      /** Instance address. */
      address: Ipv4,
      /** Present while it takes traffic. */
      live: z.optional(z.object({ sandbox: Ipv4, workerId: z.string() })),
    }),
  ),
  /** Of the live instances. */
  workers: z.array(WorkerEndpoint),
});
export type ServiceRoute = z.infer<typeof ServiceRoute>;

/** `address:10.30.0.5`, `name:<job name>` (of any case: to be compared without), `application:<id>`. */
export const InterestKey = z
  .string()
  .check(z.regex(/^(?:address:[\d.]{7,15}|name:[a-zA-Z0-9.-]{1,130}|application:[0-9a-f]{24})$/));
export type InterestKey = z.infer<typeof InterestKey>;

export const interestIn = {
  address: (address: string): InterestKey => `address:${address}`,
  /** In lower case, since DNS, where names are asked, compares without it. */
  name: (jobName: string): InterestKey => `name:${jobName.toLowerCase()}`,
  application: (applicationId: string): InterestKey => `application:${applicationId}`,
} as const;

/** Everything at connect (`full`), changes after. */
export const Interest = z.object({
  full: z.boolean(),
  add: z.array(InterestKey),
  remove: z.array(InterestKey),
});
export type Interest = z.infer<typeof Interest>;

export const RouteUpdate = z.object({
  tables: z.array(ServiceRoute),
  /** What a key stands for; empty: nothing that exists. */
  answers: z.array(z.object({ key: InterestKey, serviceIds: z.array(z.string()) })),
  /** Services that are no more. */
  gone: z.array(z.string()),
});
export type RouteUpdate = z.infer<typeof RouteUpdate>;

/** The addresses of an installation's services and instances. */
export const DEFAULT_SERVICE_RANGE = "10.30.0.0/16";
/** Where the sandboxes' addresses come from: 10.18.0.0 to 10.29.255.255. */
export const DEFAULT_WORKER_RANGES: readonly string[] = [
  "10.18.0.0/15",
  "10.20.0.0/14",
  "10.24.0.0/14",
  "10.28.0.0/15",
];
