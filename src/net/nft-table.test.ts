import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSubnet } from "../addressing/subnet.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { initialState } from "./kernel-state.ts";
import { nftFailed } from "./network-errors.ts";
import { NftTable } from "./nft-table.ts";

test("what an nft that fails has lost is made good by the same call again", async () => {
  let failures = 0;
  const applied: string[] = [];
  const table = new NftTable({
    state: initialState({
      serviceRange: parseSubnet("10.30.0.0/16"),
      ranges: [],
      gateway: undefined,
      guardedPorts: [],
      hasFastPath: false,
    }),
    ...{ log: silentLogger, clock: systemClock },
  });
  await table.open({
    run: async (text) => {
      if (failures-- > 0) throw nftFailed("no memory");
      applied.push(text);
    },
    list: async () => ({ nftables: [] }),
    close: () => {},
  });
  const service = {
    ...{ id: "db", roundRobin: "10.30.0.1", closest: "10.30.0.2" },
    instances: [{ address: "10.30.0.3", sandbox: "10.18.0.2" }],
  };
  failures = 2;
  await assert.rejects(table.setServices([service]), { code: "NFT_FAILED" });
  await table.setServices([service]);
  assert.equal(applied.length, 2);
  assert.match(applied[1]!, /add element ip oakestra svc1 \{.*10\.30\.0\.1 : 10\.18\.0\.2/);
  await table.setServices([service]);
  assert.equal(applied.length, 2);
});
