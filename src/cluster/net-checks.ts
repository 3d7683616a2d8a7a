/** Has the workers measure their routes when an operator asks: a few at a time, since each sends a body over every route it has. */
import { type Clock, pause } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { objectId } from "../base/random.ts";
import {
  CHECK_ALL_WITHIN_MS,
  type CheckAnswer,
  type CheckQuestion,
  type ClusterCheck,
  type WorkerCheck,
} from "../protocol/net-check.ts";
import type { WorkerDocument } from "./worker-document.ts";

const AT_A_TIME = 4;
/** For question and answer to travel, beyond what the worker may take. */
const TRAVEL_MS = 2_000;

type Checked = Pick<WorkerDocument, "id" | "hostname" | "status" | "detail">;
type Result = CheckAnswer["result"];

export interface NetChecksOptions {
  readonly clusterName: string;
  readonly workers: () => readonly Checked[];
  readonly request: (workerId: string, question: CheckQuestion) => void;
  readonly clock: Clock;
}

export class NetChecks {
  readonly #options: NetChecksOptions;
  readonly #open = new Map<string, { readonly workerId: string; readonly end: (result: Result | "gone") => void }>();
  #isBusy = false;

  constructor(options: NetChecksOptions) {
    this.#options = options;
  }

  /**
   * @param withinMs for each worker
   * @param signal aborts when nobody waits for the answer any more: no further worker is asked
   * @throws AppError IN_USE while another one is under way
   */
  async check(withinMs: number, signal: AbortSignal): Promise<ClusterCheck> {
    const { clusterName, workers, clock } = this.#options;
    if (this.#isBusy)
      throw new AppError("IN_USE", `The routes of cluster "${clusterName}" are being checked; try again in a minute`);
    this.#isBusy = true;
    try {
      const until = clock.monotonic() + CHECK_ALL_WITHIN_MS;
      const all = workers().toSorted((a, b) => (a.hostname < b.hostname ? -1 : 1));
      const results = new Map<string, WorkerCheck>();
      const due = all[Symbol.iterator]();
      const askInTurn = async () => {
        for (const worker of due) results.set(worker.id, await this.#check(worker, { withinMs, until, signal }));
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, askInTurn));
      return { cluster: clusterName, workers: withNames(all.map(({ id }) => results.get(id)!)) };
    } finally {
      this.#isBusy = false;
    }
  }

  /** What this worker was not asked, or what comes too late, is dropped. */
  receive(workerId: string, { question, result }: CheckAnswer): void {
    const open = this.#open.get(question);
    if (open?.workerId === workerId) open.end(result);
  }

  /** Its connection has begun or ended: it has forgotten what it was asked. */
  workerGone(workerId: string): void {
    for (const open of this.#open.values()) if (open.workerId === workerId) open.end("gone");
  }

  async #check(
    { id, hostname, status, detail }: Checked,
    limits: { readonly withinMs: number; readonly until: number; readonly signal: AbortSignal },
  ): Promise<WorkerCheck> {
    const { withinMs, until, signal } = limits;
    const worker = { worker_id: id, hostname };
    if (status !== "active") return { ...worker, outcome: "not asked", detail: `it is ${status}: ${detail}` };
    if (signal.aborted || this.#options.clock.monotonic() + withinMs > until) {
      const detail = `no time left: the check of a cluster takes ${CHECK_ALL_WITHIN_MS / 1000} s at most`;
      return { ...worker, outcome: "not asked", detail };
    }
    const result = await this.#ask(id, withinMs, signal);
    if (result === undefined)
      return { ...worker, outcome: "silent", detail: `did not answer within ${withinMs / 1000} s` };
    if (result === "gone") return { ...worker, outcome: "silent", detail: "its connection ended meanwhile" };
    return { ...worker, ...result };
  }

  async #ask(workerId: string, withinMs: number, signal: AbortSignal): Promise<Result | "gone" | undefined> {
    const question = objectId();
    const answered = new AbortController();
    let result: Result | "gone" | undefined;
    const end = (one: Result | "gone") => {
      result = one;
      answered.abort();
    };
    this.#open.set(question, { workerId, end });
    try {
      this.#options.request(workerId, { question, withinMs });
      await pause(this.#options.clock, withinMs + TRAVEL_MS, AbortSignal.any([signal, answered.signal]));
      if (signal.aborted && !result) this.#options.request(workerId, { question, withinMs: 0 });
    } finally {
      this.#open.delete(question);
    }
    return result;
  }
}

/** Workers know each other by ids; those of other clusters keep them. */
function withNames(workers: readonly WorkerCheck[]): WorkerCheck[] {
  const hostnames = new Map(workers.map(({ worker_id, hostname }) => [worker_id, hostname]));
  return workers.map((worker) => {
    if (worker.outcome !== "checked") return worker;
    const routes = worker.routes.map(({ hostname: _, ...route }) => {
      const hostname = hostnames.get(route.worker_id);
      return { ...route, ...(hostname === undefined ? {} : { hostname }) };
    });
    return { ...worker, routes };
  });
}
