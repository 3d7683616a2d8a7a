/** What the instances use, and that their logs stay small: looked at on a slow beat, and only while there are instances. */
import { type Clock, pause } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Container, ContainerRuntime, Usage } from "../runtime/container-runtime.ts";
import type { Instances } from "./instances.ts";
import type { InstanceLogs } from "./logs.ts";

const EVERY_MS = 20_000;
/** After a log had to be cut: what fills one in a beat may fill the disk in the next. */
const SOON_MS = 2_000;

export interface UsageMeterParts {
  readonly runtime: Pick<ContainerRuntime, "usage">;
  readonly containers: ReadonlyMap<string, Container>;
  readonly instances: Instances;
  readonly logs: Pick<InstanceLogs, "rotate">;
  readonly log: Logger;
  readonly clock: Clock;
}

export class UsageMeter {
  readonly #parts: UsageMeterParts;
  #before: { at: number; usage: ReadonlyMap<string, Usage> } = { at: 0, usage: new Map() };

  constructor(parts: UsageMeterParts) {
    this.#parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { containers, log, clock } = this.#parts;
    let nextMs = EVERY_MS;
    for (;;) {
      await pause(clock, nextMs, signal);
      if (signal.aborted) return;
      nextMs = EVERY_MS;
      if (containers.size === 0) continue;
      if (await this.#rotate()) nextMs = SOON_MS;
      try {
        await this.#measure(signal);
      } catch (error) {
        if (!signal.aborted) log.debug({ reason: describeError(error) }, "instances not measured");
      }
    }
  }

  async #rotate(): Promise<boolean> {
    const { logs, log } = this.#parts;
    try {
      return await logs.rotate();
    } catch (error) {
      log.warn({ error }, "logs of instances not rotated");
      return false;
    }
  }

  async #measure(signal: AbortSignal): Promise<void> {
    const { runtime, containers, instances, clock } = this.#parts;
    const usage = await runtime.usage(signal);
    const at = clock.monotonic();
    for (const { containerId, instanceId } of containers.values()) {
      const now = usage.get(containerId);
      const before = this.#before.usage.get(containerId);
      instances.measure(
        instanceId,
        now && {
          cpuPercent: before ? coreShare(now.cpuNanos - before.cpuNanos, at - this.#before.at) : 0,
          memoryBytes: now.memoryBytes,
        },
      );
    }
    this.#before = { at, usage };
  }
}

/** 100 is one core; a container that was started anew counts from 0 again. */
function coreShare(cpuNanos: number, spanMs: number): number {
  return spanMs > 0 ? Math.max(0, Math.round(cpuNanos / (spanMs * 1000)) / 10) : 0;
}
