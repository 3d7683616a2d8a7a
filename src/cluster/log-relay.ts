/** Carries instance output from a worker to the root. Streams live as long as both links; none of it is kept. */

import type { LogData, LogRequest } from "../protocol/mqtt.ts";
import type { ClusterMessage, RootMessage } from "../protocol/uplink.ts";

export interface LogRelayOptions {
  /** The worker that has the instance, if it is reachable. */
  readonly workerOf: (instanceId: string) => string | undefined;
  readonly request: (workerId: string, request: LogRequest) => void;
  /** False: the root does not keep up, or is gone. */
  readonly send: (message: ClusterMessage) => boolean;
}

const MAX_STREAMS = 200;

export class LogRelay {
  readonly #options: LogRelayOptions;
  /** Stream → worker. */
  readonly #streams = new Map<string, string>();

  constructor(options: LogRelayOptions) {
    this.#options = options;
  }

  open({ stream, instanceId, follow, tailLines }: Extract<RootMessage, { type: "log.open" }>): void {
    const { workerOf, request } = this.#options;
    if (this.#streams.has(stream)) return;
    const workerId = workerOf(instanceId);
    if (workerId === undefined || this.#streams.size >= MAX_STREAMS) {
      this.#refuse(stream, workerId ? "too many log streams are open" : "no reachable worker has this instance");
      return;
    }
    this.#streams.set(stream, workerId);
    request(workerId, { type: "open", stream, instanceId, follow, tailLines });
  }

  close(stream: string): void {
    const workerId = this.#streams.get(stream);
    if (workerId === undefined) return;
    this.#streams.delete(stream);
    this.#options.request(workerId, { type: "close", stream });
  }

  /** The root is gone, and with it everybody who reads. */
  closeAll(): void {
    for (const stream of [...this.#streams.keys()]) this.close(stream);
  }

  data(workerId: string, { stream, chunk, end }: LogData): void {
    // Late output of a closed stream, or a stream that is another worker's.
    if (this.#streams.get(stream) !== workerId) return;
    if (chunk !== undefined && chunk !== "" && !this.#options.send({ type: "log.data", stream, chunk })) {
      this.close(stream);
      this.#refuse(stream, "the output came faster than it was read");
      return;
    }
    if (end === undefined) return;
    this.#streams.delete(stream);
    this.#options.send({ type: "log.end", stream, ...(end === "" ? {} : { error: end }) });
  }

  workerGone(workerId: string): void {
    for (const [stream, owner] of this.#streams) {
      if (owner !== workerId) continue;
      this.#streams.delete(stream);
      this.#refuse(stream, "the worker is not reachable any more");
    }
  }

  #refuse(stream: string, error: string): void {
    this.#options.send({ type: "log.end", stream, error });
  }
}
