import { hostname } from "node:os";
import * as z from "zod/mini";
import type { Setting, Settings, Values } from "../base/settings.ts";
import { CONTROL_SOCKET } from "../protocol/net-document.ts";

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

/** A list, or its text form `10000,8443`; the empty text is the empty list. */
const Ports = z.pipe(
  z.union([
    z.array(z.number()),
    z.pipe(
      z.string().check(z.regex(/^(?:\d{1,5}(?:,\d{1,5})*)?$/, "write numbers with commas between them")),
      z.transform((value) => (value === "" ? [] : value.split(",").map(Number))),
    ),
  ]),
  z.array(z.int().check(z.minimum(1), z.maximum(65_535))),
);

export const WORKER_SETTINGS = {
  cluster: {
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
  subnet: {
    schema: z.optional(text),
    help: "IPv4 range of the sandboxes of this worker, which its cluster must allow; default: the cluster gives it one, and more when it needs them.",
  },
  location: {
    schema: z.string().check(z.maxLength(200)),
    help: "Where it is, if not where its cluster is: latitude,longitude or the name of an area.",
    default: "",
  },
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
  controlSocket: {
    schema: text,
    help: "Unix socket for commands on this machine, such as oak net show.",
    default: CONTROL_SOCKET,
  },
  guardPorts: {
    schema: Ports,
    help: "Ports that instances may not reach on workers and on the cluster's machine, separated by commas: the root's, where it runs on one of these; join port and MQTT are guarded anyway.",
    default: "10000",
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
  fastPath: {
    schema: z.enum(["on", "off"]),
    help: "off: also packets of established connections between instances pass all packet rules of the machine, one by one.",
    default: "on",
  },
} as const satisfies Settings & Record<string, Setting>;

export type WorkerSettings = Values<typeof WORKER_SETTINGS>;
