/** Carries the packets of a lab's slow links where the kernel cannot: one process for all of them, asleep while nothing moves. */
import * as z from "zod/mini";
import type { Clock } from "../base/clock.ts";
import { LinkQueue } from "./link-queue.ts";
import type { Tap, Taps } from "./tap.ts";

const CarrierEnd = z.strictObject({ pid: z.int(), device: z.string() });
export const CarrierFile = z.array(
  z.strictObject({
    ends: z.tuple([CarrierEnd, CarrierEnd]),
    shape: z.strictObject({
      delayMs: z.number(),
      jitterMs: z.number(),
      lossPercent: z.number(),
      bitsPerSecond: z.optional(z.number()),
    }),
  }),
);
export type CarrierFile = z.infer<typeof CarrierFile>;

export interface CarrierOptions {
  readonly links: CarrierFile;
  readonly taps: Taps;
  readonly clock: Pick<Clock, "monotonic">;
  /** Evenly from 0 to below 1. */
  readonly random: () => number;
  /** All devices are there. */
  readonly onReady: () => void;
}

/** Until the next look at `signal`, when no packet comes. */
const IDLE_MS = 1000;
/** From one device in a row, so that a flood does not hold up the others. */
const BATCH = 64;

interface Direction {
  readonly from: Tap;
  readonly to: Tap;
  readonly queue: LinkQueue;
}

export async function carry(
  { links, taps, clock, random, onReady }: CarrierOptions,
  signal: AbortSignal,
): Promise<void> {
  const directions = links.flatMap(({ ends, shape }): Direction[] => {
    const [a, b] = ends.map(({ pid, device }) => taps.open(pid, device)) as [Tap, Tap];
    const queue = () => new LinkQueue({ shape: { ...shape, bitsPerSecond: shape.bitsPerSecond }, random });
    return [
      { from: a, to: b, queue: queue() },
      { from: b, to: a, queue: queue() },
    ];
  });
  onReady();
  const sources = directions.map(({ from }) => from);
  while (!signal.aborted) {
    const nextMs = release(directions, clock.monotonic());
    const waitMs = Math.min(IDLE_MS, Math.max(0, nextMs - clock.monotonic()));
    for (const index of await taps.wait(sources, waitMs)) fill(directions[index]!, clock);
  }
}

/** Lets out what is due. @returns when the next packet is, or infinity */
function release(directions: readonly Direction[], nowMs: number): number {
  let nextMs = Number.POSITIVE_INFINITY;
  for (const { queue, to } of directions) {
    for (let frame = queue.pop(nowMs); frame; frame = queue.pop(nowMs)) to.write(frame);
    nextMs = Math.min(nextMs, queue.nextDueMs ?? Number.POSITIVE_INFINITY);
  }
  return nextMs;
}

function fill({ from, queue }: Direction, clock: Pick<Clock, "monotonic">): void {
  for (let count = 0; count < BATCH; count++) {
    const frame = from.read();
    if (!frame) return;
    queue.push(frame, clock.monotonic());
  }
}
