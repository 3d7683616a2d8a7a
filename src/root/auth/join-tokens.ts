import type { Clock } from "../../base/clock.ts";
import { secretDigest, secretToken } from "../../base/random.ts";
import type { RootStore } from "../store/root-store.ts";

const LIFETIME_MS = 15 * 60_000;

/** A token that lets one new cluster in, once. `expiresAt` in epoch milliseconds. */
export async function issueClusterToken(
  store: Pick<RootStore, "addJoinToken">,
  clock: Pick<Clock, "now">,
): Promise<{ token: string; expiresAt: number }> {
  const token = secretToken();
  const expiresAt = clock.now() + LIFETIME_MS;
  await store.addJoinToken(secretDigest(token), expiresAt);
  return { token, expiresAt };
}
