/** Lets workers into the cluster: identity is the key, the first time a join token vouches for it. */
import { type Clock, steady } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { secretDigest, secretToken } from "../base/random.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { RegisterRequest } from "../protocol/mqtt.ts";
import { PROTOCOL_VERSION } from "../protocol/uplink.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { Worker } from "./model.ts";
import type { ClusterStore } from "./store/cluster-store.ts";

export interface AdmissionOptions {
  readonly state: ClusterState;
  readonly store: Pick<ClusterStore, "write" | "addToken" | "takeToken">;
  readonly clusterName: string;
  readonly log: Logger;
  readonly clock: Clock;
}

export const JOIN_TOKEN_MS = 15 * 60_000;
const REMEDY = `make one with "oak worker token" on the cluster's machine, good for one worker and 15 minutes, and give it as OAK_JOIN_TOKEN or in joinTokenFile`;

export class Admission {
  readonly #options: AdmissionOptions;
  /** A machine without a battery for its clock sets it while a token waits: that must not end the token. */
  readonly #tokenClock: Pick<Clock, "now">;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#tokenClock = steady(options.clock);
  }

  /** A token that lets one new worker in. */
  issueToken(): { readonly token: string; readonly expiresAt: number } {
    const { store } = this.#options;
    const token = secretToken();
    const now = this.#tokenClock.now();
    store.write(() => store.addToken(secretDigest(token), now + JOIN_TOKEN_MS, now));
    return { token, expiresAt: now + JOIN_TOKEN_MS };
  }

  /** @throws AppError INVALID_BODY | PROTOCOL_UNSUPPORTED | TOKEN_MISSING | TOKEN_INVALID | TOKEN_EXPIRED | NAME_TAKEN */
  register(body: unknown): Worker {
    // Before the schema: another version's request may look different.
    const spoken = (body as { protocol?: unknown } | null)?.protocol;
    if (typeof spoken === "number" && spoken !== PROTOCOL_VERSION) throw this.#unsupported(spoken);
    const { key, joinToken, info } = checked(body);
    const { state } = this.#options;
    const keyDigest = secretDigest(key);
    const known = state.workers.find((worker) => worker.keyDigest === keyDigest);
    if (known) {
      this.#checkHostname(info.hostname, known.id);
      state.updateWorker(known.id, info);
      return state.worker(known.id)!;
    }
    if (joinToken === undefined)
      throw new AppError("TOKEN_MISSING", `This cluster does not know this worker: ${REMEDY}`);
    const worker = state.addWorker({ keyDigest, info }, () => this.#spendToken(joinToken, info.hostname));
    this.#options.log.info({ workerId: worker.id, hostname: worker.hostname }, "worker joined");
    return worker;
  }

  /** Part of a transaction, which an exception here undoes. */
  #spendToken(joinToken: string, hostname: string): void {
    const { store } = this.#options;
    const expiresAt = store.takeToken(secretDigest(joinToken));
    if (expiresAt === undefined)
      throw new AppError("TOKEN_INVALID", `The join token is unknown or already used: ${REMEDY}`);
    if (expiresAt < this.#tokenClock.now())
      throw new AppError("TOKEN_EXPIRED", `The join token has expired: ${REMEDY}`);
    this.#checkHostname(hostname);
  }

  #checkHostname(hostname: string, ownId?: string): void {
    const holder = this.#options.state.workers.find((worker) => worker.hostname === hostname && worker.id !== ownId);
    if (!holder) return;
    const remedy = `remove the other one with "oak worker rm ${hostname}", or give this one another name with --hostname`;
    throw new AppError(
      "NAME_TAKEN",
      `Another worker (${holder.id}) with another key is called "${hostname}" in this cluster: ${remedy}`,
      { details: { holder: holder.id, hostname } },
    );
  }

  #unsupported(protocol: number): AppError {
    const message = `This worker speaks protocol ${protocol}, cluster "${this.#options.clusterName}" speaks ${PROTOCOL_VERSION}: bring both to the same version`;
    return new AppError("PROTOCOL_UNSUPPORTED", message, { details: { worker: protocol, cluster: PROTOCOL_VERSION } });
  }
}

function checked(body: unknown): RegisterRequest {
  const result = validate(RegisterRequest, body);
  if (result.ok) return result.value;
  throw new AppError("INVALID_BODY", `Cannot register: ${describeProblems(result.problems)}`, {
    details: { problems: result.problems },
  });
}
