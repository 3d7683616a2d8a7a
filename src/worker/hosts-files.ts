/** `/etc/hosts` of the instances: a container finds itself by its own name, whatever its image brings. */
import { chmod, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readFileIfAny } from "../base/atomic-file.ts";

/** Where there is no sandbox address, as Debian does it: of this machine, and not that of "localhost". */
const NO_ADDRESS = "127.0.1.1";

export class HostsFiles {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Its path on this machine. Nothing is written where the right one is there: a restart works on a full disk, too. */
  async make(instanceId: string, { address, hostname }: { address: string; hostname: string }): Promise<string> {
    const path = this.#path(instanceId);
    const text = `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n${address || NO_ADDRESS}\t${hostname}\n`;
    if ((await readFileIfAny(path)) === text) return path;
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await writeFile(path, text);
    // Whatever the umask: the container's user may be anybody.
    await chmod(path, 0o644);
    return path;
  }

  /** Instances that have one. */
  async list(): Promise<string[]> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    return readdir(this.#folder);
  }

  async remove(instanceId: string): Promise<void> {
    await rm(this.#path(instanceId), { force: true });
  }

  #path(instanceId: string): string {
    return join(this.#folder, instanceId);
  }
}
