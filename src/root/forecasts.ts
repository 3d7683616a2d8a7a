/** Where instances would go, down to the worker: decided as if they were there, clusters asked, what they decline offered on. */
import type { Clock } from "../base/clock.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Decided } from "../hierarchy/delegate.ts";
import {
  type ClusterMessage,
  MAX_PLANNED,
  PLAN_VERSION,
  type PlannedInstance,
  type RootMessage,
} from "../protocol/uplink.ts";
import { explain } from "../scheduler/explain.ts";
import { record } from "../scheduler/record.ts";
import type { Decline } from "./declines.ts";
import { type Draft, questionsOf, withDraft } from "./draft.ts";
import type { Instance } from "./model.ts";
import { type PlacementInput, plan } from "./placement-plan.ts";
import type { Placement } from "./placement-words.ts";
import { Questions, type QuestionsOptions } from "./questions.ts";

export interface Predicted {
  readonly id: string;
  readonly placed: boolean;
  readonly clusterId?: string | undefined;
  /** Host name; absent: not told, or not known. */
  readonly worker?: string | undefined;
  /** That it would have. */
  readonly status: Instance["status"];
  readonly detail: string;
  /** Who decided what, in words, in the order of the offers. */
  readonly decisions: readonly {
    readonly tier: "root" | "cluster";
    readonly clusterId?: string;
    readonly lines: readonly string[];
  }[];
}

type Answer = Extract<ClusterMessage, { type: "plan.answer" }>;
type Question = Extract<RootMessage, { type: "plan.ask" }>;

export interface ForecastsOptions extends QuestionsOptions {
  readonly observe: () => Promise<PlacementInput>;
  readonly clock: Clock;
}

/** Offers of one instance that are followed; a cluster that declines it after that has the last word. */
const MAX_ROUNDS = 8;
/** How long a question may wait for those before it, of other plans, to the same cluster. */
const WAIT_MS = 3_000;

/** What has been learned in the rounds so far. */
interface Learned {
  readonly declines: Map<string, Map<string, Decline>>;
  readonly said: Map<string, Predicted["decisions"][number][]>;
  /** Clusters that gave no answer, and why: not asked again. */
  readonly silent: Map<string, string>;
}

export class Forecasts {
  readonly #options: ForecastsOptions;
  readonly #questions: Questions<Answer>;
  /** By cluster: to answer is work for it, and however many plan, it has its own work to do. */
  readonly #turns = new KeyedQueue();

  constructor(options: ForecastsOptions) {
    this.#options = options;
    this.#questions = new Questions(options);
  }

  receive(clusterId: string, answer: Answer): void {
    this.#questions.receive(clusterId, answer);
  }

  /** Nothing changes, here or there; plugins are not asked. @param namesWorkers for somebody who may see them */
  async predict(draft: Draft, namesWorkers: boolean): Promise<readonly Predicted[]> {
    const input = withDraft(await this.#options.observe(), draft);
    const learned: Learned = { declines: new Map(), said: new Map(), silent: new Map() };
    for (let round = 1; ; round++) {
      const { placements, decisions } = decide(input, draft, learned);
      const answers = await this.#ask(input, { draft, placements, namesWorkers, learned });
      const declined = placements.filter(({ id }) => answers.get(id)?.outcome === "declined");
      if (declined.length === 0 || round === MAX_ROUNDS) {
        return placements.map((one) => outcome(one, { answer: answers.get(one.id), decisions, learned }));
      }
      for (const { id, clusterId } of declined)
        learn(learned, { id, clusterId: clusterId!, answer: answers.get(id)!, now: input.now });
    }
  }

  async #ask(
    input: PlacementInput,
    {
      draft,
      placements,
      namesWorkers,
      learned: { silent },
    }: { draft: Draft; placements: readonly Placement[]; namesWorkers: boolean; learned: Learned },
  ): Promise<Map<string, PlannedInstance>> {
    const answers = new Map<string, PlannedInstance>();
    const open = [...questionsOf(input, draft, placements)].filter(([clusterId]) => !silent.has(clusterId));
    await Promise.all(
      open.map(async ([clusterId, instances]) => {
        const asked = { instances: instances.slice(0, MAX_PLANNED), leaving: [...draft.leaving], namesWorkers };
        const answer = await this.#askOne(clusterId, asked);
        if (typeof answer === "string") silent.set(clusterId, answer);
        else for (const one of answer.instances) answers.set(one.instanceId, one);
      }),
    );
    return answers;
  }

  /** A text: why there is no answer. */
  #askOne(clusterId: string, asked: Omit<Question, "type" | "version" | "question">): Promise<Answer | string> {
    const { clock } = this.#options;
    const since = clock.monotonic();
    return this.#turns.run(clusterId, async () => {
      if (clock.monotonic() - since >= WAIT_MS) return "its cluster has too many other plans to answer; try again";
      return this.#questions.ask(clusterId, (question) => ({
        ...{ type: "plan.ask", version: PLAN_VERSION, question },
        ...asked,
      }));
    });
  }
}

function decide(input: PlacementInput, { instances }: Draft, { declines }: Learned) {
  const ids = new Set(instances.map(({ id }) => id));
  const decisions = new Map<string, readonly string[]>();
  const onDecision = (decided: Decided) => {
    const { instanceId } = decided;
    if (ids.has(instanceId)) decisions.set(instanceId, explain(record({ ...decided, at: input.now, tier: "root" })));
  };
  const { placements: all } = plan({ ...input, declines: new Map([...input.declines, ...declines]), onDecision });
  const placements = all.filter(({ id }) => ids.has(id));
  return { placements, decisions };
}

function learn(
  { declines, said }: Learned,
  declined: { readonly id: string; readonly clusterId: string; readonly answer: PlannedInstance; readonly now: number },
): void {
  const { id, clusterId, answer, now } = declined;
  const decline = { reason: answer.detail, at: now, aggregate: undefined };
  declines.set(id, new Map([...(declines.get(id) ?? []), [clusterId, decline]]));
  said.set(id, [...(said.get(id) ?? []), { tier: "cluster", clusterId, lines: answer.lines }]);
}

function outcome(
  { id, clusterId, status, detail }: Placement,
  context: {
    readonly answer: PlannedInstance | undefined;
    readonly decisions: ReadonlyMap<string, readonly string[]>;
    readonly learned: Learned;
  },
): Predicted {
  const { answer, learned } = context;
  const decisions: Predicted["decisions"] = [
    ...(learned.said.get(id) ?? []),
    { tier: "root", lines: context.decisions.get(id) ?? [] },
    ...(answer && clusterId !== undefined ? [{ tier: "cluster" as const, clusterId, lines: answer.lines }] : []),
  ];
  if (clusterId === undefined) return { id, placed: false, status, detail, decisions };
  if (!answer) {
    const why = learned.silent.get(clusterId) ?? "not asked: too many at once for its cluster; plan fewer instances";
    return { id, placed: true, clusterId, status, detail: `which worker is not known: ${why}`, decisions };
  }
  const { worker } = answer;
  if (answer.outcome === "placed")
    return { id, placed: true, clusterId, worker, status: "NODE_SCHEDULED", detail: "", decisions };
  const kept = answer.outcome === "waits" ? "CLUSTER_SCHEDULED" : "NO_WORKER_CAPACITY";
  return { id, placed: false, clusterId, status: kept, detail: answer.detail, decisions };
}
