/** Which cluster each instance goes to, and what is next in each move. Pure: same input, same plan; an empty one once it is carried out. */
import { liveness, lostChildren } from "../hierarchy/children.ts";
import { type Decided, type DelegateStep, delegate } from "../hierarchy/delegate.ts";
import { isTerminal, STATUS } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { PluginVote, ScheduleOptions } from "../scheduler/candidate.ts";
import { withTargets } from "../scheduler/links.ts";
import type { PluginSnapshot } from "../scheduler/plugin.ts";
import { pluginQuestion } from "../scheduler/schedule.ts";
import type { ClusterView } from "./candidates.ts";
import type { Declines } from "./declines.ts";
import type { Instance, Service } from "./model.ts";
import { type Around, isMoving, type MoveStep, nextStep, reasonToMove } from "./moves.ts";
import { moved } from "./moving.ts";
import { type Placement, toPlacement } from "./placement-words.ts";
import { pinnedTo } from "./request.ts";
import { CLUSTER_LIVENESS, Survey } from "./survey.ts";

export interface PlacementInput {
  readonly services: ReadonlyMap<string, Service>;
  /** In the order in which they were asked for. */
  readonly instances: readonly Instance[];
  readonly clusters: readonly ClusterView[];
  readonly declines: Declines;
  readonly strategy: ScheduleOptions["strategy"];
  /** Epoch ms. */
  readonly now: number;
  /** Clusters that have lately had a try with an instance, and why that ended; absent: none. */
  readonly tried?: ((instanceId: string) => ReadonlyMap<string, string>) | undefined;
  /** Since it did, what it was broken for may have been mended for others, too. */
  readonly hasMovedLately?: ((instanceId: string) => boolean) | undefined;
  /** How long the one that is not in charge of an instance that moves has been as it is, ms. */
  readonly standbyForMs?: ((instanceId: string) => number) | undefined;
  /** What a plugin said, by instance. */
  readonly votes?: ReadonlyMap<string, PluginVote> | undefined;
  /** For the time budget of searches. */
  readonly monotonic?: (() => number) | undefined;
  readonly onDecision?: ((decided: Decided) => void) | undefined;
}

export interface Plan {
  /** In the order in which they are to be carried out, before the placements. */
  readonly moves: readonly MoveStep[];
  readonly placements: readonly Placement[];
}

interface Round {
  /** With the instances as they are after the moves' steps. */
  readonly input: PlacementInput;
  readonly survey: Survey;
  readonly lost: ReadonlySet<string>;
  readonly around: Around;
  readonly steps: readonly MoveStep[];
}

export function plan(input: PlacementInput): Plan {
  const round = begin(input);
  // What has no place goes first.
  const placements = planPlacements(round);
  return { placements, moves: [...round.steps, ...beginMoves(round)] };
}

function planPlacements(round: Round): Placement[] {
  const { input } = round;
  const placements = new Map<string, Placement>();
  let open = toPlace(round);
  let isWorthAnother: boolean;
  do {
    isWorthAnother = false;
    const waiting: Instance[] = [];
    for (const instance of open) {
      const { steps, request } = decide(instance, round);
      const last = steps.at(-1);
      if (last?.do === "refuse" && last.waitsFor) waiting.push(instance);
      const placement = toPlacement(instance, request, steps, input.clusters);
      if (!placement) continue;
      placements.set(instance.id, placement);
      if (placement.clusterId === undefined) continue;
      round.survey.place(request, placement.clusterId);
      isWorthAnother = true;
    }
    // What has been placed may be what others wait for.
    open = waiting;
  } while (isWorthAnother && open.length > 0);
  return [...placements.values()];
}

/** What a plugin is to be asked before; those of which nothing fits are left out. */
export function pluginQuestions(input: PlacementInput): Map<string, PluginSnapshot> {
  const round = begin(input);
  const questions = new Map<string, PluginSnapshot>();
  for (const instance of toPlace(round)) {
    const { request, pinned, excluded } = describe(instance, round, false);
    const { strategy } = input;
    const question = pluginQuestion(request, round.survey.candidates(request), {
      strategy,
      pinnedTo: pinned,
      excluded,
    });
    if (question) questions.set(instance.id, question);
  }
  return questions;
}

/**
 * Where another cluster can take what its own cannot serve as was promised, it starts there, too. Of two that should be near each
 * other one moves at a time, or they would pass each other.
 */
function beginMoves(round: Round): MoveStep[] {
  const { input, around, survey } = round;
  const unmended = input.instances.filter(({ report }) => report?.brokenPromise !== undefined);
  // Most of the time there are none.
  if (unmended.length === 0) return [];
  const restless = restlessServices(input);
  // What has just come to the end of a move is looked at again when that is known to all.
  const busy = new Set(round.steps.map(({ id }) => id));
  return unmended.flatMap((instance): MoveStep[] => {
    const service = busy.has(instance.id) ? undefined : input.services.get(instance.serviceId);
    const reason = service && reasonToMove(instance, service, around);
    if (reason === undefined) return [];
    const links = survey.requests.ofInstance(instance)?.links ?? [];
    if (links.some((link) => restless.has(link.service))) return [];
    const { steps, request } = decide(instance, round, reason);
    const last = steps.at(-1);
    if (last?.do !== "assign") return [];
    // It stays where others look for it until it has moved.
    survey.place({ ...request, serviceName: undefined }, last.childId);
    restless.add(service!.jobName);
    const note = `moves to cluster "${around.clusterOf(last.childId)?.name}" as soon as it runs there`;
    return [{ do: "prepare", id: instance.id, clusterId: last.childId, reason, note }];
  });
}

/** Names of services of which an instance moves, or has moved a moment ago. */
function restlessServices({ instances, services, hasMovedLately = () => false }: PlacementInput): Set<string> {
  const restless = instances.filter((one) => isMoving(one) || (one.move !== undefined && hasMovedLately(one.id)));
  return new Set(restless.flatMap(({ serviceId }) => services.get(serviceId)?.jobName ?? []));
}

function begin(input: PlacementInput): Round {
  const { clusters, now, standbyForMs = () => 0 } = input;
  const lost = lostChildren(clusters, now, CLUSTER_LIVENESS);
  const byId = new Map(clusters.map((cluster) => [cluster.id, cluster]));
  const active = new Set(
    clusters.filter((one) => liveness(one, now, CLUSTER_LIVENESS) === "active").map(({ id }) => id),
  );
  const around: Around = {
    clusterOf: (id) => byId.get(id),
    isActive: (id) => active.has(id),
    ...{ lost, standbyForMs },
  };
  const { steps, instances } = advanceAll(input, around);
  const advanced = { ...input, instances };
  return { input: advanced, survey: new Survey(advanced), lost, around, steps };
}

function advanceAll(
  { instances, services, now }: PlacementInput,
  around: Around,
): { readonly steps: readonly MoveStep[]; readonly instances: readonly Instance[] } {
  if (!instances.some(isMoving)) return { steps: [], instances };
  const steps: MoveStep[] = [];
  const after = instances.map((instance) => {
    const service = isMoving(instance) ? services.get(instance.serviceId) : undefined;
    const step = service && nextStep(instance, service, around);
    if (!step) return instance;
    steps.push(step);
    return { ...instance, ...moved(instance, step, { nextGeneration: instance.generation, now }) };
  });
  return { steps, instances: after };
}

/** Most instances are where they should be, and cost nothing. */
function toPlace({ input, lost }: Round): Instance[] {
  const known = new Set(input.clusters.map(({ id }) => id));
  return input.instances.filter(
    (instance) => input.services.has(instance.serviceId) && isToPlace(instance, { known, lost, now: input.now }),
  );
}

function isToPlace(
  instance: Instance,
  {
    known,
    lost,
    now,
  }: { readonly known: ReadonlySet<string>; readonly lost: ReadonlySet<string>; readonly now: number },
): boolean {
  const { clusterId, status, move } = instance;
  // Another cluster is about to take it.
  if (isTerminal(status) || move?.successor) return false;
  if (clusterId === undefined || status === "NO_WORKER_CAPACITY" || lost.has(clusterId)) return true;
  return isUnanswered(instance, now) || !known.has(clusterId);
}

/** Handed over, and not a word since. */
function isUnanswered({ status, report, since }: Instance, now: number): boolean {
  return status === "CLUSTER_SCHEDULED" && !report && now - since >= STATUS.CLUSTER_SCHEDULED.deadlineMs;
}

/** Placed anew, it gets what its service says now; one that moves stays what it is. */
function describe(instance: Instance, { input, survey }: Round, isMove: boolean) {
  const { id, serviceId } = instance;
  const plain = isMove ? survey.requests.ofInstance(instance)! : survey.requests.of(input.services.get(serviceId)!);
  const request = plain.links ? withTargets(plain, survey.targets) : plain;
  const declinedBy = [...(input.declines.get(id) ?? [])];
  const excluded = new Map([
    ...declinedBy.map(([clusterId, { reason }]) => [clusterId, reason] as const),
    ...(isMove ? (input.tried?.(id) ?? []) : []),
  ]);
  return { request, pinned: pinnedTo(request), excluded };
}

function decide(
  instance: Instance,
  round: Round,
  /** Why it should move though it runs. */
  reason?: string,
): { readonly steps: readonly DelegateStep[]; readonly request: PlacementRequest } {
  const { input, survey, lost } = round;
  const { strategy, now, votes, monotonic, onDecision } = input;
  const { request, pinned, excluded } = describe(instance, round, reason !== undefined);
  const steps = delegate({
    instances: [
      {
        instanceId: instance.id,
        request,
        childId: instance.clusterId,
        pinnedTo: pinned,
        excluded,
        takeBack: instance.status === "NO_WORKER_CAPACITY" ? instance.detail : undefined,
        moveIfPossible: isUnanswered(instance, now) ? "the cluster has not answered" : reason,
        plugin: votes?.get(instance.id),
      },
    ],
    candidates: survey.candidates(request),
    ...{ lost, strategy, monotonic, onDecision },
  });
  return { steps, request };
}
