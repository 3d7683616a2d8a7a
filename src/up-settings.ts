/** What the roles of `oak up` may be told; not what they tell each other. */
import type { Settings, Values } from "./base/settings.ts";
import { CLUSTER_SETTINGS } from "./cluster/settings.ts";
import { ROOT_SETTINGS } from "./root/settings.ts";
import { WORKER_SETTINGS } from "./worker/settings.ts";

const { root: _root, joinTokenFile: _rootToken, ...clusterSettings } = CLUSTER_SETTINGS;
const { cluster: _cluster, joinTokenFile: _clusterToken, ...workerSettings } = WORKER_SETTINGS;

export const UP_SETTINGS = {
  ...workerSettings,
  ...clusterSettings,
  ...ROOT_SETTINGS,
  host: { ...ROOT_SETTINGS.host, help: "Address that API, join port and MQTT listen on; 0.0.0.0 for all." },
  strategy: { ...ROOT_SETTINGS.strategy, help: "How clusters and workers are chosen: best-fit, first-fit or nearest." },
  placementPlugin: {
    ...ROOT_SETTINGS.placementPlugin,
    help: "A program, or the URL of a service, that orders the clusters and workers that fit; see docs/placement.md.",
  },
  stateDir: { ...ROOT_SETTINGS.stateDir, help: "Folder of all three roles.", default: "/var/lib/oakestra" },
} as const satisfies Settings;
export type UpSettings = Values<typeof UP_SETTINGS>;
