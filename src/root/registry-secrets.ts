/** Pull credentials at rest: AES-256-GCM under a key that lies beside the store, so that a copied database tells nothing. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { AppError } from "../base/errors.ts";
import type { RegistryCredentials } from "../protocol/instance.ts";
import type { RootStore } from "./store/root-store.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
export const KEY_BYTES = 32;

/** @param context what the secret belongs to; unsealing needs the same, so that one row's cannot stand in for another's */
export function seal(key: Uint8Array, plain: string, context: string): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context));
  const sealed = Buffer.concat([cipher.update(plain, "utf8"), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64");
}

/** @throws AppError SECRET_UNREADABLE for another key, another context or a changed text */
export function unseal(key: Uint8Array, sealed: string, context: string): string {
  const bytes = Buffer.from(sealed, "base64");
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString("utf8");
  } catch (cause) {
    throw new AppError("SECRET_UNREADABLE", `Cannot decrypt the secret of ${context}: the key file has changed`, {
      cause,
    });
  }
}

/** Stored registry passwords, sealed on the way in and unsealed for an assignment only. */
export class RegistrySecrets {
  readonly #store: Pick<RootStore, "registryPassword" | "putRegistry">;
  readonly #key: () => Promise<Uint8Array>;

  constructor(store: Pick<RootStore, "registryPassword" | "putRegistry">, key: () => Promise<Uint8Array>) {
    this.#store = store;
    this.#key = key;
  }

  /** Replaces one of the same owner and name. */
  async put(registry: {
    readonly owner: string;
    readonly name: string;
    readonly server: string;
    readonly username: string;
    readonly password: string;
  }): Promise<void> {
    const { password, ...kept } = registry;
    await this.#store.putRegistry(kept, seal(await this.#key(), password, contextOf(kept.owner, kept.name)));
  }

  async credentials(owner: string, name: string): Promise<RegistryCredentials | undefined> {
    const found = await this.#store.registryPassword(owner, name);
    if (!found) return undefined;
    const { server, username, sealedPassword } = found;
    return { server, username, password: unseal(await this.#key(), sealedPassword, contextOf(owner, name)) };
  }
}

const contextOf = (owner: string, name: string) => `registry "${name}" of user "${owner}"`;
