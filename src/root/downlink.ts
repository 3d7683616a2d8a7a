/** The root's end of all uplinks: lets clusters in, hears their reports and tells them what they should run. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { type Clock, pause } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { describeSkew } from "../hierarchy/clock-skew.ts";
import type { History } from "../hierarchy/history.ts";
import type { Aggregate } from "../protocol/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import { ClusterMessage, MIN_SUBNETS_FREE, PROTOCOL_VERSION, UPLINK_PATH } from "../protocol/uplink.ts";
import { admitCluster, isRefusal } from "./admission.ts";
import { AttemptLimit } from "./attempt-limit.ts";
import type { Changes } from "./changes.ts";
import { ClusterLink } from "./cluster-link.ts";
import type { Wanted } from "./desired-sender.ts";
import type { Explanations } from "./explanations.ts";
import type { Forecasts } from "./forecasts.ts";
import type { Landmarks } from "./landmarks.ts";
import { LinkSocket } from "./link-socket.ts";
import type { LogStreams } from "./log-streams.ts";
import type { Instance } from "./model.ts";
import type { Routes } from "./routes.ts";
import type { RootStore } from "./store/root-store.ts";

const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
const HELLO_WITHIN_MS = 10_000;
/** Sockets that have not said who they are, and what each of them may send until it is let in. */
const MAX_STRANGERS = 50;
const MAX_STRANGER_BYTES = 64 * 1024;
const REFUSALS = { max: 30, windowMs: 60_000 } as const;
const CLOSE = { goingAway: 1001, refused: 1008, failed: 1011, replaced: 4000, removed: 4001 } as const;

export interface DownlinkOptions {
  readonly store: Pick<RootStore, "admitCluster" | "touchCluster" | "reportInstances" | "instances" | "clusterNetwork">;
  readonly changes: Changes;
  readonly logStreams: LogStreams;
  readonly routes: Pick<Routes, "interest" | "assigned" | "leave" | "trigger">;
  readonly history: Pick<History, "happened">;
  readonly explanations: Pick<Explanations, "receive">;
  readonly forecasts: Pick<Forecasts, "receive">;
  readonly landmarks: Pick<Landmarks, "take" | "leave">;
  /** By which workers know each other. */
  readonly overlayKey: () => Promise<string>;
  readonly clock: Clock;
  /** That join tokens are made by; default: `clock`. */
  readonly tokenClock?: Pick<Clock, "now"> | undefined;
  readonly log: Logger;
  /** Something has changed that placement should look at. */
  readonly onChange: () => void;
}

export class Downlink {
  readonly #options: DownlinkOptions;
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });
  readonly #links = new Map<string, ClusterLink>();
  /** Monotonic ms of the last word over a link that has ended. */
  readonly #heardUntil = new Map<string, number>();
  readonly #open = new Map<LinkSocket, Promise<void>>();
  readonly #refusals: AttemptLimit;
  readonly #stopping = new AbortController();
  #strangers = 0;

  constructor(options: DownlinkOptions) {
    this.#options = options;
    this.#refusals = new AttemptLimit({ ...REFUSALS, clock: options.clock });
  }

  /** For the HTTP server's upgrades. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const ip = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    const status = this.#refusal(request, ip);
    if (status) refuseUpgrade(socket, status);
    else this.#server.handleUpgrade(request, socket, head, (ready) => this.#start(ready, ip, limitBytes(socket)));
  }

  /** Resolves after `signal` has aborted and every link has ended. */
  async run(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.#stopping.abort();
    const links = [...this.#open];
    await Promise.all(links.flatMap(([socket, served]) => [socket.end(CLOSE.goingAway, "the root stops"), served]));
  }

  link(clusterId: string): ClusterLink | undefined {
    return this.#links.get(clusterId);
  }

  /** Since the cluster's last word; undefined: there was none since this root started. */
  silentMs(clusterId: string): number | undefined {
    const until = this.#heardUntil.get(clusterId);
    return this.#links.get(clusterId)?.silentMs ?? (until && this.#options.clock.monotonic() - until);
  }

  aggregateOf(clusterId: string): Aggregate | undefined {
    return this.#links.get(clusterId)?.aggregate;
  }

  /** Of the cluster that has it: another may still tell of an earlier generation. */
  reportOf({ id, clusterId }: Pick<Instance, "id" | "clusterId">): InstanceReport | undefined {
    return clusterId === undefined ? undefined : this.#links.get(clusterId)?.received.report(id);
  }

  publish(wantedByCluster: ReadonlyMap<string, readonly Wanted[]>): void {
    for (const [clusterId, link] of this.#links) {
      const sent = link.publish(wantedByCluster.get(clusterId) ?? []);
      this.#options.routes.assigned(
        clusterId,
        sent.map(({ applicationId }) => applicationId),
      );
    }
  }

  disconnect(clusterId: string): void {
    this.#links.get(clusterId)?.close(CLOSE.removed, "the cluster was removed");
  }

  /** The status line of an upgrade that is not accepted. */
  #refusal(request: IncomingMessage, ip: string): string | undefined {
    if (request.url?.split("?")[0] !== UPLINK_PATH) return "404 Not Found";
    if (this.#refusals.isExceeded(ip)) return "429 Too Many Requests";
    return this.#stopping.signal.aborted || this.#strangers >= MAX_STRANGERS ? "503 Service Unavailable" : undefined;
  }

  #start(webSocket: WebSocket, ip: string, liftLimit: () => void): void {
    const { clock, onChange, routes } = this.#options;
    const onDrained = () => {
      onChange();
      routes.trigger();
    };
    const socket = new LinkSocket(webSocket, { clock, onDrained });
    this.#open.set(
      socket,
      this.#serve(socket, ip, liftLimit).finally(() => this.#open.delete(socket)),
    );
  }

  /** The whole life of one socket; never rejects. */
  async #serve(socket: LinkSocket, ip: string, liftLimit: () => void): Promise<void> {
    const log = this.#options.log.child({ ip });
    const ended = new AbortController();
    const messages = socket.messages();
    const keptAlive = socket.keepAlive(ended.signal);
    try {
      const link = await this.#admit(socket, messages, ip);
      if (!link) return;
      liftLimit();
      await this.#attend(link, messages);
    } catch (error) {
      if (isRefusal(error)) {
        this.#refusals.count(ip);
        log.warn({ error }, "cluster link refused");
        await socket.end(CLOSE.refused, error.message);
      } else {
        log.warn({ error }, "cluster link failed");
        await socket.end(CLOSE.failed, hasCode(error, "STORAGE_FULL") ? "the root's disk is full" : "the root failed");
      }
    } finally {
      ended.abort();
      await keptAlive;
    }
  }

  /** Undefined when the socket closed without a word. @throws AppError with a refusal, told already */
  async #admit(socket: LinkSocket, messages: AsyncGenerator<unknown>, ip: string): Promise<ClusterLink | undefined> {
    const { store, clock, tokenClock = clock } = this.#options;
    const heard = new AbortController();
    const impatience = pause(clock, HELLO_WITHIN_MS, heard.signal).then(() => {
      if (!heard.signal.aborted) socket.terminate();
    });
    this.#strangers += 1;
    try {
      const first = await messages.next();
      if (first.done) return undefined;
      const tokenNow = tokenClock.now();
      const { cluster, clockOffMs } = await admitCluster(store, first.value, { ip, now: clock.now(), tokenNow });
      socket.send({ type: "welcome", protocol: PROTOCOL_VERSION, clusterId: cluster.id });
      return new ClusterLink(cluster, socket, clockOffMs);
    } catch (error) {
      if (isRefusal(error)) socket.send({ type: "refused", code: error.code, message: error.message });
      throw error;
    } finally {
      this.#strangers -= 1;
      heard.abort();
      await impatience;
    }
  }

  async #attend(link: ClusterLink, messages: AsyncIterable<unknown>): Promise<void> {
    const { id, name } = link.cluster;
    const log = this.#options.log.child({ cluster: name });
    this.#links.get(id)?.close(CLOSE.replaced, "a newer link of this cluster has replaced this one");
    this.#links.set(id, link);
    this.#options.routes.leave(id);
    this.#options.landmarks.leave(id);
    log.info({ clusterId: id }, "cluster connected");
    const skew = describeSkew(link.clockOffMs);
    if (skew !== undefined) log.warn({ clusterId: id, skew }, "the clocks of a cluster and of this root differ");
    try {
      await this.#announce(id);
      await this.#sendNetwork(link, false);
      for await (const raw of messages) {
        if (this.#links.get(id) !== link) break;
        await this.#take(link, raw);
      }
    } finally {
      this.#options.logStreams.drop(link);
      if (this.#links.get(id) === link) {
        this.#links.delete(id);
        this.#heardUntil.set(id, this.#options.clock.monotonic() - link.silentMs);
        this.#options.routes.leave(id);
        this.#options.landmarks.leave(id);
        log.info({ clusterId: id }, "cluster disconnected");
        await this.#remember(link, log);
      }
    }
  }

  /** The cluster's instances look different when its link opens or closes. */
  async #announce(clusterId: string): Promise<void> {
    const { store, changes, onChange } = this.#options;
    onChange();
    changes.notify((await store.instances({ clusterId })).map(({ serviceId }) => serviceId));
  }

  async #remember(link: ClusterLink, log: Logger): Promise<void> {
    const { id } = link.cluster;
    try {
      await this.#options.store.touchCluster(id, { heardAt: link.heardAt, aggregate: link.aggregate });
      await this.#announce(id);
    } catch (error) {
      log.warn({ error }, "end of a cluster link not recorded");
    }
  }

  async #take(link: ClusterLink, raw: unknown): Promise<void> {
    const message = validate(ClusterMessage, raw);
    if (!message.ok) {
      throw new AppError("MESSAGE_INVALID", `Cluster "${link.cluster.name}": ${describeProblems(message.problems)}`);
    }
    const { value } = message;
    switch (value.type) {
      case "report":
        return this.#takeReport(link, value);
      case "resync":
        link.resync();
        return this.#options.onChange();
      case "interest":
        return this.#options.routes.interest(link.cluster.id, value);
      case "explain.answer":
        return this.#options.explanations.receive(link.cluster.id, value);
      case "plan.answer":
        return this.#options.forecasts.receive(link.cluster.id, value);
      case "log.data":
      case "log.end":
        return this.#options.logStreams.receive(link, value);
      case "hello":
        throw new AppError("MESSAGE_INVALID", `Cluster "${link.cluster.name}" said hello twice`);
    }
  }

  async #takeReport(link: ClusterLink, report: Extract<ClusterMessage, { type: "report" }>): Promise<void> {
    const { store, changes, onChange, history, landmarks, clock } = this.#options;
    const taken = link.received.take(report);
    if (!taken) return link.send({ type: "resync" });
    const { news, isRoomier } = taken;
    for (const { instanceId, status, detail } of news) {
      const where = link.isStandby(instanceId) ? `on standby in cluster "${link.cluster.name}": ` : "";
      history.happened(instanceId, { at: clock.now(), status, detail: `${where}${detail}` });
    }
    if (report.landmarks) landmarks.take(link.cluster.id, report.landmarks);
    if (news.length > 0) changes.notify(await store.reportInstances(link.cluster.id, news));
    if ((report.subnetsFree ?? MIN_SUBNETS_FREE) < MIN_SUBNETS_FREE) await this.#sendNetwork(link, true);
    const isToPlace = ({ instanceId, status, brokenPromise }: InstanceReport) =>
      status === "NO_WORKER_CAPACITY" || brokenPromise !== undefined || link.isStandby(instanceId);
    if (isRoomier || news.some(isToPlace)) onChange();
  }

  async #sendNetwork(link: ClusterLink, wantsMore: boolean): Promise<void> {
    const { store, overlayKey } = this.#options;
    const network = await store.clusterNetwork(link.cluster.id, wantsMore);
    link.send({ type: "network", ...network, key: await overlayKey() });
  }
}

/** Ends the socket of a stranger that sends more than a hello can be, until the returned function lifts the limit. */
function limitBytes(socket: Duplex): () => void {
  let left = MAX_STRANGER_BYTES;
  const count = ({ length }: Buffer) => {
    left -= length;
    if (left < 0) socket.destroy();
  };
  socket.on("data", count);
  return () => socket.off("data", count);
}

function refuseUpgrade(socket: Duplex, status: string): void {
  // Nobody else listens any more, and an unheard error would end the process.
  socket.on("error", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
