/** How it is found out whether an instance can serve: asked for in the descriptor, done by its worker. */
import * as z from "zod/mini";

const seconds = (least: number, most: number) => z.optional(z.int().check(z.minimum(least), z.maximum(most)));
const port = z.int().check(z.minimum(1), z.maximum(65_535));
const timing = {
  /** Seconds between checks. */
  interval: seconds(1, 3600),
  /** Seconds that an answer may take. */
  timeout: seconds(1, 60),
  /** Failures in a row that make an instance unready. */
  retries: z.optional(z.int().check(z.minimum(1), z.maximum(100))),
  /** Seconds from the start in which failures do not count. */
  start_period: seconds(0, 3600),
};

/** Unlike the rest of the descriptor strict: a misspelt key here would switch off what protects the users of a service. */
export const HealthcheckDescriptor = z.discriminatedUnion(
  "type",
  [
    z.strictObject({
      type: z.literal("http"),
      port,
      path: z.optional(
        z
          .string()
          .check(
            z.maxLength(2000),
            z.regex(/^\/[\x21-\x7e]*$/, { error: "must begin with / and hold printable ASCII without spaces" }),
          ),
      ),
      ...timing,
    }),
    z.strictObject({ type: z.literal("tcp"), port, ...timing }),
    z.strictObject({
      type: z.literal("exec"),
      command: z.array(z.string().check(z.maxLength(32_768))).check(z.minLength(1), z.maxLength(100)),
      ...timing,
    }),
  ],
  { error: "unknown healthcheck type: use http, tcp or exec" },
);
export type HealthcheckDescriptor = z.infer<typeof HealthcheckDescriptor>;

const timingMs = { intervalMs: z.int(), timeoutMs: z.int(), retries: z.int(), startPeriodMs: z.int() };

/** Complete, as a worker gets it. */
export const Healthcheck = z.discriminatedUnion("type", [
  z.object({ type: z.literal("http"), port, path: z.string(), ...timingMs }),
  z.object({ type: z.literal("tcp"), port, ...timingMs }),
  z.object({ type: z.literal("exec"), command: z.array(z.string()).check(z.minLength(1)), ...timingMs }),
]);
export type Healthcheck = z.infer<typeof Healthcheck>;

export function healthcheck(descriptor: HealthcheckDescriptor): Healthcheck {
  const { interval = 10, timeout = 3, retries = 3, start_period = 0 } = descriptor;
  const timing = {
    ...{ intervalMs: interval * 1000, timeoutMs: timeout * 1000, retries },
    startPeriodMs: start_period * 1000,
  };
  switch (descriptor.type) {
    case "http":
      return { type: "http", port: descriptor.port, path: descriptor.path ?? "/", ...timing };
    case "tcp":
      return { type: "tcp", port: descriptor.port, ...timing };
    case "exec":
      return { type: "exec", command: descriptor.command, ...timing };
  }
}
