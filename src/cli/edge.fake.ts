/** An edge for tests: what commands print is kept, and the process is not touched. */
import { systemClock } from "../base/clock.ts";
import type { Edge, RoleFlags } from "./edge.ts";
import { COMMON_SETTINGS } from "./role-settings.ts";

export interface FakeEdge extends Edge {
  stdout: string;
  stderr: string;
  /** What the roles were started with. */
  readonly started: { role: string; flags: RoleFlags }[];
}

export function fakeEdge(options: Partial<Edge> & { input?: string } = {}): FakeEdge {
  const edge: FakeEdge = {
    stdout: "",
    stderr: "",
    started: [],
    version: "1.2.3",
    clock: systemClock,
    signal: new AbortController().signal,
    environment: {},
    credentialsPath: "/nonexistent/login.json",
    pidFile: "/nonexistent/oak.pid",
    terminal: {
      out(text) {
        edge.stdout += text;
      },
      err(text) {
        edge.stderr += text;
      },
      colours: false,
      readInput: async () => options.input ?? "",
      readSecret: async () => options.input ?? "",
    },
    roleSettings: async () => ({
      ...COMMON_SETTINGS,
      stateDir: { schema: COMMON_SETTINGS.logLevel.schema, help: "Folder.", default: "/var/lib/oakestra" },
      insecureDefaultAdmin: { schema: COMMON_SETTINGS.logLevel.schema, help: "Admin/Admin.", default: false },
    }),
    runRole: async (role, flags) => void edge.started.push({ role, flags }),
    kill: () => undefined,
    purge: async () => 0,
    images: () => Promise.reject(new Error("no images here")),
    labs: () => Promise.reject(new Error("no labs here")),
    resetAdmin: () => Promise.reject(new Error("no root here")),
    become: (file, args) => {
      throw new Error(`became ${[file, ...args].join(" ")}`);
    },
    ...options,
  };
  return edge;
}
