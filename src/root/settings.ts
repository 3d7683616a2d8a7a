import * as z from "zod/mini";
import { type Settings, Switch, type Values } from "../base/settings.ts";

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
    schema: z.enum(["best-fit", "first-fit"]),
    help: "How the root chooses among the clusters that fit: best-fit or first-fit.",
    default: "best-fit",
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
} as const satisfies Settings;

export type RootSettings = Values<typeof ROOT_SETTINGS>;
