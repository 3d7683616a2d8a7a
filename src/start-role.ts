/** From a role's name to the role, wired to the real world. Each branch loads the code of its own role only. */
import type { Clock } from "./base/clock.ts";
import type { Logger } from "./base/log.ts";
import type { Settings } from "./base/settings.ts";
import type { RoleName } from "./cli/edge.ts";
import type { ClusterSettings } from "./cluster/settings.ts";
import { openMachine } from "./machine.ts";
import type { RootRole } from "./root/root.ts";
import type { RootSettings } from "./root/settings.ts";
import type { UpSettings } from "./up-settings.ts";
import type { WorkerSettings } from "./worker/settings.ts";
import type { WorkerRole } from "./worker/worker.ts";

export interface Role {
  run(signal: AbortSignal): Promise<void>;
  readonly ready: Promise<unknown>;
  /** A worker's: why it can do nothing for its instances now. */
  readonly problem?: WorkerRole["problem"];
  /** A root's. */
  readonly api?: RootRole["listening"];
  readonly initialAdmin?: RootRole["initialAdmin"];
}

export interface RoleDeps {
  readonly version: string;
  readonly log: Logger;
  readonly clock: Clock;
  /** Given by the environment, when it does not come from a file. */
  readonly joinToken: string | undefined;
}

export async function settingsOf(role: RoleName): Promise<Settings> {
  switch (role) {
    case "root":
      return (await import("./root/settings.ts")).ROOT_SETTINGS;
    case "cluster":
      return (await import("./cluster/settings.ts")).CLUSTER_SETTINGS;
    case "worker":
      return (await import("./worker/settings.ts")).WORKER_SETTINGS;
    case "up":
      return (await import("./up-settings.ts")).UP_SETTINGS;
  }
}

/** @param settings resolved from the table that `settingsOf` gives for this role */
export async function createRole(role: RoleName, settings: unknown, { joinToken, ...deps }: RoleDeps): Promise<Role> {
  const token = joinToken === undefined ? undefined : async () => joinToken;
  switch (role) {
    case "root": {
      const { createRoot } = await import("./root/root.ts");
      const root = createRoot(settings as RootSettings, deps);
      const { listening, initialAdmin } = root;
      return { run: (signal) => root.run(signal), ready: listening, api: listening, initialAdmin };
    }
    case "cluster": {
      const { createCluster } = await import("./cluster/cluster.ts");
      const cluster = createCluster(settings as ClusterSettings, { ...deps, ...(token && { rootToken: token }) });
      return { run: (signal) => cluster.run(signal), ready: cluster.listening };
    }
    case "worker": {
      const { createWorker } = await import("./worker/worker.ts");
      const machine = await openMachine(settings as WorkerSettings, deps);
      return createWorker(settings as WorkerSettings, { ...deps, ...machine, ...(token && { clusterToken: token }) });
    }
    case "up": {
      const { createUp } = await import("./up.ts");
      const upSettings = settings as UpSettings;
      const machine = await openMachine({ ...upSettings, stateDir: `${upSettings.stateDir}/worker` }, deps);
      return createUp(upSettings, { ...deps, ...machine });
    }
  }
}

/** @throws AppError FOLDER_UNUSABLE for a folder without a root's state */
export async function resetAdmin(stateDir: string, clock: Clock): Promise<{ username: string; password: string }> {
  return await (await import("./root/auth/reset-admin.ts")).resetAdmin(stateDir, clock);
}
