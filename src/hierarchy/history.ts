/** What a tier saw happen to its instances, and what it decided about each: in memory, the last few of both. */
import { isDeepStrictEqual } from "node:util";
import type { TimelineEntry } from "../protocol/uplink.ts";
import { type Abridged, abridge, type DecisionRecord, recordOf } from "../scheduler/record.ts";
import type { Decided } from "./delegate.ts";

/** Of one instance. */
const MAX_ENTRIES = 40;
const MAX_DECISIONS = 5;
/** Those heard of least lately are forgotten first. */
const MAX_INSTANCES = 5_000;

interface Kept {
  readonly timeline: TimelineEntry[];
  readonly decisions: Abridged[];
}

export class History {
  readonly #tier: DecisionRecord["tier"];
  readonly #instances = new Map<string, Kept>();
  readonly #unsaved = new Set<string>();

  constructor(tier: DecisionRecord["tier"]) {
    this.#tier = tier;
  }

  /** What is told twice counts once. */
  happened(instanceId: string, entry: TimelineEntry): void {
    const { timeline } = this.#touch(instanceId);
    const last = timeline.at(-1);
    if (last?.status === entry.status && last.detail === entry.detail) return;
    timeline.push(entry);
    if (timeline.length > MAX_ENTRIES) timeline.shift();
  }

  /** A refusal for the reasons of the last one is the last one. */
  decided(decided: Decided, at: number): void {
    const { instanceId, decision } = decided;
    const { decisions } = this.#touch(instanceId);
    const last = decisions.at(-1);
    if (last && !decision.placed && isDeepStrictEqual(last.decision, decision)) return;
    decisions.push(abridge({ ...decided, at, tier: this.#tier }));
    if (decisions.length > MAX_DECISIONS) decisions.shift();
    this.#unsaved.add(instanceId);
  }

  timeline(instanceId: string): readonly TimelineEntry[] {
    return this.#instances.get(instanceId)?.timeline ?? [];
  }

  decisions(instanceId: string): DecisionRecord[] {
    return (this.#instances.get(instanceId)?.decisions ?? []).map(recordOf);
  }

  /** The last decision of each instance that has had one since this was asked last. */
  takeUnsaved(): DecisionRecord[] {
    const ids = [...this.#unsaved];
    this.#unsaved.clear();
    return ids.flatMap((id) => this.decisions(id).slice(-1));
  }

  /** Forgets the instances that are no more. */
  retain(exists: (instanceId: string) => boolean): void {
    for (const instanceId of this.#instances.keys()) if (!exists(instanceId)) this.#forget(instanceId);
  }

  #touch(instanceId: string): Kept {
    const kept = this.#instances.get(instanceId) ?? { timeline: [], decisions: [] };
    this.#instances.delete(instanceId);
    this.#instances.set(instanceId, kept);
    if (this.#instances.size > MAX_INSTANCES) this.#forget(this.#instances.keys().next().value!);
    return kept;
  }

  #forget(instanceId: string): void {
    this.#instances.delete(instanceId);
    this.#unsaved.delete(instanceId);
  }
}
