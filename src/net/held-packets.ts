/** Packets that wait until their address is known. Bounded per address, in addresses and in bytes: a flood drops itself. */
const MAX_ADDRESSES = 1024;
const MAX_PER_ADDRESS = 256;
const MAX_BYTES = 8 * 1024 * 1024;

export class HeldPackets {
  readonly #byAddress = new Map<number, Buffer[]>();
  #bytes = 0;

  get addresses(): readonly number[] {
    return [...this.#byAddress.keys()];
  }

  /** `first`: someone should find out who that is. */
  hold(address: number, packet: Buffer): "first" | "held" | "dropped" {
    const queue = this.#byAddress.get(address);
    if (this.#bytes + packet.length > MAX_BYTES) return "dropped";
    if (queue ? queue.length >= MAX_PER_ADDRESS : this.#byAddress.size >= MAX_ADDRESSES) return "dropped";
    this.#bytes += packet.length;
    if (queue) queue.push(packet);
    else this.#byAddress.set(address, [packet]);
    return queue ? "held" : "first";
  }

  /** In the order in which they came; none are held for the address afterwards. */
  take(address: number): readonly Buffer[] {
    const packets = this.#byAddress.get(address) ?? [];
    this.#byAddress.delete(address);
    this.#bytes -= packets.reduce((sum, packet) => sum + packet.length, 0);
    return packets;
  }
}

/** Where an IPv4 packet goes; undefined for anything that is none. */
export function destinationOf(packet: Buffer): number | undefined {
  return packet.length >= 20 && packet[0]! >> 4 === 4 ? packet.readUInt32BE(16) : undefined;
}

/** Of an IPv4 packet. */
export function sourceOf(packet: Buffer): number {
  return packet.readUInt32BE(12);
}
