/**
 * What to do next, for every instance at most one step: ordered rules, first match. Pure; called again after each step.
 * Order of a life: image → sandbox → host ports → container. Of an end: traffic → process → container → sandbox → log.
 */

import type { DesiredInstance } from "../protocol/mqtt.ts";
import { containerId } from "../protocol/names.ts";
import type { Container } from "../runtime/container-runtime.ts";
import type { DesiredSet } from "./desired.ts";
import type { InstanceRecord } from "./instances.ts";

export type Step =
  /** Finds out whether the image is present: what can start at once must not wait behind downloads. */
  | { readonly do: "find"; readonly instanceId: string; readonly instance: DesiredInstance }
  /** Makes the image present. */
  | { readonly do: "pull"; readonly instanceId: string; readonly instance: DesiredInstance }
  /** Makes the sandbox. */
  | { readonly do: "attach"; readonly instanceId: string; readonly instance: DesiredInstance }
  | { readonly do: "publish"; readonly instanceId: string; readonly instance: DesiredInstance }
  | { readonly do: "start"; readonly instanceId: string; readonly instance: DesiredInstance }
  /** A container that runs as it should, maybe started by an earlier agent, is taken for ours. */
  | { readonly do: "adopt"; readonly instanceId: string; readonly container: Container }
  /** Notes that a container ended, why, and when to start it again. */
  | {
      readonly do: "bury";
      readonly instanceId: string;
      readonly instance: DesiredInstance;
      readonly container: Container;
    }
  /** Notes for good that a one-shot container is done. */
  | { readonly do: "complete"; readonly instanceId: string; readonly container: Container }
  | { readonly do: "unpublish"; readonly instanceId: string }
  /** Takes it out of the routes, takes back its host ports, and lets what is on its way arrive. */
  | { readonly do: "drain"; readonly instanceId: string; readonly container: Container }
  | { readonly do: "stop"; readonly instanceId: string; readonly container: Container }
  /** Removes the container, and what is left of its process. */
  | { readonly do: "remove"; readonly instanceId: string; readonly container: Container }
  /** Removes the sandbox. */
  | { readonly do: "detach"; readonly instanceId: string }
  /** The last trace: log and record. */
  | { readonly do: "forget"; readonly instanceId: string }
  /** Nothing can be done yet; the reason is shown. */
  | { readonly do: "wait"; readonly instanceId: string; readonly generation: number; readonly reason: string };

export interface Observed {
  readonly containers: readonly Container[];
  /** Instances that have a sandbox. */
  readonly sandboxes: ReadonlySet<string>;
  readonly records: ReadonlyMap<string, InstanceRecord>;
  /** Steps in flight, by instance. */
  readonly busy: ReadonlyMap<string, Step>;
  /** Addresses for new sandboxes. Absent: as many as it takes, or their want is an error. */
  readonly addresses?: { readonly free: number; readonly whyNone: string } | undefined;
}

const STATE_UNKNOWN = "the runtime cannot tell the state of its container";

/** So many may be in flight at once: starting more side by side is no faster, and starves what runs. */
const LIMITS: Partial<Record<Step["do"], number>> = { find: 8, start: 3, remove: 4, pull: 8 };

/** Every desired and every withdrawn instance must have its record. @param now monotonic ms */
export function plan(desired: DesiredSet, observed: Observed, now: number): Step[] {
  const { busy, records } = observed;
  const inFlight = [...busy.values()];
  const steps: Step[] = [];
  const containersOf = Map.groupBy(observed.containers, ({ instanceId }) => instanceId);
  const holderOf = new Map(observed.containers.map((container) => [container.containerId, container.instanceId]));
  const { free = Number.POSITIVE_INFINITY, whyNone = "" } = observed.addresses ?? {};
  const limits = { ...LIMITS, attach: free };
  const admit = (step: Step | undefined) => {
    if (step && hasRoom(step, inFlight, limits)) {
      steps.push(step);
      inFlight.push(step);
    }
  };
  for (const record of records.values()) {
    if (!record.isWithdrawn || busy.has(record.instanceId) || record.notBefore > now) continue;
    const hasSandbox = observed.sandboxes.has(record.instanceId);
    admit(removal({ record, containers: containersOf.get(record.instanceId) ?? [], hasSandbox }));
  }
  for (const instance of desired.instances.values()) {
    const record = records.get(instance.instanceId);
    if (!record || record.isWithdrawn || busy.has(instance.instanceId)) continue;
    admit(
      upkeep({
        ...{ instance, record, now, noAddress: free === 0 ? whyNone : undefined },
        containers: containersOf.get(instance.instanceId) ?? [],
        hasSandbox: observed.sandboxes.has(instance.instanceId),
        holder: holderOf.get(containerId(instance.jobName, instance.instanceNumber)),
      }),
    );
  }
  return steps;
}

interface Removal {
  readonly record: InstanceRecord;
  readonly containers: readonly Container[];
  readonly hasSandbox: boolean;
}

/** The next step towards nothing. */
function removal({ record, containers, hasSandbox }: Removal): Step {
  const { instanceId } = record;
  const [container] = containers;
  if (container) return ending(container, record);
  if (hasSandbox) return { do: "detach", instanceId };
  return { do: "forget", instanceId };
}

/** Nobody may be sent to a process that has been told to stop. */
function ending(container: Container, { traffic }: InstanceRecord): Step {
  const { instanceId } = container;
  if (container.state !== "running") return { do: "remove", instanceId, container };
  if (traffic !== "off") return { do: "drain", instanceId, container };
  return { do: "stop", instanceId, container };
}

interface Upkeep extends Removal {
  readonly instance: DesiredInstance;
  /** Whose container has the id that this instance's will have. */
  readonly holder: string | undefined;
  readonly now: number;
  /** Why there is no address for a sandbox; undefined: there is one. */
  readonly noAddress: string | undefined;
}

/** The next step towards a running container of the desired generation. */
function upkeep({ instance, record, containers, hasSandbox, holder, now, noAddress }: Upkeep): Step | undefined {
  const { instanceId, generation, workload } = instance;
  const older = containers.find((container) => container.generation < generation);
  // A newer one than desired was started from a set that a crash kept off the disk: the link will bring that set again.
  const container = containers.find((other) => other.generation >= generation);
  const needsPorts = workload.ports.length > 0 && record.ports !== generation;
  const isDue = record.notBefore <= now;

  if (record.status === "COMPLETED") {
    if (container ?? older) return { do: "remove", instanceId, container: (container ?? older)! };
    return hasSandbox ? { do: "detach", instanceId } : undefined;
  }
  if (older) return isDue ? ending(older, record) : undefined;
  if (container?.state === "running") {
    if (needsPorts) return isDue ? { do: "publish", instanceId, instance } : undefined;
    const isAdopted = record.status === "RUNNING" && record.traffic === "on" && record.detail !== STATE_UNKNOWN;
    return isAdopted ? undefined : { do: "adopt", instanceId, container };
  }
  if (container?.state === "unknown") {
    // Its shim does not answer at the moment: whether it runs will show, and ending it on suspicion would be worse.
    return wait(record, STATE_UNKNOWN);
  }
  if (container?.state === "exited" && record.endNotedAt !== (container.exitedAt ?? 0)) {
    const isDone = workload.oneShot && container.exitCode === 0;
    if (!isDone) return { do: "bury", instanceId, instance, container };
    return isDue ? { do: "complete", instanceId, container } : undefined;
  }
  if (!isDue) return undefined;
  // Left behind by an agent that died in the middle of a start, or by a reboot.
  if (container && container.state !== "exited") return { do: "remove", instanceId, container };
  if (typeof record.ports === "number" && record.ports !== generation) return { do: "unpublish", instanceId };
  if (holder !== undefined && holder !== instanceId) {
    return wait(record, `waiting until "${holder}", which had the same name, is removed`);
  }
  if (record.hasImage === undefined) return { do: "find", instanceId, instance };
  if (!record.hasImage) return { do: "pull", instanceId, instance };
  if (!hasSandbox) return noAddress === undefined ? { do: "attach", instanceId, instance } : wait(record, noAddress);
  if (needsPorts) return { do: "publish", instanceId, instance };
  return { do: "start", instanceId, instance };
}

/** Said once. */
function wait({ instanceId, generation, detail }: InstanceRecord, reason: string): Step | undefined {
  return reason === detail ? undefined : { do: "wait", instanceId, generation, reason };
}

function hasRoom(step: Step, inFlight: readonly Step[], limits: typeof LIMITS): boolean {
  const same = inFlight.filter((other) => other.do === step.do);
  if (same.length >= (limits[step.do] ?? Number.POSITIVE_INFINITY)) return false;
  // One download of an image serves all that wait for it.
  return step.do !== "pull" || !same.some((other) => other.do === "pull" && imageOf(other) === imageOf(step));
}

const imageOf = ({ instance }: { readonly instance: DesiredInstance }) => instance.workload.image;

/** When a pass is due although nothing happens: the end of the shortest back-off. Monotonic ms. */
export function nextDue(records: Iterable<InstanceRecord>, now: number): number | undefined {
  let due: number | undefined;
  for (const { notBefore } of records) if (notBefore > now && notBefore < (due ?? Infinity)) due = notBefore;
  return due;
}

/** A step in flight whose purpose is gone; only downloads take long enough to be worth an end. */
export function isObsolete(step: Step, desired: DesiredSet): boolean {
  return step.do === "pull" && desired.instances.get(step.instanceId)?.generation !== step.instance.generation;
}

/** One line for logs and tests. */
export function describe(step: Step): string {
  switch (step.do) {
    case "find":
    case "pull":
      return `${step.do} ${step.instance.workload.image} for ${step.instanceId}`;
    case "drain":
    case "stop":
    case "remove":
    case "adopt":
    case "bury":
    case "complete":
      return `${step.do} ${step.instanceId} (generation ${step.container.generation})`;
    case "attach":
    case "publish":
    case "start":
      return `${step.do} ${step.instanceId} (generation ${step.instance.generation})`;
    case "wait":
      return `wait ${step.instanceId}: ${step.reason}`;
    case "unpublish":
    case "detach":
    case "forget":
      return `${step.do} ${step.instanceId}`;
  }
}
