import { rm } from "node:fs/promises";
import { writeFileAtomic } from "../../base/atomic-file.ts";

export const INITIAL_PASSWORD_FILE = "initial-admin-password";

/** The file with the generated password of the first user, which is there until that user has another one. */
export class InitialPassword {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async keep(password: string): Promise<void> {
    await writeFileAtomic(this.path, `${password}\n`);
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}
