import * as z from "zod/mini";
import { DEFAULT_ADDRESSES } from "../addressing/address-plan.ts";
import { CidrList } from "../addressing/cidr-list.ts";
import { type Settings, Switch, type Values } from "../base/settings.ts";
import { Cidr } from "../protocol/route.ts";

export const ROOT_SETTINGS = {
  host: {
    schema: z.string().check(z.minLength(1)),
    help: "Address that the API listens on; 0.0.0.0 for all.",
    default: "127.0.0.1",
  },
  port: {
    schema: z.coerce.number().check(z.int(), z.minimum(0), z.maximum(65_535)),
    help: "TCP port of the API; 0 for any free one.",
    default: 10_000,
  },
  stateDir: {
    schema: z.string().check(z.minLength(1)),
    help: "Folder of the root's database and keys.",
    default: "/var/lib/oakestra/root",
  },
  strategy: {
    schema: z.enum(["best-fit", "first-fit", "nearest"]),
    help: "How the root chooses among the clusters that fit: best-fit, first-fit or nearest.",
    default: "best-fit",
  },
  placementPlugin: {
    schema: z.optional(z.string().check(z.minLength(1), z.maxLength(1000))),
    help: "A program, or the URL of a service, that orders the clusters that fit; see docs/placement.md.",
  },
  insecureDefaultAdmin: {
    schema: Switch,
    help: "Makes the first user Admin with the password Admin, as old clients expect; anybody can then log in.",
    default: false,
  },
  apiEncoding: {
    schema: z.enum(["plain", "atc23"]),
    help: "atc23 encodes some answers twice, as the 2023 release did and its scripts expect.",
    default: "plain",
  },
  serviceRange: {
    schema: Cidr,
    help: "IPv4 range of the addresses of services and instances, the same on every worker.",
    default: DEFAULT_ADDRESSES.serviceRange,
  },
  workerRange: {
    schema: CidrList,
    help: "IPv4 ranges of the sandboxes, separated by commas; every cluster gets blocks of it for its workers.",
    default: DEFAULT_ADDRESSES.workerRange.join(","),
  },
  addressQuarantine: {
    schema: z.coerce.number().check(z.int(), z.minimum(0), z.maximum(86_400)),
    help: "Seconds that a freed address, or a removed cluster's block, is given to nobody else.",
    default: DEFAULT_ADDRESSES.addressQuarantine,
  },
} as const satisfies Settings;

export type RootSettings = Values<typeof ROOT_SETTINGS>;
