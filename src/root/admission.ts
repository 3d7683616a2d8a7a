import { AppError } from "../base/errors.ts";
import { secretDigest } from "../base/random.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { Hello, PROTOCOL_VERSION } from "../protocol/uplink.ts";
import type { Cluster } from "./model.ts";
import type { RootStore } from "./store/root-store.ts";

/**
 * Lets a cluster in by its first message: by its key, or by a join token when the key is new. Tells how far its clock is off.
 * @param tokenNow by the clock that join tokens are made by
 * @throws AppError PROTOCOL_UNSUPPORTED | HELLO_INVALID | TOKEN_INVALID | NAME_TAKEN, which may be told to the other side
 */
export async function admitCluster(
  store: Pick<RootStore, "admitCluster">,
  first: unknown,
  { ip, now, tokenNow }: { readonly ip: string; readonly now: number; readonly tokenNow: number },
): Promise<{ readonly cluster: Cluster; readonly clockOffMs: number | undefined }> {
  const spoken = (first as { protocol?: unknown } | null | undefined)?.protocol;
  // Before the schema: another version's hello may look different.
  if (typeof spoken === "number" && spoken !== PROTOCOL_VERSION) {
    throw new AppError(
      "PROTOCOL_UNSUPPORTED",
      `This root speaks uplink protocol ${PROTOCOL_VERSION}, the cluster ${spoken}: bring both to the same version`,
      { details: { root: PROTOCOL_VERSION, cluster: spoken } },
    );
  }
  const hello = validate(Hello, first);
  if (!hello.ok)
    throw new AppError("HELLO_INVALID", `The first message is no hello: ${describeProblems(hello.problems)}`);
  const { clusterName, location, key, joinToken, clock } = hello.value;
  try {
    const cluster = await store.admitCluster({
      name: clusterName,
      location,
      ip,
      keyDigest: secretDigest(key),
      joinTokenDigest: joinToken === undefined ? undefined : secretDigest(joinToken),
      now,
      tokenNow,
    });
    return { cluster, clockOffMs: clock === undefined ? undefined : clock - now };
  } catch (cause) {
    if (!(cause instanceof AppError && cause.code === "NAME_TAKEN")) throw cause;
    const remedy = `give this one another with --name, or remove that one with "oak cluster rm ${clusterName}"`;
    throw new AppError("NAME_TAKEN", `${cause.message}, which has another key: ${remedy}`, { cause });
  }
}

const TELLABLE = new Set(["PROTOCOL_UNSUPPORTED", "HELLO_INVALID", "MESSAGE_INVALID", "TOKEN_INVALID", "NAME_TAKEN"]);

/** What may be told to a stranger; everything else is our own trouble. */
export function isRefusal(error: unknown): error is AppError {
  return error instanceof AppError && TELLABLE.has(error.code);
}
