import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../base/errors.ts";
import { silentLogger } from "../base/log.ts";
import type { CheckAnswer, CheckedRoutes } from "../protocol/net-check.ts";
import { CheckAnswers, type CheckAnswersParts } from "./check-answers.ts";

const routes: CheckedRoutes = { routes: [], refused: [], left_out: 0 };

function start(check: CheckAnswersParts["check"]) {
  const sent: CheckAnswer[] = [];
  const stop = new AbortController();
  const answers = new CheckAnswers({ check, send: async (answer) => void sent.push(answer), log: silentLogger });
  return {
    ...{ answers, sent },
    async end() {
      const running = answers.run(stop.signal);
      stop.abort();
      await running;
    },
  };
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test("a question is answered with the routes; without a network, or when it fails, with that", async () => {
  const rows: [CheckAnswersParts["check"], CheckAnswer["result"]][] = [
    [async () => routes, { outcome: "checked", ...routes }],
    [undefined, { outcome: "off" }],
    [() => Promise.reject(new AppError("ANY", "no kernel")), { outcome: "failed", detail: "no kernel" }],
  ];
  for (const [check, result] of rows) {
    const { answers, sent, end } = start(check);
    answers.take({ question: "q", withinMs: 1_000 });
    await turn();
    assert.deepEqual(sent, [{ question: "q", result }]);
    await end();
  }
});

test("a later question ends the one before, which gets no answer, and begins when that has ended", async () => {
  const events: string[] = [];
  const { answers, sent, end } = start(async (withinMs, signal) => {
    events.push(`begin ${withinMs}`);
    if (withinMs < 3) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await turn();
    events.push(`end ${withinMs}`);
    return routes;
  });
  answers.take({ question: "a", withinMs: 1 });
  await turn();
  answers.take({ question: "b", withinMs: 2 });
  answers.take({ question: "c", withinMs: 3 });
  for (let tries = 0; sent.length === 0; tries++) {
    assert.ok(tries < 100);
    await turn();
  }
  assert.deepEqual(
    sent.map(({ question }) => question),
    ["c"],
  );
  assert.deepEqual(events, ["begin 1", "end 1", "begin 3", "end 3"]);
  await end();
});

test("a check ends when its asker has gone, with the connection, and with the worker", async () => {
  for (const how of ["asker", "drop", "end"] as const) {
    let isAborted = false;
    const { answers, sent, end } = start(async (_, signal) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      isAborted = true;
      return routes;
    });
    answers.take({ question: "q", withinMs: 1_000 });
    await turn();
    if (how === "drop") answers.drop();
    if (how === "asker") answers.take({ question: "q", withinMs: 0 });
    if (how !== "end") await turn();
    assert.equal(isAborted, how !== "end");
    await end();
    assert.deepEqual([isAborted, sent], [true, []], how);
  }
});
