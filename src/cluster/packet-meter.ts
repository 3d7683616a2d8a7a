/**
 * Watches the framing of an MQTT byte stream, so that a peer that announces a huge packet is cut off before the broker, which has
 * no limit of its own, has gathered it in memory.
 */
export class PacketMeter {
  readonly #maxBytes: number;
  /** Bytes of the current packet's body still to come. */
  #left = 0;
  #isInLength = false;
  #length = 0;
  #shift = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** False when the bytes belong to a packet that is larger than allowed, or to none at all. */
  accepts(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const skip = Math.min(this.#left, chunk.length - at);
        this.#left -= skip;
        at += skip;
      } else if (!this.#isInLength) {
        // The first byte of a packet: type and flags.
        this.#isInLength = true;
        this.#length = 0;
        this.#shift = 0;
        at += 1;
      } else {
        const byte = chunk[at]!;
        at += 1;
        this.#length += (byte & 0x7f) * 2 ** this.#shift;
        this.#shift += 7;
        if (this.#length > this.#maxBytes || this.#shift > 28) return false;
        if (byte >= 0x80) continue;
        this.#isInLength = false;
        this.#left = this.#length;
      }
    }
    return true;
  }
}
