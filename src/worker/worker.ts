/**
 * The worker, wired by hand. Its loops:
 * - instances: desired set × containers → steps, one at a time for an instance (`engine.ts`, `plan.ts`, `apply.ts`)
 * - runtime events: exits and OOM kills wake the former
 * - cluster link: registration, then MQTT; desired state comes in (`desired.ts`), reports go out (`reporter.ts`)
 * - desired file: the desired set on disk, so that a boot without link starts everything
 * - readiness: healthchecks of what runs (`readiness.ts`)
 * - overlay: routes, peers and addresses → kernel, and names (`overlay/`); none with `net: "off"`
 * - control socket: `oak net` on this machine
 * - coordinate: round-trip times to a few workers (`coordinate.ts`)
 * - targets: round-trip times to the hosts of users (`target-meter.ts`)
 * - usage: figures of the instances, and log rotation
 * - log streams: logs on request
 * - check answers: round-trip times and bodies over all routes, when the cluster asks
 * Ending them leaves instances running: the next worker adopts them.
 */
import { join } from "node:path";
import { type Clock, deadline } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { ownAddress } from "../base/own-address.ts";
import { runTogether } from "../base/task-group.ts";
import type { Network } from "../net/network.ts";
import type { Overlay } from "../net/overlay.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import type { NetDocument } from "../protocol/net-document.ts";
import type { ContainerRuntime } from "../runtime/container-runtime.ts";
import { HttpClient } from "../transport/http-client.ts";
import { MachineLoad, measureMachine, ociArchitecture } from "./capacity.ts";
import { CheckAnswers } from "./check-answers.ts";
import { ClusterLink } from "./cluster-link.ts";
import { ControlSocket } from "./control-socket.ts";
import { OwnCoordinate } from "./coordinate.ts";
import { DesiredAssembly } from "./desired.ts";
import { DesiredFile } from "./desired-file.ts";
import { Engine } from "./engine.ts";
import { hostRtt } from "./host-rtt.ts";
import { HostsFiles } from "./hosts-files.ts";
import { Instances } from "./instances.ts";
import { LogStreams } from "./log-streams.ts";
import { InstanceLogs } from "./logs.ts";
import { NoNetwork } from "./no-network.ts";
import { checkedRoutes } from "./overlay/checked-routes.ts";
import { netCheck, netDocument } from "./overlay/net-documents.ts";
import { liveReports, ownInstances } from "./overlay/own-instances.ts";
import { WorkerOverlay } from "./overlay/worker-overlay.ts";
import { createProbe } from "./probes.ts";
import { describeReadiness, ReadinessChecks, readinessTargets } from "./readiness.ts";
import { register, tokenFromFile } from "./registration.ts";
import { Reporter } from "./reporter.ts";
import type { WorkerSettings } from "./settings.ts";
import { TargetMeter } from "./target-meter.ts";
import { UsageMeter } from "./usage.ts";

const MIB = 1024 * 1024;
const VERSION_TIMEOUT_MS = 3000;

export interface WorkerDeps {
  readonly log: Logger;
  readonly clock: Clock;
  readonly runtime: ContainerRuntime;
  readonly network: Network & Overlay;
  /** Makes a join token; goes before `joinTokenFile`. */
  readonly clusterToken?: () => Promise<string>;
  /** Where this worker is probed by others; default: the port that they all have, on every address. */
  readonly probes?: { readonly address: string; readonly port: number };
  /** Of this program, for the cluster to show. */
  readonly version?: string;
}

export interface WorkerRole {
  /** Works until `signal` aborts. Instances run on. */
  run(signal: AbortSignal): Promise<void>;
  /** The link to the cluster is up for the first time. */
  readonly ready: Promise<void>;
  /** Why it can do nothing for its instances now, such as a runtime that is away. */
  readonly problem: () => string | undefined;
}

/** @throws AppError SERVER_URL_INVALID for the cluster's URL */
export function createWorker(settings: WorkerSettings, deps: WorkerDeps): WorkerRole {
  const { runtime, clock } = deps;
  const log = deps.log.child({ role: "worker" });
  const { subnet, guardPorts } = settings;
  const isNetOff = settings.net === "off";
  const network = isNetOff ? new NoNetwork() : deps.network;
  const http = new HttpClient(settings.cluster);
  const host = http.server.hostname.replace(/^\[|\]$/g, "");
  const ready = Promise.withResolvers<void>();
  const load = new MachineLoad();
  const inState = (name: string) => join(settings.stateDir, name);

  const desired = new DesiredAssembly();
  const desiredFile = new DesiredFile({ path: inState("desired.json"), log });
  const logs = new InstanceLogs({ folder: inState("logs") });
  const instances = new Instances({
    ...{ log, clock },
    onChange: () => {
      readiness.sync(readinessTargets(desired.current, instances.records, () => network.list()));
      overlay?.trigger();
      reporter.trigger();
    },
    live: () => liveReports(own(), overlay?.endpoint),
  });
  const own = () =>
    ownInstances({
      ...{ desired: desired.current, records: instances.records, sandboxes: network.list() },
      readinessOf: (instanceId) => readiness.of(instanceId),
    });
  const readiness = new ReadinessChecks({
    ...{ probe: createProbe(runtime), log, clock },
    onChange: (instanceId, state) => instances.update(instanceId, undefined, { detail: describeReadiness(state) }),
  });
  const hostsFiles = new HostsFiles(inState("hosts"));
  const overlay = isNetOff
    ? undefined
    : new WorkerOverlay({
        ...{ stateDir: settings.stateDir, clusterHost: host, overlay: deps.network, own, log, clock },
        fixed: { subnet, joinPort: Number(http.server.port || 80), guardPorts },
        sandboxes: () => network.list(),
        desired: () => desired.current,
        probes: deps.probes,
        link: {
          get isConnected() {
            return link.isConnected;
          },
          sendInterest: (interest) => link.sendInterest(interest),
        },
        onAddresses: () => {
          engine.trigger();
          reporter.trigger();
        },
        onEndpoint: () => instances.reportAll(),
      });
  const engine = new Engine({
    ...{ runtime, network, overlay, desired, desiredFile, instances, logs, hostsFiles, log, clock },
    onLooked: () => reporter.trigger(),
  });
  const info = (signal: AbortSignal) =>
    describeWorker({ settings, runtime, host, version: deps.version ?? "unknown" }, signal);
  const takenOver = (isNew: boolean) => {
    if (!isNew || !desired.current) return;
    overlay?.desiredChanged();
    engine.trigger();
    desiredFile.keep(desired.current);
  };
  const { joinTokenFile } = settings;
  const joinToken = deps.clusterToken ?? (joinTokenFile ? () => tokenFromFile(joinTokenFile, log) : undefined);
  const link = new ClusterLink({
    register: (signal) => register({ http, keyPath: inState("key"), joinToken, info }, signal),
    host,
    on: {
      instance: (instance) => takenOver(desired.instance(instance)),
      cleared: (instanceId) => desired.cleared(instanceId),
      manifest: (manifest) => takenOver(desired.manifest(manifest)),
      logRequest: (request) => logStreams.request(request),
      check: (question) => checkAnswers.take(question),
      measure: ({ peers, targets }) => {
        coordinate.setPeers(peers);
        targetMeter.setTargets(targets);
      },
      network: (network) => overlay?.takeNetwork(network),
      routes: (update) => overlay?.takeRoutes(update),
      connected: ({ id, mqttPort }) => {
        ready.resolve();
        overlay?.connected(id, mqttPort);
        reporter.connected();
      },
      disconnected: () => {
        desired.disconnected();
        logStreams.closeAll();
        checkAnswers.drop();
      },
    },
    ...{ log, clock },
  });
  const reporter = new Reporter({
    ...{ instances, info, link, log, clock },
    isReady: () => engine.hasLooked,
    addressesFree: () => overlay?.addressesFree,
    measure: () => load.measure(),
    surroundings: (full) => {
      const moved = coordinate.take(full);
      const measured = targetMeter.take();
      return { ...(moved ? { coordinate: moved } : {}), ...(measured.length > 0 ? { measured } : {}) };
    },
  });
  const coordinate = new OwnCoordinate({
    onMoved: () => reporter.trigger(),
    ...(deps.probes ? { address: deps.probes.address } : {}),
    ...{ clock, log },
  });
  const targetMeter = new TargetMeter({
    measure: (target, signal) => hostRtt(target, clock, signal),
    onNews: () => reporter.trigger(),
    ...{ clock, log },
  });
  const logStreams = new LogStreams({
    ...{ logs, log, clock },
    isKnown: (instanceId) => instances.records.has(instanceId),
    send: (part) => link.sendLog(part),
  });
  const checkAnswers = new CheckAnswers({
    check:
      overlay &&
      (async (withinMs, signal) => {
        const net = netDocument(overlay);
        return checkedRoutes(net, await netCheck(overlay, () => clock.monotonic(), { signal, withinMs }));
      }),
    send: (answer) => link.sendChecked(answer),
    log,
  });
  const clusterState = () => ({ url: http.server.origin, connected: link.isConnected, problem: link.problem });
  const usage = new UsageMeter({ runtime, containers: engine.containers, instances, logs, log, clock });

  return {
    ready: ready.promise,
    problem: () => instances.problem,
    async run(signal) {
      const stored = await desiredFile.read();
      if (stored) desired.restore(stored);
      await overlay?.open();
      try {
        await runTogether(
          {
            instances: (stop) => engine.run(stop),
            "runtime events": (stop) => engine.watchEvents(stop),
            "cluster link": (stop) => link.run(stop),
            reports: (stop) => reporter.run(stop),
            "desired file": (stop) => desiredFile.run(stop),
            readiness: (stop) => readiness.run(stop),
            ...(overlay &&
              overlayLoops(
                overlay,
                { clusterState, fastPath: () => deps.network.fastPath },
                { path: settings.controlSocket, log, clock },
              )),
            coordinate: (stop) => coordinate.run(stop),
            targets: (stop) => targetMeter.run(stop),
            usage: (stop) => usage.run(stop),
            "log streams": (stop) => logStreams.run(stop),
            "check answers": (stop) => checkAnswers.run(stop),
          },
          signal,
        );
      } finally {
        await network.stop({ purge: false });
      }
    },
  };
}

function overlayLoops(
  overlay: WorkerOverlay,
  { clusterState, fastPath }: { clusterState: () => NetDocument["cluster"]; fastPath: () => NetDocument["fast_path"] },
  options: { readonly path: string; readonly log: Logger; readonly clock: Clock },
) {
  const socket = new ControlSocket({
    ...options,
    routes: {
      "GET /net": async () => ({ ...netDocument(overlay), cluster: clusterState(), fast_path: fastPath() }),
      "POST /net/check": (signal) => netCheck(overlay, () => options.clock.monotonic(), { signal }),
    },
  });
  return {
    overlay: (stop: AbortSignal) => overlay.run(stop),
    "control socket": (stop: AbortSignal) => socket.run(stop),
  };
}

interface DescribeParts {
  readonly settings: WorkerSettings;
  readonly runtime: ContainerRuntime;
  readonly host: string;
  readonly version: string;
}

async function describeWorker(
  { settings, runtime, host, version }: DescribeParts,
  signal: AbortSignal,
): Promise<WorkerInfo> {
  const machine = await measureMachine(settings.memoryReserve * MIB);
  return {
    hostname: settings.hostname,
    architecture: ociArchitecture(),
    ...machine,
    gpus: 0,
    virtualization: ["container"],
    publicIp: settings.publicIp ?? (await ownAddress(host)),
    runtime: await runtimeName(runtime, signal),
    version,
    labels: settings.labels,
    ...(settings.location === "" ? {} : { location: settings.location }),
  };
}

/** A runtime that is away for a moment must not keep the worker from its cluster. */
async function runtimeName(runtime: ContainerRuntime, signal: AbortSignal): Promise<string> {
  try {
    const { name, version } = await runtime.version(deadline(VERSION_TIMEOUT_MS, signal));
    return `${name} ${version}`;
  } catch {
    signal.throwIfAborted();
    return "unavailable";
  }
}
