import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import type { Clock } from "../base/clock.ts";
import { hasCode } from "../base/errors.ts";
import { silentLogger } from "../base/log.ts";
import { secretToken } from "../base/random.ts";
import { PROTOCOL_VERSION } from "../protocol/uplink.ts";
import { Admission, JOIN_TOKEN_MS } from "./admission.ts";
import { ClusterState } from "./cluster-state.ts";
import { ClusterStore } from "./store/cluster-store.ts";

const info = {
  hostname: "w",
  architecture: "amd64",
  cpuMillis: 1000,
  memoryBytes: 1000,
  gpus: 0,
  virtualization: ["container"],
  publicIp: "",
  runtime: "",
  version: "",
  labels: {},
};

function setUp(store: ClusterStore, clock: Clock = new ManualClock()) {
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const admission = new Admission({ state, store, clusterName: "edge", log: silentLogger, clock });
  const register = (joinToken: string, hostname = "w") =>
    admission.register({ protocol: PROTOCOL_VERSION, key: secretToken(), joinToken, info: { ...info, hostname } });
  return { state, admission, register };
}

test("a token is spent with the worker that it lets in, or not at all", () => {
  const store = new ClusterStore(":memory:");
  const { state, admission, register } = setUp(store);
  const { token } = admission.issueToken();
  const putWorker = store.putWorker.bind(store);
  store.putWorker = () => {
    throw new Error("disk full");
  };
  assert.throws(() => register(token), /disk full/);
  assert.deepEqual(state.workers, []);
  store.putWorker = putWorker;
  assert.equal(register(token).hostname, "w");
  assert.throws(
    () => register(token, "other"),
    (error) => hasCode(error, "TOKEN_INVALID"),
  );
  const { token: second } = admission.issueToken();
  assert.throws(
    () => register(second),
    (error) => hasCode(error, "NAME_TAKEN"),
  );
  assert.equal(register(second, "other").hostname, "other");
  store.close();
});

test("a token is good for its time by the clock that only goes on, wherever the other one is set", async () => {
  const year = 365 * 86_400_000;
  const store = new ClusterStore(":memory:");
  const manual = new ManualClock();
  let aheadMs = 0;
  const clock: Clock = {
    now: () => manual.now() + aheadMs,
    monotonic: () => manual.monotonic() - 1_000_000,
    sleep: (ms) => manual.sleep(ms),
  };
  const { admission, register } = setUp(store, clock);
  for (const [index, jump] of [year, -year].entries()) {
    const { token } = admission.issueToken();
    aheadMs = jump;
    admission.issueToken();
    await manual.advance(JOIN_TOKEN_MS);
    assert.equal(register(token, `w${index}`).hostname, `w${index}`);
    const { token: late } = admission.issueToken();
    aheadMs = 0;
    await manual.advance(JOIN_TOKEN_MS + 1);
    assert.throws(
      () => register(late, "late"),
      (error) => hasCode(error, "TOKEN_EXPIRED") && /has expired: make one with "oak worker token"/.test(String(error)),
    );
  }
  store.close();
});
