/** The cluster, wired: every part and every loop of it is named here. */
import { join } from "node:path";
import { parseSubnet } from "../addressing/subnet.ts";
import { readFileIfAny } from "../base/atomic-file.ts";
import { Attention } from "../base/attention.ts";
import { type Clock, pause } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type OwnSecret, ownSecret } from "../base/own-secret.ts";
import { Reconciler } from "../base/reconciler.ts";
import { runTogether } from "../base/task-group.ts";
import { History } from "../hierarchy/history.ts";
import { saveHistory } from "../hierarchy/history-saver.ts";
import { LogData, topics, type WorkerTopic } from "../protocol/mqtt.ts";
import { CheckAnswer } from "../protocol/net-check.ts";
import { Interest } from "../protocol/route.ts";
import { HttpServer } from "../transport/http-server.ts";
import { PlacementVoter } from "../transport/placement-voter.ts";
import { Admission } from "./admission.ts";
import { Broker } from "./broker.ts";
import { ClusterState } from "./cluster-state.ts";
import { DesiredTopics } from "./desired-topics.ts";
import { explain, noteInHistory, saveDecisions } from "./explain.ts";
import { type JoinApiOptions, joinApi, MAX_JOIN_BODY_BYTES } from "./join-api.ts";
import { LogRelay } from "./log-relay.ts";
import { Measuring } from "./measuring.ts";
import type { Worker } from "./model.ts";
import { NetChecks } from "./net-checks.ts";
import { createOverlay, type Overlay } from "./overlay.ts";
import { PlacementLoop } from "./placement.ts";
import type { ClusterSettings } from "./settings.ts";
import { ClusterStore } from "./store/cluster-store.ts";
import { Uplink } from "./uplink.ts";
import { ClusterView } from "./view.ts";
import { positionOf as positionOfWorker } from "./whereabouts.ts";
import { Workers } from "./workers.ts";

export interface ClusterDeps {
  readonly log: Logger;
  readonly clock: Clock;
  /** Of this program, for the root to show. */
  readonly version?: string;
  /** Where a token for the root comes from, if not from a file. */
  readonly rootToken?: () => Promise<string>;
}

export interface ClusterRole {
  run(signal: AbortSignal): Promise<void>;
  /** Resolves once workers can join. */
  readonly listening: Promise<{ readonly joinPort: number; readonly mqttPort: number }>;
  /** A token that lets one worker in, for 15 minutes; waits until the cluster is there. */
  issueWorkerToken(): Promise<string>;
}

/** Liveness and deadlines are looked at this often; everything else triggers a pass at once. */
const RESYNC_MS = 2_000;
/** A pass looks at all workers and instances: with thousands of them, what comes meanwhile is decided together. */
const PLACEMENT_SHARE = 0.2;
/** Reports of workers are written together. */
const SAVE_MS = 2_000;

export function createCluster(settings: ClusterSettings, deps: ClusterDeps): ClusterRole {
  const started = Promise.withResolvers<Started>();
  // Who waits for it learns of a failed start; nobody has to.
  started.promise.catch(() => {});
  return {
    run: async (signal) => {
      try {
        await runCluster(settings, deps, started.resolve, signal);
      } finally {
        started.reject(new AppError("CLUSTER_STOPPED", "The cluster was stopped"));
      }
    },
    listening: started.promise.then(({ joinPort, mqttPort }) => ({ joinPort, mqttPort })),
    issueWorkerToken: async () => (await started.promise).admission.issueToken().token,
  };
}

interface Started {
  readonly joinPort: number;
  readonly mqttPort: number;
  readonly admission: Admission;
}

async function runCluster(
  settings: ClusterSettings,
  deps: ClusterDeps,
  onStarted: (started: Started) => void,
  signal: AbortSignal,
): Promise<void> {
  const { name, host, stateDir } = settings;
  const key = await ownSecret(join(stateDir, "key"));
  const operator = await ownSecret(join(stateDir, "operator-token"));
  const store = new ClusterStore(join(stateDir, "cluster.db"));
  const { state, broker, desired, overlay, placement, uplink, history, voter, api, admission, attention } = assemble(
    settings,
    deps,
    {
      key,
      store,
    },
  );
  let server: HttpServer | undefined;
  try {
    state.load();
    overlay.load();
    await broker.open();
    // A worker that connects must find the whole truth.
    await Promise.all([overlay.subnets.sync(), desired.sync()]);
    const { port: mqttPort } = await broker.listen();
    const fetch = api({ operatorToken: operator.secret, mqttPort });
    const { log } = deps;
    server = new HttpServer({ host, port: settings.joinPort, maxBodyBytes: MAX_JOIN_BODY_BYTES, fetch, log });
    const { port: joinPort } = await server.listen();
    log.info({ cluster: name, host, joinPort, mqttPort, workers: state.workers.length }, "cluster is up");
    onStarted({ joinPort, mqttPort, admission });
    await runTogether(
      {
        attention: (stop) => attention.run(stop),
        placement: (stop) => placement.run(stop),
        routes: (stop) => overlay.routes.run(stop),
        uplink: (stop) => uplink.run(stop),
        saving: (stop) => keepSaving(state, deps, stop),
        decisions: (stop) => saveHistory({ ...deps, history, save: (records) => saveDecisions(store, records) }, stop),
      },
      signal,
    );
  } finally {
    await server?.close();
    await broker.close();
    voter?.close();
    store.close();
  }
}

/** Who works with whom; nothing starts here. */
function assemble(
  settings: ClusterSettings,
  { log, clock, version = "development", rootToken }: ClusterDeps,
  { key, store }: { readonly key: OwnSecret; readonly store: ClusterStore },
) {
  const { name, location, host, strategy, root: rootUrl, placementPlugin } = settings;
  const history = new History("cluster");
  const voter = placementPlugin === undefined ? undefined : new PlacementVoter(placementPlugin, { log, clock });
  const state = new ClusterState({
    store,
    clock,
    onChanged: (id, isNews) => {
      // First, because what the root is told depends on it.
      if (isNews) {
        overlay.routes.instanceChanged(id);
        for (const other of overlay.affectedBy(id)) uplink.changed(other, true);
      }
      uplink.changed(id, isNews);
      if (isNews) noteInHistory(history, view.report(id), clock.now());
    },
  });
  const broker = new Broker({
    host,
    port: settings.mqttPort,
    keyDigestOf: (id) => state.worker(id)?.keyDigest,
    onMessage: (topic, payload) => receive(topic, payload),
    onHeard: (id) => workers.alive(id),
    clock,
    log,
  });
  const disconnect = (id: string) => broker.disconnect(id);
  const attention = new Attention(clock);
  const workers: Workers = new Workers({
    state,
    clock: attention,
    log,
    onChanged: () => placement.trigger(),
    onMoved: (id) => {
      for (const { assignment } of state.instancesOn(id)) uplink.changed(assignment.instanceId, false);
    },
    onMeasured: (id, measured) => measuring.take(id, measured),
    onAddressesFree: (id, count) => overlay.subnets.reported(id, count),
    lieIn: (id, live) => overlay.lieIn(id, live),
    disconnect,
  });
  const positionOf = (worker: Worker) => positionOfWorker(worker, workers.contact(worker.id).coordinate, location);
  const measuring = new Measuring({
    retain: (topic, payload) => broker.retain(topic, payload),
    coordinateOf: (id) => workers.contact(id).coordinate,
    ...{ clock, log },
  });
  const view: ClusterView = new ClusterView({ state, workers, overlay: () => overlay, positionOf });
  const logs = new LogRelay({
    workerOf: (instanceId) => view.reachableWorkerOf(instanceId),
    request: (id, request) => broker.send(topics.logRequest(id), JSON.stringify(request)),
    send: (message) => uplink.sendLog(message),
  });
  const checks = new NetChecks({
    ...{ clusterName: name, workers: () => view.workerDocuments(), clock },
    request: (id, question) => broker.send(topics.check(id), JSON.stringify(question)),
  });
  const uplink: Uplink = new Uplink({
    rootUrl,
    identity: { clusterName: name, location, key: key.secret, version },
    isNew: key.isNew,
    joinToken: async () => (await rootToken?.()) ?? (await tokenFrom(settings.joinTokenFile)),
    view,
    onDesired: (change) => {
      state.applyDesired(change);
      placement.trigger();
    },
    onRoutes: (update) => overlay.routes.take(update),
    onNetwork: (network) => {
      overlay.subnets.takeNetwork(network);
      placement.trigger();
    },
    onLandmarks: (peers) => {
      measuring.takeForeign(peers);
      placement.trigger();
    },
    explain: (id) => explain(history, store, id),
    forecast: (question) => loop.forecast(question),
    onUp: () => overlay.routes.linkUp(),
    onLog: (message) => (message.type === "log.open" ? logs.open(message) : logs.close(message.stream)),
    onDown: () => logs.closeAll(),
    log,
    clock,
  });
  const allowedSubnets = settings.allowSubnets.map(parseSubnet);
  const overlay: Overlay = createOverlay({ state, store, broker, workers, uplink, allowedSubnets, clock, log });
  const desired = new DesiredTopics({
    ...{ state, log },
    retain: (topic, payload) => broker.retain(topic, payload),
    onAssigned: (id, applicationIds) => overlay.routes.assigned(id, applicationIds),
    onWithdrawn: (id, applicationIds) => overlay.routes.withdrawn(id, applicationIds),
  });
  const loop: PlacementLoop = new PlacementLoop({
    state,
    workers,
    desired,
    subnets: overlay.subnets,
    ...{ measuring, history, positionOf, voter },
    isBelieved: (id, live) => overlay.lieIn(id, live) === undefined,
    isAutonomous: () => !uplink.isConnected,
    onLiveness: (id, isActive) => {
      if (!isActive) forgetQuestions(id);
      uplink.membershipChanged();
    },
    onTrust: (id) => overlay.trustChanged(id),
    strategy,
    log,
    clock,
  });
  const placement = new Reconciler({
    ...{ name: "placement", pass: () => loop.pass(), log, clock },
    ...{ resyncMs: RESYNC_MS, maxShare: PLACEMENT_SHARE },
  });
  const admission = new Admission({ state, store, clusterName: name, log, clock });
  const forgetQuestions = (id: string) => {
    logs.workerGone(id);
    checks.workerGone(id);
  };
  const receive = (topic: WorkerTopic, payload: Buffer) => {
    const { kind, workerId } = topic;
    if (kind === "logData") {
      const part = workers.read(workerId, LogData, payload);
      if (part) logs.data(workerId, part);
    } else if (kind === "checked") {
      const answer = workers.read(workerId, CheckAnswer, payload);
      if (answer) checks.receive(workerId, answer);
    } else if (kind === "interest") {
      const interest = workers.read(workerId, Interest, payload);
      if (interest) overlay.routes.interest(workerId, interest);
    } else {
      // Its connection has begun or ended, and a worker drops what it was asked with each: who reads would wait for ever.
      if (kind === "presence") forgetQuestions(workerId);
      workers.receive(topic, payload);
    }
  };
  const removeWorker = (id: string) => {
    view.worker(id);
    overlay.subnets.release(id);
    state.removeWorker(id);
    workers.forget(id);
    measuring.forget(id);
    overlay.forget(id);
    disconnect(id);
    forgetQuestions(id);
    placement.trigger();
    log.info({ workerId: id }, "worker removed");
  };
  const api = (served: Pick<JoinApiOptions, "operatorToken" | "mqttPort">) =>
    joinApi({
      ...{ ...served, admission, clusterName: name, workers: () => view.workerDocuments(), removeWorker, clock },
      checkRoutes: (withinMs, signal) => checks.check(withinMs, signal),
      rootLink: () => ({ root: rootUrl, connected: uplink.isConnected, problem: uplink.problem }),
    });
  return { state, broker, desired, overlay, placement, uplink, history, voter, admission, api, attention };
}

/** What cannot be written now is kept and written later: the workers would tell it again, too. */
async function keepSaving(
  state: ClusterState,
  { log, clock }: Pick<ClusterDeps, "log" | "clock">,
  signal: AbortSignal,
): Promise<void> {
  do {
    await pause(clock, SAVE_MS, signal);
    try {
      state.save();
    } catch (error) {
      log.warn({ error }, "reports of workers not saved");
    }
  } while (!signal.aborted);
}

async function tokenFrom(path: string | undefined): Promise<string | undefined> {
  return path === undefined ? undefined : (await readFileIfAny(path))?.trim() || undefined;
}
