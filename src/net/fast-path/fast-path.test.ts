import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress, parseSubnet } from "../../addressing/subnet.ts";
import { initialState, type KernelPeer } from "../kernel-state.ts";
import { isObsolete, type Situation } from "./fast-path.ts";

const address = (text: string) => parseAddress(text)!;
const peer: KernelPeer = {
  ...{ id: "worker-2", number: 2, address: address("192.0.2.2"), subnets: [parseSubnet("10.18.0.64/26")] },
  ...{ path: "plain", neighbour: { link: "up0", mac: "aa:bb:cc:00:00:02" } },
};
const frame = {
  ...{ serviceRange: parseSubnet("10.30.0.0/16"), ranges: [], gateway: undefined, guardedPorts: [] },
  hasFastPath: true,
};
const before: Situation = {
  state: { ...initialState(frame), sandboxes: [address("10.18.0.2"), address("10.18.0.3")], peers: [peer] },
  underlay: address("192.0.2.1"),
  mayTunnel: true,
};
const withState = (changes: Partial<Situation["state"]>): Situation => ({
  ...before,
  state: { ...before.state, ...changes },
});

test("what is known of flows stays when sandboxes, peers, identities and ports come", () => {
  const more: Situation[] = [
    before,
    withState({ sandboxes: [...before.state.sandboxes, address("10.18.0.4")].toReversed() }),
    withState({ peers: [{ ...peer, id: "worker-3", number: 3, address: address("192.0.2.3") }, { ...peer }] }),
    withState({ identities: new Map([[address("10.18.0.2"), address("10.30.1.1")]]) }),
    withState({ guardedHosts: [1] }),
  ];
  for (const now of more) assert.equal(isObsolete(before, now), false);
  assert.equal(isObsolete(undefined, before), false);
});

test("what is known of flows is void when a sandbox, a peer or the worker's address goes or changes", () => {
  const others: Situation[] = [
    withState({ sandboxes: [address("10.18.0.2")] }),
    withState({ peers: [] }),
    withState({ peers: [{ ...peer, path: "vxlan" }] }),
    withState({ peers: [{ ...peer, address: address("192.0.2.9") }] }),
    withState({ peers: [{ ...peer, subnets: [] }] }),
    withState({ peers: [{ ...peer, neighbour: undefined }] }),
    withState({ peers: [{ ...peer, neighbour: { link: "up0", mac: "aa:bb:cc:00:00:03" } }] }),
    { ...before, underlay: address("192.0.2.8") },
    { ...before, underlay: undefined },
    { ...before, mayTunnel: false },
  ];
  for (const now of others) assert.equal(isObsolete(before, now), true, JSON.stringify(now));
});
