import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { History } from "../hierarchy/history.ts";
import { saveHistory } from "../hierarchy/history-saver.ts";
import type { ScheduleOptions } from "../scheduler/candidate.ts";
import type { DecisionRecord } from "../scheduler/record.ts";
import type { PlacementVoter } from "../transport/placement-voter.ts";
import type { Changes } from "./changes.ts";
import { Downlink } from "./downlink.ts";
import { Explanations } from "./explanations.ts";
import { Forecasts } from "./forecasts.ts";
import { Landmarks } from "./landmarks.ts";
import { type LogRequest, LogStreams } from "./log-streams.ts";
import type { Orchestration } from "./orchestration.ts";
import { PlacementLoop } from "./placement.ts";
import type { RegistrySecrets } from "./registry-secrets.ts";
import { Routes } from "./routes.ts";
import type { RootStore } from "./store/root-store.ts";

/** Wires links, placement, routes and logs. `loops` are to run for as long as the root does; `accept` takes the HTTP server's upgrades. */
export function createOrchestration(options: {
  readonly store: RootStore;
  readonly changes: Changes;
  readonly registrySecrets: Pick<RegistrySecrets, "credentials">;
  /** By which workers know each other. */
  readonly overlayKey: () => Promise<string>;
  readonly strategy: ScheduleOptions["strategy"];
  readonly voter?: Pick<PlacementVoter, "votes"> | undefined;
  readonly clock: Clock;
  /** That join tokens are made by; default: `clock`. */
  readonly tokenClock?: Pick<Clock, "now"> | undefined;
  readonly log: Logger;
}): {
  readonly orchestration: Orchestration;
  readonly loops: Readonly<Record<string, (signal: AbortSignal) => Promise<void>>>;
  readonly accept: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
} {
  const logStreams = new LogStreams(options.clock);
  const routes: Routes = new Routes({
    ...options,
    canSend: (clusterId) => downlink.link(clusterId)?.isCongested() === false,
    send: (clusterId, update) => downlink.link(clusterId)?.send({ type: "routes", ...update }),
  });
  const history = new History("root");
  const explanations: Explanations = new Explanations({ ...options, history, link: (id) => downlink.link(id) });
  const forecasts: Forecasts = new Forecasts({
    ...options,
    link: (id) => downlink.link(id),
    observe: () => placement.observe(),
  });
  const landmarks = new Landmarks({
    ...options,
    send: (id, peers) => downlink.link(id)?.send({ type: "landmarks", peers }),
  });
  const onChange = () => placement.trigger();
  const downlink: Downlink = new Downlink({
    ...options,
    ...{ logStreams, routes, history, explanations, forecasts, landmarks, onChange },
  });
  const placement: PlacementLoop = new PlacementLoop({ ...options, downlink, history });
  const save = (records: readonly DecisionRecord[]) => options.store.keepDecisions(records);
  return {
    orchestration: {
      trigger: () => placement.trigger(),
      isActive: (clusterId) => downlink.link(clusterId) !== undefined,
      aggregateOf: (clusterId) => downlink.aggregateOf(clusterId),
      clockOffMs: (clusterId) => downlink.link(clusterId)?.clockOffMs,
      heardAt: (clusterId) => downlink.link(clusterId)?.heardAt,
      reportOf: (instance) => downlink.reportOf(instance),
      openLog: (instanceId, request, signal) =>
        openLog({ ...options, downlink, logStreams }, { instanceId, ...request }, signal),
      explain: (instance) => explanations.explain(instance),
      predict: (draft, { namesWorkers }) => forecasts.predict(draft, namesWorkers),
      disconnect: (clusterId) => downlink.disconnect(clusterId),
    },
    loops: {
      downlink: (signal) => downlink.run(signal),
      placement: (signal) => placement.run(signal),
      routes: (signal) => routes.run(signal),
      landmarks: (signal) => landmarks.run(signal),
      decisions: (signal) => saveHistory({ ...options, history, save }, signal),
    },
    accept: (request, socket, head) => downlink.accept(request, socket, head),
  };
}

async function* openLog(
  parts: { readonly store: RootStore; readonly downlink: Downlink; readonly logStreams: LogStreams },
  request: LogRequest,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  const { instanceId } = request;
  const instances = await parts.store.instances({ serviceId: instanceId.split("-")[0]! });
  const instance = instances.find(({ id }) => id === instanceId);
  if (!instance) throw new AppError("NOT_FOUND", `There is no instance "${instanceId}"`, { details: { instanceId } });
  if (instance.clusterId === undefined) {
    throw new AppError("NOT_FOUND", `Instance "${instanceId}" has no output: it is ${instance.status}`, {
      details: { instanceId },
    });
  }
  const link = parts.downlink.link(instance.clusterId);
  if (!link) {
    throw new AppError(
      "UNAVAILABLE",
      `Cannot read the output of instance "${instanceId}": its cluster is not connected`,
      {
        details: { instanceId },
      },
    );
  }
  yield* parts.logStreams.open(link, request, signal);
}
