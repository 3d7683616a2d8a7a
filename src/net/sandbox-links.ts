import { formatAddress, type Subnet } from "../addressing/subnet.ts";
import { exec } from "../base/exec.ts";
import { BRIDGE } from "./compile.ts";
import type { IpBatch } from "./ip-batch.ts";
import { linkName, macAddress, namespaceName } from "./sandbox-names.ts";

/** The last one: the kernel took it away between our look and our word. */
const GONE = /Cannot find device|No such file or directory|No such device/;

/** Makes and removes the kernel objects of sandboxes: a namespace, and a link from the bridge into it. */
export class SandboxLinks {
  readonly #ip: IpBatch;
  readonly #subnet: Subnet;
  readonly #mtu: number;

  constructor({ ip, subnet, mtu }: { ip: IpBatch; subnet: Subnet; mtu: number }) {
    this.#ip = ip;
    this.#subnet = subnet;
    this.#mtu = mtu;
  }

  /** The bridge, with the subnet's first address. Its MAC is fixed: otherwise it would change with the links on it. */
  async makeBridge(exists: boolean): Promise<void> {
    const gateway = this.#subnet.base + 1;
    const setUp = [
      `link set dev ${BRIDGE} address ${macAddress(gateway)} mtu ${this.#mtu} addrgenmode none`,
      `address replace ${formatAddress(gateway)}/${this.#subnet.prefix} dev ${BRIDGE}`,
      `link set dev ${BRIDGE} up`,
    ];
    await this.#ip.run(exists ? setUp : [`link add ${BRIDGE} type bridge forward_delay 0 stp_state 0`, ...setUp]);
  }

  async removeBridge(): Promise<void> {
    await this.#ip.run([`link delete ${BRIDGE}`], { tolerate: GONE });
  }

  /**
   * On failure nothing is left behind. Takes about 20 ms. By `ip`s of their own: the long-lived one would keep the namespace
   * open, and so alive, until it ends.
   */
  async make(address: number): Promise<void> {
    const [link, namespace, mtu] = [linkName(address), namespaceName(address), this.#mtu];
    try {
      await batch([
        `netns add ${namespace}`,
        `link add ${link} mtu ${mtu} master ${BRIDGE} up type veth peer name eth0 address ${macAddress(address)} mtu ${mtu} netns ${namespace}`,
        `link set dev ${link} addrgenmode none`,
        // A host port's owner may call it itself: where br_netfilter is on, its packet leaves by the port it came from.
        `link set dev ${link} type bridge_slave hairpin on`,
      ]);
      await batch(
        [
          "link set lo up",
          `address add ${formatAddress(address)}/${this.#subnet.prefix} dev eth0`,
          "link set eth0 addrgenmode none",
          "link set eth0 up",
          `route add default via ${formatAddress(this.#subnet.base + 1)}`,
        ],
        namespace,
      );
    } catch (error) {
      await this.remove(address).catch(() => {});
      throw error;
    }
  }

  /** Writes the owner where a restarted agent, and `ip link`, will find it. */
  async own(address: number, instanceId: string): Promise<void> {
    await this.#ip.run([`link set dev ${linkName(address)} alias ${instanceId}`]);
  }

  async remove(address: number): Promise<void> {
    await this.removeByName({ link: linkName(address), namespace: namespaceName(address) });
  }

  /**
   * Two batches on purpose: of many removals at once all namespaces are gone before the first link is waited for, and the kernel
   * tears them down together, links included (20 in 55 ms, where 20 links one by one take 500).
   */
  async removeByName({ link, namespace }: { link?: string; namespace?: string }): Promise<void> {
    if (namespace !== undefined) await this.#ip.run([`netns delete ${namespace}`], { tolerate: GONE });
    if (link !== undefined) await this.#ip.run([`link delete ${link}`], { tolerate: GONE });
  }
}

async function batch(commands: readonly string[], namespace?: string): Promise<void> {
  const where = namespace === undefined ? [] : ["-n", namespace];
  await exec("ip", [...where, "-batch", "-"], { stdin: `${commands.join("\n")}\n` });
}
