import { formatAddress } from "../addressing/subnet.ts";
import { startTimer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { destinationOf, HeldPackets, sourceOf } from "./held-packets.ts";
import type { MissListener } from "./overlay.ts";
import { TUN_LINK } from "./overlay-names.ts";
import { openTun, type Tun } from "./tun.ts";

/** Who asks gets an answer within this time, be it "unreachable". */
const HOLD_MS = 2000;

export interface MissPathOptions {
  /** The kernel delivers packets to the address, or refuses them, by itself. */
  readonly isKnown: (address: number) => boolean;
  /** Lets the kernel refuse the address for a while. */
  readonly refuse: (address: number) => Promise<void>;
  /** A packet with IP version 0: the fast path's program tells of a flow. */
  readonly onFlow: (packet: Buffer) => void;
  readonly log: Logger;
}

/** First packets to addresses that the kernel does not know: held until someone says what they stand for, then given back. */
export class MissPath {
  readonly #options: MissPathOptions;
  readonly #held = new HeldPackets();
  readonly #timers = new Map<number, () => void>();
  #listener: MissListener | undefined;
  #tun: Tun | undefined;

  constructor(options: MissPathOptions) {
    this.#options = options;
  }

  onMiss(listener: MissListener): void {
    this.#listener = listener;
  }

  /** Repeatable: when the device was lost it is opened anew. */
  async open(): Promise<void> {
    if (this.#tun) return;
    const onLost = () => {
      this.#tun = undefined;
    };
    this.#tun = await openTun(TUN_LINK, { onPacket: (packet) => this.#receive(packet), onLost });
  }

  close(): void {
    this.#tun?.close();
    this.#tun = undefined;
    for (const address of this.#held.addresses) this.#deliver(address);
  }

  /** Gives back what is held for addresses that are known by now. */
  release(): void {
    for (const address of this.#held.addresses) if (this.#options.isKnown(address)) this.#deliver(address);
  }

  async refuse(address: number): Promise<void> {
    await this.#options.refuse(address);
    this.#deliver(address);
  }

  #receive(packet: Buffer): void {
    if (packet[0]! >> 4 === 0) {
      this.#options.onFlow(packet);
      return;
    }
    const address = destinationOf(packet);
    if (address === undefined) return;
    if (this.#options.isKnown(address)) {
      this.#tun?.write(packet);
      return;
    }
    if (this.#held.hold(address, packet) !== "first") return;
    this.#timers.set(
      address,
      startTimer(HOLD_MS, () => this.#giveUp(address)),
    );
    this.#listener?.(formatAddress(address), formatAddress(sourceOf(packet)));
  }

  #giveUp(address: number): void {
    this.refuse(address).catch((error: unknown) => {
      this.#options.log.warn({ address: formatAddress(address), error }, "cannot refuse an unknown address");
      this.#deliver(address);
    });
  }

  #deliver(address: number): void {
    this.#timers.get(address)?.();
    this.#timers.delete(address);
    for (const packet of this.#held.take(address)) this.#tun?.write(packet);
  }
}
