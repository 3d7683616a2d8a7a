/**
 * The worker's loop: observe → plan → apply. Containers are listed when the runtime's event stream begins, when an event or a failed
 * step leaves a doubt, and on a period; in between, each step notes what it changed. One step at a time for an instance, steps of
 * different instances side by side. Ending the loop leaves instances running.
 */
import { type Clock, deadline, pause } from "../base/clock.ts";
import { AppError, describeError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { Reconciler } from "../base/reconciler.ts";
import { backoffMs } from "../base/retry.ts";
import { validate } from "../base/validation.ts";
import type { Network } from "../net/network.ts";
import { InstanceId, containerId as nameOf } from "../protocol/names.ts";
import type { Container, ContainerRuntime, RuntimeEvent } from "../runtime/container-runtime.ts";
import {
  type Appliers,
  createAppliers,
  describeEnd,
  type InstanceOverlay,
  limitMs,
  RESTART_BACKOFF,
  seconds,
} from "./apply.ts";
import type { DesiredAssembly, DesiredSet } from "./desired.ts";
import type { DesiredFile } from "./desired-file.ts";
import type { HostsFiles } from "./hosts-files.ts";
import type { Instances } from "./instances.ts";
import type { InstanceLogs } from "./logs.ts";
import { describe, isObsolete, nextDue, type Observed, plan, type Step } from "./plan.ts";

const RESYNC_MS = 60_000;
const PASS_BACKOFF = { firstMs: 200, maxMs: 5000 };
const RUNTIME_RETRY_MS = 1000;
const MAX_DETAIL = 600;

export interface EngineOverlay {
  readonly addresses: Observed["addresses"];
  /** Starts the network while nothing else changes the kernel. */
  startNetwork(start: () => Promise<void>): Promise<void>;
}

export interface EngineParts {
  readonly runtime: ContainerRuntime;
  readonly network: Network;
  /** Undefined: the worker's network is off. */
  readonly overlay?: (InstanceOverlay & EngineOverlay) | undefined;
  readonly desired: DesiredAssembly;
  readonly desiredFile: DesiredFile;
  readonly instances: Instances;
  readonly logs: InstanceLogs;
  readonly hostsFiles: HostsFiles;
  /** `hasLooked` has become true. */
  readonly onLooked: () => void;
  readonly log: Logger;
  readonly clock: Clock;
}

export class Engine {
  readonly #parts: EngineParts;
  readonly #appliers: Appliers;
  readonly #reconciler: Reconciler;
  readonly #containers = new Map<string, Container>();
  readonly #outOfMemory = new Set<string>();
  readonly #busy = new Map<string, { step: Step; cancel: AbortController; done: Promise<void> }>();
  /** Instances whose containers may differ from what we know. */
  readonly #doubtful = new Set<string>();
  /** Instances that were found to have files. */
  #onDisk: readonly string[] = [];
  /** Instances that were desired when this agent began: an earlier one may have started them. */
  #inherited: ReadonlySet<string> = new Set();
  #mustList = true;
  #listedAt = Number.NEGATIVE_INFINITY;
  #isNetworkUp = false;
  #hasLooked = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#appliers = createAppliers({ ...parts, containers: this.#containers, outOfMemory: this.#outOfMemory });
    this.#reconciler = new Reconciler({
      name: "instances",
      pass: async (signal) => {
        const again = await this.#pass(signal);
        this.#noteLooked();
        return again;
      },
      ...{ log: parts.log, clock: parts.clock, resyncMs: RESYNC_MS, backoff: PASS_BACKOFF },
    });
  }

  /** The containers as we know them. */
  get containers(): ReadonlyMap<string, Container> {
    return this.#containers;
  }

  /**
   * This agent knows how the instances are that an earlier one left behind, or why it cannot. A report before that would say of
   * each that it takes no traffic.
   */
  get hasLooked(): boolean {
    return this.#hasLooked || this.#parts.instances.problem !== undefined;
  }

  /** The desired set has changed. */
  trigger(): void {
    this.#reconciler.trigger();
  }

  #noteLooked(): void {
    if (this.#hasLooked) return;
    const { desired, instances, onLooked } = this.#parts;
    const isAdopting = [...this.#containers.values()].some(({ instanceId, state }) => {
      const isNew = instances.records.get(instanceId)?.status === "NODE_SCHEDULED";
      return state === "running" && isNew && desired.current?.instances.has(instanceId);
    });
    this.#hasLooked = !isAdopting;
    if (this.#hasLooked) onLooked();
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#inherited = new Set(this.#parts.desired.current?.instances.keys());
    await this.#reconciler.run(signal);
    await Promise.all([...this.#busy.values()].map(({ done }) => done));
  }

  /** Listens to exits and OOM kills; a broken stream is opened again with back-off. */
  async watchEvents(signal: AbortSignal): Promise<void> {
    const { runtime, log, clock } = this.#parts;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const stream = runtime.events(signal)[Symbol.asyncIterator]();
        let next = stream.next();
        // Subscribed first, then listed: what happened before is in the list, what happens later is in the stream.
        this.#mustList = true;
        this.trigger();
        for (let event = await next; !event.done; event = await next) {
          failures = 0;
          this.#take(event.value);
          next = stream.next();
        }
        if (!signal.aborted) throw new AppError("RUNTIME_UNAVAILABLE", "The runtime ended its event stream");
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const retryInMs = jitter(backoffMs(failures, PASS_BACKOFF));
        log.warn({ failures, retryInMs, error }, "runtime event stream lost");
        this.#mustList = true;
        this.trigger();
        await pause(clock, retryInMs, signal);
      }
    }
  }

  /** Events are hints: the list tells the truth, except while a step of ours is at work on the very instance. */
  #take(event: RuntimeEvent): void {
    const { containerId } = event;
    const instanceId = this.#instanceOf(containerId);
    if (instanceId === undefined) return;
    if (event.type === "oom") {
      this.#noteOutOfMemory(containerId, instanceId);
      return;
    }
    // At once, although only the list tells for sure: until then every new connection would fail.
    this.#parts.instances.update(instanceId, undefined, { traffic: "off" });
    const atWork = this.#busy.get(instanceId)?.step.do;
    if (atWork === "stop" || atWork === "remove") return;
    this.#doubtful.add(instanceId);
    this.trigger();
  }

  #instanceOf(containerId: string): string | undefined {
    const known = this.#containers.get(containerId)?.instanceId;
    if (known !== undefined) return known;
    for (const { step } of this.#busy.values()) {
      if (step.do !== "start") continue;
      const { jobName, instanceNumber, instanceId } = step.instance;
      if (nameOf(jobName, instanceNumber) === containerId) return instanceId;
    }
    return undefined;
  }

  /** The kernel's word may come after the exit that it explains. */
  #noteOutOfMemory(containerId: string, instanceId: string): void {
    this.#outOfMemory.add(containerId);
    const { desired, instances } = this.#parts;
    const record = instances.records.get(instanceId);
    const instance = desired.current?.instances.get(instanceId);
    const container = this.#containers.get(containerId);
    if (record?.status !== "DEAD" || !instance || !container) return;
    const rest = record.detail.slice(record.detail.lastIndexOf("; "));
    instances.update(instanceId, record.generation, { detail: describeEnd(container, instance, true) + rest });
  }

  async #pass(signal: AbortSignal): Promise<{ againInMs: number } | undefined> {
    const { network, overlay, desired, desiredFile, instances, clock } = this.#parts;
    try {
      if (!this.#isNetworkUp) {
        const start = () => network.start(signal);
        await (overlay ? overlay.startNetwork(start) : start());
      }
      this.#isNetworkUp = true;
      await this.#list(signal);
      instances.problem = undefined;
    } catch (error) {
      if (signal.aborted) throw error;
      this.#expectNew();
      instances.problem = describeError(error).slice(0, MAX_DETAIL);
      throw error;
    }
    const wanted = desired.current;
    // As long as nobody has said what is wanted, nothing is unwanted.
    if (!wanted) return undefined;
    const sandboxes = new Set(network.list().map(({ instanceId }) => instanceId));
    const owners = [...this.#containers.values()].map(({ instanceId }) => instanceId);
    instances.sync(wanted, desiredFile.completed, [...owners, ...sandboxes, ...this.#onDisk]);
    this.#onDisk = [];
    this.#cancelObsolete(wanted);
    const busy = new Map([...this.#busy].map(([instanceId, { step }]) => [instanceId, step]));
    const observed = {
      ...{ containers: [...this.#containers.values()], sandboxes, records: instances.records, busy },
      addresses: overlay?.addresses,
    };
    const now = clock.monotonic();
    for (const step of plan(wanted, observed, now)) this.#begin(step, signal);
    const due = nextDue(instances.records.values(), now);
    return due === undefined ? undefined : { againInMs: due - now };
  }

  /** What came while nothing can be done is told of with the reason. What may run already is not: that would end its traffic. */
  #expectNew(): void {
    const { desired, desiredFile, instances } = this.#parts;
    if (!desired.current) return;
    const hasListed = this.#listedAt >= 0;
    const owners = [...this.#containers.values()].map(({ instanceId }) => instanceId);
    instances.expect(desired.current, desiredFile.completed, hasListed ? new Set(owners) : this.#inherited);
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { runtime, logs, hostsFiles, clock } = this.#parts;
    // A doubt about an instance at work is settled when its step has ended.
    const settled = [...this.#doubtful].filter((instanceId) => !this.#busy.has(instanceId));
    const isOld = clock.monotonic() - this.#listedAt >= RESYNC_MS;
    if (!this.#mustList && !isOld && settled.length === 0) return;
    const isComplete = this.#mustList || isOld;
    this.#mustList = false;
    for (const instanceId of settled) this.#doubtful.delete(instanceId);
    // What a step in flight does may be in the list or not: its own end tells.
    const atWork = new Set(this.#busy.keys());
    try {
      const listed = (await runtime.list(signal)).filter(({ instanceId }) => !atWork.has(instanceId));
      for (const [id, { instanceId }] of this.#containers) if (!atWork.has(instanceId)) this.#containers.delete(id);
      for (const container of listed) this.#containers.set(container.containerId, container);
      // Whatever else lies there is not ours to report.
      if (isComplete) this.#onDisk = [...(await logs.list()), ...(await hostsFiles.list())].filter(isInstanceId);
      this.#listedAt = clock.monotonic();
    } catch (error) {
      this.#mustList = true;
      throw error;
    }
  }

  #cancelObsolete(wanted: DesiredSet): void {
    for (const { step, cancel } of this.#busy.values()) if (isObsolete(step, wanted)) cancel.abort();
  }

  #begin(step: Step, signal: AbortSignal): void {
    const cancel = new AbortController();
    const done = this.#execute(step, AbortSignal.any([signal, cancel.signal])).finally(() => {
      this.#busy.delete(step.instanceId);
      this.trigger();
    });
    this.#busy.set(step.instanceId, { step, cancel, done });
  }

  async #execute(step: Step, signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#parts;
    const startedAt = clock.monotonic();
    const limit = deadline(limitMs(step), signal);
    try {
      // The table has an applier for each kind of step; the compiler cannot follow that key and value belong together.
      const apply = this.#appliers[step.do] as (step: Step, signal: AbortSignal) => Promise<void>;
      await apply(step, limit);
      log.debug({ step: describe(step), tookMs: Math.round(clock.monotonic() - startedAt) }, "step done");
    } catch (error) {
      if (signal.aborted) return;
      this.#failed(step, error === limit.reason ? tookTooLong(step) : error);
    }
  }

  #failed(step: Step, error: unknown): void {
    const { instances, clock, log } = this.#parts;
    const { instanceId } = step;
    const record = instances.records.get(instanceId);
    this.#mustList = true;
    if (!record) return;
    // Not the instance's fault, which keeps its status: most likely the next pass meets the same, and backs off.
    if (hasCode(error, "RUNTIME_UNAVAILABLE")) {
      log.warn({ step: describe(step), retryInMs: RUNTIME_RETRY_MS, error }, "step failed: runtime unavailable");
      const detail = describeError(error).slice(0, MAX_DETAIL);
      instances.update(instanceId, record.generation, { detail, notBefore: clock.monotonic() + RUNTIME_RETRY_MS });
      return;
    }
    const failures = record.failures + 1;
    const delayMs = jitter(backoffMs(failures, RESTART_BACKOFF));
    const notBefore = clock.monotonic() + delayMs;
    const detail = `${describeError(error).slice(0, MAX_DETAIL)}; tried again in ${seconds(delayMs)}`;
    log.warn({ step: describe(step), failures, retryInMs: delayMs, error }, "step failed");
    if ("instance" in step) {
      instances.update(instanceId, step.instance.generation, {
        status: "FAILED",
        detail,
        failures,
        notBefore,
        hasImage: undefined,
      });
    } else {
      instances.update(instanceId, record.generation, { detail, failures, notBefore });
    }
  }
}

const isInstanceId = (name: string) => validate(InstanceId, name).ok;

function tookTooLong(step: Step): AppError {
  return new AppError("STEP_TIMEOUT", `"${step.do}" did not end within ${seconds(limitMs(step))}`);
}
