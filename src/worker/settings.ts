import { hostname } from "node:os";
import * as z from "zod/mini";
import type { Setting, Settings, Values } from "../base/settings.ts";

const text = z.string().check(z.minLength(1), z.maxLength(1000));

/** A record, or its text form `zone=cellar,gpu=none`. */
const Labels = z.union([
  z.record(z.string(), z.string()),
  z.pipe(
    z.string().check(z.regex(/^(?:[^=,]+=[^=,]*(?:,[^=,]+=[^=,]*)*)?$/, "write key=value,key=value")),
    z.transform(
      (value): Record<string, string> =>
        Object.fromEntries(value.split(",").flatMap((pair) => (pair ? [pair.split("=", 2) as [string, string]] : []))),
    ),
  ),
]);

export const WORKER_SETTINGS = {
  clusterUrl: {
    schema: text,
    help: "URL of the cluster's join port.",
    default: "http://127.0.0.1:10100",
  },
  hostname: {
    schema: z.string().check(z.minLength(1), z.maxLength(253)),
    help: "Name of this worker in its cluster.",
    default: hostname(),
  },
  stateDir: {
    schema: text,
    help: "Folder of what must survive: key, desired set, logs.",
    default: "/var/lib/oakestra/worker",
  },
  containerdSocket: {
    schema: text,
    help: "Unix socket of containerd.",
    default: "/run/containerd/containerd.sock",
  },
  ociRuntime: { schema: text, help: "OCI runtime that containerd starts containers with.", default: "runc" },
  subnet: { schema: text, help: "IPv4 range of the sandboxes of this worker.", default: "10.18.0.0/22" },
  labels: { schema: Labels, help: "Labels of this worker, as key=value,key=value.", default: {} },
  memoryReserve: {
    schema: z.coerce.number().check(z.int(), z.minimum(0), z.maximum(1_048_576)),
    help: "Memory that instances must leave to the machine, MiB.",
    default: 256,
  },
  joinTokenFile: {
    schema: z.optional(text),
    help: "File with the join token; needed until the cluster knows this worker.",
  },
  publicIp: {
    schema: z.optional(text),
    help: "Address under which host ports can be reached; default: the one that leads to the cluster.",
  },
  net: {
    schema: z.enum(["on", "off"]),
    help: "off: instances run without a network, and host ports are refused.",
    default: "on",
  },
} as const satisfies Settings & Record<string, Setting>;

export type WorkerSettings = Values<typeof WORKER_SETTINGS>;
