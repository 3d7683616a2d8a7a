/** What an operator may set of a cluster. */
import * as z from "zod/mini";
import { CidrList } from "../addressing/cidr-list.ts";
import type { Settings, Values } from "../base/settings.ts";
import { Name } from "../protocol/names.ts";

const port = z.coerce.number().check(z.int(), z.minimum(0), z.maximum(65535));

export const CLUSTER_SETTINGS = {
  name: { schema: Name, help: "Name of this cluster, unique at its root.", default: "cluster" },
  location: {
    schema: z.string().check(z.maxLength(200)),
    help: "Where its workers are that do not say it themselves: latitude,longitude or the name of an area.",
    default: "",
  },
  root: {
    schema: z.url({ protocol: /^https?$/ }),
    help: "Address of the root's API, http:// or https://.",
    default: "http://127.0.0.1:10000",
  },
  host: { schema: z.string(), help: "Address to listen on, for joins and MQTT.", default: "127.0.0.1" },
  joinPort: { schema: port, help: "TCP port on which workers join.", default: 10100 },
  mqttPort: { schema: port, help: "TCP port of the MQTT broker.", default: 10003 },
  stateDir: { schema: z.string(), help: "Folder for the database and keys.", default: "/var/lib/oakestra/cluster" },
  strategy: {
    schema: z.enum(["best-fit", "first-fit", "nearest"]),
    help: "How a worker is chosen: best-fit (most room left), first-fit or nearest.",
    default: "best-fit",
  },
  placementPlugin: {
    schema: z.optional(z.string().check(z.minLength(1), z.maxLength(1000))),
    help: "A program, or the URL of a service, that orders the workers that fit; see docs/placement.md.",
  },
  allowSubnets: {
    schema: CidrList,
    help: "IPv4 ranges of which workers may have a subnet of their own (their --subnet), separated by commas.",
    default: "",
  },
  joinTokenFile: {
    schema: z.optional(z.string()),
    help: "File with the token that the root issued; needed until the root knows this cluster.",
  },
} as const satisfies Settings;

export type ClusterSettings = Values<typeof CLUSTER_SETTINGS>;
