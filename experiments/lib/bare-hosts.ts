/**
 * Two namespaces without anything of ours, to compare with: `bare1` and `bare2` on segment a of the overlay lab, with a veth between
 * them (10.99.0.1 and 10.99.0.2), the segment itself (192.0.2.101 and 192.0.2.102) and a VXLAN over it (10.98.0.1 and 10.98.0.2).
 */
import { exec } from "../../src/base/exec.ts";
import { ip } from "../../test/contracts/network-namespaces.ts";

export const BARE = { veth: "10.99.0.2", segment: "192.0.2.102", vxlan: "10.98.0.2" } as const;

export async function makeBareHosts(): Promise<void> {
  await ip("netns add bare1", "netns add bare2", "link add e0 netns bare1 type veth peer name e0 netns bare2");
  for (const number of [1, 2]) {
    const other = 3 - number;
    await ip(
      `link add bare${number}p type veth peer name und0 netns bare${number}`,
      `link set bare${number}p master sega up`,
    );
    const inside = [
      "link set lo up",
      `address add 10.99.0.${number}/24 dev e0`,
      "link set e0 up",
      `address add 192.0.2.10${number}/24 dev und0`,
      "link set und0 up",
      `link add vx mtu 1450 type vxlan id 99 dstport 4799 local 192.0.2.10${number} remote 192.0.2.10${other} dev und0`,
      `address add 10.98.0.${number}/24 dev vx`,
      "link set vx up",
    ];
    await exec("ip", ["-n", `bare${number}`, "-batch", "-"], { stdin: `${inside.join("\n")}\n` });
  }
}

/** What runs a program in one of the two. */
export function enterBare(number: 1 | 2): string[] {
  return ["ip", "netns", "exec", `bare${number}`];
}
