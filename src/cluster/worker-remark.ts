/** What an operator should know of a worker beyond its status. Pure. */
import type { Liveness } from "../hierarchy/children.ts";
import { describeSkew } from "../hierarchy/clock-skew.ts";
import type { Contact } from "./workers.ts";

type Known = Pick<Contact, "connected" | "hasLeft" | "expected" | "heardSince" | "malformed" | "clockOffMs">;

/** Empty: all is well. */
export function workerRemark(status: Liveness, contact: Known): string {
  return [whyNotActive(status, contact), broken(contact), describeSkew(contact.clockOffMs)]
    .filter((one) => one !== undefined)
    .join("; ");
}

function whyNotActive(status: Liveness, { connected, hasLeft, expected, heardSince }: Known): string | undefined {
  if (status === "active") return undefined;
  // A registration alone, or a connection without a report, makes no worker.
  if (!connected && !hasLeft && expected === undefined)
    return "registered, but has not reported since this cluster started: it gets no instances until it does; can it reach the MQTT port?";
  const since = new Date(heardSince).toISOString();
  return hasLeft ? `its connection has ended; last heard from ${since}` : `not heard from since ${since}`;
}

function broken({ malformed }: Known): string | undefined {
  return malformed === 0 ? undefined : `${malformed} of its messages were malformed: is it of the same version?`;
}
