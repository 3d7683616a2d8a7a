/**
 * Which running instances are ready to serve, by the healthchecks of their descriptors. What is not ready gets no traffic; its
 * container is left alone. The rules are pure; the checks run side by side, each at its own pace.
 */
import { type Clock, pause } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { backoffMs } from "../base/retry.ts";
import type { Sandbox } from "../net/network.ts";
import type { Healthcheck } from "../protocol/healthcheck.ts";
import { containerId } from "../protocol/names.ts";
import type { DesiredSet } from "./desired.ts";
import type { InstanceRecord } from "./instances.ts";
import type { Probe, ProbeResult, ProbeTarget } from "./probes.ts";

export interface Readiness {
  /** Only `ready` gets traffic; `unknown` is not checked to the end yet. */
  readonly state: "unknown" | "ready" | "unready";
  /** Failures in a row that count. */
  readonly failures: number;
  readonly checks: number;
  /** Why the last check failed. */
  readonly reason?: string | undefined;
}

export const UNCHECKED: Readiness = { state: "unknown", failures: 0, checks: 0 };
/** What ran before this agent did, is taken for ready until a check says otherwise: the agent's restart must disturb nobody. */
const ASSUMED: Readiness = { ...UNCHECKED, state: "ready" };

/** A service that starts in 50 ms should not wait for the interval of its checks. */
const FIRST_CHECKS = { firstMs: 100, maxMs: 3_600_000 };

/** @param sinceStartMs when the check began */
export function afterCheck(
  before: Readiness,
  result: ProbeResult,
  { retries, startPeriodMs }: Healthcheck,
  sinceStartMs: number,
): Readiness {
  const checks = before.checks + 1;
  if (result.ok) return { state: "ready", failures: 0, checks };
  const { reason } = result;
  if (before.state === "unknown" && sinceStartMs < startPeriodMs) return { ...before, checks, reason };
  const failures = before.failures + 1;
  // What was only assumed, does not outlive the first doubt.
  const state = before.checks === 0 ? "unknown" : before.state;
  return { state: failures >= retries ? "unready" : state, failures, checks, reason };
}

/** How long to wait for the next check. Until the first success the pauses grow from short ones to the interval. */
export function untilNextCheckMs({ checks }: Readiness, { intervalMs }: Healthcheck, wasReady: boolean): number {
  return wasReady ? intervalMs : Math.min(intervalMs, backoffMs(checks, FIRST_CHECKS));
}

export interface ReadinessTarget extends ProbeTarget {
  readonly instanceId: string;
  /** Monotonic ms of the container's start; another value is another container, about which nothing is known. */
  readonly startedAt: number;
  /** Started by an earlier agent. */
  readonly isAdopted: boolean;
}

/** What is to be checked: whatever runs, is wanted, and has a healthcheck. */
export function readinessTargets(
  desired: DesiredSet | undefined,
  records: ReadonlyMap<string, InstanceRecord>,
  sandboxes: () => readonly Sandbox[],
): ReadinessTarget[] {
  const checked = [...(desired?.instances.values() ?? [])].filter(({ workload }) => workload.healthcheck);
  if (checked.length === 0) return [];
  const addresses = new Map(sandboxes().map(({ instanceId, address }) => [instanceId, address]));
  return checked.flatMap(({ instanceId, jobName, instanceNumber, workload }) => {
    const record = records.get(instanceId);
    const address = addresses.get(instanceId);
    if (record?.status !== "RUNNING" || record.isWithdrawn || address === undefined) return [];
    return {
      ...{ instanceId, address, check: workload.healthcheck! },
      containerId: containerId(jobName, instanceNumber),
      startedAt: record.runningSince ?? 0,
      isAdopted: record.isAdopted ?? false,
    };
  });
}

/** For the instance's detail. */
export function describeReadiness({ state, reason }: Readiness): string {
  if (state === "ready") return reason === undefined ? "ready" : `ready, though the last check failed: ${reason}`;
  return `not ready: ${reason ?? "not checked yet"}`;
}

export interface ReadinessChecksOptions {
  readonly probe: Probe;
  /** The instance is ready, or is not any more, or for another reason. */
  readonly onChange: (instanceId: string, readiness: Readiness) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Watch {
  readonly target: ReadinessTarget;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
  readiness: Readiness;
}

export class ReadinessChecks {
  readonly #options: ReadinessChecksOptions;
  readonly #watches = new Map<string, Watch>();
  #targets: readonly ReadinessTarget[] = [];
  #isRunning = false;

  constructor(options: ReadinessChecksOptions) {
    this.#options = options;
  }

  /** The containers that run now and have a healthcheck. */
  sync(targets: readonly ReadinessTarget[]): void {
    this.#targets = targets;
    if (!this.#isRunning) return;
    const wanted = new Map(targets.map((target) => [target.instanceId, target]));
    for (const [instanceId, { target, stop }] of this.#watches) {
      if (isSame(target, wanted.get(instanceId))) continue;
      stop.abort();
      this.#watches.delete(instanceId);
    }
    for (const target of targets) if (!this.#watches.has(target.instanceId)) this.#begin(target);
  }

  /** Undefined: not watched. */
  of(instanceId: string): Readiness | undefined {
    return this.#watches.get(instanceId)?.readiness;
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#isRunning = true;
    this.sync(this.#targets);
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    this.#isRunning = false;
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    for (const { stop } of watches) stop.abort();
    await Promise.all(watches.map(({ ended }) => ended));
  }

  #begin(target: ReadinessTarget): void {
    const stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    const watch: Watch = { target, stop, ended: ended.promise, readiness: target.isAdopted ? ASSUMED : UNCHECKED };
    this.#watches.set(target.instanceId, watch);
    this.#check(watch).then(ended.resolve, (error: unknown) => {
      if (!stop.signal.aborted) this.#options.log.error({ instanceId: target.instanceId, error }, "healthcheck broke");
      ended.resolve();
    });
  }

  async #check(watch: Watch): Promise<void> {
    const { probe, clock, onChange, log } = this.#options;
    const { target, stop } = watch;
    const { instanceId, check, startedAt } = target;
    let wasReady = false;
    while (!stop.signal.aborted) {
      const sinceStartMs = clock.monotonic() - startedAt;
      const result = await probe(target, stop.signal);
      if (stop.signal.aborted) return;
      const before = watch.readiness;
      const readiness = afterCheck(before, result, check, sinceStartMs);
      watch.readiness = readiness;
      wasReady ||= readiness.state === "ready";
      if (readiness.state !== before.state) {
        log.info({ instanceId, state: readiness.state, reason: readiness.reason }, "instance readiness");
      }
      if (readiness.state !== before.state || readiness.reason !== before.reason) onChange(instanceId, readiness);
      await pause(clock, jitter(untilNextCheckMs(readiness, check, wasReady), 0.05), stop.signal);
    }
  }
}

function isSame(left: ReadinessTarget, right: ReadinessTarget | undefined): boolean {
  return (
    left.startedAt === right?.startedAt &&
    left.containerId === right.containerId &&
    left.address === right.address &&
    JSON.stringify(left.check) === JSON.stringify(right.check)
  );
}
