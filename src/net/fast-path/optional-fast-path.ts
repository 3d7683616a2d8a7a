/** The fast path where the machine allows it. Where it does not, or does not any more, all is as without it, only slower. */
import { describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { flowTable } from "../compile.ts";
import { hasOutgoingPolicies } from "../host.ts";
import type { Nft } from "../nft.ts";
import type { FastPathState } from "../overlay.ts";
import { formatRanges } from "../ranges.ts";
import { FastPath, type Situation } from "./fast-path.ts";

export class OptionalFastPath {
  readonly #path = new FastPath();
  readonly #isWanted: boolean;
  readonly #log: Logger;
  #mayTunnel = true;
  #hasFailedNotice = false;
  #state: FastPathState;

  constructor({ isWanted, log }: { isWanted: boolean; log: Logger }) {
    this.#isWanted = isWanted;
    this.#log = log;
    this.#state = { on: false, reason: isWanted ? "not started" : "switched off by a setting" };
  }

  get state(): FastPathState {
    return this.#state;
  }

  /** Repeatable: what failed before is tried again. */
  async check(nft: Nft, { state }: Pick<Situation, "state">): Promise<void> {
    if (!this.#isWanted) return;
    this.#mayTunnel = !(await hasOutgoingPolicies());
    if (this.#path.isOpen) return;
    try {
      await this.#path.open();
      // Some kernels have no time limits of one's own; as a part of all rules it would keep them out too.
      await nft.run(flowTable(formatRanges(state.frame.ranges)));
      this.#state = { on: true };
    } catch (error) {
      this.#fail("no fast path for established connections on this machine", error);
    }
  }

  follow(situation: Omit<Situation, "mayTunnel">): void {
    try {
      this.#path.follow({ ...situation, mayTunnel: this.#mayTunnel });
    } catch (error) {
      this.#fail("the fast path for established connections failed; all packets pass the rules now", error);
    }
  }

  forget(): void {
    try {
      this.#path.forget();
    } catch (error) {
      this.#fail("the fast path for established connections failed; all packets pass the rules now", error);
    }
  }

  notice(packet: Buffer): void {
    try {
      this.#path.notice(packet);
    } catch (error) {
      // The flow passes the rules, and is told of again. Once is enough: under pressure of memory there would be many.
      if (!this.#hasFailedNotice) this.#log.warn({ error }, "a flow could not be put on the fast path");
      this.#hasFailedNotice = true;
    }
  }

  close(): void {
    this.#path.close();
  }

  #fail(message: string, error: unknown): void {
    this.#path.close();
    const reason = describeError(error);
    const isKnown = !this.#state.on && this.#state.reason === reason;
    this.#state = { on: false, reason };
    if (!isKnown) this.#log.warn({ error }, message);
  }
}
