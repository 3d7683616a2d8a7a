/** `oak lab carry FILE`: the process that carries a lab's slow links until it is killed. */
import { readFile } from "node:fs/promises";
import { systemClock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { fraction } from "../base/random.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { CarrierFile, carry } from "./carrier.ts";
import { openTaps } from "./tap.ts";

/** @param onReady the devices are there. @throws AppError CONFIG_INVALID | TAP_FAILED | TAP_GONE */
export async function carryFile(path: string, onReady: () => void, signal: AbortSignal): Promise<void> {
  const file = validate(CarrierFile, JSON.parse(await readFile(path, "utf8")));
  if (!file.ok) throw new AppError("CONFIG_INVALID", `"${path}" is not valid: ${describeProblems(file.problems)}`);
  const taps = await openTaps();
  await carry({ links: file.value, taps, clock: systemClock, random: fraction, onReady }, signal);
}
