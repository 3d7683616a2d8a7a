/** Password hashes: scrypt, its costs stored beside it so that they can rise. Hashes are made and compared here, nowhere else. */
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from "node:crypto";
import { KeyedQueue } from "../../base/keyed-queue.ts";

/** 16 MiB for about 200 ms of a desktop core; one of OWASP's recommended settings. */
const COST = { logN: 14, r: 8, p: 5 } as const;
const SALT_BYTES = 16;
const HASH_BYTES = 32;

export const MIN_PASSWORD_LENGTH = 8;
/** Longer ones would be work for us and safety for nobody. */
export const MAX_PASSWORD_LENGTH = 256;

export class Passwords {
  /** One at a time, since each takes memory and a thread of the pool. */
  readonly #queue = new KeyedQueue();

  /** `scrypt$<log2 N>$<r>$<p>$<salt>$<hash>` */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const { logN, r, p } = COST;
    const hash = await this.#derive(password, salt, { N: 2 ** logN, r, p });
    return ["scrypt", logN, r, p, salt.toString("base64"), hash.toString("base64")].join("$");
  }

  /** Takes as long without a stored hash as with one, so that the time does not tell whether a user exists. */
  async matches(password: string, stored: string | undefined): Promise<boolean> {
    const [, logN, r, p, salt = "", hash = ""] = (stored ?? absent()).split("$");
    const expected = Buffer.from(hash, "base64");
    const found = await this.#derive(password, Buffer.from(salt, "base64"), {
      N: 2 ** Number(logN),
      r: Number(r),
      p: Number(p),
    });
    return stored !== undefined && expected.length === found.length && timingSafeEqual(expected, found);
  }

  #derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
    const derive = () =>
      new Promise<Buffer>((resolve, reject) => {
        scrypt(password.normalize("NFC"), salt, HASH_BYTES, options, (error, key) =>
          error ? reject(error) : resolve(key),
        );
      });
    return this.#queue.run("", derive);
  }
}

function absent(): string {
  return ["scrypt", COST.logN, COST.r, COST.p, "AAAA", "AAAA"].join("$");
}
