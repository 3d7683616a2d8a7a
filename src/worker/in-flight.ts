/**
 * Messages that are on their way at once: the next need not wait for the acknowledgement of the one before, which takes a round
 * trip, but a link that is stuck must not gather them without end.
 */
export class InFlight {
  readonly #max: number;
  readonly #sent = new Set<Promise<void>>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Resolves when one more may be sent. */
  async room(): Promise<void> {
    while (this.#sent.size >= this.#max) await Promise.race(this.#sent);
  }

  /** @param delivered ends when the message is acknowledged, or lost with its connection: then `onLost` is called */
  add(delivered: Promise<unknown>, onLost: (error: unknown) => void): void {
    const ended = delivered.then(() => {}, onLost).finally(() => this.#sent.delete(ended));
    this.#sent.add(ended);
  }
}
