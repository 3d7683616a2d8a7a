/** Which cluster each instance goes to. Pure: same input, same placements; none once they are carried out. */
import { lostChildren } from "../hierarchy/children.ts";
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
  /** What a plugin said, by instance. */
  readonly votes?: ReadonlyMap<string, PluginVote> | undefined;
  /** For the time budget of searches. */
  readonly monotonic?: (() => number) | undefined;
  readonly onDecision?: ((decided: Decided) => void) | undefined;
}

interface Round {
  readonly input: PlacementInput;
  readonly survey: Survey;
  readonly lost: ReadonlySet<string>;
}

export function planPlacements(input: PlacementInput): Placement[] {
  const round = begin(input);
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
    const { request, pinned, excluded } = describe(instance, round);
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

function begin(input: PlacementInput): Round {
  return { input, survey: new Survey(input), lost: lostChildren(input.clusters, input.now, CLUSTER_LIVENESS) };
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
  const { clusterId, status } = instance;
  if (isTerminal(status)) return false;
  if (clusterId === undefined || status === "NO_WORKER_CAPACITY" || lost.has(clusterId)) return true;
  return isUnanswered(instance, now) || !known.has(clusterId);
}

/** Handed over, and not a word since. */
function isUnanswered({ status, report, since }: Instance, now: number): boolean {
  return status === "CLUSTER_SCHEDULED" && !report && now - since >= STATUS.CLUSTER_SCHEDULED.deadlineMs;
}

/** Placed anew, it gets what its service says now. */
function describe({ id, serviceId }: Instance, { input, survey }: Round) {
  const plain = survey.requests.of(input.services.get(serviceId)!);
  const request = plain.links ? withTargets(plain, survey.targets) : plain;
  const declinedBy = [...(input.declines.get(id) ?? [])];
  const excluded = new Map(declinedBy.map(([clusterId, { reason }]) => [clusterId, reason]));
  return { request, pinned: pinnedTo(request), excluded };
}

function decide(
  instance: Instance,
  round: Round,
): { readonly steps: readonly DelegateStep[]; readonly request: PlacementRequest } {
  const { input, survey, lost } = round;
  const { strategy, now, votes, monotonic, onDecision } = input;
  const { request, pinned, excluded } = describe(instance, round);
  const steps = delegate({
    instances: [
      {
        instanceId: instance.id,
        request,
        childId: instance.clusterId,
        pinnedTo: pinned,
        excluded,
        takeBack: instance.status === "NO_WORKER_CAPACITY" ? instance.detail : undefined,
        moveIfPossible: isUnanswered(instance, now) ? "the cluster has not answered" : undefined,
        plugin: votes?.get(instance.id),
      },
    ],
    candidates: survey.candidates(request),
    ...{ lost, strategy, monotonic, onDecision },
  });
  return { steps, request };
}
