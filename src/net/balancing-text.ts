/**
 * Balancing as nft text: pure. Every address is an element of exactly one of `svc1` (one sandbox), `hot` (its chain counts: strict
 * round robin), `sz<n>` (shared by all with n sandboxes: random, since a shared counter would skew) and `idle` (nobody there).
 */
import { formatAddress } from "../addressing/subnet.ts";
import type { Balanced, BalancingChange } from "./balancing.ts";

interface Element {
  readonly set: string;
  readonly key: string;
  readonly value?: string;
}

/**
 * Commands of one transaction.
 * @param sizes those that have a set `sz<n>` already; new ones are added to it.
 */
export function compileBalancing(changes: readonly BalancingChange[], sizes: Set<number>): string {
  const removed = new Map<string, string[]>();
  const added = new Map<string, string[]>();
  const [before, between, after]: string[][] = [[], [], []];
  for (const { address, from, to } of changes) {
    const size = to?.targets.length ?? 0;
    if (to && !to.hot && size > 1 && !sizes.has(size)) {
      sizes.add(size);
      before!.push(...sharedSize(size));
    }
    const [old, next] = [elementsOf(address, from), elementsOf(address, to)];
    for (const { set, key } of without(old, next)) push(removed, set, key);
    for (const { set, key, value } of without(next, old))
      push(added, set, value === undefined ? key : `${key} : ${value}`);
    const chain = `ip oakestra ${hotChain(address)}`;
    const isResized = from?.hot === true && to?.hot === true && from.targets.length !== size;
    if (to?.hot && !from?.hot) before!.push(`add chain ${chain}`);
    if (isResized) between!.push(`flush chain ${chain}`);
    if (to?.hot && (isResized || !from?.hot)) {
      between!.push(`add rule ${chain} dnat ip to ip daddr . numgen inc mod ${size} map @hotinst`);
    }
    if (from?.hot && !to?.hot) after!.push(`flush chain ${chain}`, `delete chain ${chain}`);
  }
  const verdicts = added.get("hot") ?? [];
  added.delete("hot");
  return [
    ...before!,
    ...commands("delete", removed),
    ...commands("add", added),
    ...between!,
    ...commands("add", new Map([["hot", verdicts]])),
    ...after!,
  ]
    .map((line) => `${line}\n`)
    .join("");
}

function elementsOf(address: number, balanced: Balanced | undefined): Element[] {
  if (!balanced) return [];
  const key = formatAddress(address);
  const { targets, hot } = balanced;
  if (targets.length === 0) return [{ set: "idle", key }];
  if (targets.length === 1) return [{ set: "svc1", key, value: formatAddress(targets[0]!) }];
  const slots = targets.map((target, slot) => ({
    set: hot ? "hotinst" : "inst",
    key: `${key} . ${slot}`,
    value: formatAddress(target),
  }));
  const entry = hot ? { set: "hot", key, value: `goto ${hotChain(address)}` } : { set: `sz${targets.length}`, key };
  return [...slots, entry];
}

function sharedSize(size: number): string[] {
  return [
    `add set ip oakestra sz${size} { type ipv4_addr; }`,
    `add chain ip oakestra lb${size}`,
    `add rule ip oakestra lb${size} dnat ip to ip daddr . numgen random mod ${size} map @inst`,
    `insert rule ip oakestra shared ip daddr @sz${size} goto lb${size}`,
  ];
}

const hotChain = (address: number) => `lb_${address.toString(16).padStart(8, "0")}`;

function commands(verb: "add" | "delete", bySet: ReadonlyMap<string, readonly string[]>): string[] {
  return [...bySet]
    .filter(([, list]) => list.length > 0)
    .map(([set, list]) => `${verb} element ip oakestra ${set} { ${list.join(", ")} }`);
}

function without(list: readonly Element[], others: readonly Element[]): readonly Element[] {
  if (others.length === 0) return list;
  const known = new Set(others.map(({ set, key, value }) => `${set} ${key} ${value}`));
  return list.filter(({ set, key, value }) => !known.has(`${set} ${key} ${value}`));
}

function push(lists: Map<string, string[]>, set: string, element: string): void {
  const list = lists.get(set);
  if (list) list.push(element);
  else lists.set(set, [element]);
}
