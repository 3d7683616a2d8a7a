/**
 * Membership: who was heard from when, and what each worker said last. Memory only; a restarted cluster gives every worker the
 * full time to be heard from again.
 */
import type * as z from "zod/mini";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { type ChildContact, type Liveness, liveness, lostChildren } from "../hierarchy/children.ts";
import { describeSkew } from "../hierarchy/clock-skew.ts";
import type { InstanceReport, InstanceStatus } from "../protocol/instance.ts";
import { type Measurement, Presence, WorkerReport, type WorkerTopic } from "../protocol/mqtt.ts";
import type { NetworkCoordinate } from "../protocol/placement-request.ts";
import { describeLie, type Lie } from "./claims.ts";
import type { ClusterState } from "./cluster-state.ts";
import { decode } from "./decode.ts";
import type { Live, Trust } from "./live.ts";
import { isMoving } from "./model.ts";
import { isGone, isNews } from "./reports.ts";

/** A restarted cluster is dialled by all of its workers at once, and needs so long for each of them. */
const RETURN_MS = 10;

const TOGETHER_MS = 1_000;

export const LIVENESS = { suspectAfterMs: 15_000, lostAfterMs: 30_000 } as const;

export interface Contact {
  /** Monotonic ms of the last message. */
  readonly heardAt: number;
  /** The same moment as epoch ms. */
  readonly heardSince: number;
  /** It has told everything on this connection, and the connection stands. */
  readonly connected: boolean;
  /** It has said goodbye, or its last will has, and nothing since. */
  readonly hasLeft: boolean;
  /** The next report's sequence number; undefined: only a full one helps. */
  readonly expected?: number | undefined;
  /** Manifest revision that it has taken over. */
  readonly manifest: number;
  /** The last word about each instance of which something is left there. */
  readonly holds: ReadonlyMap<string, InstanceReport>;
  readonly cpuPercent: number;
  readonly memoryPercent: number;
  /** Its place in the network; undefined: it has measured nothing yet. */
  readonly coordinate?: NetworkCoordinate | undefined;
  /** Messages that broke the protocol. */
  readonly malformed: number;
  /** Its clock less ours, as it began its connection. */
  readonly clockOffMs?: number | undefined;
  /** What it said last of its place in the overlay that cannot be true; its instances get no traffic then. */
  readonly refused?: string | undefined;
}

export interface WorkersOptions {
  readonly state: ClusterState;
  /** Goes on only while this cluster hears what is said: that it was busy is nobody else's silence. */
  readonly clock: Pick<Clock, "now" | "monotonic">;
  readonly log: Logger;
  /** Something that placement depends on has changed. */
  readonly onChanged: () => void;
  /** How many addresses a worker could still give out. */
  readonly onAddressesFree: (workerId: string, count: number) => void;
  /** It has moved in the network. */
  readonly onMoved: (workerId: string) => void;
  readonly onMeasured: (workerId: string, measured: readonly Measurement[]) => void;
  readonly lieIn: (workerId: string, live: Live) => Lie | undefined;
  /** Ends the worker's connection: its next one begins with a full report. */
  readonly disconnect: (workerId: string) => void;
}

export class Workers {
  readonly #options: WorkersOptions;
  readonly #contacts = new Map<string, Contact>();
  readonly #seen = new Map<string, Liveness>();
  /** Those that are not trusted, as of the last `trustChanges`. */
  #distrusted = new Map<string, Trust>();

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  contact(workerId: string): Contact {
    const known = this.#contacts.get(workerId);
    if (known) return known;
    const { heardAt, heardSince } = this.#now();
    const unheard: Contact = {
      heardAt: heardAt + RETURN_MS * this.#options.state.workers.length,
      heardSince,
      connected: false,
      hasLeft: false,
      manifest: 0,
      holds: new Map(),
      cpuPercent: 0,
      memoryPercent: 0,
      malformed: 0,
    };
    this.#contacts.set(workerId, unheard);
    return unheard;
  }

  forget(workerId: string): void {
    this.#contacts.delete(workerId);
    this.#seen.delete(workerId);
  }

  livenessOf = (workerId: string): Liveness =>
    liveness(this.#child(workerId), this.#options.clock.monotonic(), LIVENESS);

  /** Those whose instances may be placed elsewhere. */
  lost(): ReadonlySet<string> {
    const children = this.#options.state.workers.map(({ id }) => this.#child(id));
    return lostChildren(children, this.#options.clock.monotonic(), LIVENESS);
  }

  /** Epoch ms since when the worker is lost; undefined: it is not. */
  silentSince(workerId: string): number | undefined {
    return this.livenessOf(workerId) === "lost" ? this.contact(workerId).heardSince : undefined;
  }

  /** The workers whose liveness is another than when this was asked last. */
  changes(): { readonly workerId: string; readonly now: Liveness }[] {
    return this.#options.state.workers.flatMap(({ id, hostname }) => {
      const now = this.livenessOf(id);
      const before = this.#seen.get(id);
      if (now === before) return [];
      this.#seen.set(id, now);
      this.#options.log.info({ workerId: id, hostname, now, before }, "worker liveness changed");
      return [{ workerId: id, now }];
    });
  }

  trustOf = (workerId: string): Trust => this.#distrusted.get(workerId) ?? "trusted";

  get areAllTrusted(): boolean {
    return this.#distrusted.size === 0;
  }

  /** The workers that are trusted more, or less, than when this was asked last. */
  trustChanges(): string[] {
    const before = this.#distrusted;
    const lost = this.lost();
    this.#distrusted = new Map();
    for (const { id } of this.#options.state.workers) {
      if (lost.has(id)) this.#distrusted.set(id, "lost");
      else if (this.contact(id).hasLeft) this.#distrusted.set(id, "doubtful");
    }
    const ids = new Set([...before.keys(), ...this.#distrusted.keys()]);
    return [...ids].filter((id) => before.get(id) !== this.#distrusted.get(id));
  }

  receive({ kind, workerId }: WorkerTopic, payload: Buffer): void {
    if (kind === "presence") {
      const presence = this.read(workerId, Presence, payload);
      if (presence) this.#presence(workerId, presence);
    } else if (kind === "report") {
      const report = this.read(workerId, WorkerReport, payload);
      if (report) this.#report(workerId, report);
    }
  }

  /** A sign of life, without news. One that has not told what it has must do so first. */
  alive(workerId: string): void {
    const { connected, heardAt } = this.contact(workerId);
    // Told of every packet: of those that come together one counts.
    if (!connected || this.#options.clock.monotonic() - heardAt < TOGETHER_MS) return;
    const wasActive = this.livenessOf(workerId) === "active";
    this.#update(workerId, this.#now());
    if (!wasActive) this.#options.onChanged();
  }

  /** What the worker sent, or undefined when it breaks the protocol: that is dropped, and counted. */
  read<T extends z.ZodMiniType>(workerId: string, schema: T, payload: Buffer): z.output<T> | undefined {
    const decoded = decode(schema, payload);
    if ("value" in decoded) return decoded.value;
    const malformed = this.contact(workerId).malformed + 1;
    this.#update(workerId, { malformed });
    // A worker that sends nothing else must not fill the log.
    if (malformed === 1 || malformed % 1000 === 0)
      this.#options.log.warn({ workerId, problem: decoded.problem, count: malformed }, "malformed message dropped");
    return undefined;
  }

  #presence(workerId: string, { online }: Presence): void {
    if (online) this.#update(workerId, { ...this.#now(), hasLeft: false });
    // The time until it is lost runs from its last word. A late farewell of an earlier connection is undone by the next report.
    else this.#update(workerId, { connected: false, hasLeft: true });
    this.#options.onChanged();
  }

  #report(workerId: string, report: WorkerReport): void {
    const before = this.contact(workerId);
    const wasActive = this.livenessOf(workerId) === "active";
    if (!report.full && report.sequence !== before.expected) {
      this.#skip(workerId, report.sequence);
      return;
    }
    const holds = new Map(report.full ? [] : before.holds);
    for (const instance of report.instances) {
      // What it was never given takes no memory here.
      if (this.#options.state.concerns(workerId, instance.instanceId)) holds.set(instance.instanceId, instance);
    }
    for (const instanceId of report.removed) holds.delete(instanceId);
    this.#update(workerId, {
      ...this.#now(),
      connected: true,
      hasLeft: false,
      expected: report.sequence + 1,
      manifest: report.manifest,
      holds,
      cpuPercent: report.cpuPercent,
      memoryPercent: report.memoryPercent,
      ...(report.coordinate ? { coordinate: report.coordinate } : {}),
    });
    if (report.clock !== undefined) this.#compareClocks(workerId, report.clock);
    if (report.measured?.length) this.#options.onMeasured(workerId, report.measured);
    if (report.coordinate) this.#options.onMoved(workerId);
    if (report.addressesFree !== undefined) this.#options.onAddressesFree(workerId, report.addressesFree);
    this.#checkClaims(workerId, report);
    const hasRoom = this.#takeOver(workerId, report);
    // Most reports only say that all is as it was, or goes as it should.
    if (!wasActive || hasRoom || tellsMore(report, before, this.#isMoving)) this.#options.onChanged();
  }

  /** Says it once, until it changes. */
  #checkClaims(workerId: string, { full, instances, removed }: WorkerReport): void {
    if (!full && instances.length + removed.length === 0) return;
    const { lieIn, log, state } = this.#options;
    const { holds, refused: before } = this.contact(workerId);
    let lie: Lie | undefined;
    for (const { live } of holds.values()) lie ??= live && lieIn(workerId, live);
    const refused = lie && describeLie(lie);
    if (refused === before) return;
    this.#update(workerId, { refused });
    const worker = { workerId, hostname: state.worker(workerId)?.hostname };
    if (lie) log.warn({ ...worker, ...lie }, "what a worker says of its place in the overlay cannot be true; refused");
    else log.info(worker, "what a worker says of its place in the overlay is believed again");
  }

  /** True when something has gone that took room. */
  #takeOver(workerId: string, report: WorkerReport): boolean {
    const { state } = this.#options;
    if (report.info) {
      // Names are given at registration only, where they are seen to be unique.
      const registered = state.worker(workerId)!.hostname;
      state.updateWorker(workerId, { ...report.info, hostname: registered });
    }
    state.outgrow(workerId, report.manifest);
    for (const instance of report.instances) state.observe(workerId, instance);
    const { holds } = this.contact(workerId);
    const gone = state.withdrawalsOn(workerId).filter((one) => isGone(one, report.manifest, holds.get(one.instanceId)));
    for (const withdrawal of gone) state.settle(withdrawal);
    return gone.length > 0;
  }

  readonly #isMoving = (instanceId: string): boolean => {
    const instance = this.#options.state.instance(instanceId);
    return instance !== undefined && isMoving(instance);
  };

  #compareClocks(workerId: string, theirs: number): void {
    const clockOffMs = theirs - this.#options.clock.now();
    this.#update(workerId, { clockOffMs });
    const skew = describeSkew(clockOffMs);
    if (skew !== undefined)
      this.#options.log.warn({ workerId, skew }, "the clocks of a worker and of this cluster differ");
  }

  /** A repeated report says nothing new; after a gap only everything helps. */
  #skip(workerId: string, sequence: number): void {
    const { expected, connected } = this.contact(workerId);
    this.#update(workerId, this.#now());
    if (expected === undefined || (connected && sequence < expected)) return;
    this.#options.log.warn({ workerId, sequence, expected }, "reports missing; connection ended to get a full one");
    this.#update(workerId, { expected: undefined });
    this.#options.disconnect(workerId);
  }

  #child(id: string): ChildContact {
    // Made for every worker several times a pass: no more of it than is asked for.
    const { heardAt, connected } = this.contact(id);
    return { id, heardAt, connected };
  }

  #update(workerId: string, change: Partial<Contact>): void {
    this.#contacts.set(workerId, { ...this.contact(workerId), ...change });
  }

  #now(): { readonly heardAt: number; readonly heardSince: number } {
    return { heardAt: this.#options.clock.monotonic(), heardSince: this.#options.clock.now() };
  }
}

/** On its way to run, or running: only its move, if there is one, waits for that. Deadlines are looked at every two seconds anyway. */
const AS_WANTED: ReadonlySet<InstanceStatus> = new Set(["NODE_SCHEDULED", "PULLING", "CREATING", "RUNNING"]);

/** Whether placement should look at once: what instances use, and the load of the machine, it does not go by. */
function tellsMore(report: WorkerReport, { manifest, holds }: Contact, isMoving: (id: string) => boolean): boolean {
  const { full, info, removed, instances, coordinate, measured = [] } = report;
  if (full || info !== undefined || report.manifest !== manifest) return true;
  if (coordinate !== undefined || measured.length + removed.length > 0) return true;
  return instances.some((instance) => {
    if (AS_WANTED.has(instance.status) && !isMoving(instance.instanceId)) return false;
    return isNews(holds.get(instance.instanceId), instance);
  });
}
