/** From peers as they should be to peers as the kernel can have them now. No input or output. */
import { contains, parseAddress, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import type { KernelPeer } from "./kernel-state.ts";
import type { Peer } from "./overlay.ts";
import { PeerNumbers } from "./peer-numbers.ts";

/** A link of the host with an address, and who is known behind it. */
export interface Underlay {
  readonly links: readonly { readonly name: string; readonly mtu: number; readonly subnet: Subnet }[];
  readonly neighbours: readonly { readonly address: number; readonly link: string; readonly mac: string }[];
}

/** Both ends have to know each other's MAC before the first packet goes by a plain route: until then the tunnel serves. */
export const SETTLE_MS = 1000;

export class PeerBook {
  readonly #numbers = new PeerNumbers();
  /** When the peer's MAC became known, by peer. */
  readonly #knownSince = new Map<string, number>();

  adopt(numbers: ReadonlyMap<number, number>): void {
    this.#numbers.adopt(numbers);
  }

  /**
   * @param now monotonic; -Infinity at the start of an agent, where what the kernel knows has been true for long enough.
   * @param own the worker's own address, which is no peer's.
   */
  describe(
    peers: readonly Peer[],
    underlay: Underlay,
    { now, own }: { now: number; own: number | undefined },
  ): KernelPeer[] {
    // A worker that registered anew has another id and the same address: the last one counts.
    const byAddress = new Map(peers.map((peer) => [parseAddress(peer.address), peer]));
    const distinct = [...byAddress].flatMap(([address, peer]) =>
      address === undefined || address === own ? [] : [{ ...peer, address, subnets: peer.subnets.map(parseSubnet) }],
    );
    const numbers = this.#numbers.assign(distinct);
    for (const id of this.#knownSince.keys()) if (!numbers.has(id)) this.#knownSince.delete(id);
    const found = distinct.map(({ address }) => neighbourAt(underlay, address));
    const behind = Map.groupBy(found, (neighbour) => neighbour && `${neighbour.link} ${neighbour.mac}`);
    return distinct.map((peer, index) => {
      const nearest = found[index];
      // Where a router answers for several (some clouds' do for all), a MAC does not tell who sent a packet.
      const isAlone = nearest && behind.get(`${nearest.link} ${nearest.mac}`)?.length === 1;
      const neighbour = isAlone ? { link: nearest.link, mac: nearest.mac } : undefined;
      return {
        ...peer,
        number: numbers.get(peer.id)!,
        neighbour,
        path: this.#usablePath(peer, neighbour !== undefined, now),
      };
    });
  }

  #usablePath({ id, path }: Pick<Peer, "id" | "path">, isKnown: boolean, now: number): Peer["path"] {
    if (!isKnown) this.#knownSince.delete(id);
    else if (!this.#knownSince.has(id)) this.#knownSince.set(id, now);
    return isKnown && now >= this.#knownSince.get(id)! + SETTLE_MS ? path : "vxlan";
  }
}

function neighbourAt(underlay: Underlay, address: number): Underlay["neighbours"][number] | undefined {
  const link = linkTo(underlay, address)?.name;
  return underlay.neighbours.find((other) => other.address === address && other.link === link);
}

export function linkTo(underlay: Underlay, address: number): Underlay["links"][number] | undefined {
  return underlay.links.find(({ subnet }) => subnet.prefix < 32 && contains(subnet, address));
}
