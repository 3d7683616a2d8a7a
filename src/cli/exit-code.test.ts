import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../base/errors.ts";
import { EXIT, endOf } from "./exit-code.ts";

test("a command that is interrupted ends quietly; a role that fails while it stops says why", () => {
  const failure = new AppError("STORAGE_FULL", "Cannot write: no space left");
  assert.deepEqual(endOf(failure, true), { exitCode: EXIT.interrupted });
  assert.deepEqual(endOf(failure, true, true), { exitCode: EXIT.failed, message: "oak: Cannot write: no space left" });
  assert.deepEqual(endOf(AbortSignal.abort().reason, true, true), { exitCode: EXIT.interrupted });
});
