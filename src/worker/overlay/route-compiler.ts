/**
 * From the tables of services to what the kernel is to do with their addresses. What did not change stays the same object. No input
 * or output.
 */
import { chooseClosest } from "../../net/closest.ts";
import type { InstanceRoute, ServiceRoutes } from "../../net/overlay.ts";
import type { ServiceRoute, WorkerEndpoint } from "../../protocol/route.ts";
import type { OwnInstance } from "./own-instances.ts";

export interface RouteContext {
  /** Id of this worker. */
  readonly selfId: string;
  /** This worker's instances of the service, which it knows better than the table. */
  readonly own: readonly OwnInstance[];
  /** False: it is not to run here, whatever an old table says. */
  readonly isDesired: (instanceId: string) => boolean;
  /** This worker's instances of the service have yet to be looked at: none may be live by the table, and yet be. */
  readonly isUnsure: (serviceId: string) => boolean;
  /** False: the other worker does not know us yet and would drop our packets. */
  readonly isReachable: (workerId: string) => boolean;
  /** Smoothed; undefined: not measured. */
  readonly rttMs: (workerId: string) => number | undefined;
}

export interface CompiledService {
  /** Undefined: packets to it wait, since nobody can be reached yet. */
  readonly routes: ServiceRoutes | undefined;
  /** Of the closest live instance. */
  readonly closestNumber: number | undefined;
  /** There are, or may be, live instances that cannot be reached yet. */
  readonly isPartial: boolean;
  /** Where traffic goes, by instance number. */
  readonly targets: ReadonlyMap<number, Target>;
  /** Other workers that have live instances. */
  readonly workers: readonly WorkerEndpoint[];
}

interface Target {
  readonly sandbox: string;
  readonly workerId: string;
}

interface Member {
  readonly number: number;
  readonly address: string;
  readonly live: Target | undefined;
}

export function compileService(
  table: ServiceRoute,
  context: RouteContext,
  before: CompiledService | undefined,
): CompiledService {
  const { selfId, isUnsure, rttMs } = context;
  const members = membersOf(table, context);
  const targets = targetsOf(members, context, before);
  const live = [...targets].map(([number, target]) => ({ number, ...target }));
  const isPartial = members.some((member) => isHeld(member, context)) || isUnsure(table.serviceId);
  const named = new Set(table.workers.map(({ id }) => id));
  const isLeft = ({ id }: WorkerEndpoint) => !named.has(id) && live.some(({ workerId }) => workerId === id);
  const workers = [...table.workers.filter(({ id }) => id !== selfId), ...(before?.workers.filter(isLeft) ?? [])];
  const chosen = chooseClosest({ candidates: live, selfId, rttMs, current: before?.closestNumber });
  const closest = live.find(({ number }) => number === chosen?.number);
  const routes: ServiceRoutes = {
    ...{ id: table.serviceId, roundRobin: table.roundRobin, closest: table.closest },
    closestTarget: closest?.sandbox,
    instances: members.map(
      ({ number, address }): InstanceRoute => ({ address, sandbox: targets.get(number)?.sandbox }),
    ),
  };
  return {
    routes: isPartial && live.length === 0 ? undefined : keep(before?.routes, routes),
    closestNumber: closest?.number,
    ...{ isPartial, targets, workers },
  };
}

function isHeld({ live }: Member, { selfId, isReachable }: RouteContext): boolean {
  return live !== undefined && live.workerId !== selfId && !isReachable(live.workerId);
}

/** What has moved to where it cannot be reached yet still is where it was, for that long. */
function targetsOf(
  members: readonly Member[],
  context: RouteContext,
  before: CompiledService | undefined,
): Map<number, Target> {
  const { selfId, own, isReachable } = context;
  const isThere = ({ sandbox, workerId }: Target) =>
    workerId === selfId ? own.some((one) => one.sandbox === sandbox) : isReachable(workerId);
  return new Map(
    members.flatMap((member): [number, Target][] => {
      const last = before?.targets.get(member.number);
      const target = isHeld(member, context) ? last && isThere(last) && last : member.live;
      return target ? [[member.number, target]] : [];
    }),
  );
}

/** The table's instances, corrected by what this worker knows of its own. */
function membersOf(table: ServiceRoute, { selfId, own, isDesired }: RouteContext): Member[] {
  const ownByNumber = new Map(own.map((instance) => [instance.number, instance]));
  const known = table.instances.map(({ number, address, live }): Member => {
    const here = ownByNumber.get(number);
    ownByNumber.delete(number);
    if (here?.sandbox !== undefined) {
      return { number, address, live: here.isStandby ? live : { sandbox: here.sandbox, workerId: selfId } };
    }
    // An instance that moves is live elsewhere until it is here.
    const isOver = live?.workerId === selfId && (here || !isDesired(`${table.serviceId}-${number}`));
    return { number, address, live: isOver ? undefined : live };
  });
  const added = [...ownByNumber.values()].flatMap(({ number, address, sandbox, isStandby }): Member[] => {
    if (address === undefined || sandbox === undefined || isStandby) return [];
    return [{ number, address, live: { sandbox, workerId: selfId } }];
  });
  return [...known, ...added].toSorted((left, right) => left.number - right.number);
}

function keep(before: ServiceRoutes | undefined, now: ServiceRoutes): ServiceRoutes {
  return before && JSON.stringify(before) === JSON.stringify(now) ? before : now;
}

/** Sandboxes of other workers that were an instance's and are not any more: it is gone, or lives elsewhere. Not: it takes no traffic at the moment. */
export function lostSandboxes(before: CompiledService | undefined, after: CompiledService): string[] {
  if (!before?.routes || !after.routes) return [];
  const now = new Map(after.routes.instances.map((instance) => [instance.address, instance]));
  return before.routes.instances.flatMap(({ address, sandbox }) => {
    const successor = now.get(address);
    const isLost = !successor || (successor.sandbox !== undefined && successor.sandbox !== sandbox);
    return sandbox !== undefined && isLost ? [sandbox] : [];
  });
}

export class RouteCompiler {
  readonly #compiled = new Map<string, CompiledService>();
  readonly #partial = new Set<string>();
  /** Other workers, and the number of services that have instances there. */
  readonly #workers = new Map<string, { readonly endpoint: WorkerEndpoint; readonly count: number }>();
  #services: readonly ServiceRoutes[] | undefined;

  /** Always the same array until something differs. */
  get services(): readonly ServiceRoutes[] {
    this.#services ??= [...this.#compiled.values()].flatMap(({ routes }) => routes ?? []);
    return this.#services;
  }

  /** Services of which some live instance cannot be reached yet. */
  get partialIds(): ReadonlySet<string> {
    return this.#partial;
  }

  /** Services with live instances on one of the workers. */
  servicesOn(workerIds: ReadonlySet<string>): string[] {
    return [...this.#compiled].flatMap(([serviceId, { workers }]) =>
      workers.some(({ id }) => workerIds.has(id)) ? [serviceId] : [],
    );
  }

  of(serviceId: string): CompiledService | undefined {
    return this.#compiled.get(serviceId);
  }

  /** Other workers that the tables name. */
  get workers(): WorkerEndpoint[] {
    return [...this.#workers.values()].map(({ endpoint }) => endpoint);
  }

  /** @param table undefined: the service is not known any more. Returns the sandboxes of instances that are gone. */
  update(serviceId: string, table: ServiceRoute | undefined, context: RouteContext): string[] {
    const before = this.#compiled.get(serviceId);
    const after = table && compileService(table, context, before);
    if (before?.routes !== after?.routes) this.#services = undefined;
    for (const endpoint of after?.workers ?? []) this.#count(endpoint, 1);
    for (const endpoint of before?.workers ?? []) this.#count(endpoint, -1);
    if (after?.isPartial) this.#partial.add(serviceId);
    else this.#partial.delete(serviceId);
    if (after) this.#compiled.set(serviceId, after);
    else this.#compiled.delete(serviceId);
    return after ? lostSandboxes(before, after) : [];
  }

  /** The newest word on a worker counts. */
  #count(endpoint: WorkerEndpoint, change: 1 | -1): void {
    const known = this.#workers.get(endpoint.id);
    const count = (known?.count ?? 0) + change;
    if (count <= 0) this.#workers.delete(endpoint.id);
    else this.#workers.set(endpoint.id, { endpoint: change > 0 ? endpoint : (known?.endpoint ?? endpoint), count });
  }
}
