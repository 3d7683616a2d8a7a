/** What the steps of a move change in an instance; what is told of a move. Pure. */
import type { Instance, Move, Standby } from "./model.ts";
import type { MoveStep } from "./moves.ts";

/** The part of an instance that a move changes. */
export type Moved = Pick<Instance, "clusterId" | "generation" | "status" | "detail" | "since" | "report" | "move">;

/**
 * Undefined: the step is not for this instance any more, which has changed since it was planned.
 * @param nextGeneration one that nobody has been given @param now epoch ms
 */
export function moved(
  instance: Instance,
  step: MoveStep,
  { nextGeneration, now }: { readonly nextGeneration: number; readonly now: number },
): Moved | undefined {
  const { clusterId, generation, report, move } = instance;
  const { reason, note = move?.note ?? "" } = step;
  const isOther = (one: Standby | undefined): one is Standby => one?.clusterId === step.clusterId;
  const left = clusterId === undefined ? {} : { predecessor: { clusterId, generation, report } };
  switch (step.do) {
    case "prepare": {
      if (clusterId === undefined || move?.successor || move?.predecessor) return undefined;
      const successor = { clusterId: step.clusterId, generation: nextGeneration };
      return staying(instance, { reason, note, successor });
    }
    case "switch":
      return isOther(move?.successor) ? inCharge(move.successor, { reason, note, ...left }, now) : undefined;
    case "return":
      return isOther(move?.predecessor) ? inCharge(move.predecessor, { reason, note }, now) : undefined;
    case "abandon":
      return isOther(move?.successor) ? staying(instance, { reason, note }) : undefined;
    case "retire":
      return isOther(move?.predecessor) ? staying(instance, { reason, note }) : undefined;
  }
}

/** The detail of a report with what is told of the move. A cluster that cannot mend a promise has told the reason already. */
export function withMove(detail: string, move: Pick<Move, "note" | "reason"> | undefined): string {
  if (!move) return detail;
  return detail.includes(move.reason) ? `${detail}; ${move.note}` : `${detail}; ${move.note}: ${move.reason}`;
}

/** The move once a report of who is in charge has come: how one went is told for as long as the status lasts. */
export function moveAfter({ status, move }: Instance, next: Instance["status"]): Move | undefined {
  const isOver = move && !move.successor && !move.predecessor;
  return isOver && status !== next ? undefined : move;
}

function staying(instance: Instance, move: Move): Moved {
  const { clusterId, generation, status, since, report } = instance;
  const detail = withMove((report ?? HANDED_OVER).detail, move);
  return { clusterId, generation, status, detail, since, report, move };
}

function inCharge({ clusterId, generation, report }: Standby, move: Move, now: number): Moved {
  const { status, since, detail } = report ?? HANDED_OVER;
  return { clusterId, generation, status, detail: withMove(detail, move), since: since ?? now, report, move };
}

const HANDED_OVER = { status: "CLUSTER_SCHEDULED", detail: "handed to the cluster", since: undefined } as const;
