/** The ids of an image's user. Names are looked up in the image's own files, read from its layers where containerd keeps them. */
import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../../base/errors.ts";
import { objectId } from "../../base/random.ts";
import { needsLookup, resolveUser, type UserIds } from "../oci-user.ts";
import { SnapshotsDefinition } from "./gen/snapshots.ts";
import type { Mount } from "./gen/types.ts";
import { type CallOptions, type GrpcClient, ignoreNotFound } from "./grpc-client.ts";
import type { PresentImage } from "./image-catalog.ts";

const MAX_CACHED = 256;
const MAX_FILE_BYTES = 1024 * 1024;

export class ImageUsers {
  readonly #client: GrpcClient;
  readonly #snapshotter: string;
  readonly #byImage = new Map<string, UserIds>();

  constructor(client: GrpcClient, snapshotter: string) {
    this.#client = client;
    this.#snapshotter = snapshotter;
  }

  /** @throws AppError START_FAILED for a user that the image does not know */
  async resolve({ digest, chainId, config }: PresentImage, signal: AbortSignal): Promise<UserIds> {
    const user = config.config?.User ?? "";
    if (!needsLookup(user)) return resolveUser(user, { passwd: "", group: "" });
    const known = this.#byImage.get(digest);
    if (known) return known;
    const layers = await this.#layerFolders(chainId, { signal });
    const passwd = await readTopmost(layers, "passwd");
    const ids = resolveUser(user, { passwd, group: await readTopmost(layers, "group") });
    if (this.#byImage.size >= MAX_CACHED) this.#byImage.clear();
    this.#byImage.set(digest, ids);
    return ids;
  }

  /** Host folders of the layers, the topmost first. */
  async #layerFolders(chainId: string, options: CallOptions): Promise<string[]> {
    const view = { snapshotter: this.#snapshotter, key: `oakestra-users-${objectId()}` };
    const { mounts } = await this.#client.unary(SnapshotsDefinition, "view", { ...view, parent: chainId }, options);
    // Nothing refers to the view: containerd may have collected it already. The layers below stay, for the image holds them.
    await this.#client.unary(SnapshotsDefinition, "remove", view, options).catch(ignoreNotFound);
    return mounts.flatMap(layersOf);
  }
}

/** One layer is bound, several are an overlay's lower folders. */
function layersOf({ type, source, options }: Mount): string[] {
  if (type !== "overlay") return [source];
  const lower = options.find((option) => option.startsWith("lowerdir="));
  return lower?.slice("lowerdir=".length).split(":") ?? [];
}

async function readTopmost(layers: readonly string[], file: string): Promise<string> {
  for (const layer of layers) {
    try {
      // An image may hold links out of itself; nothing of the host is read for it.
      if (!(await lstat(join(layer, "etc"))).isDirectory()) return "";
      const handle = await open(
        join(layer, "etc", file),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      try {
        const status = await handle.stat();
        // Not a file: a whiteout, by which a higher layer deletes it.
        return status.isFile() && status.size <= MAX_FILE_BYTES ? await handle.readFile("utf8") : "";
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (["ELOOP", "ENXIO"].some((code) => hasCode(error, code))) return "";
      if (!hasCode(error, "ENOENT")) throw error;
    }
  }
  return "";
}
