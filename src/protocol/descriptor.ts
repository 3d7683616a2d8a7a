/**
 * The SLA descriptor (`sla_version` v2.0) as users send it. Unknown keys are accepted, kept and given back, because
 * clients rely on it; known keys are checked strictly, with bounds, so that a typo in a value never reaches a worker.
 */
import * as z from "zod/mini";
import { HealthcheckDescriptor } from "./healthcheck.ts";
import { Name, quote } from "./names.ts";
import { parsePorts } from "./ports.ts";
import { Ipv4 } from "./route.ts";

const text = (max: number) => z.string().check(z.maxLength(max));
const count = (max: number) => z.int().check(z.minimum(0), z.maximum(max));
const threshold = z.number().check(z.nonnegative(), z.maximum(1e9));
const rigidness = z.number().check(z.nonnegative(), z.maximum(1));
const convergenceTime = z.int().check(z.minimum(0), z.maximum(86_400));

/** A host name or an IP address; not a URL, not a range. */
const Host = z.string().check(
  z.regex(/^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?|[0-9a-fA-F:]{2,39}(?:\.\d{1,3}){0,3})$/, {
    error: (issue) => `${quote(issue.input)} is not a host name or an IP address`,
  }),
);

/** Exactly one of the keys is given, and not empty: two would be two constraints. */
function oneOf(keys: readonly string[], meaning: string): z.core.$ZodCheck<Record<string, unknown>> {
  return z.superRefine((value, context) => {
    const given = keys.filter((key) => value[key] !== undefined && value[key] !== "");
    if (given.length === 1) return;
    const message =
      given.length === 0
        ? `needs ${keys.join(" or ")}: it ${meaning}`
        : `has ${given.join(" and ")}: write one constraint for each`;
    context.addIssue({ code: "custom", message, path: [given[1] ?? keys[0]!] });
  });
}

/** 1 TiB, in MB: more than any edge machine has, small enough that bytes stay exact. */
const MAX_MEMORY_MB = 1_048_576;

/** Empty means the same as absent: forms send it so. */
const wantedAddress = z.optional(
  z.string().check(
    z.superRefine((value, context) => {
      const { error } = value === "" ? {} : z.safeParse(Ipv4, value);
      if (error) context.addIssue({ code: "custom", message: error.issues[0]!.message });
    }),
  ),
);

export const Constraint = z.discriminatedUnion(
  "type",
  [
    z.looseObject({ type: z.literal("direct"), cluster: z.optional(text(100)), node: z.optional(text(4000)) }),
    z.looseObject({
      type: z.literal("clusters"),
      allowed: z.array(text(100)).check(z.minLength(1), z.maxLength(1000)),
    }),
    z
      .looseObject({
        type: z.literal("latency"),
        /** Where the users are, by an area's name … */
        area: z.optional(text(200)),
        /** … by a place … */
        location: z.optional(text(200)),
        /** … or by a host that stands for them. */
        target: z.optional(Host),
        threshold,
        rigidness: z.optional(rigidness),
        convergence_time: z.optional(convergenceTime),
      })
      .check(oneOf(["target", "location", "area"], "says whose latency: the host of the users, or where they are")),
    z
      .looseObject({
        type: z.literal("geo"),
        area: z.optional(text(200)),
        location: z.optional(text(200)),
        threshold,
        rigidness: z.optional(rigidness),
        convergence_time: z.optional(convergenceTime),
      })
      .check(oneOf(["location", "area"], "says within reach of what, for example 48.137,11.575")),
    z.looseObject({ type: z.literal("labels"), labels: z.record(text(100), text(200)) }),
    z.looseObject({ type: z.literal("addons"), needs: z.array(text(100)) }),
  ],
  { error: "unknown constraint type: use direct, clusters, latency, geo, labels or addons" },
);
export type Constraint = z.infer<typeof Constraint>;

/** Accepted by the schema, kept, but without effect on placement in this version: each one is answered with a warning. */
export const UNENFORCED_CONSTRAINTS: ReadonlySet<string> = new Set(["addons"]);

const LinkConstraint = z.looseObject({
  type: z.enum(["latency", "geo", "bandwidth"], {
    error: (issue) => `${quote(issue.input)} is not a constraint between services: use latency or geo`,
  }),
  /** ms, or km. */
  threshold,
  rigidness: z.optional(rigidness),
  convergence_time: z.optional(convergenceTime),
});

/** One service's need to be near another one (S2S). It holds in both directions; of two, the tighter one. */
export const Connectivity = z
  .looseObject({
    target_microservice_id: z.optional(text(24)),
    /** A service of the same application, before any has an id: `name`, or `name.namespace`. */
    target_microservice: z.optional(
      z.string().check(
        z.regex(/^[a-zA-Z0-9-]{1,30}(?:\.[a-zA-Z0-9-]{1,30})?$/, {
          error: (issue) => `${quote(issue.input)} is not a service of this application: write name or name.namespace`,
        }),
      ),
    ),
    con_constraints: z.array(LinkConstraint).check(z.maxLength(100)),
  })
  .check(oneOf(["target_microservice", "target_microservice_id"], "says which service it must be near"));
export type Connectivity = z.infer<typeof Connectivity>;

/** Of `con_constraints`: accepted and kept, but without effect on placement; each one is answered with a warning. */
export const UNENFORCED_LINK_CONSTRAINTS: ReadonlySet<string> = new Set(["bandwidth"]);

export const MicroserviceDescriptor = z.looseObject({
  microserviceID: z.optional(z.string()),
  microservice_name: Name,
  microservice_namespace: Name,
  virtualization: z.string().check(
    z.regex(/^[a-zA-Z0-9_.-]{1,40}$/, {
      error: (issue) => `${quote(issue.input)} is not a virtualization, for example container`,
    }),
  ),
  code: z.string().check(z.trim(), z.minLength(1, { error: "must name an image" }), z.maxLength(1000)),
  /** MB; 0 or absent reserves and limits nothing. */
  memory: z.optional(count(MAX_MEMORY_MB)),
  vcpus: z.optional(count(4096)),
  /** Thousandths of a core; finer than `vcpus`, and wins over it. */
  cpu_millis: z.optional(count(4_096_000)),
  vgpus: z.optional(count(1024)),
  vtpus: z.optional(count(1024)),
  bandwidth_in: z.optional(count(1e9)),
  bandwidth_out: z.optional(count(1e9)),
  storage: z.optional(count(1e9)),
  port: z.optional(
    text(4000).check(
      z.superRefine((value, context) => {
        const ports = parsePorts(value);
        if ("error" in ports) context.addIssue({ code: "custom", message: ports.error });
      }),
    ),
  ),
  /** Full argv; replaces the image's entrypoint and command. Empty or absent: the image's own. */
  cmd: z.optional(z.array(text(32_768)).check(z.maxLength(1000))),
  environment: z.optional(
    z.array(text(32_768).check(z.regex(/^[^=\0]+=[^\0]*$/, { error: "must be KEY=value" }))).check(z.maxLength(1000)),
  ),
  one_shot: z.optional(z.boolean()),
  privileged: z.optional(z.boolean()),
  /** Seconds between SIGTERM and SIGKILL. */
  stop_grace: z.optional(count(600)),
  healthcheck: z.optional(HealthcheckDescriptor),
  /** Name of a stored registry credential. */
  registry: z.optional(Name),
  arch: z.optional(z.array(text(40))),
  /** Those that a service is to have; whatever is missing is chosen. */
  addresses: z.optional(z.looseObject({ rr_ip: wantedAddress, closest_ip: wantedAddress })),
  constraints: z.optional(z.array(Constraint).check(z.maxLength(100))),
  connectivity: z.optional(z.array(Connectivity).check(z.maxLength(100))),
});
export type MicroserviceDescriptor = z.infer<typeof MicroserviceDescriptor>;

export const ApplicationDescriptor = z.looseObject({
  applicationID: z.optional(z.string()),
  application_name: Name,
  application_namespace: Name,
  application_desc: z.optional(text(10_000)),
  microservices: z.array(MicroserviceDescriptor).check(z.maxLength(500)),
});
export type ApplicationDescriptor = z.infer<typeof ApplicationDescriptor>;

export const Descriptor = z.looseObject({
  sla_version: z.literal("v2.0", { error: (issue) => `${quote(issue.input)} is not supported: use "v2.0"` }),
  customerID: z.optional(z.string()),
  applications: z.array(ApplicationDescriptor).check(z.minLength(1), z.maxLength(100)),
});
export type Descriptor = z.infer<typeof Descriptor>;
