/** Root, cluster and worker of one machine in one process. They speak over loopback, as on three machines. */
import type { Clock } from "./base/clock.ts";
import type { Logger } from "./base/log.ts";
import { runTogether } from "./base/task-group.ts";
import { createCluster } from "./cluster/cluster.ts";
import type { Network } from "./net/network.ts";
import type { Overlay } from "./net/overlay.ts";
import { createRoot, type RootRole } from "./root/root.ts";
import type { ContainerRuntime } from "./runtime/container-runtime.ts";
import type { UpSettings } from "./up-settings.ts";
import { createWorker, type WorkerRole } from "./worker/worker.ts";

export interface UpDeps {
  /** Of this program, for each tier to show the one above. */
  readonly version: string;
  readonly log: Logger;
  readonly clock: Clock;
  readonly runtime: ContainerRuntime;
  readonly network: Network & Overlay;
}

export interface Up {
  run(signal: AbortSignal): Promise<void>;
  /** When the API answers and the worker has joined. */
  readonly ready: Promise<unknown>;
  readonly problem: WorkerRole["problem"];
  /** Where the API answers. */
  readonly api: RootRole["listening"];
  readonly initialAdmin: RootRole["initialAdmin"];
}

export function createUp(settings: UpSettings, { version, log, clock, runtime, network }: UpDeps): Up {
  const { host, port, joinPort, stateDir } = settings;
  const root = createRoot(
    { ...settings, stateDir: `${stateDir}/root` },
    { version, log: log.child({ role: "root" }), clock, passwordDir: stateDir },
  );
  const cluster = createCluster(
    {
      ...{ ...settings, stateDir: `${stateDir}/cluster`, root: url(host, port), joinTokenFile: undefined },
      // Both are this operator's word.
      allowSubnets: [...settings.allowSubnets, ...(settings.subnet === undefined ? [] : [settings.subnet])],
    },
    { version, log: log.child({ role: "cluster" }), clock, rootToken: () => root.issueClusterToken() },
  );
  const worker = createWorker(
    {
      ...{ ...settings, stateDir: `${stateDir}/worker`, cluster: url(host, joinPort), joinTokenFile: undefined },
      guardPorts: [...settings.guardPorts, ...(port === 0 ? [] : [port])],
    },
    { version, log, clock, runtime, network, clusterToken: () => cluster.issueWorkerToken() },
  );
  return {
    run: (signal) =>
      runTogether(
        {
          root: (stop) => root.run(stop),
          cluster: (stop) => cluster.run(stop),
          worker: (stop) => worker.run(stop),
        },
        signal,
      ),
    ready: Promise.all([root.listening, cluster.listening, worker.ready]),
    problem: worker.problem,
    api: root.listening,
    initialAdmin: root.initialAdmin,
  };
}

/** Every address includes loopback; a particular one does not. */
function url(host: string, port: number): string {
  const target = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `http://${target.includes(":") ? `[${target}]` : target}:${port}`;
}
