import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress, parseSubnet } from "../addressing/subnet.ts";
import { PeerBook } from "./peer-book.ts";

const peer = (number: number) => ({
  ...{ id: `w${number}`, address: `192.0.2.${number}`, subnets: [`10.18.${number}.0/26`] },
  path: "plain" as const,
});
const neighbour = (number: number, mac: string) => ({ address: parseAddress(`192.0.2.${number}`)!, link: "eth0", mac });
const links = [{ name: "eth0", mtu: 1500, subnet: parseSubnet("192.0.2.0/24") }];

test("peers for whom one MAC answers are reached through the tunnel: arrivals could not be told apart", () => {
  const router = "12:34:56:78:9a:bc";
  const neighbours = [neighbour(1, router), neighbour(2, router), neighbour(3, "02:00:00:00:00:03")];
  const described = new PeerBook().describe(
    [peer(1), peer(2), peer(3), peer(4)],
    { links, neighbours },
    { now: Number.NEGATIVE_INFINITY, own: parseAddress("192.0.2.9") },
  );
  assert.deepEqual(
    described.map(({ id, path, neighbour: found }) => [id, path, found?.mac]),
    [
      ["w1", "vxlan", undefined],
      ["w2", "vxlan", undefined],
      ["w3", "plain", "02:00:00:00:00:03"],
      ["w4", "vxlan", undefined],
    ],
  );
});
